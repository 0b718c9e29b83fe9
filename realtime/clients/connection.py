"""A Socket.IO client: Engine.IO frames in, memberships kept, pings on time.

handshake → CONNECT (one for each namespace) → events and acknowledgements → DISCONNECT or close.
Rules: whatever is malformed ends the connection and reaches no handler; an event for a namespace that
we have just ended is an honest race and ignored; while we do not read, the ping time-out stands still.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

from realtime.access.limits import Gcra
from realtime.encoding.codecs import CLOSE_FRAME, PING_FRAME, Dialect, Encoded, json_text, text
from realtime.encoding.engineio_frames import read_attachment
from realtime.encoding.packets import Decoder, MsgPackDecoder, Packet, PacketType, UnreadablePayload
from realtime.errors import AccessError, CloseCode, LimitError, PayloadError, ProtocolError, connect_refusal
from realtime.names import Reason
from realtime.ports import Link, Wire
from realtime.recovery.returning import Returning
from realtime.session.endings import note_limit
from realtime.session.session import Core, Member, Session, State

PATIENCE_EVENTS = 200
"""Events over the rate limit that are answered with an error before the connection is ended (4429)."""
COST_BYTES = 25_000
"""A message counts as one event more for each of these: a megabyte takes as long to read as forty small ones."""
IDLE_PER_SECOND = 10
"""NOOPs and unasked pongs that are taken; ten times as many at once."""
UNKNOWN_NAMESPACES = 2_000
"""CONNECTs to what does not exist, in the life of a connection, before it is ended (4429)."""
TOLD: Final = frozenset(
    {CloseCode.DONE, CloseCode.GOING_AWAY, CloseCode.TOO_FAST, CloseCode.TOO_SLOW, CloseCode.DRAINING}
)
"""Ends of ours after which who polls is answered once more, as by Node: a session that is unknown would be an
error in a browser's console. Who was silent for too long is unknown at once, as there."""
STRAY_ACKS = 100
"""Acknowledgements that nobody asked for, before the connection is ended."""


