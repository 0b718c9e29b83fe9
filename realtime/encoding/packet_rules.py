"""Pure: no I/O, no clock, no task. What a packet is, and the rules that both forms of it (text, MessagePack) share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NoReturn

from realtime.errors import CloseCode, PayloadError, ProtocolError
from realtime.names import LIFECYCLE_EVENTS, NAME_LIMIT

ACK_LIMIT: Final = 2**31
"""The highest acknowledgement id taken. The stock clients count up from 0."""


class PacketType(IntEnum):
    """Socket.IO protocol 5. The binary ones exist on the wire only."""

    CONNECT = 0
    DISCONNECT = 1
    EVENT = 2
    ACK = 3
    CONNECT_ERROR = 4
    BINARY_EVENT = 5
    BINARY_ACK = 6


@dataclass(slots=True)
class Packet:
    """What a client said. ``data`` of an EVENT is ``[name, *args]``, of an ACK a list, of a CONNECT a dict or None.

    Binary events and acknowledgements arrive as EVENT and ACK, with bytes in their places.
    """

    type: PacketType
    namespace: str
    data: Any = None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class PacketLimits:
    """CONTRACT section 5. ``name`` is in characters; ``message_bytes`` is text and attachments together."""

    attachments: int = 10
    depth: int = 64
    name: int = NAME_LIMIT
    message_bytes: int = 1_000_000
    values: int = 50_000


class UnreadablePayload(PayloadError):
    """No violation, but it cannot be taken. ``namespace`` and ``id`` say whom to answer; ``id`` is None for all but
    an event, because the id of an acknowledgement is a number of ours."""

    def __init__(self, message: str, namespace: str, ack_id: int | None) -> None:
        super().__init__(message)
        self.namespace = namespace
        self.id = ack_id


def refuse(code: str, message: str, close: CloseCode = CloseCode.BAD_PROTOCOL) -> NoReturn:
    """Raises ProtocolError. ``code`` is a metric label, so it never holds anything of the client's."""
    raise ProtocolError(message, close=close, code=code)


def check_size(size: int, limits: PacketLimits) -> None:
    """``size`` in bytes. Raises ProtocolError."""
    if size > limits.message_bytes:
        refuse("too_big", f"A message is limited to {limits.message_bytes} bytes", CloseCode.TOO_BIG)


def check_namespace(name: str, limits: PacketLimits) -> str:
    """The name without its query, which stock servers cut off too. Raises ProtocolError."""
    name = name.partition("?")[0]
    if not name.startswith("/") or len(name) > limits.name or not name.isprintable():
        refuse("bad_namespace", f"A namespace is a slash and up to {limits.name - 1} printable characters")
    return name


def check_event(data: Any, limits: PacketLimits) -> None:
    """``data`` must be ``[name, *args]`` with a name that a client may send. Raises ProtocolError.

    The empty name passes: stock clients let their users send it, and it reaches no handler but one of that name.
    """
    if not data:
        refuse("bad_payload", "An event is an array with its name in front")
    name = data[0]
    if not isinstance(name, str) or len(name) > limits.name:
        refuse("bad_event_name", f"An event name is a string of up to {limits.name} characters")
    if name in LIFECYCLE_EVENTS:
        refuse("reserved_event", "This event name belongs to the protocol")
