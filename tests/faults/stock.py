"""Guests that are stock JavaScript clients, all of them in one Node process."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from time import monotonic
from typing import Any

from tests.faults.guests import Guest, World
from tests.faults.history import Leg
from tests.javascript import Node

SCRIPT = Path(__file__).with_name("stock.mjs")


class Stock:
    """The process; it ends with its standard input."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.guests: list[StockGuest] = []
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def start(cls, node: Node, urls: list[str]) -> Stock:
        command = node.arguments(SCRIPT.read_text(), json.dumps(urls))
        return cls(await asyncio.create_subprocess_exec(*command, cwd=node.folder, stdin=PIPE, stdout=PIPE))

    def order(self, *what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            what, number, *rest = json.loads(line)
            self.guests[number].told(what, *rest)

    async def stop(self) -> None:
        """Also where it does not want to."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await asyncio.wait_for(self._reading, 5)


class StockGuest(Guest):
    wire = "stock client"

    def __init__(self, world: World, number: int, space: str, rooms: list[str], promised: bool) -> None:
        super().__init__(world, number, space, rooms, promised)
        assert world.stock is not None, "no Node"
        self._stock: Stock = world.stock
        self._place = len(self._stock.guests)
        self._stock.guests.append(self)

    async def live(self) -> None:
        transports = [["websocket"], ["polling"], ["polling", "websocket"]][self._place % 3]
        self._stock.order("come", self._place, self.space, self.rooms, transports)
        await self.world.over.wait()

    def stay_away(self) -> None:
        self.away.set()
        self._stock.order("away", self._place)

    def come_back(self) -> None:
        self.away.clear()
        self._stock.order("back", self._place)

    def cut(self, how: str) -> None:
        self._stock.order("cut", self._place, how)

    def leave(self) -> None:
        """The run is over; what it was told counts to here."""

    def told(self, what: str, *rest: Any) -> None:
        """A line of the process."""
        leg = self.leg
        if self.world.over.is_set():
            return
        if what == "open":
            self._opens(*rest)
        elif leg is None:
            self.world.met[f"{self.wire}: {what} {rest}"[:90]] += 1
        elif what == "note":
            self.hear(leg, rest[0], rest[1], not leg.opened)
        elif what == "connect":
            self.opened(leg, rest[0] if leg.asked else None, "clean start")
        elif what == "joined":
            self.in_room(leg, rest[0])
        elif what == "gone":
            leg.ended = rest[0]
        else:
            self.world.met[f"{self.wire}: {what} {rest}"[:90]] += 1

    def _opens(self, url: str, asked: bool) -> None:
        if self.leg is not None and self.leg.ended is None:
            self.leg.ended = "cut"
        node = next(each for each in self.world.nodes if url.startswith(each.url))
        self.leg = Leg(node.life, asked, monotonic())
        self.client.legs.append(self.leg)
