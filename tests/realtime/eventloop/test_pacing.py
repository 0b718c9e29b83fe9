from __future__ import annotations

import asyncio
from collections.abc import Generator
from functools import partial
from itertools import pairwise
from types import coroutine

import pytest

from realtime.encoding.codecs import text
from realtime.eventloop.pacing import AT_ONCE, BUSY, BYTES, FRAMES, LET_IN, TURN_SECONDS, Gate, Pacer
from realtime.session.outbox import Bounds, Outbox
from realtime.testing import MemoryWire
from tests.realtime.living import SECONDS

pytestmark = pytest.mark.asyncio


def outbox(wire: MemoryWire | None = None) -> tuple[Outbox, MemoryWire]:
    made, wire = Outbox(Bounds(), lambda reason: None), wire or MemoryWire()
    made.attach(wire, free=True)
    wire.link = made  # type: ignore[assignment]
    return made, wire


def frames(count: int, size: int = 1) -> list[str]:
    return [f"{number}".ljust(size, "x") for number in range(count)]


@coroutine
def turn() -> Generator[None, None, None]:
    """One turn of the loop, exactly."""
    yield


async def test_a_short_replay_leaves_at_once() -> None:
    pacer = Pacer(asyncio.get_running_loop())
    made, wire = outbox()
    made.replay(map(text, frames(AT_ONCE - 1)), pacer)
    made.offer(text("live"))
    assert wire.frames == [*frames(AT_ONCE - 1), "live"]
    assert made.way is not None
    assert len(pacer) == 0


async def test_a_long_one_some_in_each_turn_and_what_is_said_meanwhile_behind_it() -> None:
    pacer = Pacer(asyncio.get_running_loop())
    made, wire = outbox()
    made.replay(map(text, frames(3 * AT_ONCE)), pacer)
    made.offer(text("live"))
    counts = [len(wire.frames)]
    for _ in range(3):
        await turn()
        counts.append(len(wire.frames))
    assert counts == [AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE, 3 * AT_ONCE + 1]
    assert wire.frames[-1] == "live"
    assert made.way is not None


async def test_many_replays_together_take_no_more_of_a_turn_than_one() -> None:
    pacer = Pacer(asyncio.get_running_loop())
    made = [outbox() for _ in range(40)]
    for each, _ in made:
        each.replay(map(text, frames(50)), pacer)
    most, before = 0, sum(len(wire.frames) for _, wire in made)
    async with asyncio.timeout(SECONDS):
        while before < 40 * 50:
            await turn()
            now = sum(len(wire.frames) for _, wire in made)
            most, before = max(most, now - before), now
    assert most <= FRAMES
    assert all(wire.frames == frames(50) for _, wire in made)


async def test_large_ones_are_counted_in_bytes() -> None:
    pacer = Pacer(asyncio.get_running_loop())
    made = [outbox() for _ in range(4)]
    for each, _ in made:
        each.replay(map(text, frames(2, BYTES)), pacer)
    assert [len(wire.frames) for _, wire in made] == [2, 0, 0, 0]
    await turn()
    assert [len(wire.frames) for _, wire in made] == [2, 2, 0, 0]


async def test_a_wire_that_is_full_waits_for_its_reader_and_holds_up_nobody() -> None:
    pacer = Pacer(asyncio.get_running_loop())
    slow, stuck = outbox(MemoryWire(capacity=3))
    quick, wire = outbox()
    slow.replay(map(text, frames(10)), pacer)
    quick.replay(map(text, frames(10)), pacer)
    assert (len(stuck.frames), len(wire.frames), len(pacer)) == (3, 10, 0)
    taken = []
    while (encoded := slow.take()) is not None:
        taken.append(encoded)
    assert len(taken) == 7


async def test_a_wire_that_asks_by_itself_gets_no_more_than_a_turn_holds() -> None:
    pacer = Pacer(asyncio.get_running_loop())
    made, wire = outbox(MemoryWire(capacity=1))
    made.replay(map(text, frames(2 * FRAMES)), pacer)
    wire.capacity, taken = None, 0
    while made.take() is not None:
        taken += 1
    assert taken == FRAMES - 1
    await turn()
    assert len(wire.frames) > 1, "and is sent the rest in turns that follow"


async def test_who_polls_takes_what_one_answer_holds() -> None:
    pacer = Pacer(asyncio.get_running_loop())
    made, wire = outbox(MemoryWire("polling"))
    made.replay(map(text, frames(3 * FRAMES)), pacer)
    assert len(wire.frames) == 3 * FRAMES


