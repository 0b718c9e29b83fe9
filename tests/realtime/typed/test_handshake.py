from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter
from starlette.requests import HTTPConnection

from realtime.errors import PayloadError
from realtime.typed.handshake import Source, reading
from realtime.typed.payload import Fallback
from realtime.typed.steps import Call

CONNECTION = HTTPConnection(
    {
        "type": "websocket",
        "query_string": b"n=1&n=2",
        "headers": [(b"x-tag", b"a"), (b"x-tag", b"b"), (b"cookie", b"n=7")],
    }
)


def read(place: str, name: str, annotation: Any, *, many: bool = False, fallback: Fallback | None = None) -> Any:
    leaf = reading(Source(place, name, many), TypeAdapter(annotation), fallback or Fallback())
    return leaf.fill(Call((), CONNECTION), [])


@pytest.mark.parametrize(
    ("place", "name", "one", "all_of_them"),
    [("query", "n", "2", ["1", "2"]), ("header", "X-Tag", "a", ["a", "b"])],
)
def test_one_value_or_all_values_of_a_name(place: str, name: str, one: str, all_of_them: list[str]) -> None:
    assert read(place, name, str) == one
    assert read(place, name, list[str], many=True) == all_of_them


def test_values_are_checked() -> None:
    assert read("cookie", "n", int) == 7
    with pytest.raises(PayloadError) as caught:
        read("header", "x-tag", int)
    assert caught.value.details[0]["loc"] == ["header", "x-tag"]
    assert caught.value.details[0]["type"] == "int_parsing"


@pytest.mark.parametrize(("place", "many"), [("query", False), ("query", True), ("header", True), ("cookie", False)])
def test_a_missing_value_is_named_unless_something_stands_in(place: str, many: bool) -> None:
    with pytest.raises(PayloadError) as caught:
        read(place, "nothing", list[str], many=many)
    assert caught.value.details == [{"loc": [place, "nothing"], "message": "Field required", "type": "missing"}]
    assert read(place, "nothing", list[str], many=many, fallback=Fallback(False, None)) is None
