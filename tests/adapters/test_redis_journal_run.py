"""Nodes with the core's merge on one Redis that is killed, emptied, put back, frozen and cut from, by seed.

What an append answered reaches every node once and in one order, or the node is told that something is lost.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from functools import partial

import pytest

from adapters.redis.journal import RedisJournal
from realtime.journal.merge import Merge, Progress
from realtime.journal.positions import Channel, Entry, Position
from realtime.ports import Followed, NoticeKind
from tests.adapters.journals import draft, journal, stubbornly
from tests.redis_server import RedisServer

pytestmark = pytest.mark.process
SPACE = "/chat"
ROOMS: list[Channel] = ["lobby", "news", None]
LONG_SECONDS = 45.0
STRIKES = 4


class Node:
    """As the core does it: follows, merges, reads the log where it has to, and delivers."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.journal: RedisJournal = journal(url, name)
        self.delivered: list[Entry] = []
        self.lost: set[Channel] = set()
        self.kept: list[Entry] = []
        self.answered = 0
        self._queue: asyncio.Queue[Followed] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self.merge: Merge

    async def start(self) -> None:
        positions = [await stubbornly(partial(self.journal.watch, SPACE, room)) for room in ROOMS]
        self.merge = Merge(positions[0])
        for room, position in zip(ROOMS, positions, strict=True):
            self.merge.watch(room, position)
        self._tasks = [asyncio.ensure_future(self._follow()), asyncio.ensure_future(self._deliver())]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.journal.close()

    async def append(self, number: int, choice: random.Random) -> None:
        """The same draft until it is answered; after another log began also those of the last seconds once more."""
        rooms = choice.choice([("lobby",), ("news",), ("lobby", "news"), ()])
        one = draft(number, *rooms, node=self.name, namespace=SPACE)
        self.kept.append(await stubbornly(partial(self.journal.append, one), LONG_SECONDS))
        if len(self.kept) > 1 and self.kept[-1].position.epoch != self.kept[-2].position.epoch:
            for entry in self.kept[-50:-1]:
                await stubbornly(partial(self.journal.append, entry.draft), LONG_SECONDS)

    async def _follow(self) -> None:
        async for item in self.journal.follow():
            self._queue.put_nowait(item)

    async def _deliver(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            wake = self.merge.wake_at()
            try:
                async with asyncio.timeout_at(wake):
                    item = await self._queue.get()
            except TimeoutError:
                pass
            else:
                await self._take(item)
            while (start := self.merge.need(loop.time())) is not None:
                await self._read(start)

    async def _take(self, item: Followed) -> None:
        now = asyncio.get_running_loop().time()
        if isinstance(item, Entry):
            self._progress(self.merge.live(item, now))
        elif getattr(item, "kind", None) in (NoticeKind.BACK, NoticeKind.BEHIND, NoticeKind.EPOCH):
            newest = await stubbornly(partial(self.journal.newest, SPACE), LONG_SECONDS)
            self._progress(self.merge.back(newest))

    async def _read(self, start: Position) -> None:
        stretch = await stubbornly(partial(self.journal.since, SPACE, start), LONG_SECONDS)
        now = asyncio.get_running_loop().time()
        if stretch is None:
            newest = await stubbornly(partial(self.journal.newest, SPACE), LONG_SECONDS)
            gone = self.merge.back(newest) if newest.epoch != start.epoch else self.merge.gone(now)
            self._progress(gone)
        else:
            self._progress(self.merge.stored(stretch.entries, stretch.upto, now, more=stretch.more))

    def _progress(self, progress: Progress) -> None:
        self.delivered += [delivery.entry for delivery in progress.deliver]
        self.lost |= progress.lost


async def strike(server: RedisServer, choice: random.Random, forgets: bool) -> str:
    """One fault, and its end."""
    kind = choice.choice(["killed", "cut", "frozen", "cut", *(["emptied", "put back"] if forgets else [])])
    copy = server.folder.with_name(server.folder.name + "-copy")
    if kind == "cut":
        with server.admin() as admin:
            for which in choice.sample(["pubsub", "normal"], choice.randint(1, 2)):
                admin.client_kill_filter(_type=which, skipme=True)
    elif kind == "frozen":
        server.freeze()
        await pause(choice.uniform(0.2, 2.5))
        server.thaw()
    else:
        if kind == "put back":
            server.stop()
            shutil.copytree(server.folder, copy)
            server.start()
            await pause(choice.uniform(0.1, 0.5))
        server.kill()
        if kind == "put back":
            shutil.rmtree(server.folder)
            shutil.move(copy, server.folder)
        elif kind == "emptied":
            shutil.rmtree(server.folder / "appendonlydir", ignore_errors=True)
            (server.folder / "appendonly.aof").unlink(missing_ok=True)  # its place before Redis 7
        server.start()
    return kind


async def pause(seconds: float) -> None:
    """A fault lasts for a time; nothing is waited for."""
    await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=seconds)


@pytest.mark.parametrize(("seed", "forgets"), [(1, False), (2, False), (3, True), (4, True)])
@pytest.mark.asyncio
async def test_faults_one_after_the_other(seed: int, forgets: bool) -> None:
    choice = random.Random(seed)
    with RedisServer(keep=True) as server:
        nodes = [Node(server.url, name) for name in ("a", "b", "c")]
        try:
            for node in nodes:
                await node.start()
            strikes = await under_fire(nodes, server, choice, forgets)
            assert len(strikes) == STRIKES
            await settled(nodes)
            assert all(node.delivered for node in nodes)
            for node in nodes:
                judge(node, nodes, f"seed {seed}, node {node.name}, {strikes}", forgets)
        finally:
            server.thaw()
            await asyncio.gather(*(node.close() for node in nodes))


async def under_fire(nodes: list[Node], server: RedisServer, choice: random.Random, forgets: bool) -> list[str]:
    enough = asyncio.Event()

    async def talk(node: Node) -> None:
        number = 0
        while not enough.is_set():
            await node.append(number, choice)
            number += 1

    talking = [asyncio.ensure_future(talk(node)) for node in nodes]
    strikes = []
    for _ in range(STRIKES):
        await pause(choice.uniform(0.1, 0.6))
        strikes.append(await strike(server, choice, forgets))
    await pause(0.5)
    enough.set()
    async with asyncio.timeout(LONG_SECONDS):
        await asyncio.gather(*talking)
    return strikes


async def settled(nodes: list[Node]) -> None:
    """Until one last entry, which comes after all others, is delivered everywhere."""
    async with asyncio.timeout(LONG_SECONDS):
        number = 1_000_000
        while True:
            last = draft(number, node="a", namespace=SPACE)
            await stubbornly(partial(nodes[0].journal.append, last), LONG_SECONDS)
            await pause(0.3)
            if all(any(entry.draft.id == last.id for entry in node.delivered) for node in nodes):
                return
            number += 1


def judge(node: Node, nodes: list[Node], which: str, forgets: bool) -> None:
    ids = [entry.draft.id for entry in node.delivered]
    assert len(ids) == len(set(ids)), f"{which}: twice"
    order = [entry.position for entry in node.delivered]
    assert order == sorted(order), f"{which}: out of order"
    if not forgets:
        assert node.lost == set(), f"{which}: said to be lost, and nothing was"
    missing = [entry for other in nodes for entry in other.kept if entry.draft.id not in set(ids)]
    silent = [entry for entry in missing if not node.lost.intersection(entry.draft.channels)]
    assert silent == [], f"{which}: a hole that nobody told"
