"""One client connection and its memberships: limits, order, and what may be sent when.

A session has no task, queue or timer of its own while idle: a task exists while an inbox is not empty, and one heap of
the loop holds pings and deadlines. Rules: everything here runs on the session's own loop, except ``offer``, which may
be called from anywhere; a membership ends once, and its disconnect hook runs once if its connect succeeded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from threading import get_ident
from typing import Any, Final, cast

from realtime.encoding.codecs import Dialect, Encoded
from realtime.errors import CloseCode
from realtime.eventloop.deadlines import Alarm, Deadlines
from realtime.eventloop.loops import PerLoop
from realtime.eventloop.pacing import LET_IN, Pacer
from realtime.eventloop.workers import Workers
from realtime.metrics import Metrics
from realtime.names import UNHEARD, Reason
from realtime.ports import Wire
from realtime.session.asked import Asked, Callback, block
from realtime.session.drops import Drops
from realtime.session.endings import note_end, note_limit
from realtime.session.inbox import Inbox, Job
from realtime.session.layers import Application, Index
from realtime.session.leaving import Leaving
from realtime.session.outbox import Bounds, Held, Outbox
from realtime.settings import Settings


class State(Enum):
    """PENDING → JOINED → GONE, or PENDING → GONE when refused. There is no way back."""

    PENDING = auto()
    JOINED = auto()
    GONE = auto()


class Member:
    """One client in one namespace: what a sid names."""

    __slots__ = (
        "asked", "auth", "data", "expires_at", "heard", "held", "namespace", "rooms_left", "running", "session", "sid",
        "socket", "state", "trail", "user",
    )  # fmt: skip

    def __init__(self, sid: str, namespace: str, session: Session) -> None:
        self.sid = sid
        self.namespace = namespace
        self.session = session
        self.state = State.PENDING
        self.heard = False
        """May its events reach handlers? From accept on, until we end it."""
        self.held: Held | None = None
        self.running = 0
        self.asked: Asked | None = None
        self.rooms_left: tuple[Hashable, ...] = ()
        self.expires_at: float | None = None
        self.auth: Any = None
        self.user: Any = None
        self.data: dict[str, Any] = {}
        self.socket: Any = None
        self.trail: Any = None

    @property
    def busy(self) -> bool:
        return self.session.inbox.is_busy(self)

    def push(self, encoded: Encoded, volatile: bool = False, key: str | None = None) -> None:
        """Send this, from any thread; before CONNECT has gone out it waits, for one who is gone it is nothing."""
        if self.state is State.JOINED:
            self.session.offer(encoded, volatile, key)
        elif self.state is State.PENDING and not volatile:
            self.session.hold_back(self, encoded)

    def expect(self, callback: Callback) -> int:
        """The id under which the client's acknowledgement will be handed to ``callback``."""
        if self.asked is None:
            self.asked = Asked(self.session.dropped)
        return self.asked.expect(callback)


@dataclass(slots=True)
class Core:
    """What the sessions of one server share."""

    settings: Settings
    metrics: Metrics
    drops: Drops
    hub: Index[Member]
    application: Application[Member]
    bounds: Bounds
    new_sid: Callable[[], str]
    sessions: dict[str, Session] = field(default_factory=dict)
    leaving: Leaving = field(default_factory=Leaving)
    deadlines: PerLoop[Deadlines] = field(default_factory=lambda: PerLoop(Deadlines))
    workers: PerLoop[Workers] = field(default_factory=lambda: PerLoop(Workers))
    threshold: PerLoop[Workers] = field(default_factory=lambda: PerLoop(lambda loop: Workers(loop, LET_IN)))
    """Workers for those who come and those who go: five thousand of them hold up nobody who says something."""
    pacers: PerLoop[Pacer] = field(default_factory=lambda: PerLoop(Pacer))

    async def settle(self, seconds: float) -> bool:
        """True once everything that was begun on this loop is done, False when that takes longer."""
        loop = asyncio.get_running_loop()
        until, pools = loop.time() + seconds, (self.threshold(loop), self.workers(loop))
        while any(pools):
            if not all([await pool.settle(until - loop.time()) for pool in pools]):
                return False
        return True


