"""Pure: no I/O, no clock, no task. Frames of clients become packets, or one typed error: the strict door.

Nothing a client sends makes a decoder raise anything but ProtocolError (the client broke the rules, its connection
ends) or UnreadablePayload (it did not, but the payload cannot be taken; it is answered, and the connection lives).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

import orjson

from realtime.encoding import json_text
from realtime.encoding.engineio_frames import CLOSE, MESSAGE, NOOP, OPEN, PING, PONG, SEPARATOR, UPGRADE, split_payload
from realtime.encoding.msgpack_packets import MsgPackDecoder
from realtime.encoding.packet_rules import (
    ACK_LIMIT,
    Packet,
    PacketLimits,
    PacketType,
    UnreadablePayload,
    check_event,
    check_namespace,
    check_size,
    refuse,
)
from realtime.errors import ProtocolError
from realtime.names import LIFECYCLE_EVENTS

__all__ = [
    "ACK_LIMIT",
    "CLOSE",
    "MESSAGE",
    "NOOP",
    "OPEN",
    "PING",
    "PONG",
    "SEPARATOR",
    "UPGRADE",
    "Decoder",
    "MsgPackDecoder",
    "Packet",
    "PacketLimits",
    "PacketType",
    "UnreadablePayload",
    "split_payload",
]

_NUMBER_DIGITS: Final = len(str(ACK_LIMIT))
_loads: Final = orjson.loads
_SHORT_ID: Final = 2 + _NUMBER_DIGITS
"""Where the payload begins at the latest, behind an id alone that is surely within its limit."""
_SHORT_HEAD: Final = 64
"""Characters in which the hot path looks for the payload: room for a usual namespace and any id."""

_QUICK_CHARACTERS: Final = 4_096
"""Longer ones are read with patience: how they are read is no longer what they cost."""

# Type, number of attachments, namespace, acknowledgement id; the payload is what follows. [0-9], not \d: ASCII only.
_HEADER: Final = re.compile(r"([0-6])(?:([0-9]+)-)?(?:(/[^,]*),?)?([0-9]*)")

# On the hot path: looking a member up on its Enum costs more than the comparison it is for.
_EVENT: Final = PacketType.EVENT
_ACK: Final = PacketType.ACK

_CONTAINERS: Final = (dict, list)

Quick = tuple[list[Any], str, int | None]
"""(data, namespace, id) of an event."""
Place = tuple[Any, Any]
"""(dict or list, key or index) where an attachment belongs."""


class Decoder:
    """One client's frames, in order. ``loads`` is a server's own JSON. After a ProtocolError nothing is kept."""

    __slots__ = (
        "_bytes",
        "_depth",
        "_due",
        "_easy",
        "_error",
        "_known",
        "_limits",
        "_loads",
        "_name",
        "_packet",
        "_places",
        "_quick",
        "_surely_fits",
    )

    def __init__(self, limits: PacketLimits = PacketLimits(), loads: Callable[[str], Any] | None = None) -> None:  # noqa: B008
        self._limits = limits
        self._depth = limits.depth
        self._easy = 2 * limits.depth  # characters: a level of nesting takes two
        self._loads = loads
        self._name = limits.name
        self._known = "/"
        """The namespace that came last; it need not be looked at again."""
        self._surely_fits = limits.message_bytes // 4  # characters: none takes more than four bytes
        self._quick = min(_QUICK_CHARACTERS, self._surely_fits, limits.values)
        self.clear()

    def clear(self) -> None:
        """Drop a half-received packet."""
        self._due = 0
        self._packet: Packet | None = None
        self._error: UnreadablePayload | None = None
        self._places: list[Place] | None = None
        self._bytes = 0

    @property
    def pending(self) -> bool:
        """True while attachments are due."""
        return self._due > 0

    @property
    def pending_bytes(self) -> int:
        """Bytes received of an unfinished packet, text and attachments."""
        return self._bytes

    def quick(self, frame: str | bytes) -> Quick | None:
        """What nearly every message is, read in a third of the time that ``feed`` takes: an event in text, whole and
        of moderate size, with its Engine.IO digit. None for everything else, and nothing has changed then.
        """
        if frame[:2] != "42" or self._due or self._loads is not None or len(frame) > self._quick:
            return None
        start = frame.find("[", 2, _SHORT_HEAD)  # type: ignore[arg-type]
        namespace, ack_id = "/", None
        if start < 0:
            return None
        if start > 2:
            head: str = frame[2:start]  # type: ignore[assignment]
            if start < _SHORT_ID and head.isdigit() and head.isascii():  # isdigit() alone takes those of every script
                ack_id = int(head)
            elif (found := self._head(head)) is None:
                return None
            else:
                namespace, ack_id = found
        text: str = frame[start:]  # type: ignore[assignment]
        if len(text) > self._easy and text.count("[") + text.count("{") > self._depth:
            return None
        try:
            data = _loads(text)
        except ValueError:
            return None
        if not data or type(name := data[0]) is not str or len(name) > self._name or name in LIFECYCLE_EVENTS:
            return None
        if not (len(data) == 2 and type(data[1]) is str) and json_text.may_hold_long_number(text):
            return None
        return data, namespace, ack_id

    def feed(self, frame: str | bytes) -> Packet | None:
        """Take a packet without its Engine.IO digit, or one attachment. None while attachments are due.

        Raises ProtocolError, with the reason as its ``code``, and UnreadablePayload.
        """
        if self._due or not isinstance(frame, str):
            return self._feed_attachment(frame)
        if len(frame) > self._surely_fits:
            check_size(_size(frame), self._limits)
        match = _HEADER.match(frame)
        if match is None:
            refuse("bad_packet_type", "Unknown packet type")
        kind = PacketType(int(match[1]))
        if kind is PacketType.CONNECT_ERROR:
            refuse("bad_packet_type", "Only a server sends connect errors")
        count = _attachment_count(kind, match[2], self._limits.attachments)
        namespace = check_namespace(match[3] or "/", self._limits)
        ack_id = _ack_id(match[4])
        text = frame[match.end() :]
        if kind is PacketType.CONNECT:
            return Packet(kind, namespace, self._connect(text, namespace, ack_id))
        if kind is PacketType.DISCONNECT:
            if text or ack_id is not None:
                refuse("bad_payload", "A disconnect packet carries nothing")
            return Packet(kind, namespace)
        if not text.startswith("["):
            _refuse_payload(text)
        packet = Packet(_EVENT if kind in (_EVENT, PacketType.BINARY_EVENT) else _ACK, namespace, None, ack_id)
        if not count:
            return self._fill(packet, text)
        self._feed_binary(packet, count, text, _size(frame))
        return None

    def _fill(self, packet: Packet, text: str) -> Packet:
        if packet.type is _EVENT:
            packet.data = self._event(text, packet.namespace, packet.id)
        elif packet.id is None:
            refuse("bad_ack_id", "An acknowledgement needs an id")
        else:
            packet.data = self._json(text, packet.namespace, None)
        return packet

    def _feed_binary(self, packet: Packet, count: int, text: str, size: int) -> None:
        """Everything about the packet is checked now, before the first attachment is kept."""
        try:
            self._places = find_places(self._fill(packet, text).data, count)
            self._packet = packet
        except UnreadablePayload as error:
            self._error = error  # raised after its attachments, which come all the same
        self._due = count
        self._bytes = size

    def _feed_attachment(self, frame: str | bytes) -> Packet | None:
        try:
            if isinstance(frame, str):
                refuse("attachment_due", "Text came where a binary attachment was due")
            if not self._due:
                refuse("unexpected_binary", "A binary attachment came that nothing announced")
            check_size(self._bytes + len(frame), self._limits)
        except ProtocolError:
            self.clear()
            raise
        self._bytes += len(frame)
        if self._places is not None:
            container, key = self._places[-self._due]
            container[key] = bytes(frame)
        self._due -= 1
        return None if self._due else self._finish()

    def _finish(self) -> Packet | None:
        packet, error = self._packet, self._error
        self.clear()
        if error is not None:
            raise error
        return packet

    def _head(self, head: str) -> tuple[str, int | None] | None:
        """(namespace, acknowledgement id) where nothing about them is unusual, else None."""
        namespace, digits = "/", head
        if head[0] == "/":
            namespace, comma, digits = head.partition(",")
            if namespace != self._known:
                if not comma or "?" in namespace or not namespace.isprintable():
                    return None
                self._known = namespace
            if not digits:
                return (namespace, None) if comma else None
        # isdigit() alone takes the digits of every script.
        if len(digits) < _NUMBER_DIGITS and digits.isdigit() and digits.isascii():
            return namespace, int(digits)
        return None

    def _event(self, text: str, namespace: str, ack_id: int | None) -> Any:
        data = self._json(text, namespace, ack_id)
        check_event(data, self._limits)
        return data

    def _connect(self, text: str, namespace: str, ack_id: int | None) -> Any:
        if ack_id is not None or (text and not text.startswith("{")):
            refuse("bad_payload", "A connect packet carries an object or nothing")
        return self._json(text, namespace, None) if text else None

    def _json(self, text: str, namespace: str, ack_id: int | None) -> Any:
        try:
            if self._loads is not None:
                return self._own_json(text, self._loads)
            return json_text.read(text, self._depth, self._limits.values)
        except json_text.Unreadable as error:
            raise UnreadablePayload(f"The payload contains {error}", namespace, ack_id) from None
        except json_text.TooDeep:
            refuse("too_deep", f"JSON is limited to a depth of {self._depth}")
        except json_text.NotJson:
            refuse("bad_json", "The payload is not JSON")

    def _own_json(self, text: str, loads: Callable[[str], Any]) -> Any:
        """The server's own JSON may raise anything, and answer with anything."""
        json_text.check_count(text, self._limits.values, self._depth)
        try:
            value = loads(text)
        except RecursionError:
            raise json_text.TooDeep from None
        except Exception as error:
            raise json_text.NotJson from error
        if not isinstance(value, list if text[0] == "[" else dict):
            raise json_text.NotJson
        json_text.check_depth(text, value, self._depth)
        return value


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _attachment_count(kind: PacketType, digits: str | None, limit: int) -> int:
    if kind is not PacketType.BINARY_EVENT and kind is not PacketType.BINARY_ACK:
        if digits is not None:
            refuse("bad_attachment_count", "Only a binary packet announces attachments")
        return 0
    if digits is None or not digits.strip("0"):
        refuse("bad_attachment_count", "A binary packet announces at least one attachment")
    if len(digits) > _NUMBER_DIGITS or int(digits) > limit:
        refuse("too_many_attachments", f"A packet is limited to {limit} attachments")
    return int(digits)


