from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import socketio
from hypothesis import given
from hypothesis import strategies as some

from realtime.encoding.stock_messages import (
    ATTACHMENTS_LIMIT,
    ROOMS_LIMIT,
    RefusedWriting,
    Writing,
    WritingLimits,
    read_message,
    writing_of,
)

LIMITS = WritingLimits()
JSON = some.recursive(
    some.none() | some.booleans() | some.integers(-(1 << 40), 1 << 40) | some.text(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(), inner, max_size=4),
    max_leaves=10,
)
FIELDS = ["method", "event", "data", "binary", "namespace", "room", "skip_sid", "callback", "host_id"]


class Stock(socketio.PubSubManager):
    """python-socketio's own, with a list for a broker."""

    def __init__(self) -> None:
        super().__init__(write_only=True)
        self.said: list[bytes] = []

    def _publish(self, data: Any) -> None:
        self.said.append(json.dumps(data).encode())


def written(*args: Any, **options: Any) -> bytes:
    """What a writer of python-socketio's puts on the channel."""
    writer = Stock()
    writer.emit(*args, **options)
    [message] = writer.said
    return message


def said(message: bytes) -> Writing:
    return writing_of(read_message(message, LIMITS))


def refused(message: bytes | dict[str, Any]) -> str:
    with pytest.raises(RefusedWriting) as refusal:
        said(message if isinstance(message, bytes) else json.dumps(message).encode())
    return refusal.value.reason


def emission(**changes: Any) -> dict[str, Any]:
    return {"method": "emit", "event": "told", "data": [1], "namespace": "/chat", "room": "hall"} | changes


@pytest.mark.parametrize(
    ("data", "args"),
    [
        (None, []),
        ("text", ["text"]),
        (("a", {"b": [1, None]}), ["a", {"b": [1, None]}]),
        ([1, 2], [[1, 2]]),
        (b"\x00\xff", [b"\x00\xff"]),
        (({"file": b"abc"}, [b"d", "e"]), [{"file": b"abc"}, [b"d", "e"]]),
        ((), []),
    ],
)
def test_what_a_stock_writer_says_is_what_was_said(data: Any, args: list[Any]) -> None:
    assert said(written("told", data, namespace="/chat", room="hall")) == Writing("/chat", "told", args, "hall", ())


@pytest.mark.parametrize(
    ("options", "namespace", "rooms", "skip"),
    [
        ({}, "/", None, ()),
        ({"room": ["a", "b"], "skip_sid": "x"}, "/", ["a", "b"], ("x",)),
        ({"to": 7, "skip_sid": ["x", "y"], "namespace": "/n"}, "/n", 7, ("x", "y")),
    ],
)
def test_for_whom_it_is(options: dict[str, Any], namespace: str, rooms: Any, skip: tuple[str, ...]) -> None:
    assert said(written("told", 1, **options)) == Writing(namespace, "told", [1], rooms, skip)


@pytest.mark.parametrize("beginning", [b"", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"])
def test_pickle_is_recognised_and_never_opened(beginning: bytes) -> None:
    """This one would end the test run."""
    assert refused(beginning + b"cos\n_exit\n(I17\ntR.") == ("pickle" if beginning else "malformed")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x80",
        b"{",
        b"null",
        b"[1]",
        b'"emit"',
        b"{}",
        b'{"method": 7}',
        b'{"method": "emit", "event": "told", "data": [NaN]}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"method":' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"method":"emit","event":"told","data":[' + b"0," * 60_000 + b"0]}",
    ],
    ids=lambda message: repr(message[:20]),
)
def test_what_is_no_message(message: bytes) -> None:
    assert refused(message) == "malformed"


BAD_ROOMS: list[Any] = [{}, [{}], [["a"]], 1.5, True, [None], ["a"] * (ROOMS_LIMIT + 1)]
BAD_DATA: list[Any] = [None, "text", {}, 7]
BAD_BINARY: list[Any] = [
    [],
    ["x"],
    [{}],
    [[{"_placeholder": True, "num": 0}]],
    [[{"_placeholder": True, "num": 1}], "YQ=="],
    [[{"_placeholder": True, "num": -1}], "YQ=="],
    [[{"_placeholder": True, "num": "0"}], "YQ=="],
    [[{"_placeholder": True, "num": 0}], "no base64!"],
    [[{"_placeholder": True, "num": 0}], 7],
    [[{"_placeholder": True, "num": 0}], "YQ==", "YQ=="],
    [[], *["YQ=="] * (ATTACHMENTS_LIMIT + 1)],
]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *(({"method": method}, "method") for method in ("disconnect", "close_room", "enter_room", "callback", "", "x")),
        *(({"event": event}, "event") for event in (None, 7, ["a"], "connect", "disconnect", "connect_error", "*")),
        *(({"namespace": namespace}, "namespace") for namespace in (7, ["/"], {"a": 1}, "chat")),
        *(({"room": room}, "room") for room in BAD_ROOMS),
        *(({"skip_sid": sid}, "skip_sid") for sid in (7, [7], {"a": 1}, ["a"] * (ROOMS_LIMIT + 1))),
        *(({"data": data}, "data") for data in BAD_DATA),
        ({"callback": ["room", "/", 1]}, "callback"),
        *(({"binary": True, "data": data}, "data") for data in BAD_BINARY),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_python_socketio_does_not_write_is_refused_by_reason(changes: dict[str, Any], reason: str) -> None:
    assert said(json.dumps(emission()).encode()).event == "told"
    assert refused(emission(**changes)) == reason


def test_a_field_that_is_missing() -> None:
    for field, reason in (("method", "malformed"), ("event", "event"), ("data", "data")):
        message = emission()
        del message[field]
        assert refused(message) == reason
    message = emission()
    del message["namespace"], message["room"]
    assert said(json.dumps(message).encode()) == Writing("/", "told", [1], None, ())


@given(some.binary(max_size=200))
def test_arbitrary_bytes_are_refused_and_nothing_else(data: bytes) -> None:
    assert refused(data) in ("malformed", "pickle", "method")


@given(some.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON)), some.booleans())
def test_arbitrary_fields_are_read_or_refused_and_nothing_else(fields: dict[str, Any], emits: bool) -> None:
    message = fields | ({"method": "emit", "event": "told"} if emits else {})
    try:
        found = said(json.dumps(message).encode())
    except RefusedWriting as refusal:
        assert refusal.reason
    else:
        assert isinstance(found.args, list)
        assert all(isinstance(sid, str) for sid in found.skip)


@given(some.lists(some.binary(max_size=50), max_size=5))
def test_attachments_come_back(attachments: list[bytes]) -> None:
    places = [{"_placeholder": True, "num": number} for number in range(len(attachments))]
    data = [[places], *(base64.b64encode(each).decode() for each in attachments)]
    assert said(json.dumps(emission(binary=True, data=data)).encode()).args == [attachments]
