from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from realtime.docs.markup import Markup, anchor, prose, tag, words


class Reader(HTMLParser):
    """What a browser makes of it: the elements, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])))
def test_text_stays_text_and_a_value_stays_in_its_attribute(text: str) -> None:
    read = Reader(tag("p", text, title=text))
    assert [name for name, _ in read.elements] == ["p"]
    assert read.elements[0][1] == {"title": text}
    assert read.text == text


def test_markup_is_not_escaped_again_and_none_is_nothing() -> None:
    inner = tag("b", "<")
    assert tag("p", inner, None, [" and ", [inner]]) == "<p><b>&lt;</b> and <b>&lt;</b></p>"
    assert tag("p", None, id=None) == "<p></p>"
    assert isinstance(inner, Markup)


def test_attributes_that_python_cannot_spell() -> None:
    assert tag("a", "x", class_="c", aria_label="l") == '<a class="c" aria-label="l">x</a>'


def test_a_docstring_becomes_paragraphs_with_code() -> None:
    text = """First ``a < b``,
        still the first.

        Second `c`.
    """
    assert prose(text) == "<p>First <code>a &lt; b</code>,\nstill the first.</p><p>Second <code>c</code>.</p>"
    assert prose("") == ""


def test_a_lone_backtick_is_a_backtick() -> None:
    assert words("it`s") == ["it`s"]


@given(st.lists(st.text(), min_size=1))
def test_an_anchor_is_never_empty_and_has_no_space(parts: list[str]) -> None:
    assert anchor(*parts)
    assert all(each.isalnum() or each == "-" for each in anchor(*parts))


def test_anchors_of_the_root_namespace_and_of_an_event() -> None:
    assert anchor("namespace", "/") == "namespace-root"
    assert anchor("namespace", "/chat", "join") == "namespace-chat-join"
