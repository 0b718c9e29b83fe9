from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel
from typing_extensions import TypeAliasType

from realtime.errors import UsageError
from realtime.typed.signature import (
    EMPTY,
    Kind,
    alternatives,
    is_class,
    is_scalar,
    is_sequence,
    kind_of,
    name_of,
    read_signature,
    resolve_annotation,
    shown,
    unwrap_annotation,
    wrong,
)


async def waits(text: str) -> None: ...


def blocks(text: str) -> None: ...


async def agenerates() -> AsyncIterator[int]:
    yield 1


def generates() -> Iterator[int]:
    yield 1


class Waiting:
    async def __call__(self, text: str) -> None: ...

    async def method(self, text: str) -> None: ...


class Blocking:
    def __call__(self) -> None: ...


class Generating:
    def __call__(self) -> Iterator[int]:
        yield 1


def passing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


def awaiting(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


Alias = TypeAliasType("Alias", Annotated[int, "inner"])


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (waits, Kind.ASYNC),
        (blocks, Kind.SYNC),
        (agenerates, Kind.ASYNC_GENERATOR),
        (generates, Kind.GENERATOR),
        (Waiting, Kind.CLASS),
        (partial(Waiting), Kind.CLASS),
        (Waiting(), Kind.ASYNC),
        (Waiting().method, Kind.ASYNC),
        (Blocking(), Kind.SYNC),
        (Generating(), Kind.GENERATOR),
        (partial(partial(waits), "x"), Kind.ASYNC),
        (partial(Waiting(), "x"), Kind.ASYNC),
        (passing_on(waits), Kind.ASYNC),
        (passing_on(agenerates), Kind.ASYNC_GENERATOR),
        (awaiting(blocks), Kind.ASYNC),
        (awaiting(generates), Kind.ASYNC),
        (len, Kind.SYNC),
    ],
)
def test_the_kind_of_a_callable_is_seen_through_its_layers(call: Callable[..., Any], kind: Kind) -> None:
    assert kind_of(call) is kind


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (waits, "waits"),
        (partial(waits), "waits"),
        (Waiting().method, "Waiting.method"),
        (Waiting, "Waiting"),
        (Waiting(), "Waiting"),
    ],
)
def test_a_callable_is_named_by_where_it_was_written(call: object, name: str) -> None:
    assert name_of(call) == f"{__name__}.{name}"


def test_a_wrong_signature_says_what_was_expected_and_what_came() -> None:
    error = wrong(waits, "/chat", "text", "this", "that")
    assert str(error) == f"/chat: {__name__}.waits: parameter 'text': expected this; came that"
    assert error.details == {
        "where": "/chat",
        "function": f"{__name__}.waits",
        "parameter": "text",
        "expected": "this",
        "came": "that",
    }
    assert str(wrong(waits, "", "", "this", "that")) == f"{__name__}.waits: expected this; came that"


def test_parameters_are_read_with_their_types() -> None:
    async def handler(bare, /, text: Annotated[str, "note"] = "x", *rest: int, named: Alias) -> None:  # type: ignore[no-untyped-def]
        ...

    bare, text, rest, named = read_signature(handler).parameters
    assert (bare.name, bare.annotation, bare.default, bare.keyword, bare.variadic) == ("bare", Any, EMPTY, False, False)
    assert (text.base, text.metadata, text.default) == (str, ("note",), "x")
    assert (rest.base, rest.variadic) == (int, True)
    assert (named.base, named.metadata, named.keyword) == (int, ("inner",), True)


def test_the_return_annotation_waits_to_be_resolved() -> None:
    def returns_nothing_known() -> Missing: ...  # type: ignore[name-defined]  # noqa: F821

    assert read_signature(returns_nothing_known).returns == "Missing"
    assert read_signature(lambda: None).returns is inspect.Signature.empty


