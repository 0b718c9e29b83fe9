"""Clients that wander between nodes which share a log, by seed: everything once and in order, or a clean start.

What is on its way when a connection ends is lost now and then, and connections end without a node noticing.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from realtime.testing import MemoryWire
from tests.realtime.houses import Guest, House, houses

pytestmark = pytest.mark.asyncio
ROOMS = ("a", "b", "c")
STEPS = 60


class Wanderer(Guest):
    """A client, and what it should have been told."""

    def __init__(self, house: House, name: str, chance: random.Random) -> None:
        super().__init__(house.server, user=name)
        self.chance = chance
        self.rooms: set[str] = set()
        self.expected: list[int] = []
        self.connected = False
        self.recovered = self.clean = 0

    def lose(self) -> None:
        """The last that was sent to it has not arrived."""
        if self.pid is None:
            return
        self.read()
        lost = self.chance.choice([0, 0, 1, 3])
        if lost and len(self.events) > lost:
            del self.events[-lost:]
            self.offset = self.events[-1][-1]

    async def arrive(self, house: House) -> None:
        """Come, perhaps before anybody has noticed that it was gone."""
        self.lose()
        self.server = house.server
        shown = len(self.events)
        wire = MemoryWire(capacity=self.chance.choice([None, None, 2]))
        coming = asyncio.ensure_future(self.come(wire))
        while not coming.done():
            await asyncio.wait({coming}, timeout=0.001)
            wire.read_on()
        wire.capacity = None
        if coming.result().get("recovered"):
            self.recovered += 1
        else:
            self.clean += 1
            self.rooms.clear()
            self.expected.clear()
            del self.events[:shown]
        self.connected = True

    def hears(self, number: int, room: str) -> None:
        if room in self.rooms:
            self.expected.append(number)


class Storm:
    def __init__(self, seed: int, places: list[House]) -> None:
        self.chance = random.Random(seed)
        self.places = places
        self.number = 0
        self.guests = [Wanderer(self.some(), f"user{number}", self.chance) for number in range(4)]

    def some(self) -> House:
        return self.chance.choice(self.places)

    async def emit(self, most: int = 4) -> None:
        for _ in range(self.chance.randint(1, most)):
            self.number += 1
            room = self.chance.choice(ROOMS)
            for guest in self.guests:
                guest.hears(self.number, room)
            await self.some().chat.emit("note", self.number, to=room)

    async def step(self) -> None:
        guest = self.chance.choice(self.guests)
        what = self.chance.random()
        if not guest.connected:
            await guest.arrive(self.some())
        elif what < 0.4:
            await self.emit()
        elif what < 0.6:
            room = self.chance.choice(ROOMS)
            await self.catch_up()  # who enters a room hears what comes out at its node from then on
            if room in guest.rooms:
                guest.rooms.discard(room)
                await guest.say("leave", room)
            else:
                await guest.say("join", room)
                guest.rooms.add(room)
        elif what < 0.75:
            guest.lose()
            guest.cut()
            guest.connected = False
            await self.emit()
        else:
            await guest.arrive(self.some())  # its connection is still open

    async def settle(self) -> None:
        for guest in self.guests:
            if not guest.connected:
                await guest.arrive(self.some())
        await self.catch_up()

    async def catch_up(self) -> None:
        """Everywhere has come out what was said."""
        for place in self.places:
            lane = place.server.backplane.lane("/chat")  # type: ignore[union-attr]
            assert lane is not None
            newest = await place.journals[-1].newest("/chat")
            assert await lane.reach(newest)


@pytest.mark.parametrize("seed", range(12))
async def test_everything_once_and_in_order_or_a_clean_start(seed: int) -> None:
    async with houses("a", "b", "c", recovery_limit_returns=1_000, bus_patience_seconds=10) as places:
        storm = Storm(seed, places)
        for _ in range(STEPS):
            await storm.step()
        await storm.settle()
        for guest in storm.guests:
            assert await guest.catch_up() == guest.expected
        assert sum(guest.recovered for guest in storm.guests) > 5
