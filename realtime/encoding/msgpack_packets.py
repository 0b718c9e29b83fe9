"""Pure: no I/O, no clock, no task. Packets of clients that chose Socket.IO's MessagePack form."""

from __future__ import annotations

from typing import Any, Final

from realtime.encoding import msgpack_data
from realtime.encoding.json_text import TooDeep, Unreadable
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


class MsgPackDecoder:
    """``packets.Decoder`` for MessagePack: a binary frame is one whole packet, a map of type, nsp, data and id.

    Other keys are ignored: the JavaScript client sends its options along. Raises UsageError without msgpack.
    """

    __slots__ = ("_limits",)

    pending: Final = False
    pending_bytes: Final = 0

    def __init__(self, limits: PacketLimits = PacketLimits()) -> None:  # noqa: B008
        msgpack_data.require()
        self._limits = limits

    def clear(self) -> None:
        """Nothing is ever half-received."""

    def quick(self, frame: str | bytes) -> None:
        """There is no quicker way than ``feed``."""

    def feed(self, frame: str | bytes) -> Packet | None:
        """Never None. Raises ProtocolError, with the reason as its ``code``, and UnreadablePayload."""
        if isinstance(frame, str):
            refuse("unexpected_text", "This client chose MessagePack")
        check_size(len(frame), self._limits)
        try:
            packet = self._head(msgpack_data.unpack(frame))
            self._check_data(packet)
        except msgpack_data.NotPacked:
            refuse("bad_msgpack", "The packet is not MessagePack with strings as keys")
        except TooDeep:
            refuse("too_deep", f"A payload is limited to a depth of {self._limits.depth}")
        return packet

    def _head(self, fields: Any) -> Packet:
        if not isinstance(fields, dict):
            refuse("bad_packet", "A packet is a map")
        kind, namespace, ack_id = fields.get("type"), fields.get("nsp"), fields.get("id")
        # `type` because True is an integer to isinstance. The binary types are for text; 4 is the server's.
        if type(kind) is not int or not 0 <= kind < PacketType.CONNECT_ERROR:
            refuse("bad_packet_type", "Unknown packet type")
        if not isinstance(namespace, str):
            refuse("bad_namespace", "A namespace is a string")
        if ack_id is not None and (type(ack_id) is not int or not 0 <= ack_id <= ACK_LIMIT):
            refuse("bad_ack_id", f"An acknowledgement id is an integer up to {ACK_LIMIT}")
        return Packet(PacketType(kind), check_namespace(namespace, self._limits), fields.get("data"), ack_id)

    def _check_data(self, packet: Packet) -> None:
        if packet.type is PacketType.EVENT:
            if not isinstance(packet.data, list):
                refuse("bad_payload", "An event is an array with its name in front")
            check_event(packet.data, self._limits)
        elif packet.type is PacketType.ACK:
            if packet.id is None:
                refuse("bad_ack_id", "An acknowledgement needs an id")
            if not isinstance(packet.data, list):
                refuse("bad_payload", "An acknowledgement is an array")
        else:
            self._check_control(packet)
        if packet.data is not None:
            self._check_values(packet)

    def _check_control(self, packet: Packet) -> None:
        if packet.id is not None:
            refuse("bad_ack_id", "Nothing acknowledges this packet")
        if packet.data is not None and not (packet.type is PacketType.CONNECT and isinstance(packet.data, dict)):
            refuse("bad_payload", "A connect packet carries an object or nothing, a disconnect packet nothing")

    def _check_values(self, packet: Packet) -> None:
        try:
            binaries = msgpack_data.check(packet.data, self._limits.depth)
        except Unreadable as error:
            asked = packet.id if packet.type is PacketType.EVENT else None
            raise UnreadablePayload(f"The payload contains {error}", packet.namespace, asked) from None
        if binaries > self._limits.attachments:
            # Each is an attachment to the text clients it is relayed to, and they refuse more.
            refuse("too_many_attachments", f"A packet is limited to {self._limits.attachments} binary values")
