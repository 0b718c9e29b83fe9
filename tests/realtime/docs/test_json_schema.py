from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypeAliasType

from realtime.docs.json_schema import DEPTH, ROWS, as_json, fields, kind, outline


class Line(BaseModel):
    article: str = Field(description="Its number in the catalogue")
    price: float = Field(gt=0)


class Customer(BaseModel):
    name: str = Field(min_length=1, max_length=50)
    email: str | None = None


class Order(BaseModel):
    customer: Customer
    lines: list[Line] = Field(min_length=1, max_length=20)
    level: Literal["low", "high"] = "low"
    tags: list[str] = Field(default_factory=list)
    backup: Customer | None = None


Json = TypeAliasType("Json", "str | list[Json] | dict[str, Json]")


class Tree(BaseModel):
    name: str
    children: list[Tree] = Field(default_factory=list)


def schema(of: Any) -> Any:
    return TypeAdapter(of).json_schema()


def words(of: Any) -> str:
    found = schema(of)
    return kind(found, found)


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (str, "string"),
        (int | None, "integer or null"),
        (Any, "anything"),
        (bool, "boolean"),
        (None, "null"),
        (datetime, "string (date-time)"),
        (Annotated[str, Field(min_length=1, max_length=128)], "string, 1 to 128 characters"),
        (Annotated[str, Field(min_length=1)], "string, at least 1 character"),
        (Annotated[str, Field(max_length=5, pattern="^a")], "string (^a), at most 5 characters"),
        (Annotated[int, Field(ge=0, lt=10, multiple_of=2)], "integer, at least 0, below 10, a multiple of 2"),
        (Annotated[list[int], Field(max_length=3)], "list of integer, at most 3 items"),
        (list[Line], "list of Line"),
        (dict[str, int], "object of integer"),
        (dict[str, Any], "object"),
        (Literal["a", 1], '"a" or 1'),
        (Literal["a"], '"a"'),
        (int | str | int, "integer or string"),
    ],
)
def test_a_type_in_words(of: Any, said: str) -> None:
    assert words(of) == said


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ({"type": ["string", "null"]}, "string or null"),
        ({"allOf": [{"type": "string"}]}, "string"),
        ({"oneOf": [{"type": "string"}, {"type": "string"}]}, "string"),
        (True, "anything"),
        (False, "nothing"),
        ({"unheard_of": 1}, "anything"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"$ref": "https://example.com/elsewhere"}, "elsewhere"),
        ({"type": "array"}, "list of anything"),
    ],
)
def test_what_others_write(of: Any, said: str) -> None:
    assert kind(of, {}) == said


def test_a_name_that_stands_for_no_object_is_replaced_by_what_it_stands_for() -> None:
    root = {"$defs": {"Level": {"enum": ["low", "high"]}}}
    assert kind({"$ref": "#/$defs/Level"}, root) == '"low" or "high"'


def test_references_in_a_circle_end() -> None:
    root = {"a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}}
    assert outline({"$ref": "#/a"}, root) == "a"
    assert fields({"$ref": "#/a"}, root) == []


def test_slashes_and_tildes_in_a_name() -> None:
    assert kind({"$ref": "#/a~1b~0c"}, {"a/b~c": {"type": "integer"}}) == "integer"


def test_a_property_may_be_anything_or_nothing() -> None:
    found = {"properties": {"x": True, "y": False}}
    assert [(each.name, each.kind) for each in fields(found)] == [("x", "anything"), ("y", "nothing")]


def test_the_outline_marks_what_may_be_left_out() -> None:
    assert outline(schema(Order)) == "{customer, lines, level?, tags?, backup?}"
    assert outline(schema(Order | None)) == "{customer, lines, level?, tags?, backup?}"
    assert outline(schema(list[Line])) == "list of Line"
    assert outline({}) == "anything"


def test_the_rows_go_into_objects_and_lists() -> None:
    rows = {each.name: each for each in fields(schema(Order))}
    assert list(rows) == [
        *("customer", "customer.name", "customer.email", "lines", "lines[].article", "lines[].price"),
        *("level", "tags", "backup", "backup.name", "backup.email"),
    ]
    assert rows["lines"].required
    assert rows["lines"].kind == "list of Line, 1 to 20 items"
    assert rows["lines[].article"].description == "Its number in the catalogue"
    assert rows["lines[].price"].kind == "number, above 0"
    assert rows["level"].default == '"low"'
    assert not rows["level"].required
    assert rows["customer.email"].default is None


def test_a_model_that_contains_itself_is_told_once() -> None:
    assert [each.name for each in fields(schema(Tree))] == ["name", "children"]


def test_a_type_that_is_made_of_itself_is_named_where_it_comes_again() -> None:
    found = schema(Json)
    assert outline(found) == "string or list of Json or object of Json"
    assert fields(found) == []
    assert fields({"type": "object", "properties": {"tree": found}}, found)[0].name == "tree"


def test_a_table_has_an_end_in_both_directions() -> None:
    wide = {"type": "object", "properties": {f"f{number}": {"type": "string"} for number in range(ROWS * 2)}}
    assert len(fields(wide)) == ROWS
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(DEPTH * 2):
        deep = {"type": "object", "properties": {"x": deep}}
    assert [each.name for each in fields(deep)] == [".".join("x" * (number + 1)) for number in range(DEPTH)]


def test_values_are_shown_as_json_whatever_they_are() -> None:
    assert as_json("ä") == '"ä"'
    assert as_json({1}) == '"{1}"'
