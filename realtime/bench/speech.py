"""Pure: no I/O, no clock, no task. What the load tool says to a server, and how it reads what comes back.

A message under test carries its number: ``#0000042`` at the front of its text, padded to the wanted size. Wherever
an application puts the text, the number is found again, so that every delivery can be counted exactly once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final, NamedTuple, Protocol

import orjson

from realtime.bench.frames import BINARY, TEXT
from realtime.encoding import msgpack_data

SMALLEST: Final = 8
"""Bytes of a message that is nothing but its number."""
NUMBERS: Final = 10_000_000
"""A run has fewer messages than this: seven digits."""

_MARK: Final = re.compile(rb"#(\d{7})")
_ACK: Final = re.compile(rb"43(?:/[^,]*,)?(\d+)(.*)", re.DOTALL)
_JSON: Final = re.compile(rb"[\[{].*", re.DOTALL)


class Kind(IntEnum):
    """What a packet is to the load tool."""

    EVENT = 0  # a message under test
    ACK = 1
    PING = 2
    OPEN = 3
    CONNECT = 4
    REFUSED = 5
    CLOSE = 6
    OTHER = 7


class Packet(NamedTuple):
    """``number`` is the number of a message or the id of an acknowledgement; ``body`` is JSON where there is any."""

    kind: Kind
    number: int = 0
    body: bytes = b""


class Speech(Protocol):
    """How one kind of client talks."""

    opcode: int
    engine: bool  # whether Engine.IO is spoken: a handshake, pings, namespaces

    def read(self, opcode: int, payload: bytes) -> Packet: ...

    def connect(self, namespace: str, auth: Any) -> bytes: ...

    def event(self, namespace: str, event: list[Any], id: int | None = None) -> bytes: ...


def stamp(number: int, size: int) -> str:
    """The text of message ``number``, ``size`` bytes long (no shorter than its number)."""
    return f"#{number:07d}".ljust(size, "x")


def filled(template: Any, values: Mapping[str, str]) -> Any:
    """A JSON value with ``$name`` in its strings replaced."""
    if isinstance(template, str):
        for name, value in values.items():
            template = template.replace(f"${name}", value)
        return template
    if isinstance(template, list):
        return [filled(item, values) for item in template]
    if isinstance(template, dict):
        return {key: filled(item, values) for key, item in template.items()}
    return template


def error_code(body: bytes) -> str | None:
    """The code in an acknowledgement of failure; None for any other acknowledgement."""
    if not body.startswith(b'[{"error":'):
        return None
    error = orjson.loads(body)[0]["error"]
    return str(error.get("code", "error")) if isinstance(error, dict) else "error"


def _marked(payload: bytes) -> Packet:
    mark = _MARK.search(payload)
    return Packet(Kind.EVENT, int(mark[1])) if mark else Packet(Kind.OTHER)


def _body(payload: bytes) -> bytes:
    found = _JSON.search(payload)
    return found[0] if found else b""


class SocketIO:
    """Socket.IO's text packets."""

    opcode = TEXT
    engine = True
    _WORDS: Final = {b"2": Kind.PING, b"0": Kind.OPEN, b"1": Kind.CLOSE, b"40": Kind.CONNECT, b"41": Kind.CLOSE}

    def read(self, opcode: int, payload: bytes) -> Packet:
        head = payload[:2]
        if head == b"42":
            return _marked(payload)
        if head == b"43":
            ack = _ACK.match(payload)
            return Packet(Kind.ACK, int(ack[1]), ack[2]) if ack else Packet(Kind.OTHER)
        if head == b"44":
            return Packet(Kind.REFUSED, 0, _body(payload))
        kind = self._WORDS.get(head if head[:1] == b"4" else head[:1], Kind.OTHER)
        return Packet(kind, 0, _body(payload))

    def connect(self, namespace: str, auth: Any) -> bytes:
        return b"40" + _prefix(namespace) + (b"" if auth is None else orjson.dumps(auth))

    def event(self, namespace: str, event: list[Any], id: int | None = None) -> bytes:
        return b"42" + _prefix(namespace) + (b"" if id is None else b"%d" % id) + orjson.dumps(event)


def _prefix(namespace: str) -> bytes:
    return b"" if namespace == "/" else namespace.encode() + b","


class MsgPack:
    """Socket.IO's packets as MessagePack: binary frames; Engine.IO's own packets stay text."""

    opcode = BINARY
    engine = True
    _KINDS: Final = {0: Kind.CONNECT, 1: Kind.CLOSE, 3: Kind.ACK, 4: Kind.REFUSED}

    def __init__(self) -> None:
        """Raises UsageError where msgpack is not installed."""
        msgpack_data.require()
        self._engine = SocketIO()

    def read(self, opcode: int, payload: bytes) -> Packet:
        if opcode == TEXT:
            return self._engine.read(opcode, payload)
        fields = msgpack_data.unpack(payload)
        if fields["type"] == 2:
            return _marked(payload)
        return Packet(self._KINDS.get(fields["type"], Kind.OTHER), fields.get("id") or 0, _json(fields.get("data")))

    def connect(self, namespace: str, auth: Any) -> bytes:
        return msgpack_data.pack({"type": 0, "nsp": namespace} | ({} if auth is None else {"data": auth}))

    def event(self, namespace: str, event: list[Any], id: int | None = None) -> bytes:
        return msgpack_data.pack({"type": 2, "nsp": namespace, "data": event} | ({} if id is None else {"id": id}))


def _json(value: Any) -> bytes:
    return orjson.dumps(value, default=repr)


class Raw:
    """Plain WebSocket text: an event is its text, or JSON where it is anything but one string."""

    opcode = TEXT
    engine = False

    def read(self, opcode: int, payload: bytes) -> Packet:
        return _marked(payload)

    def connect(self, namespace: str, auth: Any) -> bytes:
        return b""

    def event(self, namespace: str, event: list[Any], id: int | None = None) -> bytes:
        value = event[0] if len(event) == 1 else event
        return value.encode() if isinstance(value, str) else orjson.dumps(value)
