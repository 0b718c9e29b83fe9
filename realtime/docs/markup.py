"""Pure: no I/O, no clock, no task. HTML from text, in one place: ``tag`` escapes whatever is not ``Markup`` already."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from inspect import cleandoc
from re import split


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Node = str | None | Iterable["Node"]


def tag(element: str, *children: Node, **attributes: str | None) -> Markup:
    """``<element …>children</element>``; None is nothing, as a child and as an attribute.

    Keywords of Python end in an underscore, and one inside is a hyphen: ``class_``, ``aria_label``.
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{element}{given}>{_inside(children)}</{element}>")


def prose(text: str) -> Markup:
    """A docstring as paragraphs; what stands in backticks is code."""
    paragraphs = [each for each in split(r"\n\s*\n", cleandoc(text)) if each.strip()]
    return Markup("".join(tag("p", words(each)) for each in paragraphs))


def words(text: str) -> list[Node]:
    """One paragraph of it."""
    parts = split(r"``?([^`]+)``?", text)
    return [tag("code", part) if number % 2 else part for number, part in enumerate(parts)]


def anchor(*parts: str) -> str:
    """What an ``id`` and the link to it are made of: letters, digits and hyphens."""
    return "-".join("".join(each if each.isalnum() else "-" for each in part).strip("-") or "root" for part in parts)


def _inside(children: Node) -> str:
    if children is None:
        return ""
    if isinstance(children, str):
        return children if isinstance(children, Markup) else escape(children)
    return "".join(map(_inside, children))
