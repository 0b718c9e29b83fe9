"""Servers in one process that share a journal in memory, which can be made to fail; and their clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from adapters.memory.journal import MemoryJournal, MemoryLogs
from realtime import Namespace, OutsideError, Server, Socket
from realtime.cluster.lane import Lane
from realtime.journal.positions import Channel, Draft, Entry, Position
from realtime.ports import Followed, Stretch
from realtime.testing import MemoryClient
from tests.behaviour.stage import until
from tests.realtime.living import SECONDS, settings_for

SPACE = "/board"
__all__ = ["SPACE", "FaultyJournal", "MemoryLogs", "Node", "heard", "node", "until"]


class FaultyJournal(MemoryJournal):
    """``away``: it answers nothing but errors. ``deaf``: what others say does not come in. ``refusing``: an append is
    answered by this error. ``gate``: appends wait for it after they were made, as where an answer is slow."""

    def __init__(self, name: str, logs: MemoryLogs) -> None:
        super().__init__(name, logs)
        self.away = self.deaf = False
        self.refusing: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.watch_gate: asyncio.Event | None = None
        self.appended: list[Draft] = []
        self.watching: list[tuple[Channel, ...]] = []
        self.unwatched: list[Channel] = []
        self.reads = 0

    def hear(self, item: Followed) -> None:
        if not self.deaf:
            super().hear(item)

    def _answer(self) -> None:
        if self.away:
            raise OutsideError("away", retry_after=0.01)

    async def append(self, draft: Draft) -> Entry:
        self._answer()
        if self.refusing is not None:
            raise self.refusing
        self.appended.append(draft)
        entry = await super().append(draft)
        if self.gate is not None:
            await self.gate.wait()
        return entry

    async def tell(self, draft: Draft) -> None:
        self._answer()
        await super().tell(draft)

    async def watch(self, namespace: str, *channels: Channel) -> Position:
        self._answer()
        self.watching.append(channels)
        if self.watch_gate is not None:
            await self.watch_gate.wait()
        return await super().watch(namespace, *channels)

    async def unwatch(self, namespace: str, *channels: Channel) -> None:
        self.unwatched += channels
        await super().unwatch(namespace, *channels)

    async def newest(self, namespace: str) -> Position:
        self._answer()
        return await super().newest(namespace)

    async def heads(self, namespace: str, channels: Sequence[Channel]) -> Any:
        self._answer()
        return await super().heads(namespace, channels)

    async def since(self, namespace: str, position: Position, *, limit: int = 1_000) -> Stretch | None:
        self._answer()
        self.reads += 1
        return await super().since(namespace, position, limit=limit)

    async def ping(self) -> None:
        self._answer()


class Client(MemoryClient):
    sid: str


class Node:
    """A server with one namespace that keeps what it says, and what its clients were told."""

    def __init__(self, name: str, logs: MemoryLogs, **settings: Any) -> None:
        self.name = name
        self.journals: list[FaultyJournal] = []
        self.server = Server(
            settings=settings_for(node=name, **settings), open_journal=lambda own: self._open(own, logs)
        )
        self.space = Namespace(SPACE, recovery=True)
        self.space.event("join")(self._join)
        self.server.include(self.space)

    def _open(self, own: str, logs: MemoryLogs) -> FaultyJournal:
        self.journals.append(FaultyJournal(own, logs))
        return self.journals[-1]

    @staticmethod
    async def _join(room: str, socket: Socket) -> None:
        await socket.join(room)

    @property
    def journal(self) -> FaultyJournal:
        return self.journals[-1]

    @property
    def lane(self) -> Lane:
        assert self.server.backplane is not None
        found = self.server.backplane.lane(SPACE)
        assert found is not None
        return found

    async def client(self, *rooms: str) -> Client:
        client = Client(self.server)
        client.sid = await client.connect(SPACE)
        for room in rooms:
            self.server.hub.join(client.sid, SPACE, room)
        if rooms:
            assert await self.server.heard(SPACE, *rooms)
        return client

    async def emit(self, words: str, to: Any = None, **options: Any) -> Any:
        async with asyncio.timeout(SECONDS):
            return await self.server.emit("said", words, to=to, namespace=SPACE, **options)


def heard(client: MemoryClient) -> list[str]:
    """What was said to it, in order."""
    frames = [frame for frame in client.wire.frames if isinstance(frame, str) and '["said",' in frame]
    return [frame.split('["said","', 1)[1].split('"')[0] for frame in frames]


@asynccontextmanager
async def node(name: str, logs: MemoryLogs, **settings: Any) -> AsyncIterator[Node]:
    made = Node(name, logs, **settings)
    made.server._initialize()
    try:
        yield made
    finally:
        for journal in made.journals:
            journal.away = False
        await made.server.shutdown()
