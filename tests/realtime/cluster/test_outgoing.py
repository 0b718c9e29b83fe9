"""The way out alone, with a journal that answers as it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from realtime import LimitError, Metrics, OutsideError
from realtime.cluster.outgoing import WINDOW_MESSAGES, Outgoing
from realtime.journal.positions import Draft, Entry, Position
from realtime.journal.spool import Item
from tests.realtime.living import SECONDS, settings_for
from tests.realtime.nodes import until


async def turn() -> None:
    """One of the loop's."""
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    await turned


class Script:
    """A journal: each append takes the next answer of ``answers``, or is kept where there is none."""

    def __init__(self) -> None:
        self.answers: list[Exception | None] = []
        self.asked: list[int] = []
        self.kept: list[int] = []
        self.gate: asyncio.Event | None = None
        """Answers wait for it."""

    async def append(self, draft: Draft) -> Entry:
        self.asked.append(draft.id[1])
        answer = self.answers.pop(0) if self.answers else None
        await turn()
        if self.gate is not None:
            await self.gate.wait()
        if answer is not None:
            raise answer
        self.kept.append(draft.id[1])
        return Entry(draft, Position("e", len(self.kept)), (0,))


class Ledger:
    """A Sender that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.blocked: set[int] = set()

    def confirmed(self, item: Item) -> None:
        self.told.append(("confirmed", item.number))

    def refused(self, item: Item, error: BaseException) -> None:
        self.told.append(("refused", item.number))

    def given_up(self, item: Item) -> None:
        self.told.append(("given up", item.number))

    def deliver_alone(self, item: Item) -> None:
        item.delivered = True
        self.told.append(("alone", item.number))

    def is_ready(self, item: Item) -> bool:
        return item.number not in self.blocked

    def changed(self, alone: bool) -> None:
        self.told.append(("went alone" if alone else "came back", 0))


@asynccontextmanager
async def going(**settings: Any) -> AsyncIterator[tuple[Outgoing, Script, Ledger]]:
    ledger, script, loop = Ledger(), Script(), asyncio.get_running_loop()
    outgoing = Outgoing(ledger, settings_for(**settings), Metrics(), loop.time)
    outgoing.begin(script)  # type: ignore[arg-type]
    try:
        yield outgoing, script, ledger
    finally:
        outgoing.end()


def item(number: int) -> Item:
    draft = Draft(("n", number), "/", ("a",), (), "e", b"[]", 0)
    return Item(draft, asyncio.get_running_loop().time())


@pytest.mark.asyncio
async def test_what_is_offered_together_goes_together_and_in_order() -> None:
    async with going() as (outgoing, script, ledger):
        for number in range(1, WINDOW_MESSAGES + 11):
            outgoing.offer(item(number))
        await until(lambda: not outgoing.spool)
        assert script.asked == list(range(1, WINDOW_MESSAGES + 11))
        assert ledger.told == [("confirmed", number) for number in script.asked]


@pytest.mark.asyncio
async def test_what_was_not_answered_is_offered_again_before_what_is_behind_it() -> None:
    async with going() as (outgoing, script, _):
        script.answers = [None, OutsideError("away", retry_after=1), OutsideError("away", retry_after=1)]
        for number in (1, 2, 3):
            outgoing.offer(item(number))
        await until(lambda: script.kept == [1])
        script.answers = [OutsideError("away", retry_after=1)]
        outgoing.offer(item(4))
        await until(lambda: not outgoing.spool)
        assert script.asked == [1, 2, 3, 2, 2, 3, 4], "one alone, until it is answered"
        assert script.kept == [1, 2, 3, 4]


@pytest.mark.asyncio
async def test_what_is_offered_while_something_is_under_way_does_not_wait_for_its_answer() -> None:
    async with going() as (outgoing, script, ledger):
        script.gate = asyncio.Event()
        for number in range(1, WINDOW_MESSAGES + 3):
            outgoing.offer(item(number))
            await turn()
            await turn()
        assert script.asked == list(range(1, WINDOW_MESSAGES + 1)), "as far as the window goes"
        assert ledger.told == []
        script.gate.set()
        await until(lambda: not outgoing.spool)
        assert script.kept == list(range(1, WINDOW_MESSAGES + 3))


@pytest.mark.asyncio
async def test_nothing_goes_out_behind_what_was_not_answered_before_that_is_offered_again() -> None:
    async with going() as (outgoing, script, _):
        script.gate = asyncio.Event()
        script.answers = [OutsideError("away", retry_after=1)] * 2
        outgoing.offer(item(1))
        await until(lambda: script.asked == [1])
        outgoing.offer(item(2))
        await until(lambda: script.asked == [1, 2])
        script.gate.set()
        await until(lambda: outgoing.spool.size > 0 and not outgoing.spool.idle)
        outgoing.offer(item(3))
        await until(lambda: not outgoing.spool)
        assert script.kept == [1, 2, 3]
        assert script.asked == [1, 2, 1, 2, 3]


@pytest.mark.asyncio
async def test_what_it_ended_with_goes_out_again_when_it_begins_anew() -> None:
    async with going() as (outgoing, script, ledger):
        script.gate = asyncio.Event()
        outgoing.offer(item(1))
        await until(lambda: script.asked == [1])
        outgoing.end()
        assert ledger.told == [("alone", 1)]
        script.gate.set()
        await turn()
        await turn()
        assert script.kept == []
        outgoing.begin(script)  # type: ignore[arg-type]
        outgoing.offer(item(2))
        await until(lambda: not outgoing.spool)
        assert script.kept == [1, 2]


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [OutsideError("too late"), LimitError("too big"), ValueError("a defect")])
async def test_what_is_refused_for_good_is_not_offered_again(error: Exception) -> None:
    async with going() as (outgoing, script, ledger):
        script.answers = [error]
        outgoing.offer(item(1))
        outgoing.offer(item(2))
        await until(lambda: not outgoing.spool)
        assert script.asked == [1, 2]
        assert ledger.told == [("refused", 1), ("confirmed", 2)]


@pytest.mark.asyncio
async def test_what_is_not_ready_holds_up_what_is_behind_it() -> None:
    async with going() as (outgoing, script, ledger):
        ledger.blocked = {2}
        for number in (1, 2, 3):
            outgoing.offer(item(number))
        await until(lambda: ledger.told == [("confirmed", 1)])
        assert script.asked == [1]
        ledger.blocked = set()
        outgoing.stir()
        await until(lambda: not outgoing.spool)
        assert script.asked == [1, 2, 3]
        assert ledger.told == [("confirmed", 1), ("confirmed", 2), ("confirmed", 3)]


@pytest.mark.asyncio
async def test_when_patience_ends_it_delivers_here_and_then_waits_no_more() -> None:
    async with going(bus_patience_seconds=0.05) as (outgoing, script, ledger):
        script.answers = [OutsideError("away", retry_after=1)] * 2
        for number in (1, 2):
            outgoing.offer(item(number))
        await until(lambda: outgoing.alone)
        outgoing.offer(item(3))
        assert ledger.told == [("went alone", 0), ("alone", 1), ("alone", 2), ("alone", 3)]
        await until(lambda: not outgoing.spool)
        assert ledger.told[4:] == [("confirmed", 1), ("came back", 0), ("confirmed", 2), ("confirmed", 3)]
        assert script.kept == [1, 2, 3]


@pytest.mark.asyncio
async def test_silence_is_noticed_without_anything_to_say_and_so_is_its_end() -> None:
    async with going(bus_patience_seconds=0.02) as (outgoing, _, ledger):
        outgoing.failed(OutsideError("away"))
        await until(lambda: outgoing.alone)
        outgoing.answered()
        assert ledger.told == [("went alone", 0), ("came back", 0)]
        outgoing.failed(OutsideError("away"))
        outgoing.answered()
        at = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() > at + 0.04)
        assert not outgoing.alone
        async with asyncio.timeout(SECONDS):
            await outgoing.emptied()