def _ack_id(digits: str) -> int | None:
    if not digits:
        return None
    if len(digits) > _NUMBER_DIGITS or int(digits) > ACK_LIMIT:
        refuse("bad_ack_id", f"An acknowledgement id is limited to {ACK_LIMIT}")
    return int(digits)


def _refuse_payload(text: str) -> NoReturn:
    if not text or text[0] in '{"tfn':
        refuse("bad_payload", "The payload is not an array")
    refuse("bad_ack_id", "An acknowledgement id has ASCII digits only")


def find_places(data: Any, count: int) -> list[Place]:
    """Where each of ``count`` attachments belongs, in their order, each exactly once. Raises ProtocolError."""
    places: dict[int, Place] = {}
    stack = [data]
    while stack:
        container = stack.pop()
        for key, item in container.items() if isinstance(container, dict) else enumerate(container):
            if isinstance(item, dict) and item.get("_placeholder") is True:
                number = item.get("num")
                if type(number) is not int or not 0 <= number < count or number in places:
                    refuse(
                        "bad_placeholder", "A placeholder names an attachment that is not there, or has a place already"
                    )
                places[number] = (container, key)
            elif item and isinstance(item, _CONTAINERS):
                stack.append(item)
    if len(places) != count:
        refuse("bad_placeholder", "An attachment was announced that has no place")
    return [places[number] for number in range(count)]
