"""One client connection and its memberships: limits, order, and what may be sent when.

A session has no task, queue or timer of its own while idle. Inbound is a plain call from its wire;
a task exists only while an inbox is not empty; pings and deadlines live in one heap for the loop.
Rules: everything here runs on the session's own event loop, except ``offer``, which may be called
from anywhere; a membership ends once, and its disconnect hook runs once if its connect succeeded.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from realtime.codecs import Dialect, Encoded
from realtime.deadlines import Alarm, Deadlines
from realtime.errors import CloseCode
from realtime.metrics import Metrics
from realtime.names import Reason
from realtime.outbox import Bounds, Outbox
from realtime.ports import Wire
from realtime.settings import Settings

logger = logging.getLogger("realtime")

HELD_LIMIT = 1_000
"""Frames that may wait for a client whose connect handler is still running (the backlog's own bound)."""
CALLBACK_LIMIT = 1_000
"""Acknowledgements one client may owe; the oldest is given up first."""


class State(Enum):
    """PENDING → JOINED → GONE, or PENDING → GONE when refused. There is no way back."""

    PENDING = auto()
    JOINED = auto()
    GONE = auto()


class Member:
    """One client in one namespace: what a sid names."""

    __slots__ = (
        "auth", "busy", "callbacks", "data", "expires_at", "held", "inbox", "last_ack", "namespace", "rooms_left",
        "running", "session", "sid", "socket", "state", "user",
    )  # fmt: skip

    def __init__(self, sid: str, namespace: str, session: Session) -> None:
        self.sid = sid
        self.namespace = namespace
        self.session = session
        self.state = State.PENDING
        self.held: list[Encoded] | None = None
        self.inbox: deque[Job] | None = None
        self.busy = False
        self.running = 0
        self.callbacks: dict[int, Callable[..., Any]] | None = None
        self.last_ack = 0
        self.rooms_left: tuple[Hashable, ...] = ()
        self.expires_at: float | None = None
        self.auth: Any = None
        self.user: Any = None
        self.data: dict[str, Any] = {}
        self.socket: Any = None

    def push(self, encoded: Encoded, volatile: bool = False, key: str | None = None) -> None:
        """Send this to the client; before CONNECT has gone out it waits, for one who is gone it is nothing."""
        if self.state is State.JOINED:
            self.session.offer(encoded, volatile, key)
        elif self.state is State.PENDING and not volatile:
            held = self.held
            if held is None:
                held = self.held = []
            if len(held) < HELD_LIMIT:
                held.append(encoded)
            else:
                self.session.core.metrics.drops.add("held")

    def expect(self, callback: Callable[..., Any]) -> int:
        """The id under which the client's acknowledgement will be handed to ``callback``."""
        callbacks = self.callbacks
        if callbacks is None:
            callbacks = self.callbacks = {}
        if len(callbacks) >= CALLBACK_LIMIT:
            callbacks.pop(next(iter(callbacks)))
            self.session.core.metrics.drops.add("callback")
        self.last_ack += 1
        callbacks[self.last_ack] = callback
        return self.last_ack


Job = tuple[str, Any, Any]
"""``("connect", auth, None)``, ``("event", data, ack id)`` or ``("end", reason, None)``."""


class Application(Protocol):
    """What sessions ask of the layers above; handed over once, at construction."""

    def knows(self, namespace: str) -> bool: ...

    def overlaps(self, member: Member, data: Sequence[Any]) -> bool:
        """May this event run beside others of the same client?"""

    def limited(self, namespace: str) -> bool:
        """Does the limit of events per second hold here?"""

    async def connect(self, member: Member, auth: Any) -> None:
        """Authorise, answer CONNECT or CONNECT_ERROR, greet. Must not raise."""

    async def event(self, member: Member, data: Sequence[Any], ack: int | None) -> None:
        """Handle and acknowledge. Must not raise."""

    async def ended(self, member: Member, reason: str) -> None:
        """Run the disconnect hook. Must not raise."""

    def expired(self, member: Member) -> None:
        """The member's token has reached its end: tell it and dismiss it."""


class Index(Protocol):
    """What sessions ask of the hub."""

    def attach(self, member: Member) -> None: ...

    def detach(self, member: Member) -> None: ...

    def forget(self, member: Member) -> None: ...


@dataclass(slots=True)
class Core:
    """What the sessions of one server share."""

    settings: Settings
    metrics: Metrics
    hub: Index
    application: Application
    bounds: Bounds
    new_sid: Callable[[], str]
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    sessions: dict[str, Session] = field(default_factory=dict)
    _deadlines: WeakKeyDictionary[asyncio.AbstractEventLoop, Deadlines] = field(default_factory=WeakKeyDictionary)

    def deadlines(self, loop: asyncio.AbstractEventLoop) -> Deadlines:
        found = self._deadlines.get(loop)
        if found is None:
            found = self._deadlines[loop] = Deadlines(loop)
        return found

    def start(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
        """Run this; the reference kept here is what keeps a task alive."""
        task = loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class Session:
    """A client connection of any kind. Subclasses speak the protocol of their wire."""

    kind = "session"

    def __init__(self, core: Core, id: str, dialect: Dialect, scope: Mapping[str, Any]) -> None:
        self.core = core
        self.id = id
        self.dialect = dialect
        self.scope = scope
        self.environ: dict[str, Any] | None = None
        self.loop = asyncio.get_running_loop()
        self.outbox = Outbox(core.bounds, core.metrics.drops.add)
        self.wire: Wire | None = None
        self.members: dict[str, Member] = {}
        self.closed = False
        self.alarm: Alarm | None = None
        self._waiting_events = 0
        self._paused = False
        core.sessions[id] = self

    # --- outbound

    def offer(self, encoded: Encoded, volatile: bool = False, key: str | None = None) -> None:
        """Send this to the client, from any thread. A client too slow to read it is closed."""
        if self.loop is _running_loop():
            if not self.closed and not self.outbox.offer(encoded, volatile, key):
                self.close(CloseCode.TOO_SLOW, "too slow to read", Reason.SLOW)
        else:
            self._elsewhere(self.offer, encoded, volatile, key)

    def _elsewhere(self, call: Callable[..., object], *args: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # its loop is closed: the client is gone and nobody told us
            self.core.metrics.drops.add("loop_closed")

    # --- Link: what the wire tells us

    def receive(self, frame: str | bytes) -> None:
        raise NotImplementedError

    def take(self) -> Encoded | None:
        return self.outbox.take()

    def hold(self) -> None:
        self.outbox.hold()

    def broken(self, code: int, reason: str) -> None:
        self.core.metrics.violations.add("bad_frame")
        self.close(code, reason, Reason.PROTOCOL)

    def lost(self, reason: str) -> None:
        """The client is gone: every membership ends, nothing more is sent."""
        if not self.closed:
            self._end(reason)

    # --- the end

    def close(self, code: int, text: str, reason: str) -> None:
        """We end it: every membership ends, the wire says good-bye with this code. From any thread; repeats do nothing."""
        if self.loop is not _running_loop():
            self._elsewhere(self.close, code, text, reason)
            return
        if self.closed:
            return
        wire = self.wire
        self._farewell(code)
        self._end(reason)
        if wire is not None:
            wire.close(code, text)

    def _farewell(self, code: int) -> None:
        """Last frames before the close, in the protocol of the wire."""

    def _end(self, reason: str) -> None:
        self.closed = True
        self.core.sessions.pop(self.id, None)
        Deadlines.clear(self)
        if self.wire is not None:
            self.core.metrics.connections.add(self.wire.name, amount=-1)
        for member in list(self.members.values()):
            self.leave(member, reason)
        self.outbox.detach()
        self.outbox.clear()

    def attach_wire(self, wire: Wire, *, free: bool) -> None:
        """Frames leave through this wire from now on."""
        if self.wire is not None:
            self.core.metrics.connections.add(self.wire.name, amount=-1)
        self.core.metrics.connections.add(wire.name)
        self.wire = wire
        wire.link = self
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
        self.core.metrics.members.add(member.namespace)
        held, member.held = member.held, None
        greeting = self.dialect.connect(member.namespace, data) if data is not None else None
        if greeting is not None:
            self.offer(greeting)
        for encoded in held or ():
            self.offer(encoded)
        return True

    def refuse(self, member: Member, data: Any) -> None:
        """The application does not let it in: CONNECT_ERROR leaves and no trace stays."""
        if member.state is State.PENDING:
            self._remove(member)
            answer = self.dialect.connect_error(member.namespace, data)
            if answer is not None:
                self.offer(answer)
            self.core.hub.forget(member)

    def leave(self, member: Member, reason: str) -> None:
        """The membership ends. The disconnect hook runs, after what the client had sent before, if it was let in."""
        was = member.state
        if was is State.GONE:
            return
        self._remove(member)
        if was is State.JOINED:
            self.core.metrics.members.add(member.namespace, amount=-1)
            self.core.metrics.disconnects.add(member.namespace, reason)
            self.enqueue(member, ("end", reason, None))
        else:
            self.core.hub.forget(member)

    def _remove(self, member: Member) -> None:
        member.state = State.GONE
        member.held = None
        self.core.hub.detach(member)
        if self.members.get(member.namespace) is member:
            del self.members[member.namespace]
        callbacks, member.callbacks = member.callbacks, None
        for callback in (callbacks or {}).values():
            abandoned = getattr(callback, "abandoned", None)
            if abandoned is not None:
                abandoned()

    def acknowledged(self, member: Member, id: int, args: Sequence[Any]) -> bool:
        """The client answered one of our events; False for an answer that nobody waits for."""
        callback = (member.callbacks or {}).pop(id, None)
        if callback is None:
            return False
        try:
            result = callback(*args)
        except Exception:
            logger.exception("an acknowledgement callback failed", extra={"namespace": member.namespace})
            return True
        if isinstance(result, Awaitable):
            self.core.start(self.loop, _finish(result))
        return True

    def fail(self, namespace: str, id: int | None, error: Mapping[str, Any]) -> None:
        """The error object of the contract: as the acknowledgement, or as event ``error`` when none was asked for."""
        answer = {"error": error}
        dialect = self.dialect
        encoded = dialect.event(namespace, "error", [answer]) if id is None else dialect.ack(namespace, id, [answer])
        if encoded is not None:
            self.offer(encoded)

    # --- the inbox

    def enqueue(self, member: Member, job: Job) -> None:
        """This is to be done for the client, after what came before it."""
        if member.busy:
            if member.inbox is None:
                member.inbox = deque()
            member.inbox.append(job)
            self._waiting_events += 1
            if self._waiting_events >= self.core.settings.inbox_limit_events and not self._paused and self.wire:
                self._paused = True
                self.wire.pause()
        else:
            member.busy = True
            self.core.start(self.loop, self._work(member, job))

    async def _work(self, member: Member, job: Job | None) -> None:
        """Lives while there is something to do for this membership, and no longer."""
        while job is not None:
            await self._do(member, job)
            job = self._next_job(member)
        member.busy = False

    def _next_job(self, member: Member) -> Job | None:
        if not member.inbox:
            member.inbox = None
            return None
        job = member.inbox.popleft()
        self._waiting_events -= 1
        if self._paused and self._waiting_events <= self.core.settings.inbox_limit_events // 2:
            self._paused = False
            if self.wire is not None:
                self.wire.resume()
        return job

    async def _do(self, member: Member, job: Job) -> None:
        kind, first, second = job
        application = self.core.application
        if kind == "event":
            if member.running < self.core.settings.inbox_limit_events and application.overlaps(member, first):
                member.running += 1
                self.core.start(self.loop, self._beside(member, first, second))
            else:
                await application.event(member, first, second)
        elif kind == "connect":
            await application.connect(member, first)
        else:
            await application.ended(member, first)
            self.core.hub.forget(member)

    async def _beside(self, member: Member, data: Sequence[Any], ack: int | None) -> None:
        try:
            await self.core.application.event(member, data, ack)
        finally:
            member.running -= 1

    @property
    def reading_paused(self) -> bool:
        return self._paused

    def dismiss(self, namespace: str, reason: str) -> None:
        """We end one membership, in the protocol of the wire."""
        raise NotImplementedError

    # --- time

    def next_expiry(self) -> float | None:
        """When the first token of this connection reaches its end, on the loop's clock."""
        times = [member.expires_at for member in self.members.values() if member.expires_at is not None]
        return min(times, default=None)

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


async def _finish(result: Awaitable[Any]) -> None:
    try:
        await result
    except Exception:
        logger.exception("an acknowledgement callback failed")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    return asyncio._get_running_loop()
