"""Whatever happens to them, in any order: clients that may come back have everything once and in order, or start clean.

By seed. The model is simple: who may come back is a member of its rooms as if it had never been away.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from realtime.testing import MemoryWire
from tests.realtime.coming_back import Guest, Place

pytestmark = pytest.mark.asyncio
ROOMS = ("a", "b", "c")


class Wanderer(Guest):
    """A guest, and what it should have been told."""

    def __init__(self, place: Storm, name: str, chance: random.Random) -> None:
        super().__init__(place.server, user=name)
        self.place, self.name, self.chance = place, name, chance
        self.rooms: set[str] = set()
        self.expected: list[int] = []
        self.connected = False
        self.shown = 0
        """Events that it had when it came last: those it does not lose again."""
        self.recovered = self.clean = 0

    def is_for(self, to: str | None) -> bool:
        return to is None or to in self.rooms or to in (self.sid, f"user:{self.name}")

    async def arrive(self, meanwhile: int) -> None:
        """Come, with so many emissions while it is let in; perhaps before the end of its old connection was seen."""
        self.place.gate.clear()
        self.shown = len(self.events)
        wire = MemoryWire(capacity=self.chance.choice([None, 1, 3]))
        before, told = len(self.place.emitted), asyncio.ensure_future(self.come(wire))
        for _ in range(6):
            await asyncio.wait({told}, timeout=0)
        for _ in range(meanwhile):
            await self.place.emit()
        self.place.gate.set()
        while not told.done():
            await asyncio.wait({told}, timeout=0)
            wire.read_on()
        if told.result().get("recovered"):
            self.recovered += 1
        else:
            self.clean += 1
            self.rooms.clear()
            del self.events[: self.shown]
            self.shown = 0
            self.expected = [number for number, to in self.place.emitted[before:] if to is None]
        self.connected = True

    async def change(self) -> None:
        room = self.chance.choice(ROOMS)
        if self.connected:
            await self.say("leave" if room in self.rooms else "join", room)
        elif room in self.rooms:
            await self.server.leave_room(self.sid, room, "/chat")
        else:
            await self.server.enter_room(self.sid, room, "/chat")
        self.rooms ^= {room}

    def lose(self) -> None:
        """Its connection breaks, and the newest of what was told was still on its way."""
        self.client.wire.read_on()
        self.read()
        kept = max(self.shown, len(self.events) - self.chance.choice([0, 0, 1, 4]))
        del self.events[kept:]
        self.offset = self.events[-1][-1] if self.events else None
        self.connected = False
        if self.chance.random() < 0.7:
            self.cut()  # else it is half open, and nobody notices

    async def check(self) -> None:
        if not self.connected:
            await self.arrive(0)
        await self.catch_up()
        assert [data[1] for data in self.events if data[0] == "note"] == self.expected, self.name

    async def say(self, name: str, *args: Any) -> Any:
        self.client.wire.capacity = None
        self.client.wire.read_on()
        return await super().say(name, *args)


class Storm(Place):
    """A server, its wanderers, and everything that was emitted."""

    def __init__(self, seed: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.chance = random.Random(seed)
        self.short = "log_limit_entries" in settings
        self.emitted: list[tuple[int, str | None]] = []
        self.guests = [Wanderer(self, f"u{number}", self.chance) for number in range(4)]

    async def emit(self) -> None:
        chance = self.chance
        if chance.random() < 0.2:
            await self.chat.emit("volatile", "ends in a string", volatile=True)
            return
        target = chance.choice([None, *ROOMS, chance.choice(self.guests).sid or "a", f"user:u{chance.randint(0, 3)}"])
        number = len(self.emitted)
        self.emitted.append((number, target))
        for guest in self.guests:
            if guest.pid and guest.is_for(target):
                guest.expected.append(number)
        await self.chat.emit("note", number, to=target)

    async def step(self) -> None:
        guest = self.chance.choice(self.guests)
        what = self.chance.random()
        if what < 0.55:
            await self.emit()
        elif what < 0.75 and guest.pid:
            await guest.change()
        elif guest.connected:
            guest.lose()
        else:
            # Whether who starts clean in the end hears what is said meanwhile is nobody's promise.
            await guest.arrive(0 if self.short and guest.pid else self.chance.randint(0, 3))


async def weather(seed: int, **settings: Any) -> Storm:
    storm = Storm(seed, **settings)
    for _ in range(150):
        await storm.step()
    for guest in storm.guests:
        await guest.check()
    return storm


@pytest.mark.parametrize("seeds", [range(start, start + 10) for start in range(0, 60, 10)], ids=str)
async def test_everything_once_and_in_order(seeds: range) -> None:
    recovered = 0
    for seed in seeds:
        storm = await weather(seed)
        assert [guest.clean for guest in storm.guests] == [1] * 4, f"seed {seed}: only the first time"
        recovered += sum(guest.recovered for guest in storm.guests)
        assert storm.server.hub.keepers["/chat"].returning == 0
        assert len(storm.server.hub.namespaces["/chat"].everyone) == 4, f"seed {seed}: nobody is two"
    assert recovered > 100


@pytest.mark.parametrize("seeds", [range(start, start + 10) for start in range(0, 20, 10)], ids=str)
async def test_with_a_short_log_everything_or_a_clean_start(seeds: range) -> None:
    clean = 0
    for seed in seeds:
        storm = await weather(seed, log_limit_entries=5)
        clean += sum(guest.clean - 1 for guest in storm.guests)
    assert clean
