"""A session on a wire of memory, with an application and an index that only remember; time is what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import count
from typing import Any

from realtime.clients.connection import Connection
from realtime.encoding.codecs import SocketIOText
from realtime.encoding.packets import Decoder, PacketLimits
from realtime.metrics import Metrics
from realtime.session.drops import Dropped, Drops
from realtime.session.outbox import Bounds
from realtime.session.session import Core, Member
from realtime.testing import MemoryWire
from tests.realtime.living import settings_for

PATIENCE_SECONDS = 5
PING_INTERVAL, PING_TIMEOUT = 25, 20


class Steps:
    """Keeps the port ``Application``. Lets everybody in unless a test puts something else in the place of ``step``."""

    def __init__(self) -> None:
        self.namespaces = {"/", "/chat"}
        self.has_limit = False
        self.beside = False
        self.gate: asyncio.Event | None = None
        """Events wait for it, where there is one."""
        self.members: list[Member] = []
        self.let_in: list[bool] = []
        self.heard: list[tuple[str, Sequence[Any], int | None]] = []
        self.finished = 0
        self.ends: list[tuple[str, str]] = []
        self.over: list[str] = []
        self.step: Callable[[Member], Awaitable[None]] = self.accept
        self._news = asyncio.Event()

    async def began(self, steps: int) -> None:
        """Returns when so many connect steps and events have begun."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.members) + len(self.heard) < steps:
                self._news.clear()
                await self._news.wait()

    def knows(self, namespace: str) -> bool:
        return namespace in self.namespaces

    def overlaps(self, member: Member, data: Sequence[Any]) -> bool:
        return self.beside

    def limited(self, namespace: str) -> bool:
        return self.has_limit

    def label(self, namespace: str) -> str:
        return namespace if namespace in ("/", "/chat") else "other"

    async def accept(self, member: Member) -> None:
        self.let_in.append(member.session.accept(member, {"sid": member.sid}))

    async def refuse(self, member: Member) -> None:
        member.session.refuse(member, {"message": "No"})

    async def connect(self, member: Member, auth: Any) -> None:
        self.members.append(member)
        self._news.set()
        await self.step(member)

    async def event(self, member: Member, data: Sequence[Any], ack: int | None) -> None:
        self.heard.append((member.namespace, data, ack))
        self._news.set()
        if self.gate is not None:
            await self.gate.wait()
        self.finished += 1

    async def ended(self, member: Member, reason: str) -> None:
        self.ends.append((member.namespace, reason))

    def expired(self, member: Member) -> None:
        self.over.append(member.namespace)

    @property
    def names(self) -> list[str]:
        """Of the events that reached a handler."""
        return [data[0] for _, data, _ in self.heard]


class Register:
    """Keeps the port ``Index``."""

    def __init__(self) -> None:
        self.here: set[str] = set()
        self.leaving: set[str] = set()

    def attach(self, member: Member) -> None:
        assert member.sid not in self.here
        self.here.add(member.sid)

    def detach(self, member: Member) -> None:
        self.here.remove(member.sid)
        self.leaving.add(member.sid)

    def forget(self, member: Member) -> None:
        self.leaving.remove(member.sid)


class Scene:
    """What one client and its session see of each other."""

    def __init__(self, bounds: Bounds = Bounds(), **settings: Any) -> None:  # noqa: B008
        self.steps, self.register, self.metrics = Steps(), Register(), Metrics()
        self.told: list[Dropped] = []
        self._sids: Iterator[int] = count(1)
        self.core = Core(
            settings=settings_for(**settings),
            metrics=self.metrics,
            drops=Drops(self.metrics.drops, self.told.append),
            hub=self.register,
            application=self.steps,
            bounds=bounds,
            new_sid=lambda: f"sid{next(self._sids)}",
        )
        self.loop = asyncio.get_running_loop()

    def connection(self, wire: MemoryWire | None = None, limits: PacketLimits | None = None) -> Connection:
        """A client that has had its handshake."""
        limits = limits or PacketLimits()
        self.wire = wire or MemoryWire()
        self.start = self.loop.time()
        self.session = Connection(
            self.core,
            "session",
            SocketIOText(),
            {"type": "websocket"},
            Decoder(limits),
            ping_interval=PING_INTERVAL,
            ping_timeout=PING_TIMEOUT,
            message_limit=limits.message_bytes,
        )
        self.session.greet(self.wire, [])
        self._read = len(self.wire.frames)
        return self.session

    async def joined(self, *namespaces: str, wire: MemoryWire | None = None) -> Connection:
        """A client that is in these namespaces (the main one where none is named) and has read all so far."""
        session = self.connection(wire)
        for namespace in namespaces or ("/",):
            self.wire.say("40" if namespace == "/" else f"40{namespace},")
        await self.settle()
        self.news()
        return session

    def member(self, namespace: str = "/") -> Member:
        return self.session.members[namespace]

    def news(self) -> list[str | bytes]:
        """What was sent to the client since it was asked last."""
        fresh = self.wire.frames[self._read :]
        self._read = len(self.wire.frames)
        return fresh

    def code(self) -> int | None:
        """The close code that the client was shown, once it was."""
        return self.wire.closed[0] if self.wire.closed is not None else None

    async def settle(self) -> None:
        """Returns when the application has nothing to do any more."""
        assert await self.core.settle(PATIENCE_SECONDS)

    def wait_until(self, seconds: float) -> None:
        """So much time has passed since the handshake."""
        self.core.deadlines(self.loop).run(self.start + seconds + 0.5)

    def violations(self) -> dict[str, float]:
        return {reason: number for (reason,), number in self.metrics.violations.values.items()}

    def drops(self) -> dict[str, float]:
        return {reason: number for (reason,), number in self.metrics.drops.values.items()}

    def is_empty(self) -> bool:
        """Has the client left no trace?"""
        return not (
            self.register.here
            or self.register.leaving
            or self.core.sessions
            or self.session.members
            or len(self.session.inbox)
            or self.session.alarm
            or any(self.metrics.connections.values.values())
            or any(self.metrics.members.values.values())
        )