def test_names_around_a_function_are_found() -> None:
    class Local(BaseModel):
        text: str

    def maker() -> Callable[..., Any]:
        class Inner:
            def method(self, one: Local, two: list[Inner]) -> None: ...

        return Inner().method

    method = maker()
    with pytest.raises(UsageError, match="Inner"):  # maker has returned; nothing keeps its names
        read_signature(method)

    def here(one: Local, two: list[Local]) -> None: ...

    one, two = read_signature(here).parameters
    assert one.annotation is Local
    assert two.annotation == list[Local]


def test_names_in_a_closure_are_found_after_its_function_has_returned() -> None:
    def maker() -> Callable[..., Any]:
        class Local: ...

        def handler(one: Local) -> Any:
            return Local, one, later

        read_signature(handler)  # `later` has no value yet, which is nobody's mistake
        later = 1
        return handler

    handler = maker()
    assert read_signature(handler).parameters[0].annotation is handler(None)[0]


def test_a_class_is_read_by_its_constructor() -> None:
    class Plain: ...

    class Initialised:
        def __init__(self, text: str) -> None: ...

    class Made:
        def __new__(cls, number: int) -> Made:
            return object.__new__(cls)

    @dataclass
    class Data:
        word: Literal["a"]

    assert read_signature(Plain).parameters == ()
    assert read_signature(Initialised).parameters[0].annotation is str
    assert read_signature(Made).parameters[0].annotation is int
    assert read_signature(Data).parameters[0].annotation == Literal["a"]


def test_callable_objects_partials_and_methods_are_read_without_what_they_hold() -> None:
    for call in (Waiting(), Waiting().method, waits, passing_on(waits)):
        assert [(each.name, each.annotation) for each in read_signature(call).parameters] == [("text", str)]
    assert read_signature(partial(waits, "x")).parameters == ()
    assert [each.name for each in read_signature(len).parameters] == ["obj"]


def test_what_cannot_be_read_is_a_usage_error() -> None:
    def unknown(text: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    def named(**rest: Any) -> None: ...

    with pytest.raises(UsageError, match=r"parameter 'text': expected a type that is defined .* came 'Missing' \(name"):
        read_signature(unknown)
    with pytest.raises(UsageError, match=r"parameter 'rest': .*functools\.wraps.*came \*\*rest"):
        read_signature(named)
    with pytest.raises(UsageError, match="something that can be called; came 3"):
        read_signature(3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="whose signature can be read"):
        read_signature(type)
    with pytest.raises(UsageError, match=r"'return': .* came 'list\["):
        resolve_annotation(waits, "", "return", "list[")
    with pytest.raises(UsageError, match=r"came .*Missing.* is not defined"):
        resolve_annotation(waits, "", "x", list["Missing"])  # type: ignore[name-defined]  # noqa: F821


def test_annotations_are_unwrapped_through_aliases() -> None:
    assert unwrap_annotation(Annotated[Alias, "outer"]) == (int, ("inner", "outer"))
    assert unwrap_annotation(list[int]) == (list[int], ())


def test_types_are_told_apart() -> None:
    class Shape(BaseModel): ...

    @dataclass
    class Data: ...

    assert is_class(int)
    assert not is_class(list[int])
    assert not is_class("int")
    assert alternatives(int | None) == (int, type(None))
    assert alternatives(Annotated[int, "x"] | str) == (int, str)
    assert [is_scalar(each) for each in (str, int | None, Literal["a"], Any)] == [True] * 4
    assert [is_scalar(each) for each in (Shape, Shape | None, Data, dict, list[str], dict[str, int])] == [False] * 6
    assert [is_sequence(each) for each in (list[str], set, list[int] | None, Sequence[str])] == [True] * 4
    assert [is_sequence(each) for each in (str, dict[str, str], None)] == [False] * 3


def test_types_are_shown_as_people_write_them() -> None:
    assert shown(int) == "int"
    assert shown(Waiting) == f"{__name__}.Waiting"
    assert shown(list[int]) == "list[int]"
