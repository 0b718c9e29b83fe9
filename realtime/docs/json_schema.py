"""Pure: no I/O, no clock, no task. A JSON Schema in words: one line for the whole, one row for each field.

Reads what pydantic and FastAPI write. A keyword it does not know is left out of the words, never an error;
a document that is no JSON Schema at all raises whatever Python raises about it (AttributeError, TypeError …).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

Schema = Mapping[str, Any]

ROWS: Final = 200
"""Rows of one table: more is no documentation, and models that contain each other multiply."""
DEPTH: Final = 5
"""Levels of objects within objects, for the same reason."""


@dataclass(frozen=True, slots=True)
class Field:
    """One row: a property of an object, or a parameter."""

    name: str
    """With dots and ``[]`` for what lies deeper: ``lines[].price``."""
    kind: str
    required: bool
    default: str | None = None
    """As JSON; None where there is none or it is null."""
    description: str = ""


def outline(schema: Any, root: Schema | None = None) -> str:
    """The whole in a line: ``{room, text, client_id?}`` for an object with fields, else its kind.

    ``root`` is the document that references point into; without it, the schema itself.
    """
    root = schema if root is None else root
    found = _meant(schema, root)
    properties = _properties(found)
    if not properties:
        return kind(schema, root)
    required = found.get("required", ())
    return "{" + ", ".join(name if name in required else f"{name}?" for name in properties) + "}"


def fields(schema: Any, root: Schema | None = None) -> list[Field]:
    """The properties of an object and of the objects inside it, in order; empty for anything else.

    An object that may be null counts as one.
    """
    root = schema if root is None else root
    return list(islice(_rows(_meant(schema, root), root, "", ()), ROWS))


def kind(schema: Any, root: Schema, above: tuple[str, ...] = ()) -> str:
    """``string, 1 to 128 characters``, ``list of Line``, ``integer or null``.

    ``above`` are the references on the way here; one that comes again is only named.
    """
    if not isinstance(schema, Mapping):
        return "anything" if schema is not False else "nothing"
    if "$ref" in schema:
        found, reference = _followed(schema, root), str(schema["$ref"])
        named = _properties(found) or found is schema or reference in above
        return reference.rpartition("/")[2] if named else kind(found, root, (*above, reference))
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(kind(each, root, above) for each in schema[choice]))
    if len(schema.get("allOf", ())) == 1:
        return kind(schema["allOf"][0], root, above)
    if "const" in schema:
        return as_json(schema["const"])
    if "enum" in schema:
        return " or ".join(map(as_json, schema["enum"]))
    types = schema.get("type", "anything")
    return " or ".join(_of_type(each, schema, root, above) for each in ([types] if isinstance(types, str) else types))


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _of_type(name: str, schema: Schema, root: Schema, above: tuple[str, ...]) -> str:
    if name == "string":
        return "".join(["string", _format(schema), _range(schema, "minLength", "maxLength", "character")])
    if name in ("integer", "number"):
        return name + _range(schema, "minimum", "maximum", "") + _open_range(schema)
    if name == "array":
        return f"list of {kind(schema.get('items', {}), root, above)}" + _range(schema, "minItems", "maxItems", "item")
    if name == "object" and not _properties(schema) and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {kind(schema['additionalProperties'], root, above)}"
    return str(schema.get("title") or name) if name == "object" and _properties(schema) else name


def _format(schema: Schema) -> str:
    said = [str(schema[key]) for key in ("format", "contentMediaType", "pattern") if key in schema]
    return f" ({', '.join(said)})" if said else ""


def _range(schema: Schema, least: str, most: str, unit: str) -> str:
    """``, 1 to 5 items``; nothing where nothing is said."""
    low, high = schema.get(least), schema.get(most)
    if low is None and high is None:
        return ""
    words = f"{low} to {high}" if None not in (low, high) else f"at most {high}" if low is None else f"at least {low}"
    last = low if high is None else high
    return f", {words}" + (f" {unit}{'' if last == 1 else 's'}" if unit else "")


def _open_range(schema: Schema) -> str:
    said = [("above", "exclusiveMinimum"), ("below", "exclusiveMaximum"), ("a multiple of", "multipleOf")]
    return "".join(f", {words} {schema[key]}" for words, key in said if key in schema)


def _rows(schema: Any, root: Schema, prefix: str, above: tuple[int, ...]) -> Iterator[Field]:
    found = _followed(schema, root)
    if len(above) >= DEPTH or id(found) in above:
        return
    required = found.get("required", ())
    for name, each in _properties(found).items():
        own = each if isinstance(each, Mapping) else {}
        default = own.get("default")
        yield Field(
            prefix + name,
            kind(each, root),
            name in required,
            None if default is None else as_json(default),
            str(own.get("description") or _followed(own, root).get("description") or ""),
        )
        for deeper, mark in _objects(each, root):
            yield from _rows(deeper, root, f"{prefix}{name}{mark}.", (*above, id(found)))


def _objects(schema: Any, root: Schema, depth: int = 0) -> Iterator[tuple[Schema, str]]:
    """The objects directly inside: itself, one of its choices, or the items of a list."""
    found = _followed(schema, root) if depth < DEPTH else {}
    if _properties(found):
        yield found, ""
    elif isinstance(found.get("items"), Mapping):
        yield from ((each, f"[]{mark}") for each, mark in _objects(found["items"], root, depth + 1))
    else:
        for choice in ("anyOf", "oneOf", "allOf"):
            for each in found.get(choice, ()):
                yield from _objects(each, root, depth + 1)


def _meant(schema: Any, root: Schema) -> Schema:
    """What is left of ``X or null``: X."""
    found = _followed(schema, root)
    choices = [each for each in found.get("anyOf", ()) if each != {"type": "null"}]
    return _followed(choices[0], root) if len(choices) == 1 else found


def _properties(schema: Schema) -> Mapping[str, Any]:
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else {}


def _followed(schema: Any, root: Schema) -> Schema:
    """What a reference within the document points to; one that points nowhere, or in a circle, is left alone."""
    if not isinstance(schema, Mapping):
        return {}
    found: Schema = schema
    for _ in range(DEPTH):
        if not str(found.get("$ref", "")).startswith("#/"):
            return found
        target: Any = root
        for part in found["$ref"][2:].split("/"):
            target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
        if not isinstance(target, Mapping):
            return found
        found = target
    return schema