async def test_while_many_wait_for_their_turn_nobody_else_is_let_in() -> None:
    pacer = Pacer(asyncio.get_running_loop())
    await asyncio.wait_for(pacer.room(), SECONDS)
    made = [outbox() for _ in range(2 * BUSY)]
    for each, _ in made:
        each.replay(map(text, frames(2 * AT_ONCE)), pacer)
    waiting = [asyncio.ensure_future(pacer.room()) for _ in range(3 * LET_IN)]
    waiting[1].cancel()
    done: list[int] = []
    async with asyncio.timeout(SECONDS):
        while not all(each.done() for each in waiting):
            await turn()
            now = sum(each.done() for each in waiting) - sum(done)
            done.append(now)
            assert now <= LET_IN + 1
            assert len(pacer) < BUSY or now <= 1
    assert waiting[0].done()


async def test_who_is_cut_off_in_between_is_sent_nothing_more() -> None:
    pacer = Pacer(asyncio.get_running_loop())
    made, wire = outbox()
    made.replay(map(text, frames(3 * AT_ONCE)), pacer)
    made.detach()
    made.clear()
    await turn()
    assert len(wire.frames) == AT_ONCE
    assert len(pacer) == 0


async def test_an_upgrade_in_between_goes_on_over_the_new_wire() -> None:
    pacer = Pacer(asyncio.get_running_loop())
    made, first = outbox(MemoryWire("websocket"))
    made.replay(map(text, frames(2 * AT_ONCE)), pacer)
    second = MemoryWire()
    made.detach()
    made.attach(second, free=True)
    await turn()
    assert first.frames + second.frames == frames(2 * AT_ONCE)


async def test_so_many_pass_the_gate_in_a_turn_and_in_their_order() -> None:
    gate, passed = Gate(asyncio.get_running_loop(), 3), []

    async def come(number: int) -> None:
        await gate.enter()
        passed.append(number)

    coming = [asyncio.ensure_future(come(number)) for number in range(8)]
    await turn()
    assert passed == [0, 1, 2]
    coming[4].cancel()
    counts = []
    async with asyncio.timeout(SECONDS):
        while len(passed) < 7:
            await turn()
            counts.append(len(passed))
    assert passed == [0, 1, 2, 3, 5, 6, 7]
    assert max(after - before for before, after in pairwise(counts)) <= 3


async def test_while_turns_take_long_fewer_pass_in_each_and_then_as_many_again() -> None:
    now, passed = [0.0], 0

    def come() -> bool:
        nonlocal passed
        passed += 1
        return True

    gate = Gate(asyncio.get_running_loop(), 8, lambda: now[0])
    asked = [gate.ask(come) for _ in range(100)]
    assert (asked.count(True), asked.index(False)) == (8, 8)
    counts = []
    for took in (0.0, *[5 * TURN_SECONDS] * 4, *[TURN_SECONDS * 0.7] * 2, *[TURN_SECONDS / 10] * 4):
        now[0] += took
        before = passed
        await turn()
        counts.append(passed - before)
    assert counts == [8, 4, 2, 1, 1, 1, 1, 2, 4, 8, 8]


async def test_how_long_turns_take_while_nobody_waits_is_not_its_business() -> None:
    now = [0.0]
    gate = Gate(asyncio.get_running_loop(), 2, lambda: now[0])
    for _ in range(5):
        assert [gate.ask(lambda: True) for _ in range(2)] == [True, True]
        now[0] += 1.0
        await turn()


async def test_who_has_given_up_takes_no_place() -> None:
    gate, passed = Gate(asyncio.get_running_loop(), 1), []

    def come(number: int) -> bool:
        passed.append(number)
        return number != 1

    asked = [gate.ask(partial(come, number)) for number in range(4)]
    assert asked == [True, False, False, False]
    await turn()
    assert passed == [1, 2]


@pytest.mark.asyncio
async def test_what_goes_wrong_with_one_holds_up_nobody_else() -> None:
    loop, passed = asyncio.get_running_loop(), []
    gate = Gate(loop, 1)

    def wrong() -> bool:
        raise RuntimeError("of this one")

    def right() -> bool:
        passed.append(True)
        return True

    loop.set_exception_handler(lambda loop, context: None)
    assert gate.ask(right)
    assert not gate.ask(wrong)
    assert not gate.ask(right)
    async with asyncio.timeout(5):
        while not passed:
            await turn()
