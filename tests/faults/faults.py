"""What is done to Redis, to the nodes and to the connections between, and when it was done."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic

from tests.faults.guests import Guest, World
from tests.faults.nodes import Node
from tests.faults.stores import Store
from tests.redis_server import RedisServer

FREEZE_SECONDS = 10.0
SHORT_FREEZE_SECONDS = (0.3, 4.0)
CUTS_PER_SECOND = 0.08
"""Of each client, at random, where sockets are cut."""
REDIS = ("killed", "emptied", "frozen", "subscribers")
KINDS = ("sockets", *REDIS, "node")
OTHERS = ("deploy", "failover", "owner")
"""Only where asked for: a node ended in order; a Sentinel's master, and the owner of a Cluster's slot, killed while its
replica is behind."""
ONCE = ("frozen", "failover", "owner")
LAG_SECONDS = 1.0
"""At most so long the replica that is to take over has heard of nothing."""
TAKE_OVER_SECONDS = 6.0
PART_LOST = "part lost"
LOSSES = ("emptied", PART_LOST)
"""What takes a log away, or its last part."""


@dataclass
class Plan:
    """What happens in one seed: the first seeds have one kind each, with and without clients being cut off meanwhile,
    the others any."""

    kinds: tuple[str, ...]
    sockets: bool
    strikes: int
    longest: float = 5.0
    """Seconds that Redis or a node is away when it was killed."""
    in_turn: bool = False
    """One kind after the other; otherwise any of them, at random."""
    pause: tuple[float, float] = (0.5, 2.0)
    """Seconds between two strikes, and after the last."""

    @classmethod
    def of(cls, seed: int, kinds: tuple[str, ...] = KINDS) -> Plan:
        turn, place = divmod(seed - 1, 2 * len(kinds))
        if place >= len(kinds) > 1:
            return cls(tuple(kind for kind in kinds if kind != "sockets"), True, 4)
        kind, turn = kinds[place % len(kinds)], turn + place // len(kinds)
        return cls((kind,), kind == "sockets" or turn % 2 == 1, 1 if kind in ONCE else 3)

    @property
    def name(self) -> str:
        kinds = self.kinds[0] if len(self.kinds) == 1 else "mixed"
        return kinds if not self.sockets or kinds == "sockets" else f"{kinds}, sockets cut"


@dataclass
class Storm:
    """All that can be struck."""

    world: World
    nodes: list[Node]
    guests: list[Guest]
    store: Store | None
    chance: random.Random
    log: list[tuple[float, str]] = field(default_factory=list)
    _longest: float = 0.0

    async def run(self, plan: Plan) -> None:
        """One strike after the other, each with its end."""
        self._longest = plan.longest
        for number in range(plan.strikes):
            kind = plan.kinds[number % len(plan.kinds)] if plan.in_turn else self.chance.choice(plan.kinds)
            long = kind == "frozen" and (len(plan.kinds) == 1 or number == 0) and plan.longest >= FREEZE_SECONDS / 2
            await self._strike(kind, long)
            await self.world.pause(self.chance.uniform(*plan.pause))

    async def _strike(self, kind: str, long: bool) -> None:
        strikes: dict[str, Callable[[], Awaitable[None]]] = {
            "sockets": lambda: self.world.pause(2.0),
            "killed": self._redis_killed,
            "emptied": self._redis_emptied,
            "frozen": lambda: self._redis_frozen(
                FREEZE_SECONDS if long else self.chance.uniform(*SHORT_FREEZE_SECONDS)
            ),
            "subscribers": self._subscribers_cut,
            "node": self._node_killed,
            "failover": self._part_lost,
            "owner": self._part_lost,
            "deploy": lambda: self.chance.choice(self.nodes).deploy(),
        }
        self.log.append((monotonic(), kind))
        await strikes[kind]()
        self.log.append((monotonic(), f"{kind}: over"))

    # --- Redis

    @property
    def _server(self) -> RedisServer:
        assert self.store is not None, "a fault of Redis, without Redis"
        assert self.store.server is not None, "a fault of one Redis alone"
        return self.store.server

    async def _redis_killed(self) -> None:
        """With its data: each write had reached the disk before it was answered."""
        await asyncio.to_thread(self._server.kill)
        await self.world.pause(self.chance.uniform(0, self._longest))
        await asyncio.to_thread(self._server.start)

    async def _redis_emptied(self) -> None:
        await asyncio.to_thread(self._server.kill)
        await self.world.pause(self.chance.uniform(0, self._longest))
        shutil.rmtree(self._server.folder / "appendonlydir", ignore_errors=True)
        (self._server.folder / "appendonly.aof").unlink(missing_ok=True)  # its place before Redis 7
        await asyncio.to_thread(self._server.start)

    async def _redis_frozen(self, seconds: float) -> None:
        self._server.freeze()
        try:
            await self.world.pause(seconds)
        finally:
            self._server.thaw()

    async def _subscribers_cut(self) -> None:
        def kill() -> None:
            with self._server.admin() as admin:
                admin.client_kill_filter(_type="pubsub", skipme=True)

        for _ in range(self.chance.randint(1, 4)):
            await asyncio.to_thread(kill)
            await self.world.pause(self.chance.uniform(0, 0.5))

    async def _part_lost(self) -> None:
        assert self.store is not None, "a fault of Redis, without Redis"
        assert self.store.lag is not None, "one Redis has no other part"
        assert self.store.lose is not None, "one Redis has no other part"
        await asyncio.to_thread(self.store.lag)
        await self.world.pause(self.chance.uniform(0, LAG_SECONDS))
        await asyncio.to_thread(self.store.lose)
        self.log.append((monotonic(), PART_LOST))
        await self.world.pause(TAKE_OVER_SECONDS)

    # --- nodes and clients

    async def _node_killed(self) -> None:
        node = self.chance.choice(self.nodes)
        await node.kill()
        await self.world.pause(self.chance.uniform(0, self._longest))
        await node.start()

    async def cut_sockets(self) -> None:
        """Any of them, at any time, until it is cancelled."""
        while True:
            await self.world.pause(self.chance.expovariate(CUTS_PER_SECOND * len(self.guests)))
            self.chance.choice(self.guests).cut(self.chance.choice(("cut", "cut", "silent")))
