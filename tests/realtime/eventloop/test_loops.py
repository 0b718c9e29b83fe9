from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from realtime.eventloop.loops import PerLoop, end_on, end_tasks


@pytest.fixture
def loops() -> Iterator[tuple[asyncio.AbstractEventLoop, asyncio.AbstractEventLoop]]:
    pair = asyncio.new_event_loop(), asyncio.new_event_loop()
    yield pair
    for loop in pair:
        loop.close()


def test_each_loop_has_its_own_and_keeps_it(
    loops: tuple[asyncio.AbstractEventLoop, asyncio.AbstractEventLoop],
) -> None:
    one, other = loops
    per_loop: PerLoop[list[asyncio.AbstractEventLoop]] = PerLoop(lambda loop: [loop])
    assert per_loop(one) == [one]
    assert per_loop(other) == [other]
    assert per_loop(one) is per_loop(one)


def test_what_belonged_to_a_closed_loop_is_let_go(
    loops: tuple[asyncio.AbstractEventLoop, asyncio.AbstractEventLoop],
) -> None:
    one, other = loops
    made: list[object] = []

    def make(loop: asyncio.AbstractEventLoop) -> object:
        made.append(loop)
        return object()

    per_loop = PerLoop(make)
    per_loop(one)
    one.close()
    per_loop(other)
    per_loop(one)
    assert made == [one, other, one]


@pytest.fixture
def elsewhere() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


@pytest.mark.asyncio
async def test_what_is_to_end_ends_on_its_own_loop(elsewhere: asyncio.AbstractEventLoop) -> None:
    ended: list[asyncio.AbstractEventLoop] = []

    async def end() -> None:
        ended.append(asyncio.get_running_loop())

    await end_on(asyncio.get_running_loop(), end, 5)
    await end_on(elsewhere, end, 5)
    assert ended == [asyncio.get_running_loop(), elsewhere]


@pytest.mark.asyncio
async def test_another_loop_is_not_waited_for_too_long(elsewhere: asyncio.AbstractEventLoop) -> None:
    cancelled = threading.Event()

    async def never() -> None:
        try:
            await asyncio.Future()
        finally:
            cancelled.set()

    await end_on(elsewhere, never, 0.01)
    assert cancelled.wait(5)


@pytest.mark.asyncio
async def test_on_no_loop_and_on_one_that_has_stopped_nothing_is_done() -> None:
    ended: list[bool] = []

    async def end() -> None:
        ended.append(True)

    stopped = asyncio.new_event_loop()
    await end_on(None, end, 5)
    await end_on(stopped, end, 5)
    stopped.close()
    assert ended == []


@pytest.mark.asyncio
async def test_a_task_that_loses_its_cancellation_is_ended_all_the_same() -> None:
    """As ``asyncio.wait_for`` loses it before Python 3.12, where what it waits for is done in that very turn."""
    begun = asyncio.Event()

    async def go_on() -> None:
        with suppress(asyncio.CancelledError):
            begun.set()
            await asyncio.Future()
        await asyncio.Future()

    async def fail() -> None:
        raise ValueError

    going_on, failed = asyncio.ensure_future(go_on()), asyncio.ensure_future(fail())
    await begun.wait()
    async with asyncio.timeout(5):
        await end_tasks(going_on, None, failed)
        await end_tasks()
    assert going_on.cancelled()
    assert isinstance(failed.exception(), ValueError)
