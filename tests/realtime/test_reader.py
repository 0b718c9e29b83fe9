from __future__ import annotations

import asyncio

import pytest

from realtime.errors import OutsideError
from realtime.excerpt import Excerpt
from realtime.ports import Stretch
from realtime.positions import Position
from realtime.reader import Reader
from tests.realtime.living import SECONDS
from tests.realtime.test_excerpt import entry

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
    monkeypatch.setattr("realtime.reader.IDLE_SECONDS", 0)
    reader = Reader(Far().read_on, 1 << 20)
    await reader.read(Position("e", 8), 10)
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(0.001, over.set)
    await asyncio.wait_for(over.wait(), SECONDS)
    assert reader.at_hand(Position("e", 8)) is None