class Session:
    """A client connection of any kind. Subclasses speak the protocol of their wire."""

    __slots__ = (
        "_workers", "alarm", "closed", "core", "dialect", "environ", "id", "inbox", "loop", "members", "noted",
        "outbox", "scope", "thread", "wire",
    )  # fmt: skip

    kind = "session"

    def __init__(self, core: Core, id: str, dialect: Dialect, scope: Mapping[str, Any]) -> None:
        self.core = core
        self.id = id
        self.dialect = dialect
        self.scope = scope
        self.environ: dict[str, Any] | None = None
        self.loop = asyncio.get_running_loop()
        self.thread = get_ident()
        """Of its loop. To compare threads is free; to ask for the running loop asks the kernel (CPython up to 3.11)."""
        self._workers = core.workers(self.loop)
        self.outbox = Outbox(core.bounds, self.dropped)
        self.inbox: Inbox[Member] = Inbox(self, core.settings.inbox_limit_events)
        self.wire: Wire | None = None
        self.members: dict[str, Member] = {}
        self.closed = False
        self.noted: frozenset[str] = frozenset()
        """Limits that the log has a line about."""
        self.alarm: Alarm | None = None
        core.sessions[id] = self

    # --- outbound

    def offer(self, encoded: Encoded, volatile: bool = False, key: str | None = None) -> None:
        """Send this to the client, from any thread. A client too slow to read it is closed."""
        if self.thread == get_ident():
            if not self.closed and not self.outbox.offer(encoded, volatile, key):
                self.close(CloseCode.TOO_SLOW, "too slow to read", Reason.SLOW)
        else:
            self._elsewhere(self.offer, encoded, volatile, key)

    def hold_back(self, member: Member, encoded: Encoded) -> None:
        """Keep this until the application has let the member in; what is over the bounds of a backlog is dropped."""
        if self.thread != get_ident():
            self._elsewhere(self.hold_back, member, encoded)
        elif member.state is not State.PENDING:
            member.push(encoded)  # it was let in, or is gone, while this was on its way here
        else:
            if member.held is None:
                member.held = Held(self.core.bounds, self.dropped)
            member.held.keep(encoded)

    def dropped(self, reason: str) -> None:
        """Something from or for this client was dropped. From any thread."""
        self.core.drops.add(self, reason)

    def _elsewhere(self, call: Callable[..., object], *args: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # its loop is closed: the client is gone and nobody told us
            self.dropped("loop_closed")

    def replay(self, frames: Iterator[Encoded]) -> None:
        """What it missed leaves after what waits and before what is offered from now on, some in each turn."""
        self.outbox.replay(frames, self.core.pacers(self.loop))

    # --- Link: what the wire tells us

    def receive(self, frame: str | bytes) -> None:
        raise NotImplementedError

    def take(self) -> Encoded | None:
        return self.outbox.take()

    def put_back(self, encoded: Encoded) -> None:
        if not self.closed:
            self.outbox.put_back(encoded)

    def hold(self) -> None:
        self.outbox.hold()

    def broken(self, code: int, reason: str, kind: str = "bad_frame") -> None:
        self.core.metrics.violations.add(kind)
        self.close(code, reason, Reason.PROTOCOL)

    def lost(self, reason: str) -> None:
        """The client is gone: every membership ends, nothing more is sent."""
        if not self.closed:
            self._end(reason)
            self.outbox.retire()

    # --- the end

    def close(self, code: int, text: str, reason: str) -> None:
        """We end it: every membership ends, and the wire says good-bye with this code after what still waits, unless
        the client is too slow to read that. From any thread; repeats do nothing."""
        if self.thread != get_ident():
            self._elsewhere(self.close, code, text, reason)
            return
        if self.closed:
            return
        last_words = self._last_words(code)
        note_end(self.core.metrics, self.id, code, text, reason)
        self._end(reason)
        if code == CloseCode.TOO_SLOW:
            self.outbox.clear()
        for encoded in last_words:
            if not self.outbox.offer(encoded):
                self.outbox.clear()
                self.outbox.offer(encoded)
        if self.wire is not None:
            self.wire.close(code, text)

    def _last_words(self, code: int) -> Sequence[Encoded]:
        """Frames before the close."""
        return ()

    def _end(self, reason: str) -> None:
        self.closed = True
        self.core.sessions.pop(self.id, None)
        Deadlines.clear(self)
        if self.wire is not None:
            self.core.metrics.connections.add(self.wire.name, amount=-1)
        for member in list(self.members.values()):
            self.leave(member, reason)

    def attach_wire(self, wire: Wire, *, free: bool) -> None:
        """Frames leave through this wire from now on."""
        if self.wire is not None:
            self.core.metrics.connections.add(self.wire.name, amount=-1)
        self.core.metrics.connections.add(wire.name)
        wire.link = self
        self.wire = wire
        if self.inbox.full:
            wire.pause()
        self.outbox.attach(wire, free=free)

    # --- memberships

    def join(self, sid: str, namespace: str, auth: Any) -> Member:
        """A new membership, pending until the application has let it in."""
        member = Member(sid, namespace, self)
        member.auth = auth
        self.members[namespace] = member
        self.core.hub.attach(member)
        return member

    def accept(self, member: Member, data: Mapping[str, Any] | None) -> bool:
        """The application lets it in: CONNECT leaves, then what was held back. False when it is gone already."""
        if member.state is not State.PENDING:
            return False
        member.state = State.JOINED
        member.heard = True
        self.core.metrics.members.add(self.core.application.label(member.namespace))
        held, member.held = member.held, None
        greeting = self.dialect.connect(member.namespace, data) if data is not None else None
        for encoded in (greeting, *(held.frames if held is not None else ())):
            if encoded is not None:
                self.offer(encoded)
        return True

    def refuse(self, member: Member, data: Any) -> None:
        """The application does not let it in: CONNECT_ERROR leaves and no trace stays."""
        if member.state is State.PENDING:
            self._remove(member)
            if (answer := self.dialect.connect_error(member.namespace, data)) is not None:
                self.offer(answer)
            self.core.hub.forget(member)

    def leave(self, member: Member, reason: str) -> None:
        """The membership ends. The disconnect hook runs, after what the client had sent before, if it was let in."""
        was = member.state
        if was is State.GONE:
            return
        self._remove(member)
        if reason in UNHEARD:
            member.heard = False
        if was is State.JOINED:
            label = self.core.application.label(member.namespace)
            self.core.metrics.members.add(label, amount=-1)
            self.core.metrics.disconnects.add(label, reason)
            self.inbox.put(member, ("end", reason, None))
        else:
            self.core.hub.forget(member)

    def _remove(self, member: Member) -> None:
        member.state = State.GONE
        member.held = None
        self.core.hub.detach(member)
        if self.members.get(member.namespace) is member:
            del self.members[member.namespace]
        if member.asked is not None:
            member.asked.abandon()

    def acknowledged(self, member: Member, id: int, args: Sequence[Any]) -> bool:
        """The client answered one of our events; False for an answer that nobody waits for."""
        return member.asked is not None and member.asked.answer(id, args, self.start)

    def fail(self, namespace: str, id: int | None, error: Mapping[str, Any]) -> None:
        """The error object of the contract: as the acknowledgement, or as event ``error`` when none was asked for."""
        said, answer = self.dialect, {"error": error}
        encoded = said.event(namespace, "error", [answer]) if id is None else said.ack(namespace, id, [answer])
        if encoded is not None:
            self.offer(encoded)

    # --- the port Host, for the inbox

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this soon, in the order of starting."""
        self._workers.submit(work)

    def start_apart(self, work: Coroutine[Any, Any, None]) -> None:
        """The same for who comes or goes."""
        self.core.threshold(self.loop).submit(work)

    def run(self, work: Coroutine[Any, Any, None], then: Any = None, about: Any = None) -> bool:
        """Run this at once, as far as it goes without waiting (see ``Workers.run``)."""
        return self._workers.run(work, then, about)

    def stop_reading(self) -> None:
        note_limit(self, "inbox_full")
        self.core.metrics.reading_stopped.add()
        if self.wire is not None:
            self.wire.pause()
        block(member.asked for member in self.members.values())

    def read_on(self) -> None:
        if self.wire is not None:
            self.wire.resume()

    def perform(self, member: Member, job: Job) -> Coroutine[Any, Any, None] | None:
        kind, first, second = job
        application = self.core.application
        if kind == "event":
            if not member.heard:
                self.dropped("after_disconnect")
            elif member.running < self.core.settings.inbox_limit_events and application.overlaps(member, first):
                member.running += 1
                self._workers.run(self._beside(member, first, second))
            else:
                return application.event(member, first, second)
            return None
        return application.connect(member, first) if kind == "connect" else self._finish(member, first)

    async def _finish(self, member: Member, reason: str) -> None:
        await self.core.application.ended(member, reason)
        self.core.hub.forget(member)
        if self.closed and not self.members and len(self.inbox) == 1:
            self.inbox = _NOBODYS  # ours holds on to us: five thousand at once would wait for the garbage collector

    async def _beside(self, member: Member, data: Sequence[Any], ack: int | None) -> None:
        try:
            await self.core.application.event(member, data, ack)
        finally:
            member.running -= 1

    def dismiss(self, namespace: str, reason: str) -> None:
        """We end one membership, in the protocol of the wire."""
        raise NotImplementedError

    # --- time

    def next_expiry(self) -> float | None:
        """When the first token of this connection reaches its end, on the loop's clock."""
        return min((each.expires_at for each in self.members.values() if each.expires_at is not None), default=None)

    def _expire(self, now: float) -> None:
        for member in list(self.members.values()):
            if member.expires_at is not None and member.expires_at <= now:
                member.expires_at = None
                self.core.application.expired(member)

    def wake_at(self, when: float) -> None:
        """Be ticked at ``when`` (of the loop's clock) or before."""
        self.core.deadlines(self.loop).set(self, when)

    def tick(self, now: float) -> None:
        self._expire(now)
        when = None if self.closed else self.next_expiry()
        if when is not None:
            self.wake_at(when)


_NOBODYS: Final[Inbox[Member]] = Inbox(cast(Any, None), 1)
"""Of those for whom nothing is done any more."""
