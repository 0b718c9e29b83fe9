from __future__ import annotations

import asyncio

import pytest

from realtime.errors import OutsideError
from realtime.journal.excerpt import Excerpt
from realtime.journal.positions import Position
from realtime.ports import Stretch
from realtime.recovery.reader import Reader
from tests.realtime.journal.test_excerpt import entry
from tests.realtime.living import SECONDS

pytestmark = pytest.mark.asyncio


class Far:
    """A log of ten entries, read three at a time."""

    def __init__(self) -> None:
        self.epoch, self.last, self.reads = "e", 10, 0
        self.oldest = 0
        self.away = False

    async def read_on(self, position: Position) -> Stretch | None:
        self.reads += 1
        await asyncio.wait({asyncio.ensure_future(asyncio.wait({asyncio.Future()}, timeout=0))})
        if self.away:
            raise OutsideError("away")
        if position.epoch != self.epoch or position.offset < self.oldest:
            return None
        upto = min(self.last, position.offset + 3)
        entries = [entry(offset, "a") for offset in range(position.offset + 1, upto + 1)]
        return Stretch(entries, Position(self.epoch, upto), upto < self.last)


def found(excerpt: Excerpt | None, start: int) -> list[int]:
    assert excerpt is not None
    return [each.offset for each in excerpt.since_in(["a"], Position("e", start))]


async def test_who_comes_together_reads_it_once() -> None:
    far = Far()
    reader = Reader(far.read_on, 1 << 20)
    starts = [4, 5, 6, 4]
    excerpts = await asyncio.gather(*(reader.read(Position("e", start), 10) for start in starts))
    assert [found(excerpt, start) for excerpt, start in zip(excerpts, starts, strict=True)] == [
        list(range(start + 1, 11)) for start in starts
    ]
    assert far.reads == 2
    far.last = 11
    assert found(await reader.read(Position("e", 8), 11), 8) == [9, 10, 11]
    assert far.reads == 3, "what is new is read behind it"
    assert found(await reader.read(Position("e", 1), 11), 9) == [10, 11]
    assert far.reads == 7, "what begins before it is read anew"
    assert reader.at_hand(Position("e", 1)) is not None
    assert reader.at_hand(Position("e", 0)) is None


async def test_nothing_is_read_where_nothing_is_wanted() -> None:
    far = Far()
    assert found(await Reader(far.read_on, 1 << 20).read(Position("e", 10), 10), 10) == []
    assert far.reads == 0


async def test_all_of_it_or_nothing() -> None:
    far = Far()
    far.oldest = 3
    assert await Reader(far.read_on, 1 << 20).read(Position("e", 2), 10) is None
    assert await Reader(far.read_on, 1 << 20).read(Position("f", 4), 10) is None
    assert await Reader(far.read_on, 1_000).read(Position("e", 3), 10) is None, "more than there is room for"
    far.away = True
    with pytest.raises(OutsideError):
        await asyncio.wait_for(Reader(far.read_on, 1 << 20).read(Position("e", 5), 10), SECONDS)


async def test_the_log_may_end_before_what_was_asked_for() -> None:
    far = Far()
    assert found(await Reader(far.read_on, 1 << 20).read(Position("e", 8), 99), 8) == [9, 10]


async def test_it_is_forgotten_when_nobody_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.recovery.reader.IDLE_SECONDS", 0)
    reader = Reader(Far().read_on, 1 << 20)
    await reader.read(Position("e", 8), 10)
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(0.001, over.set)
    await asyncio.wait_for(over.wait(), SECONDS)
    assert reader.at_hand(Position("e", 8)) is None


SIZE = Excerpt(Position("e", 0))
SIZE.add([entry(1, "a")], 1)


async def test_what_is_more_than_is_kept_for_anybody_is_not_read_again_for_each() -> None:
    far = Far()
    far.last = 300
    reader = Reader(far.read_on, 30 * SIZE.size)
    for start in range(200):
        assert await reader.read(Position("e", start), 300) is None
    assert far.reads <= 100, "all of the log once, whoever comes"
    reads = far.reads
    for start in (0, 100, 150, 199):
        assert await reader.read(Position("e", start), 300) is None
    assert far.reads == reads
    assert found(await reader.read(Position("e", 280), 300), 280) == list(range(281, 301))
    far.epoch = "f"
    assert (await reader.read(Position("f", 5), 8)) is not None, "that was of another log"


async def test_nobody_is_refused_for_what_others_have_missed() -> None:
    """What was read for them is too much together with what came since then."""
    far = Far()
    far.last = 20
    reader = Reader(far.read_on, 25 * SIZE.size)
    assert found(await reader.read(Position("e", 0), 20), 0) == list(range(1, 21))
    far.last = 40
    assert found(await reader.read(Position("e", 18), 40), 18) == list(range(19, 41))
    assert far.reads == 7 + 7, "it was read on from there"


async def test_what_others_had_read_may_be_gone_behind_its_end() -> None:
    far = Far()
    reader = Reader(far.read_on, 1 << 20)
    assert found(await reader.read(Position("e", 3), 10), 3) == list(range(4, 11))
    far.last, far.oldest = 30, 20
    assert found(await reader.read(Position("e", 25), 30), 25) == list(range(26, 31))
    assert await reader.read(Position("e", 15), 30) is None


async def test_who_gives_up_has_not_read_in_vain() -> None:
    far = Far()
    reader = Reader(far.read_on, 1 << 20)
    reading = asyncio.ensure_future(reader.read(Position("e", 0), 10))
    while far.reads < 3:
        await asyncio.wait({asyncio.ensure_future(asyncio.wait({asyncio.Future()}, timeout=0))})
    reading.cancel()
    await asyncio.wait({reading})
    assert found(await reader.read(Position("e", 0), 10), 0) == list(range(1, 11))
    assert far.reads == 3 + 2
