"""One seed: everything is started, everybody comes and talks, the faults happen; then it has to be whole again, each
client comes back a last time, and the checker says what was not as it should be."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic

import aiohttp
import pytest

from tests.faults.checker import Violation, chains_of, check
from tests.faults.faults import LOSSES, Plan, Storm
from tests.faults.guests import (
    Guest,
    PollingGuest,
    RawGuest,
    SinceGuest,
    SocketIOGuest,
    StreamGuest,
    WebSocketGuest,
    World,
)
from tests.faults.history import Client, Fate, History
from tests.faults.nodes import Node
from tests.faults.stock import Stock, StockGuest
from tests.faults.stores import Store, opened
from tests.javascript import Node as JavaScript

SPACES = ("/board", "/news")
SHARES: tuple[tuple[type[Guest], bool, float], ...] = (
    (WebSocketGuest, True, 0.24),
    (PollingGuest, True, 0.14),
    (StockGuest, True, 0.12),
    (RawGuest, True, 0.18),
    (StreamGuest, True, 0.12),
    (WebSocketGuest, False, 0.08),
    (PollingGuest, False, 0.04),
    (RawGuest, False, 0.04),
    (StreamGuest, False, 0.04),
)
"""Of all clients: each wire, and whether it asks to recover."""
ROOMS_EACH = (2, 3)
"""Of a Socket.IO client; the others have one."""
VOLATILE_SHARE = 0.2
SEED_SECONDS = 240.0
"""A bound for one seed; most take a quarter of it."""
HERE_SECONDS = 20.0
HEARD_SECONDS = 20.0


@dataclass
class Size:
    nodes: int = 2
    clients: int = 200
    rooms: int = 20
    """Half of them in each namespace."""
    emissions_per_second: float = 40.0
    calm_seconds: float = 1.0
    """Of traffic before the first strike, and after the last."""
    patience_seconds: float = 3.0


@dataclass
class Outcome:
    seed: int
    plan: Plan
    strikes: list[str]
    violations: list[Violation]
    fates: Counter[str] = field(default_factory=Counter)
    returns: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    deliveries: int = 0
    again: int = 0
    """Heard a second time by who had started clean in between."""
    delay: float = 0.0
    """The longest that ``emit`` took for what is to be kept, where it answered."""
    wait: float = 0.0
    """The longest that anybody who came waited to be let in."""
    seconds: float = 0.0

    def line(self) -> str:
        told = ", ".join(f"{count} {reason}" for reason, count in self.returns.most_common())
        fates = ", ".join(f"{count} {fate}" for fate, count in self.fates.most_common())
        return (
            f"seed {self.seed} ({self.plan.name}): {len(self.violations)} violations; emitted {fates}; "
            f"{self.deliveries} deliveries; returns: {told}; longest emit {self.delay:.1f} s, longest wait at the door "
            f"{self.wait:.1f} s; {self.seconds:.0f} s"
        )


class Run:
    def __init__(self, seed: int, plan: Plan, size: Size, folder: Path) -> None:
        self.seed, self.plan, self.size, self.folder = seed, plan, size, folder
        self.chance = random.Random(f"faults {seed}")
        self.violations: list[Violation] = []
        self._emitted = 0

    async def go(self) -> Outcome:
        begun = monotonic()
        async with AsyncExitStack() as stack:
            store = await self._open_store(stack) if self.size.nodes > 1 else None
            url, patience = store.url if store else None, self.size.patience_seconds
            self.nodes = [Node(self.folder, name, url, patience) for name in "abcd"[: self.size.nodes]]
            for node in self.nodes:
                stack.push_async_callback(node.stop)
            await asyncio.gather(*(node.start() for node in self.nodes))
            http = await stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None, sock_connect=5)
                )
            )
            self.world = World(self.nodes, http, random.Random(f"clients {self.seed}"))
            self.world.stock = await self._start_stock(stack)
            self.guests = self._guests()
            living = [asyncio.ensure_future(guest.live()) for guest in self.guests]
            storm = Storm(self.world, self.nodes, self.guests, store, self.chance)
            try:
                await self._everything(storm)
            finally:
                self.world.over.set()
                for guest in self.guests:
                    guest.leave()
                await asyncio.wait(living, timeout=10)
                for task in living:
                    task.cancel()
        for task in living:
            if not task.cancelled() and task.exception() is not None:
                raise task.exception() or RuntimeError
        return self._outcome(storm, monotonic() - begun)

    async def _open_store(self, stack: AsyncExitStack) -> Store:
        place = opened(self.plan.kinds[0])
        store = await asyncio.to_thread(place.__enter__)
        stack.callback(place.__exit__, None, None, None)
        return store

    async def _start_stock(self, stack: AsyncExitStack) -> Stock | None:
        """None where the machine has no Node: then others come in the place of the stock clients."""
        try:
            stock = await Stock.start(await asyncio.to_thread(JavaScript), [node.url for node in self.nodes])
        except pytest.skip.Exception:
            return None
        stack.push_async_callback(stock.stop)
        return stock

    def _guests(self) -> list[Guest]:
        found: list[Guest] = []
        for wanted, promised, share in SHARES:
            kind = WebSocketGuest if wanted is StockGuest and self.world.stock is None else wanted
            for _ in range(max(1, round(share * self.size.clients))):
                space = SPACES[len(found) % 2]
                rooms = [f"r{number}" for number in range(self.size.rooms // 2)]
                count = 1 if issubclass(kind, SinceGuest) else self.chance.randint(*ROOMS_EACH)
                chosen = self.chance.sample(rooms, min(count, len(rooms)))
                found.append(kind(self.world, len(found), space, chosen, promised))
        return found

    # --- the course of it

    async def _everything(self, storm: Storm) -> None:
        if not await self.world.until(self._all_here, HERE_SECONDS):
            raise AssertionError(f"not everybody came: {self.world.met}")
        meanwhile = [asyncio.ensure_future(self._talk())]
        if self.plan.sockets:
            meanwhile.append(asyncio.ensure_future(storm.cut_sockets()))
        try:
            await self.world.pause(self.size.calm_seconds)
            await storm.run(self.plan)
            await self.world.pause(self.size.calm_seconds)
        finally:
            for task in meanwhile:
                task.cancel()
        await asyncio.gather(*(node.until_whole() for node in self.nodes))
        await self._closing_words()

    async def _talk(self) -> None:
        publishers = [guest for guest in self.guests if isinstance(guest, SocketIOGuest)]
        telling: set[asyncio.Task[None]] = set()
        while True:
            await self.world.pause(self.chance.expovariate(self.size.emissions_per_second))
            guest = self.chance.choice(publishers)
            if guest.leg is None or guest.leg.ended is not None or not guest.leg.opened or len(telling) > 500:
                continue
            room = f"r{self.chance.randrange(self.size.rooms // 2)}"
            telling.add(task := asyncio.ensure_future(guest.tell(room, self._id(), self._is_volatile())))
            task.add_done_callback(telling.discard)

    def _id(self) -> str:
        self._emitted += 1
        return f"m{self._emitted}"

    def _is_volatile(self) -> bool:
        return self.chance.random() < VOLATILE_SHARE

    def _all_here(self) -> bool:
        return all(guest.is_here for guest in self.guests)

    async def _closing_words(self) -> None:
        """Said from each node, and heard; said while everybody is away, heard by who has recovered; and once more."""
        await self._here("after the faults")
        await self._words("after the faults")
        for guest in self.guests:
            guest.stay_away()
        await self._say_everywhere()
        for guest in self.guests:
            guest.come_back()
        await self._here("at the end")
        await self._words("at the end")

    async def _here(self, when: str) -> None:
        if not await self.world.until(self._all_here, HERE_SECONDS):
            absent = [guest for guest in self.guests if not guest.is_here]
            for guest in absent:
                self.violations.append(Violation("not let in", f"{guest.name} ({guest.wire})", when))

    async def _words(self, when: str) -> None:
        said = await self._say_everywhere()

        def lacking() -> list[tuple[Guest, str]]:
            return [
                (guest, id) for guest in self.guests for id in said for room in guest.client.rooms
                if said[id] == room and not guest.has(id)
            ]  # fmt: skip

        await self.world.until(lambda: not lacking(), HEARD_SECONDS)
        for guest, id in lacking():
            self.violations.append(Violation("deaf", f"{guest.name} ({guest.wire})", f"{when} it did not hear {id}"))

    async def _say_everywhere(self) -> dict[str, str]:
        """To each room, from each node; answers ids and rooms."""
        said = {}
        for node in self.nodes:
            for space in SPACES:
                for number in range(self.size.rooms // 2):
                    id, room = self._id(), f"r{number}"
                    url = f"{node.url}/say{space}/{room}"
                    async with self.world.http.post(url, params={"id": id, "publisher": node.name}) as answer:
                        if answer.status != 200:
                            self.violations.append(Violation("raised", node.life, f"{id}: HTTP {answer.status}"))
                            continue
                        told = await answer.json()
                    self.world.answers[id] = (told["place"], told["kept"])
                    said[id] = f"{space}#{room}"
        return said

    # --- what came of it

    def _outcome(self, storm: Storm, seconds: float) -> Outcome:
        emissions = {emission.id: emission for node in self.nodes for emission in node.read()}
        lives = {name: life for node in self.nodes for name, life in node.lives.items()}
        clients = [guest.client for guest in self.guests]
        self.history = History(
            emissions, lives, clients, self.world.answers, [at for at, what in storm.log if what in LOSSES]
        )
        contradictions = [Violation("contradiction", "pid", words) for words in self.world.contradictions]
        found = [*self.violations, *contradictions, *check(self.history)]
        begun = storm.log[0][0] if storm.log else 0
        kept = [each for each in emissions.values() if each.fate is not Fate.VOLATILE]
        delays = [each.ended - each.began for each in kept if each.ended is not None]
        return Outcome(
            self.seed,
            self.plan,
            [f"{at - begun:.1f} s {what}" for at, what in storm.log],
            found,
            Counter(str(emission.fate) for emission in emissions.values()),
            self.world.returns,
            +self.world.met,
            deliveries=sum(len(leg.heard) for client in clients for leg in client.legs),
            again=sum(_again(client) for client in clients),
            delay=max(delays, default=0.0),
            wait=max(self.world.waits, default=0.0),
            seconds=seconds,
        )

    def keep(self, path: Path, outcome: Outcome) -> None:
        """Everything, for who looks for the reason."""
        words = {"strikes": outcome.strikes, "violations": [str(each) for each in outcome.violations]}
        words["logs"] = [node.server.output()[-100_000:] for node in self.nodes]
        path.write_text(json.dumps({**words, "history": asdict(self.history)}))


def _again(client: Client) -> int:
    before: set[str] = set()
    count = 0
    for chain in chains_of(client):
        ids = {heard.id for heard in chain.heard}
        count += len(ids & before)
        before |= ids
    return count


async def run_seed(seed: int, plan: Plan, size: Size, keep: Path | None = None) -> Outcome:
    """Everything it starts has ended when it returns. ``keep``: where to put what happened, if something is wrong."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        run = Run(seed, plan, size, Path(name))
        outcome = await run.go()
        if keep is not None and outcome.violations:
            run.keep(keep / f"{seed}.json", outcome)
        return outcome


def run_to_its_end(plan: tuple[int, Plan], size: Size, keep: Path | None = None) -> Outcome:
    """Blocks. A run that could not be finished is a violation, too."""
    try:
        return asyncio.run(asyncio.wait_for(run_seed(*plan, size, keep), SEED_SECONDS))
    except (AssertionError, TimeoutError) as error:
        words = str(error).splitlines()[0][:200] if str(error) else f"not through after {SEED_SECONDS:g} s"
        return Outcome(*plan, [], [Violation("not finished", "run", words)])
