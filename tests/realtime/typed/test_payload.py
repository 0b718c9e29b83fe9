from __future__ import annotations

import json
from typing import Annotated, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator

from realtime.errors import PayloadError
from realtime.typed.payload import (
    COUNT_LIMIT,
    DETAILS_LIMIT,
    TEXT_LIMIT,
    Argument,
    Payload,
    annotation_of,
    error_details,
    fallback_of,
    invalid,
)
from realtime.typed.signature import EMPTY, Parameter, read_signature

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner),
    max_leaves=8,
)


class Say(BaseModel):
    room: str
    text: Annotated[str, Field(max_length=5)]

    @field_validator("room")
    @classmethod
    def not_the_attic(cls, room: str) -> str:
        if room == "attic":
            raise ValueError("no " + "x" * 1_000)
        return room


def argument(name: str, annotation: Any, **more: Any) -> Argument:
    required = not more.keys() & {"default", "factory", "variadic"}
    return Argument(name, annotation, TypeAdapter(annotation), required=required, **more)


def refused(payload: Payload, *args: Any) -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        payload.read(args)
    assert caught.value.code == "invalid_payload"
    return caught.value


def parameter(function: Any) -> Parameter:
    return read_signature(function).parameters[0]


def test_arguments_are_checked_in_order() -> None:
    payload = Payload([argument("room", str), argument("count", int)])
    assert payload.read(["a", "5"]) == ["a", 5]


def test_a_model_takes_one_object() -> None:
    (say,) = Payload([argument("say", Say)]).read([{"room": "a", "text": "b"}])
    assert say == Say(room="a", text="b")


def test_what_was_not_sent_has_its_default() -> None:
    payload = Payload([argument("room", str), argument("limit", int, default=50), argument("tags", list, factory=list)])
    first, second = payload.read(["a"]), payload.read(["a", 3])
    assert (first, second) == (["a", 50, []], ["a", 3, []])
    assert first[2] is not second[2]


def test_a_variadic_argument_takes_the_rest() -> None:
    payload = Payload([argument("room", str), argument("numbers", int, variadic=True)])
    assert payload.read(["a"]) == ["a", []]
    assert payload.read(["a", 1, "2"]) == ["a", [1, 2]]
    assert refused(payload, "a", 1, "two").details[0]["loc"] == ["numbers", 1]


def test_a_required_argument_after_one_with_a_default_counts_positions() -> None:
    payload = Payload([argument("a", int, default=1), argument("b", int)])
    assert payload.read([1, 2]) == [1, 2]
    assert refused(payload, 1).details == [{"loc": ["b"], "message": "Field required", "type": "missing"}]


def test_too_few_arguments_are_named() -> None:
    error = refused(Payload([argument("room", str), argument("text", str), argument("id", str, default="")]))
    assert [each["loc"] for each in error.details] == [["room"], ["text"]]
    assert str(error) == "room: Field required (and 1 more)"


@pytest.mark.parametrize(("names", "sentence"), [((), "at most 0 arguments"), (("a",), "at most 1 argument,")])
def test_too_many_arguments_are_refused(names: tuple[str, ...], sentence: str) -> None:
    error = refused(Payload([argument(name, str) for name in names]), *"xyz"[: len(names) + 2])
    assert error.details[0]["type"] == "unexpected_argument"
    assert sentence in str(error)


def test_all_problems_are_told_without_the_values() -> None:
    error = refused(Payload([argument("say", Say), argument("n", int)]), {"text": "hunter22"}, "hunter22")
    assert [(each["loc"], each["type"]) for each in error.details] == [
        (["say", "room"], "missing"),
        (["say", "text"], "string_too_long"),
        (["n"], "int_parsing"),
    ]
    assert "hunter22" not in json.dumps(error.as_dict())
    assert "http" not in json.dumps(error.as_dict())


def test_a_thousand_problems_do_not_make_a_thousand_lines() -> None:
    numbers = Payload([argument("n", list[int])])
    assert len(refused(numbers, ["x"] * COUNT_LIMIT).details) == DETAILS_LIMIT
    (only,) = refused(numbers, ["x"] * (COUNT_LIMIT + 1)).details
    assert only == {"loc": ["n"], "message": f"{COUNT_LIMIT + 1} problems", "type": "too_many_problems"}
    rest = Payload([argument("n", int, variadic=True)])
    assert len(refused(rest, *["x"] * 5_000).details) == DETAILS_LIMIT


def test_long_keys_and_messages_are_cut() -> None:
    error = refused(Payload([argument("d", dict[str, int])]), {"k" * 5_000: "x"})
    assert error.details[0]["loc"] == ["d", "k" * TEXT_LIMIT]
    error = refused(Payload([argument("say", Say)]), {"room": "attic", "text": ""})
    assert len(error.details[0]["message"]) == TEXT_LIMIT


def test_details_stand_alone_too() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Say).validate_python({"room": "a"})
    assert error_details(caught.value) == [{"loc": ["text"], "message": "Field required", "type": "missing"}]
    assert invalid(error_details(caught.value, "x", 0)).message == "x.0.text: Field required"


@given(st.lists(JSON, max_size=3))
def test_anything_is_either_taken_or_refused_in_words_that_can_be_sent(args: list[Any]) -> None:
    payload = Payload([argument("say", Say), argument("n", dict[str, list[int]], default=None)])
    try:
        values = payload.read(args)
    except PayloadError as error:
        assert orjson.dumps(error.as_dict())
        assert 0 < len(error.details) <= DETAILS_LIMIT
    else:
        assert len(values) == 2


def test_defaults_come_from_the_signature_or_from_a_field() -> None:
    assert fallback_of(parameter(lambda a: a)).required
    assert fallback_of(parameter(lambda a=3: a)).make() == 3
    assert fallback_of(parameter(lambda a=Field(max_length=3): a)).required
    assert fallback_of(parameter(lambda a=Field(3): a)).make() == 3
    made = fallback_of(parameter(lambda a=Field(default_factory=list): a))
    assert (made.required, made.default, made.make()) == (False, EMPTY, [])

    def inside(a: Annotated[int, Field(ge=1), Field(default=7)]) -> None: ...

    assert fallback_of(parameter(inside)).make() == 7


def test_a_field_as_default_constrains() -> None:
    def limited(text: str = Field(max_length=3)) -> None: ...

    def free(text: str = "") -> None: ...

    assert annotation_of(parameter(free)) is str
    with pytest.raises(ValidationError):
        TypeAdapter(annotation_of(parameter(limited))).validate_python("four")
