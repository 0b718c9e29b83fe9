from __future__ import annotations

import json
from collections import OrderedDict, UserDict, deque, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from realtime.encoding.json_text import (
    NotJson,
    TooDeep,
    TooMany,
    Unreadable,
    json_bytes,
    json_text,
    plain,
    read,
    read_json,
    write,
)
from realtime.errors import UsageError

leaves: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.text(st.characters(categories=["Cs", "Ll"])),
)
values: st.SearchStrategy[Any] = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)
digits = st.text('0123456789.-e," x[', max_size=60)

BIG = 2**64
LONE = "\ud83d"


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()


class Model(BaseModel):
    at: datetime
    tags: frozenset[str] = frozenset()


@dataclass
class Point:
    x: int
    y: Any
    _hidden: int = field(default=0)


Pair = namedtuple("Pair", "a b")
NOON = datetime(2026, 1, 2, 12, 0, 0, 500_000, tzinfo=UTC)
KEY = UUID("550e8400-e29b-41d4-a716-446655440000")

FORMS: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (-5, -5),
    (1.5, 1.5),
    (float("nan"), None),
    (float("-inf"), None),
    ("é\n", "é\n"),
    (Text("sub"), "sub"),
    (Colour.RED, "red"),
    (Level.LOW, 1),
    ((1, (2,)), [1, [2]]),
    (Pair(1, b"A"), [1, {"_base64": "QQ=="}]),
    ({3}, [3]),
    (frozenset({b"A"}), [{"_base64": "QQ=="}]),
    (deque([1, 2]), [1, 2]),
    (b"A", {"_base64": "QQ=="}),
    (bytearray(b"A"), {"_base64": "QQ=="}),
    (memoryview(b"A"), {"_base64": "QQ=="}),
    (NOON, "2026-01-02T12:00:00.500000Z"),
    (NOON.replace(tzinfo=None), "2026-01-02T12:00:00.500000Z"),
    (NOON.astimezone(timezone(timedelta(hours=2))), "2026-01-02T14:00:00.500000+02:00"),
    (date(2026, 1, 2), "2026-01-02"),
    (time(1, 2, 3), "01:02:03"),
    (KEY, str(KEY)),
    (Point(1, NOON, 5), {"x": 1, "y": "2026-01-02T12:00:00.500000Z"}),
    (Model(at=NOON, tags=frozenset({"a"})), {"at": "2026-01-02T12:00:00.500000Z", "tags": ["a"]}),
    (Decimal("1.50"), "1.50"),
    (Path("/a"), "/a"),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (UserDict({"a": {1}}), {"a": [1]}),
    (BIG, BIG),
    (-BIG, -BIG),
    (LONE, LONE),
]
KEYS: list[tuple[Any, str]] = [
    ("a", "a"),
    (Text("a"), "a"),
    (LONE, LONE),
    (1, "1"),
    (BIG, str(BIG)),
    (True, "true"),
    (None, "null"),
    (1.5, "1.5"),
    (Colour.RED, "red"),
    (Level.LOW, "1"),
    (KEY, str(KEY)),
    (NOON, "2026-01-02T12:00:00.500000Z"),
]


@pytest.mark.parametrize(("value", "form"), FORMS)
def test_every_value_has_one_form_on_the_fast_and_on_the_patient_way(value: Any, form: Any) -> None:
    assert json.loads(json_bytes(value)) == form
    assert json.loads(json_bytes({"v": [value]})) == {"v": [form]}
    assert json.loads(json_bytes({1: value})) == {"1": form}
    assert json.loads(json_bytes([value, BIG])) == [form, BIG]
    assert json.loads(json_text([value, LONE])) == [form, LONE]


@pytest.mark.parametrize(("key", "form"), KEYS)
def test_every_key_has_one_form_on_the_fast_and_on_the_patient_way(key: Any, form: str) -> None:
    assert json.loads(json_bytes({key: 1})) == {form: 1}
    assert json.loads(json_bytes({key: BIG})) == {form: BIG}


def test_json_is_compact() -> None:
    assert json_bytes({"a": [1, "é"], "b": None}) == '{"a":[1,"é"],"b":null}'.encode()
    assert json_text({"a": [1, "é"]}) == '{"a":[1,"é"]}'
    assert json_text({"a": [BIG, LONE]}) == '{"a":[18446744073709551616,"\\ud83d"]}'


class Unknown:
    pass


class Broken(BaseModel):
    inner: Any


def endless() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    "value", [Unknown(), {"a": [Unknown()]}, Broken(inner=Unknown()), {Unknown()}, Unknown, [Unknown(), BIG]]
)
def test_what_cannot_be_encoded_is_named(value: Any) -> None:
    with pytest.raises(UsageError, match=r"Unknown|Broken|type"):
        json_bytes(value)


def test_an_iterator_is_refused_rather_than_used_up() -> None:
    with pytest.raises(UsageError, match="generator"):
        json_bytes([endless()])


@pytest.mark.parametrize("key", [(1, 2), b"bytes", Unknown()])
def test_a_key_that_cannot_be_one_is_named(key: Any) -> None:
    with pytest.raises(UsageError, match=f"{type(key).__name__} cannot be a key"):
        json_bytes({key: 1})


