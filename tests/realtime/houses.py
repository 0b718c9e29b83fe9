"""Several servers in one process that share a journal, sessions and a bus in memory; each is a ``Place`` of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from adapters.memory.journal import MemoryLogs
from adapters.memory.sessions import MemorySessions, MemoryStore
from realtime import Metrics, Server, Socket
from realtime.errors import OutsideError
from realtime.journal.resume import Record
from realtime.ports import Journal
from realtime.server.roster import BusManager
from tests.realtime.coming_back import Guest, Place
from tests.realtime.living import SECONDS
from tests.realtime.nodes import FaultyJournal

__all__ = ["Guest", "House", "Houses", "houses", "until"]


class Wire:
    """A bus in memory: the port ``Bus``."""

    def __init__(self, everybody: list[Wire]) -> None:
        self._everybody = everybody
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        everybody.append(self)

    async def publish(self, message: bytes) -> None:
        for each in self._everybody:
            each._queue.put_nowait(message)

    async def listen(self) -> AsyncIterator[bytes]:
        while (message := await self._queue.get()) is not None:
            yield message

    async def ping(self) -> None: ...

    async def close(self) -> None:
        self._queue.put_nowait(None)


class FaultySessions(MemorySessions):
    """``away``: it answers nothing but errors. ``deaf``: nobody tells it anything."""

    away = deaf = False
    gate: asyncio.Event | None = None
    """The next claim waits for it."""
    answer: asyncio.Event | None = None
    """The answer to the next claim waits for it."""

    def hear(self, notice: Any) -> None:
        if not self.deaf:
            super().hear(notice)

    def _check(self) -> None:
        if self.away:
            raise OutsideError("away")

    async def keep(self, records: Any, seconds: float, *, away: bool = False) -> Any:
        self._check()
        return await super().keep(records, seconds, away=away)

    async def look(self, pid: str) -> Record | None:
        self._check()
        return await super().look(pid)

    async def claim(self, pid: str, node: str) -> Record | None:
        self._check()
        if self.gate is not None:
            gate, self.gate = self.gate, None
            await gate.wait()
            self._check()
        claimed = await super().claim(pid, node)
        if self.answer is not None:
            answer, self.answer = self.answer, None
            await answer.wait()
        return claimed


class House(Place):
    """One of the servers."""

    def __init__(self, houses: Houses, name: str, **settings: Any) -> None:
        self.journals: list[FaultyJournal] = []
        self.sessions: list[FaultySessions] = []
        metrics = Metrics()

        def journal(node: str) -> Journal:
            self.journals.append(FaultyJournal(node, houses.logs))
            return self.journals[-1]

        def sessions(node: str) -> FaultySessions:
            self.sessions.append(FaultySessions(node, houses.store))
            return self.sessions[-1]

        manager = BusManager(Wire(houses.wires), metrics)
        super().__init__(
            partial(Server, manager, metrics=metrics, open_journal=journal, open_sessions=sessions),
            node=name,
            **{"bus_patience_seconds": 0.5, **settings},
        )
        self.server.returning.absence.clock = houses.store.clock
        self._houses = houses

        @self.chat.event
        async def say(socket: Socket, room: str, words: Any) -> None:
            await self.chat.emit("note", words, to=room)

    async def written(self, guest: Guest) -> None:
        """Its record is in the store as it is now."""
        member = self.server.hub.find(guest.sid, "/chat")
        assert member is not None
        store = self.server.returning.store
        assert store is not None
        store.changed(member)
        async with asyncio.timeout(SECONDS):
            await store.kept(member)

    @property
    def has_written(self) -> bool:
        """Everything that happened here is in the store."""
        store = self.server.returning.store
        assert store is not None
        return not (store._left or store._over or store._changed or store._writing)

    def die(self) -> None:
        """As a process does that is killed: nothing more comes from it."""
        for journal in self.journals:
            journal.away = True
        for sessions in self.sessions:
            sessions.away = True
            self._houses.store.nodes.pop(sessions.node, None)


class Houses:
    """What they share. ``clock`` is moved by hand."""

    def __init__(self, **settings: Any) -> None:
        self.logs = MemoryLogs()
        self.store = MemoryStore()
        self.wires: list[Wire] = []
        self.all: list[House] = []
        self._settings = settings

    def open(self, name: str, **settings: Any) -> House:
        house = House(self, name, **(self._settings | settings))
        house.server._initialize()
        self.all.append(house)
        return house


@asynccontextmanager
async def houses(*names: str, **settings: Any) -> AsyncIterator[list[House]]:
    made = Houses(**settings)
    opened = [made.open(name) for name in names]
    for house in opened:
        house.together = made  # type: ignore[attr-defined]
    try:
        yield opened
    finally:
        for house in made.all:
            for each in (*house.journals, *house.sessions):
                each.away = False  # type: ignore[attr-defined]
            await house.server.shutdown()


async def until(check: Callable[[], object], seconds: float = SECONDS) -> None:
    """Turn by turn of the loop, until this is true."""
    over = asyncio.Event()

    def look() -> None:
        if check():
            over.set()
        else:
            asyncio.get_running_loop().call_later(0.002, look)

    look()
    await asyncio.wait_for(over.wait(), seconds)
