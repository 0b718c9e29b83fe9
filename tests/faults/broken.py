"""What a break of Redis costs those who do not need it: two nodes, steady traffic, one break, and times before and
during it."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp

from tests.faults.guests import WebSocketGuest, World
from tests.faults.history import Fate, Leg
from tests.faults.nodes import Node
from tests.redis_server import RedisServer

SPACE, ROOM = "/board", "r0"
CALM_SECONDS = 2.0
UNEASY_SECONDS = 0.5
"""After the break nobody is promised anything for so long."""
HEAL_SECONDS = 15.0
ASKED_PER_SECOND = 100.0
"""Volatile emissions whose acknowledgement and delivery are timed."""
KEPT_PER_SECOND = 100.0
LISTENERS = 8
"""On each node. They share a process with whoever measures: with many of them their work would be what is timed."""


@dataclass
class Times:
    """Seconds, of what began before the break and of what began from half a second after it to its end."""

    before: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)

    def p99(self) -> tuple[float, float]:
        first, second = (sorted(times)[len(times) * 99 // 100] for times in (self.before, self.during))
        return first, second


@dataclass
class Measured:
    acknowledged: Times
    delivered: Times
    longest_kept: float
    """Seconds, from ``emit`` of what is to be kept until it answered."""
    healed: float
    """Seconds from the return of Redis until everything said before it had been heard on the other node."""
    grown: int
    """Bytes of resident memory, from before the break to its end."""
    fates: dict[str, int]
    missing: int
    """What the other node's clients never heard."""

    def line(self) -> str:
        told_fates = ", ".join(f"{count} {fate}" for fate, count in self.fates.items())
        (ack, ack_during), (told, told_during) = self.acknowledged.p99(), self.delivered.p99()
        return (
            f"acknowledgements p99 {1000 * ack:.1f} ms before, {1000 * ack_during:.1f} during; volatile ones delivered "
            f"p99 {1000 * told:.1f} ms before, {1000 * told_during:.1f} during; kept ones answered within "
            f"{self.longest_kept:.2f} s; healed {self.healed:.2f} s after its return; memory "
            f"{self.grown / (1 << 20):+.1f} MB; {told_fates}; {self.missing} missing"
        )


class Prober(WebSocketGuest):
    """Notes when it hears of something first."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number, SPACE, [ROOM], False)
        self.at: dict[str, float] = {}

    def hear(self, leg: Leg, id: Any, place: str | None, early: bool = False) -> None:
        super().hear(leg, id, place, early)
        self.at.setdefault(str(id), monotonic())


def _all_here(side: list[Prober]) -> bool:
    return all(one.is_here for one in side)


class Break:
    def __init__(
        self, kind: str, seconds: float, folder: Path, patience_seconds: float = 3.0, calm_seconds: float = CALM_SECONDS
    ) -> None:
        self.kind, self.seconds, self.folder = kind, seconds, folder
        self.patience, self.calm = patience_seconds, calm_seconds
        self.begun = self.over = float("inf")
        self.acknowledged, self.delivered = Times(), Times()
        self._sent: dict[str, float] = {}
        self._work: set[asyncio.Task[None]] = set()

    async def go(self) -> Measured:
        async with AsyncExitStack() as stack:
            redis = stack.enter_context(RedisServer(keep=True))
            self.nodes = [Node(self.folder, name, redis.url, self.patience) for name in "ab"]
            for node in self.nodes:
                stack.push_async_callback(node.stop)
            await asyncio.gather(*(node.start() for node in self.nodes))
            http = await stack.enter_async_context(aiohttp.ClientSession())
            here, there = (World([node], http, random.Random(1)) for node in self.nodes)
            self.near = [Prober(here, number) for number in range(LISTENERS)]
            self.far = [Prober(there, number) for number in range(LISTENERS)]
            living = [asyncio.ensure_future(each.live()) for each in (*self.near, *self.far)]
            try:
                return await self._measure(redis)
            finally:
                here.over.set()
                there.over.set()
                for each in (*self.near, *self.far):
                    each.leave()
                await asyncio.wait(living, timeout=10)

    async def _measure(self, redis: RedisServer) -> Measured:
        world = self.near[0].world
        for side in (self.near, self.far):
            here = partial(_all_here, side)
            assert await side[0].world.until(here, 20), "not everybody came"
        talking = [
            asyncio.ensure_future(self._talk(f"k{one}-", one, KEPT_PER_SECOND / 4, False)) for one in range(1, 5)
        ]
        talking.append(asyncio.ensure_future(self._talk("v-", 0, ASKED_PER_SECOND, True)))
        await world.pause(self.calm)
        size = self._resident()
        self.begun = monotonic()
        await self._break(redis)
        await world.pause(self.seconds)
        grown = self._resident() - size
        self.over = monotonic()
        await self._mend(redis)
        healed = await self._healed(monotonic())
        await world.pause(self.calm / 2)
        for task in talking:
            task.cancel()
        if self._work:
            await asyncio.wait(self._work, timeout=10)
        await self._healed(monotonic())
        return self._result(healed, grown)

    async def _break(self, redis: RedisServer) -> None:
        if self.kind == "frozen":
            redis.freeze()
        else:
            await asyncio.to_thread(redis.kill)

    async def _mend(self, redis: RedisServer) -> None:
        if self.kind == "frozen":
            redis.thaw()
        else:
            await asyncio.to_thread(redis.start)

    async def _healed(self, since: float) -> float:
        """Everything that was to be kept and said before has been heard there."""
        said = [id for id, at in self._sent.items() if at < since and id.startswith("k")]
        await self.far[0].world.until(lambda: all(id in self.far[0].at for id in said), HEAL_SECONDS)
        return monotonic() - since

    async def _talk(self, name: str, place: int, each_second: float, volatile: bool) -> None:
        """At this rate, whether it is answered or not."""
        number, begun = 0, monotonic()
        while True:
            number += 1
            await self.near[place].world.pause(max(0.0, begun + number / each_second - monotonic()))
            task = asyncio.ensure_future(self._tell(f"{name}{number}", place, volatile))
            self._work.add(task)
            task.add_done_callback(self._work.discard)

    async def _tell(self, id: str, place: int, volatile: bool) -> None:
        self._sent[id] = began = monotonic()
        await self.near[place].tell(ROOM, id, volatile)
        if volatile:
            self._note(self.acknowledged, began, monotonic() - began)

    def _note(self, times: Times, began: float, took: float) -> None:
        if began < self.begun:
            times.before.append(took)
        elif self.begun + UNEASY_SECONDS < began < self.over:
            times.during.append(took)

    def _resident(self) -> int:
        for line in Path(f"/proc/{self.nodes[0].server.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
        return 0

    def _result(self, healed: float, grown: int) -> Measured:
        for id, began in self._sent.items():
            heard = self.near[1].at.get(id)
            if id.startswith("v") and heard is not None:
                self._note(self.delivered, began, heard - began)
        emissions = [each for node in self.nodes for each in node.read()]
        kept = [each for each in emissions if each.fate is not Fate.VOLATILE]
        fates: dict[str, int] = {}
        for each in emissions:
            fates[str(each.fate)] = fates.get(str(each.fate), 0) + 1
        longest = max(each.ended - each.began for each in kept if each.ended is not None)
        missing = sum(each.id not in listener.at for each in kept for listener in self.far)
        return Measured(self.acknowledged, self.delivered, longest, healed, grown, fates, missing)