def test_a_value_that_contains_itself_is_a_usage_error() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(UsageError, match="itself"):
        json_bytes(circle)


@pytest.mark.parametrize("value", [10**5_000, {10**5_000: 1}], ids=["value", "key"])
def test_an_integer_too_long_for_python_is_a_usage_error(value: Any) -> None:
    with pytest.raises(UsageError):
        json_bytes(value)


def test_a_value_deeper_than_orjson_goes_is_encoded_all_the_same() -> None:
    value: Any = 1
    for _ in range(300):
        value = [value]
    assert json_bytes(value) == b"[" * 300 + b"1" + b"]" * 300


def test_bytes_get_the_form_that_is_asked_for_and_are_counted_once() -> None:
    for value in ([b"A", b"B"], {1: [b"A"], 2: (b"B",)}, [b"A", LONE, {b"B"}], [b"A", {1: BIG}, b"B"]):
        found: list[bytes] = []

        def on_bytes(data: bytes, found: list[bytes] = found) -> int:
            found.append(data)
            return len(found)

        write(value, on_bytes, found.clear)
        assert found == [b"A", b"B"]


def test_plain_keeps_what_is_plain() -> None:
    assert plain({"a": [1, b"x", (Colour.RED,)], 2: None}, bytes) == {"a": [1, b"x", ["red"]], "2": None}


@given(values)
def test_what_is_written_is_read(value: Any) -> None:
    assert read(json_text(value), 64) == json.loads(json.dumps(value))  # two surrogates that meet become one character


@given(digits)
def test_numbers_are_read_as_the_standard_library_reads_them(text: str) -> None:
    frame = f'["{"x" * 30}",{text}]'
    try:
        expected = json.loads(frame)
    except ValueError:
        with pytest.raises((NotJson, Unreadable)):
            read(frame, 64)
    else:
        try:
            found = read(frame, 64)
        except Unreadable:
            assert "inf" in str(expected)
        else:
            assert found == expected
            assert [type(item) for item in found] == [type(item) for item in expected] or "-0" in frame


@pytest.mark.parametrize("before", range(20))
@pytest.mark.parametrize("integer", [2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**18, 10**19, -(10**18), 10**30])
def test_an_integer_keeps_every_digit_wherever_it_stands(before: int, integer: int) -> None:
    assert read(f'["{"x" * before}",{integer}]', 64) == ["x" * before, integer]


@pytest.mark.parametrize(
    "text", ["", "nul", "[1,]", "NaN", "[Infinity]", "[-Infinity]", '["\x01"]', "\ufeff[]", "[1]]", "{1:2}"]
)
def test_what_is_not_json(text: str) -> None:
    with pytest.raises(NotJson):
        read(text, 64)


@pytest.mark.parametrize("text", ["[1e999]", "[-1e999]", "[" + "1" * 641 + "]", "[" + "1" * 500_000 + "]"])
def test_a_number_that_cannot_be_kept(text: str) -> None:
    with pytest.raises(Unreadable):
        read(text, 64)


def test_depth() -> None:
    assert read("[" * 3 + "]" * 3, 3) == [[[]]]
    assert read('{"a":{"b":{"c":1}}}', 3) == {"a": {"b": {"c": 1}}}
    assert read("[" + ",".join(["[]"] * 50) + "]", 3) == [[]] * 50
    for text in (
        "[" * 4 + "]" * 4,
        '{"a":{"b":{"c":{}}}}',
        '[{"a":[{"b":1}]}]',
        "[" * 1_100 + "]" * 1_100,
    ):
        with pytest.raises(TooDeep):
            read(text, 3)
    for text in ("[" * 500_000, "[" * 30_000 + "]" * 30_000, '[{"a":' * 40_000):
        with pytest.raises(TooDeep):
            read(text, 3)


def test_the_number_of_values_is_limited_and_strings_are_none() -> None:
    assert read("[" + ",".join(["1"] * 100) + "]", 3, 100) == [1] * 100
    assert read('["' + ",[{" * 1_000 + '"]', 3, 100) == [",[{" * 1_000]
    tricky = ["\\", '",[{' * 500]
    assert read(json.dumps(tricky), 3, 100) == tricky
    for text in ("[" + ",".join(["1"] * 101) + "]", "[" + ",".join(["[]"] * 300) + "]", '["a' + '","' * 101 + '"]'):
        with pytest.raises(TooMany):
            read(text, 64, 100)


def test_json_from_outside_is_read_as_strictly_and_fails_with_one_family() -> None:
    assert read_json('{"a":[18446744073709551616]}') == {"a": [2**64]}
    assert read_json("[" * 64 + "]" * 64)
    for text in ("", "[NaN]", "[1e999]", "[" * 65 + "]" * 65, "[" * 500_000):
        with pytest.raises(ValueError):
            read_json(text)


def test_counting_takes_no_time_that_grows_with_the_square() -> None:
    hostile = '["echo"' + "," * 50_001 + '"' + '\\"' * 400_000 + " " * 60_000
    with pytest.raises((TooMany, TooDeep)):
        read(hostile, 64)  # 10 ms; with the square this test meets its time-out
