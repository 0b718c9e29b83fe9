"""Our server for ``benchmarks.returning``: everybody is in one room, and what is said in it is kept."""

from __future__ import annotations

import asyncio
from time import thread_time
from typing import ClassVar

from fastapi import FastAPI

from realtime import Namespace, Realtime, Socket, event


class Turns:
    """The turns of the event loop, each in the CPU time that it took: what others on the machine do does not show."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._handle: asyncio.Handle | None = None
        self._last = 0.0

    def start(self) -> None:
        self.seconds.clear()
        self._last = thread_time()
        self._handle = asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        now = thread_time()
        if now - self._last > 0.00005:  # the others are nothing but this
            self.seconds.append(now - self._last)
        self._last = now
        self._handle = asyncio.get_running_loop().call_soon(self._turn)

    def stop(self) -> list[float]:
        """Those in which something was done."""
        if self._handle is not None:
            self._handle.cancel()
        return self.seconds


class Crowd(Namespace):
    """Its authorise step asks nobody: what an application does there is its own."""

    path: ClassVar[str] = "/"
    recovery = True
    turns = Turns()

    async def authorize(self, socket: Socket, auth: dict[str, bool] | None = None) -> None:
        if auth is None or "bystander" not in auth:
            socket.enter("all")

    @event
    async def publish(self, texts: list[str]) -> None:
        for text in texts:
            await self.emit("msg", text, to="all")

    @event
    async def echo(self, text: str) -> str:
        return text

    @event
    async def watch(self) -> None:
        self.turns.start()

    @event
    async def watched(self) -> list[float]:
        return self.turns.stop()

    @event
    async def away(self, socket: Socket) -> int:
        """How many may come back."""
        return len(self.home.returning.absence.away)  # type: ignore[attr-defined]


app = FastAPI()
Realtime(app).include(Crowd())
