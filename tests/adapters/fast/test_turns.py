from __future__ import annotations

import asyncio

import pytest

from adapters.fast.turns import Turns


class Sender:
    def __init__(self, done: asyncio.Event) -> None:
        self.flushed = 0
        self._done = done

    def flush(self) -> None:
        self.flushed += 1
        self._done.set()


@pytest.mark.asyncio
async def test_a_turn_has_one_number_and_its_end_flushes_whoever_kept_something_back_once() -> None:
    turns, done = Turns(asyncio.get_running_loop()), asyncio.Event()
    sender = Sender(done)
    first = turns.begin()
    assert turns.begin() == turns.number == first
    turns.keep(sender)
    assert sender.flushed == 0
    async with asyncio.timeout(5):
        await done.wait()
    assert sender.flushed == 1
    assert turns.begin() == first + 1


@pytest.mark.asyncio
async def test_a_turn_in_which_nothing_is_sent_costs_nothing() -> None:
    turns, done = Turns(asyncio.get_running_loop()), asyncio.Event()
    before = turns.number
    asyncio.get_running_loop().call_soon(done.set)
    async with asyncio.timeout(5):
        await done.wait()
    assert turns.number == before
