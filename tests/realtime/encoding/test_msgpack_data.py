from __future__ import annotations

import sys
from datetime import UTC, datetime
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import msgpack
import pytest
from hypothesis import given

from realtime.encoding import msgpack_data
from realtime.encoding.codecs import SocketIOMsgPack
from realtime.encoding.json_text import TooDeep, Unreadable
from realtime.encoding.msgpack_data import NotPacked, check, pack, unpack
from realtime.encoding.packets import MsgPackDecoder
from realtime.errors import UsageError
from tests.realtime.msgpack_values import values

DATE = b"\x00\x00\x01\x8b\xcf\xe5\x68\x7b"  # what the JavaScript client writes for 2023-11-14T22:13:20.123Z


def checked(data: bytes, depth: int = 64) -> tuple[Any, int]:
    value = unpack(data)
    return value, check(value, depth)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@given(values)
def test_what_is_packed_is_unpacked(value: Any) -> None:
    found, _ = checked(pack([value]))
    assert found == [value]


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x93\x01", b"\x01\x01", b"\xa2\xc3\x28", b"\xa3\xed\xa0\xbd", b"\x81\x01\x01", b"\x91" * 2_000],
)
def test_what_is_not_messagepack(data: bytes) -> None:
    with pytest.raises(NotPacked):
        unpack(data)


@pytest.mark.parametrize(
    "head", [b"\xdd\x00\x0f\x00\x00", b"\xdc\xff\xff", b"\xdf\x00\x0f\x00\x00\xa1a", b"\xdb\x7f\xff\xff\xff"]
)
def test_lengths_that_are_not_there_end_early(head: bytes) -> None:
    with pytest.raises(NotPacked):
        unpack((head * 400).ljust(1_000_000, b"\xc1"))


def test_keys_are_strings() -> None:
    with pytest.raises(NotPacked):
        checked(msgpack.packb([{b"bytes": 1}]))


def test_binary_values_are_counted() -> None:
    assert checked(msgpack.packb([b"1", {"a": [b"2", "text"], "b": b""}])) == (
        [b"1", {"a": [b"2", "text"], "b": b""}],
        3,
    )


def test_depth() -> None:
    assert checked(b"\x91\x91\x90", 3) == ([[[]]], 0)
    for data in (b"\x91\x91\x91\x90", b"\x81\xa1a\x91\x91\x80"):
        with pytest.raises(TooDeep):
            checked(data, 3)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"\x91\xd4\x00\x00", [None]),
        (b"\x91\xc7\x01\x00\x00", [b"\x00"]),
        (b"\x91\xc7\x03\x00abc", [b"abc"]),
        (b"\x91\xc8\x01\x00\x00" + b"x" * 256, [b"x" * 256]),
        (b"\x91\xd7\x00" + DATE, ["2023-11-14T22:13:20.123Z"]),
        (b"\x91\xd7\x00" + b"\xff" * 8, ["1969-12-31T23:59:59.999Z"]),
        (b"\x91\xc7\x08\x00" + DATE, [DATE]),
        (b"\x92\xc7\x08\x0012345678\xd7\x00" + DATE, [b"12345678", "2023-11-14T22:13:20.123Z"]),
        (b"\x81\xa1a\xd7\x00" + DATE, {"a": "2023-11-14T22:13:20.123Z"}),
    ],
)
def test_the_javascript_clients_extensions(data: bytes, value: Any) -> None:
    found, binaries = checked(data)
    assert found == value
    assert binaries == sum(isinstance(item, bytes) for item in found)


def test_a_timestamp_becomes_text() -> None:
    moment = datetime(2023, 11, 14, 22, 13, 20, 123_456, tzinfo=UTC)
    assert checked(msgpack.packb([moment], datetime=True)) == (["2023-11-14T22:13:20.123456Z"], 0)


@pytest.mark.parametrize(
    "data",
    [
        b"\x91\xd4\x05\x00",
        b"\x91\xc7\x03\x05abc",
        b"\x91\xd7\x00\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x91\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff",
        msgpack.packb([float("nan")]),
        msgpack.packb({"a": float("-inf")}),
    ],
)
def test_a_value_that_json_does_not_have_cannot_be_kept(data: bytes) -> None:
    with pytest.raises(Unreadable):
        checked(data)


def test_many_small_extensions_do_not_cost_the_square_of_the_frame() -> None:
    many = b"\xdd" + (80_000).to_bytes(4, "big") + (b"\xd7\x00" + DATE) * 79_999 + b"\xc7\x08\x0012345678"
    found, binaries = checked(many)
    assert (len(found), found[-1], binaries) == (80_000, b"12345678", 1)


def test_what_messagepack_does_not_have_takes_the_nearest_form() -> None:
    assert unpack(pack([2**64, -(2**70), 10**400, "a\ud83d"])) == [2.0**64, -(2.0**70), str(10**400), "a?"]


def test_what_cannot_be_packed_is_a_usage_error() -> None:
    for value in (nested(50_000), object(), {(1,): 1}):
        with pytest.raises(UsageError):
            pack(value)


def test_what_is_too_deep_for_messagepack_alone_is_a_usage_error() -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        with pytest.raises(UsageError, match="too deep for MessagePack"):
            pack(nested(1_100))
    finally:
        sys.setrecursionlimit(before)


def test_without_the_package_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgpack", None)
    spec = spec_from_file_location("msgpack_data_alone", msgpack_data.__file__)
    assert spec is not None
    assert spec.loader is not None
    alone = module_from_spec(spec)
    spec.loader.exec_module(alone)
    with pytest.raises(UsageError, match=r"pip install msgpack$"):
        alone.require()
    monkeypatch.setattr(msgpack_data, "msgpack", None)
    for build in (MsgPackDecoder, SocketIOMsgPack):
        with pytest.raises(UsageError, match=r"pip install msgpack$"):
            build()