class Connection(Session):
    """One Engine.IO session."""

    __slots__ = (  # a dictionary of this many names would be 1.6 kB
        "_attachment_by", "_burst", "_connect_by", "_dismissed", "_idle", "_ping_at", "_pong_by", "_rate", "_refused",
        "_strays", "_unknown", "decoder", "message_limit", "ping_interval", "ping_timeout", "returning",
        "upgrading",
    )  # fmt: skip

    kind = "socketio"

    def __init__(
        self,
        core: Core,
        id: str,
        dialect: Dialect,
        scope: Mapping[str, Any],
        decoder: Decoder | MsgPackDecoder,
        *,
        ping_interval: float,
        ping_timeout: float,
        message_limit: int,
        returning: Returning | None = None,
    ) -> None:
        """``returning``: keeps the clients that may come back; None for one that takes no offsets."""
        super().__init__(core, id, dialect, scope)
        self.returning = returning
        self.decoder = decoder
        self.ping_interval = ping_interval
        self.ping_timeout = ping_timeout
        self.message_limit = message_limit
        self.upgrading: Link | None = None
        now = self.loop.time()
        self._burst = max(1, int(core.settings.events_per_second))
        self._rate = Gcra(core.settings.events_per_second, self._burst)
        self._idle: Gcra | None = None
        self._refused = 0
        self._strays = 0
        self._unknown = 0
        self._dismissed: set[str] | None = None
        self._ping_at: float | None = now + ping_interval
        self._pong_by: float | None = None
        self._connect_by: float | None = now + core.settings.connect_timeout_seconds
        self._attachment_by: float | None = None
        self._plan()

    def greet(self, wire: Wire, upgrades: list[str]) -> None:
        """The first packet: who you are, and the times and sizes that hold here."""
        handshake = {
            "sid": self.id,
            "upgrades": upgrades,
            "pingInterval": round(self.ping_interval * 1000),
            "pingTimeout": round(self.ping_timeout * 1000),
            "maxPayload": self.message_limit,
        }
        self.attach_wire(wire, free=True)
        self.offer(text("0" + json_text(handshake)))

    def switch(self, wire: Wire) -> None:
        """The upgrade succeeded: what waited leaves through the new wire."""
        self.upgrading = None
        self.attach_wire(wire, free=True)

    # --- inbound

    def receive(self, frame: str | bytes) -> None:
        if self.closed:
            return
        try:
            event = self.decoder.quick(frame)
            if event is None:
                self._frame(frame)
            else:
                self._event(*event)
        except ProtocolError as error:
            self._violation(error)

    def _frame(self, frame: str | bytes) -> None:
        if not isinstance(frame, str):
            if len(frame) > self.message_limit:
                raise ProtocolError("message too big", close=CloseCode.TOO_BIG, code="too_big")
            self._message(frame)
            return
        if _longer_than(frame, self.message_limit):
            raise ProtocolError("message too big", close=CloseCode.TOO_BIG, code="too_big")
        kind = frame[:1]
        if kind == "4":
            self._message(frame[1:])
        elif frame == "3":
            self._pong()
        elif frame == "1":
            self._said_goodbye()
        elif kind == "b":  # binary of a client that can say it in text only
            self._message(read_attachment(frame))
        elif frame == "6":
            self._idle_talk()  # a NOOP asks for nothing
        else:
            raise ProtocolError("unknown Engine.IO packet", code="bad_engine_packet")

    def _message(self, data: str | bytes) -> None:
        try:
            packet = self.decoder.feed(data)
        except UnreadablePayload as error:
            self._unreadable(error)
            return
        if packet is None:
            self._attachment_by = self.loop.time() + self.core.settings.connect_timeout_seconds
            self._plan()
            return
        self._attachment_by = None
        if packet.type is PacketType.EVENT:
            cost = 1 if len(data) < COST_BYTES else min(self._burst, 1 + len(data) // COST_BYTES)
            self._event(packet.data, packet.namespace, packet.id, cost)
        elif packet.type is PacketType.ACK:
            self._ack(packet)
        elif packet.type is PacketType.CONNECT:
            self._connect(packet)
        else:
            self._disconnect(packet)

    def _event(self, data: list[Any], namespace: str, id: int | None, cost: int = 1) -> None:
        member = self.members.get(namespace)
        if member is None:
            self._not_connected(namespace)
            return
        if self.core.application.limited(namespace):
            wait = self._rate.hit(self.loop.time(), cost)
            if wait is not None:
                self._too_fast(namespace, id, wait)
                return
        self.inbox.put(member, ("event", data, id))

    def _ack(self, packet: Packet) -> None:
        member = self.members.get(packet.namespace)
        if member is not None and packet.id is not None and self.acknowledged(member, packet.id, packet.data):
            return
        if member is None and not self._was_dismissed(packet.namespace):
            raise ProtocolError("acknowledgement for a namespace that is not connected", code="ack_before_connect")
        self._strays += 1
        self.dropped("stray_ack")
        if self._strays > STRAY_ACKS:
            raise ProtocolError("too many acknowledgements that nobody asked for", code="ack_flood")

    def _connect(self, packet: Packet) -> None:
        namespace = packet.namespace
        if namespace in self.members:
            raise ProtocolError("CONNECT twice for one namespace", code="connect_twice")
        if not self.core.application.knows(namespace):
            self._unknown += 1
            if self._unknown > UNKNOWN_NAMESPACES:
                self.close(CloseCode.TOO_FAST, "too many namespaces that do not exist", Reason.LIMIT)
                return
            self.core.metrics.handshakes_refused.add("unknown_namespace")
            self._answer(self.dialect.connect_error(namespace, {"message": "Invalid namespace"}))
            return
        if self._too_many_namespaces():
            refusal = LimitError("Too many namespaces on one connection", code="too_many_namespaces").as_dict()
            note_limit(self, "too_many_namespaces")
            self.core.metrics.errors.add(self.core.application.label(namespace), "too_many_namespaces")
            self._answer(self.dialect.connect_error(namespace, connect_refusal(refusal)))
            return
        if self._dismissed:
            self._dismissed.discard(namespace)
        self._connect_by = None  # back in ``refuse``, if nothing comes of it
        member, auth = self.join(self.core.new_sid(), namespace, packet.data), packet.data
        if self.returning is not None and self.returning.keeps(namespace):
            auth = self.returning.admit(member, auth)
        self.inbox.put(member, ("connect", auth, None))

    def _too_many_namespaces(self) -> bool:
        """Memberships that have ended count while something runs for them: who comes and goes starts no more tasks."""
        limit = self.core.settings.namespaces_per_connection
        if len(self.members) + len(self.inbox) < limit:
            return False
        return len(self.members) + sum(member.state is State.GONE for member in self.inbox) >= limit

    def _disconnect(self, packet: Packet) -> None:
        member = self.members.get(packet.namespace)
        if member is not None:
            self.leave(member, Reason.CLIENT)
        elif not self._was_dismissed(packet.namespace):
            raise ProtocolError("DISCONNECT from a namespace that is not connected", code="disconnect_before_connect")

    def _not_connected(self, namespace: str) -> None:
        if not self._was_dismissed(namespace):
            raise ProtocolError("event for a namespace that is not connected", code="event_before_connect")
        self.dropped("after_disconnect")

    def _was_dismissed(self, namespace: str) -> bool:
        return bool(self._dismissed) and namespace in self._dismissed  # type: ignore[operator]

    def _too_fast(self, namespace: str, id: int | None, wait: float) -> None:
        self._refused += 1
        note_limit(self, "rate_limited")
        self.dropped("rate_limited")
        if self._refused > PATIENCE_EVENTS:
            self.close(CloseCode.TOO_FAST, "too many events", Reason.LIMIT)
            return
        self._fail(namespace, id, LimitError("Too many events", retry_after=wait))

    def _unreadable(self, error: UnreadablePayload) -> None:
        self.dropped("unreadable_payload")
        note_limit(self, "unreadable_payload")
        if error.namespace not in self.members:
            return
        limited = self.core.application.limited(error.namespace)
        wait = self._rate.hit(self.loop.time()) if limited else None
        if wait is not None:
            self._too_fast(error.namespace, error.id, wait)
        else:
            self._fail(error.namespace, error.id, error)

    def _fail(self, namespace: str, id: int | None, error: LimitError | PayloadError) -> None:
        self.core.metrics.errors.add(self.core.application.label(namespace), error.code)
        self.fail(namespace, id, error.as_dict())

    def _answer(self, encoded: Encoded | None) -> None:
        if encoded is not None:
            self.offer(encoded)

    def leave(self, member: Member, reason: str) -> None:
        if self.returning is not None and member.trail is not None:
            self.returning.left(member, reason)
        super().leave(member, reason)

    def refuse(self, member: Member, data: Any) -> None:
        if self.returning is not None and member.trail is not None:
            self.returning.left(member, Reason.SERVER)
        super().refuse(member, data)
        if not self.members and not self.closed:
            self._connect_by = self.loop.time() + self.core.settings.connect_timeout_seconds
            self._plan()

    # --- the end

    def dismiss(self, namespace: str, reason: str) -> None:
        """We end one membership: the client is sent DISCONNECT for it (CONNECT_ERROR, where it was not let in yet) and
        stays connected otherwise."""
        member = self.members.get(namespace)
        if member is None:
            return
        if self._dismissed is None:
            self._dismissed = set()
        self._dismissed.add(namespace)
        if member.state is State.PENDING:
            refusal = AccessError("Ended while it was let in", code="ended").as_dict()
            self.refuse(member, connect_refusal(refusal))
        else:
            self._answer(self.dialect.disconnect(namespace))
            self.leave(member, reason)

    def _violation(self, error: ProtocolError) -> None:
        self.core.metrics.violations.add(error.code)
        words = "" if error.close is CloseCode.TOO_BIG else error.message  # servers that see it sooner say nothing
        self.close(error.close, words, Reason.PROTOCOL)

    def _last_words(self, code: int) -> list[Encoded]:
        # Stock JavaScript clients do not read close codes: DISCONNECT keeps them away, its absence brings them back.
        polls = self.wire is not None and self.wire.name == "polling"
        if polls:
            self.outbox.end_replays()  # else all of them would be made at once, for one last answer
        stay_away = self.members if 4500 <= code < 5000 else ()
        words = [self.dialect.disconnect(namespace) for namespace in stay_away]
        if polls:
            words.append(CLOSE_FRAME)
        return [encoded for encoded in words if encoded is not None]

    def close(self, code: int, text: str, reason: str) -> None:
        was_closed = self.closed
        super().close(code, text, reason)
        if self.closed and not was_closed:
            self._leave_words(code)

    def _leave_words(self, code: int) -> None:
        """Who polls, and is not just now asking, is told with its next poll that this is over, or to stay away."""
        stays_away = 4500 <= code < 5000
        if self.wire is None or self.wire.name != "polling" or not (stays_away or code in TOLD):
            return
        self.core.leaving.end(self.id, monotonic())
        self.outbox.detach()
        words = []
        while (encoded := self.outbox.take()) is not None:
            words.append(encoded)
        if len(words) > stays_away:  # who broke the protocol and was in no namespace is unknown from now on
            dropped = self.core.leaving.keep(self.id, words, monotonic())
            if dropped:
                self.core.metrics.drops.add("last_words", amount=dropped)

    def _said_goodbye(self) -> None:
        if self.wire is not None and self.wire.name == "polling" and not self.outbox.free:
            self.core.leaving.overtake(self.id, monotonic())
        self.lost(Reason.TRANSPORT_CLOSE)
        if self.wire is not None:
            self.wire.close(CloseCode.DONE, "")

    def _end(self, reason: str) -> None:
        super()._end(reason)
        self.decoder.clear()
        probe, self.upgrading = self.upgrading, None
        if probe is not None:
            probe.lost(reason)

    # --- time

    def _pong(self) -> None:
        if self._pong_by is None:
            self._idle_talk()  # an honest late answer, or an idle one; nothing to move
            return
        self._pong_by = None
        self._ping_at = self.loop.time() + self.ping_interval
        self._plan()

    def _idle_talk(self) -> None:
        """Packets that mean nothing cost as much as others, and a client has no business to send many."""
        if self._idle is None:
            self._idle = Gcra(IDLE_PER_SECOND, 10 * IDLE_PER_SECOND)
        if self._idle.hit(self.loop.time()) is not None:
            self.dropped("idle_packets")
            self.close(CloseCode.TOO_FAST, "too many packets that say nothing", Reason.LIMIT)

    def tick(self, now: float) -> None:
        if self._connect_by is not None and now >= self._connect_by:
            self.core.metrics.violations.add("connect_late")
            self.close(CloseCode.POLICY, "no namespace was connected in time", Reason.LIMIT)
        elif self._attachment_by is not None and now >= self._attachment_by:
            self._violation(ProtocolError("attachments did not come", code="attachments_late"))
        elif self._pong_by is not None and now >= self._pong_by and not self.inbox.full:
            self.close(CloseCode.SILENT, "no answer to a ping", Reason.PING_TIMEOUT)
        else:
            self._ping(now)
            self._expire(now)
            if not self.closed:
                self._plan()

    def _ping(self, now: float) -> None:
        if self._pong_by is not None and now >= self._pong_by:
            self._pong_by = now + self.ping_timeout  # we are not reading: its answer may lie unread
        if self._ping_at is not None and now >= self._ping_at:
            self._ping_at = None
            self._pong_by = now + self.ping_timeout
            self.offer(PING_FRAME)

    def _plan(self) -> None:
        times = (self._ping_at, self._pong_by, self._connect_by, self._attachment_by, self.next_expiry())
        self.wake_at(min(when for when in times if when is not None))


def _longer_than(frame: str, limit: int) -> bool:
    """Is this text over the limit in bytes? Characters are counted first: one is at most four bytes."""
    return len(frame) > limit or (
        len(frame) * 4 > limit and not frame.isascii() and len(frame.encode("utf-8", "surrogatepass")) > limit
    )
