"""What comes in, with a journal in memory that can be made to fail (the whole way is in test_lane.py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from realtime import Metrics
from realtime.cluster.incoming import Incoming
from realtime.journal.positions import Channel, Draft, Entry, Position
from realtime.ports import NoticeKind
from tests.realtime.nodes import SPACE, FaultyJournal, MemoryLogs, until


class Ledger:
    """A Receiver that writes down what it is told."""

    def __init__(self) -> None:
        self.out: list[int] = []
        self.gone: set[Channel] = set()
        self.turns: list[Position] = []
        self.standing: list[tuple[dict[Channel, int], set[Channel]]] = []
        self.failures = 0
        self.needed: set[Channel] = set()

    def came_out(self, entry: Entry, channels: tuple[Channel, ...]) -> None:
        self.out.append(entry.offset)

    def lost(self, channels: Iterable[Channel]) -> None:
        self.gone |= set(channels)

    def turned(self, position: Position) -> None:
        self.turns.append(position)

    def stood(self, channels: Mapping[Channel, int], position: Position, fresh: Collection[Channel]) -> None:
        self.standing.append((dict(channels), set(fresh)))

    def reached(self, offset: int) -> None: ...

    def is_needed(self, channel: Channel) -> bool:
        return channel in self.needed

    def held_until(self, channel: Channel, now: float) -> float | None:
        return None

    def dropped(self, channels: Iterable[Channel]) -> None: ...

    def answered(self) -> None: ...

    def failed(self, error: BaseException) -> None:
        self.failures += 1


class Place:
    def __init__(self, **bounds: Any) -> None:
        self.logs = MemoryLogs(**bounds)
        self.journal = FaultyJournal("here", self.logs)
        self.other = FaultyJournal("there", self.logs)
        self.ledger = Ledger()
        self.metrics = Metrics()
        self.incoming = Incoming(SPACE, self.ledger, self.metrics, asyncio.get_running_loop().time)
        self._number = 0

    async def say(self, *rooms: str) -> Entry:
        self._number += 1
        return await self.other.append(Draft(("there", self._number), SPACE, rooms or None, (), "e", b"[]", 0))

    async def follow(self) -> None:
        async for item in self.journal.follow():
            if isinstance(item, Entry):
                self.incoming.live(item)
            else:
                self.incoming.notice(item.kind)  # type: ignore[union-attr]

    async def watch(self, *channels: Channel) -> bool:
        self.incoming.need(channels)
        answer = self.incoming.heard(channels)
        return answer if isinstance(answer, bool) else await asyncio.wait_for(answer, 5)


@asynccontextmanager
async def place(**bounds: Any) -> AsyncIterator[Place]:
    made = Place(**bounds)
    tasks = [*made.incoming.begin(made.journal), asyncio.ensure_future(made.follow())]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.asyncio
async def test_what_is_watched_comes_out_from_where_it_stands() -> None:
    async with place() as here:
        await here.say("a")
        assert here.incoming.joins_after("a") == 0
        assert await here.watch("a", None)
        assert here.incoming.joins_after("a") == 1
        for rooms in (("a",), ("b",), ()):
            await here.say(*rooms)
        await until(lambda: here.ledger.out == [2, 4])
        assert here.ledger.standing == [({"a": 1, None: 1}, {"a", None})]
        assert here.ledger.turns[0].offset == 1
        assert here.incoming.heard(["a"]) is True
        assert here.incoming.heard(["never asked for"]) is False


@pytest.mark.asyncio
async def test_who_waits_for_a_channel_is_told_when_the_journal_is_away() -> None:
    async with place() as here:
        await here.watch("a")
        here.journal.away = True
        assert not await here.watch("b")
        await here.say("b")
        here.journal.away = False
        await until(lambda: here.ledger.out == [1])
        assert here.ledger.standing[1] == ({"b": 0}, set()), "it was needed before anything was said in it"
        assert here.ledger.failures >= 1


@pytest.mark.asyncio
async def test_a_lost_last_message_is_found() -> None:
    async with place() as here:
        await here.watch("a")
        here.journal.deaf = True
        await here.say("a")
        here.journal.deaf = False
        here.incoming.notice(NoticeKind.BEHIND)
        await until(lambda: here.ledger.out == [1])
        assert here.metrics.journal_gaps.value("healed") == 1


@pytest.mark.asyncio
async def test_what_the_log_has_no_longer_is_said_and_only_of_whom_it_concerns() -> None:
    async with place(entries=3) as here:
        await here.watch("a", "quiet")
        here.journal.deaf = True
        for _ in range(9):
            await here.say("a")
        here.journal.deaf = False
        here.incoming.notice(NoticeKind.BACK)
        await until(lambda: here.ledger.gone == {"a"})
        assert here.metrics.journal_gaps.value("lost") == 1
        await here.say("quiet")
        await until(lambda: here.ledger.out == [10])


@pytest.mark.asyncio
async def test_while_the_subscription_is_broken_the_log_is_read_all_the_same() -> None:
    async with place() as here:
        await here.watch("a")
        here.journal.deaf = True
        here.incoming.notice(NoticeKind.BROKEN)
        for _ in range(3):
            await here.say("a")
            await until(lambda: here.ledger.out[-1:] == [here._number])
        assert here.ledger.out == [1, 2, 3]


@pytest.mark.asyncio
async def test_another_log_is_read_from_its_beginning() -> None:
    async with place() as here:
        await here.watch("a")
        await here.say("a")
        await until(lambda: here.ledger.out == [1])
        here.journal.deaf = True
        here.logs.begin_anew()
        await here.say("a")
        here.journal.deaf = False
        here.incoming.notice(NoticeKind.EPOCH)
        await until(lambda: here.ledger.out == [1, 1])
        assert here.ledger.gone == {"a"}
        assert len({position.epoch for position in here.ledger.turns}) == 2


@pytest.mark.asyncio
async def test_what_is_given_up_while_somebody_waits_for_it() -> None:
    async with place() as here:
        await here.watch("a")
        here.incoming.watches._linger = 0.01
        here.ledger.needed = {"a"}
        here.incoming.spare(["a"])
        await until(lambda: here.incoming.watches.next_due() is None)
        assert here.incoming.heard(["a"]) is True, "somebody is in it again"
        here.ledger.needed = set()
        here.incoming.spare(["a"])
        await until(lambda: here.journal.unwatched == ["a"])
        assert not here.incoming.is_watched(["a"])


@pytest.mark.asyncio
async def test_what_nobody_needs_is_given_up_also_while_there_is_no_end_of_new_channels() -> None:
    async with place() as here:
        await here.watch("a")
        here.incoming.watches._linger = 0.0
        here.journal.away = True  # what is asked for is never answered, so there is always something to ask for
        here.incoming.need(["b"])
        await until(lambda: here.ledger.failures >= 1)
        here.incoming.spare(["a"])
        await until(lambda: here.journal.unwatched == ["a"])
        assert not here.incoming.is_watched(["a"])
        assert here.incoming.heard(["b"]) is not True, "it is still asked for in vain"


@pytest.mark.asyncio
async def test_and_while_it_is_answered_and_there_is_more() -> None:
    async with place() as here:
        await here.watch("a")
        here.incoming.watches._linger = 0.0
        watch, asked = here.journal.watch, 0

        async def watch_and_want(namespace: str, *channels: Channel) -> Position:
            nonlocal asked
            asked += 1
            if asked == 2:
                here.incoming.spare(["a"])
            if asked < 50 and not here.journal.unwatched:
                here.incoming.need([f"room {asked}"])
            return await watch(namespace, *channels)

        here.journal.watch = watch_and_want  # type: ignore[method-assign]
        here.incoming.need(["first"])
        await until(lambda: here.journal.unwatched == ["a"])
        assert asked < 50


@pytest.mark.asyncio
async def test_nobody_waits_for_a_place_behind_the_end_of_the_log() -> None:
    async with place() as here:
        await here.watch("a")
        end = (await here.say("elsewhere")).position
        reaching = here.incoming.reach(end)
        assert not isinstance(reaching, bool)
        assert await asyncio.wait_for(reaching, 5) is True
        beyond = here.incoming.reach(end._replace(offset=1 << 52))
        assert not isinstance(beyond, bool)
        assert await asyncio.wait_for(beyond, 2) is False


@pytest.mark.asyncio
async def test_while_the_subscription_is_broken_nothing_live_overtakes_what_is_missing() -> None:
    async with place() as here:
        await here.watch("a", "b")
        here.incoming.notice(NoticeKind.BROKEN)
        await until(lambda: not here.incoming._in_doubt)  # the log was asked once
        here.journal.deaf = True
        await here.say("b")
        here.journal.deaf = False
        await here.say("a")
        await until(lambda: len(here.ledger.out) == 2)
        assert here.ledger.out == [1, 2]
