from __future__ import annotations

import asyncio
from contextvars import ContextVar
from itertools import pairwise

import pytest

from realtime.eventloop.workers import SPARE, TURN, Workers

colour: ContextVar[str] = ContextVar("colour", default="none")


def workers() -> Workers:
    return Workers(asyncio.get_running_loop())


async def nothing() -> None:
    return None


@pytest.mark.asyncio
async def test_jobs_that_do_not_wait_share_one_task_and_run_in_order() -> None:
    pool, ran = workers(), []

    async def job(number: int) -> None:
        ran.append((number, asyncio.current_task()))

    for number in range(3 * TURN):
        pool.submit(job(number))
    assert await pool.settle(5)
    assert [number for number, _ in ran] == list(range(3 * TURN))
    assert len({task for _, task in ran}) <= 2  # one, and the one that takes over where the loop gets its turn
    assert len(pool) == 0


@pytest.mark.asyncio
async def test_a_job_that_waits_does_not_hold_up_the_next_and_keeps_its_task() -> None:
    pool, gate, started, tasks = workers(), asyncio.Event(), [], []

    async def waiting(number: int) -> None:
        before = asyncio.current_task()
        started.append(number)
        await gate.wait()
        tasks.append((before, asyncio.current_task()))

    for number in range(5):
        pool.submit(waiting(number))
    assert not await pool.settle(0.05)
    assert started == [0, 1, 2, 3, 4]
    gate.set()
    assert await pool.settle(5)
    assert len(tasks) == 5
    assert all(before is after for before, after in tasks)
    assert len({before for before, _ in tasks}) == 5


@pytest.mark.asyncio
async def test_context_variables_do_not_reach_the_next_job() -> None:
    pool, seen = workers(), []

    async def job(value: str) -> None:
        seen.append(colour.get())
        colour.set(value)

    for value in ("red", "green", "blue"):
        pool.submit(job(value))
    assert await pool.settle(5)
    assert seen == ["none", "none", "none"]


@pytest.mark.asyncio
async def test_a_job_that_raises_is_logged_and_the_next_one_runs(caplog: pytest.LogCaptureFixture) -> None:
    pool, ran = workers(), []

    async def bad() -> None:
        raise RuntimeError("of the job")

    async def good() -> None:
        ran.append(True)

    pool.submit(bad())
    pool.submit(good())
    assert await pool.settle(5)
    assert ran == [True]
    assert "a job failed" in caplog.text


@pytest.mark.asyncio
async def test_a_job_that_cancels_its_own_task_ends_alone() -> None:
    pool, ran = workers(), []

    async def suicidal() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()

    async def good() -> None:
        ran.append(True)

    pool.submit(suicidal())
    pool.submit(good())
    assert await pool.settle(5)
    assert ran == [True]


async def turn() -> None:
    """Returns at the end of a turn of the loop."""
    ended = asyncio.Event()
    asyncio.get_running_loop().call_soon(ended.set)
    await ended.wait()


@pytest.mark.asyncio
async def test_no_more_than_the_spare_workers_stay() -> None:
    pool, gate = workers(), asyncio.Event()

    async def waiting() -> None:
        await gate.wait()

    for _ in range(3 * SPARE):
        pool.submit(waiting())
    assert not await pool.settle(0.05)
    assert pool.tasks == 3 * SPARE
    gate.set()
    assert await pool.settle(5)
    async with asyncio.timeout(5):
        while pool.tasks > SPARE:  # those that end need a turn to be noticed
            await turn()
    assert pool.tasks == SPARE


@pytest.mark.asyncio
async def test_settle_spares_the_callers_own_job() -> None:
    pool, answers = workers(), []

    async def job() -> None:
        answers.append(await pool.settle(5, spared=1))

    pool.submit(job())
    assert await pool.settle(5)
    assert answers == [True]


def test_a_loop_that_ends_takes_its_workers_with_it() -> None:
    async def main() -> None:
        pool = workers()

        async def waiting() -> None:
            await asyncio.Event().wait()

        async def done() -> None:
            return None

        pool.submit(done())
        pool.submit(waiting())
        assert not await pool.settle(0.05)

        leftovers.append(pool)

    leftovers: list[Workers] = []
    asyncio.run(asyncio.wait_for(main(), 5))  # would hang, or warn of a task that was destroyed
    assert leftovers[0].tasks == 0


@pytest.mark.asyncio
async def test_run_goes_as_far_as_it_can_at_once() -> None:
    pool, seen = workers(), []

    async def job(value: str) -> None:
        seen.append((value, asyncio.current_task()))

    pool.submit(job("first"))
    assert await pool.settle(5)
    here = asyncio.current_task()
    pool.run(job("now"))
    assert [value for value, _ in seen] == ["first", "now"]
    assert seen[0][1] is seen[1][1] is not here
    assert asyncio.current_task() is here
    assert (len(pool), pool.tasks) == (0, 1)


@pytest.mark.asyncio
async def test_run_keeps_the_order_when_others_wait() -> None:
    pool, seen = workers(), []

    async def job(value: int) -> None:
        seen.append(value)

    pool.submit(job(1))
    pool.run(job(2))
    assert seen == []
    assert await pool.settle(5)
    assert seen == [1, 2]


@pytest.mark.asyncio
async def test_a_job_begun_at_once_and_waiting_is_one_task_throughout() -> None:
    pool, gate, tasks = workers(), asyncio.Event(), []

    async def job() -> None:
        tasks.append(asyncio.current_task())
        async with asyncio.timeout(5):
            await gate.wait()
        tasks.append(asyncio.current_task())

    pool.submit(nothing())
    assert await pool.settle(5)
    pool.run(job())
    assert len(tasks) == 1
    gate.set()
    assert await pool.settle(5)
    assert tasks[0] is tasks[1] is not None


@pytest.mark.asyncio
async def test_a_time_out_that_began_in_the_first_step_reaches_the_job() -> None:
    pool, seen = workers(), []

    async def job() -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append("timed out")

    pool.submit(nothing())
    assert await pool.settle(5)
    pool.run(job())
    assert await pool.settle(5)
    assert seen == ["timed out"]


@pytest.mark.asyncio
async def test_a_job_that_is_cancelled_before_its_task_went_on_is_cancelled() -> None:
    pool, seen = workers(), []

    async def job() -> None:
        seen.append(asyncio.current_task())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(None)
            raise

    pool.submit(nothing())
    assert await pool.settle(5)
    pool.run(job())
    task = seen[0]
    assert task is not None
    task.cancel()
    assert await pool.settle(5)
    assert seen == [task, None]
    pool.run(nothing())
    assert await pool.settle(5)


@pytest.mark.asyncio
async def test_a_job_that_fails_or_colours_its_context_at_once_leaves_no_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool, seen = workers(), []

    async def bad() -> None:
        raise RuntimeError("of the job")

    async def job(value: str) -> None:
        seen.append(colour.get())
        colour.set(value)

    for work in (bad(), job("red"), job("green"), nothing()):
        pool.submit(nothing())
        assert await pool.settle(5)
        pool.run(work)
    assert await pool.settle(5)
    assert seen == ["none", "none"]
    assert "a job failed" in caplog.text


@pytest.mark.asyncio
async def test_run_may_be_called_from_inside_a_job() -> None:
    pool, seen = workers(), []

    async def inner() -> None:
        seen.append(asyncio.current_task())

    async def outer() -> None:
        seen.append(asyncio.current_task())
        pool.run(inner())
        seen.append(asyncio.current_task())

    gate = asyncio.Event()

    async def waiting() -> None:
        await gate.wait()

    pool.submit(waiting())
    pool.submit(nothing())  # a second worker, idle from here on
    assert not await pool.settle(0.05)
    gate.set()
    assert await pool.settle(5)
    pool.run(outer())
    assert await pool.settle(5)
    assert seen[0] is seen[2]
    assert seen[1] is not seen[0]


def test_a_job_that_swallows_its_cancellation_does_not_keep_the_loop() -> None:
    """``except CancelledError: pass`` is an idiom of python-socketio, and ``asyncio.wait_for`` does it before 3.12."""

    log: list[str] = []

    async def main() -> None:
        workers, begun = Workers(asyncio.get_running_loop()), asyncio.Event()

        async def stubborn() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                log.append("swallowed")

        workers.submit(stubborn())
        await asyncio.wait_for(begun.wait(), 5)

    asyncio.run(main())  # would hang
    assert log == ["swallowed"]


@pytest.mark.asyncio
async def test_in_a_turn_no_more_jobs_run_than_it_has_room_for_and_those_that_wait_are_replaced() -> None:
    pool, ran, gate = Workers(asyncio.get_running_loop(), turn=4), [], asyncio.Event()

    async def job(number: int) -> None:
        ran.append(number)
        if number in (9, 13, 14):
            await gate.wait()

    for number in range(30):
        pool.submit(job(number))
    counts = [0]
    async with asyncio.timeout(5):
        while len(ran) < 30:
            await turn()
            counts.append(len(ran))
    assert ran == list(range(30))
    assert max(after - before for before, after in pairwise(counts)) <= 2 * 4  # ``turn`` takes two of the loop's
    gate.set()
    assert await pool.settle(5)


@pytest.mark.asyncio
async def test_a_worker_whose_job_was_waiting_takes_no_part_in_anothers_turn() -> None:
    pool, ran, gate = Workers(asyncio.get_running_loop(), turn=4), [], asyncio.Event()

    async def waiting() -> None:
        await gate.wait()

    async def job(number: int) -> None:
        ran.append(number)
        if number == 3:
            gate.set()

    pool.submit(waiting())
    for number in range(30):
        pool.submit(job(number))
    most = 0
    async with asyncio.timeout(5):
        while len(ran) < 30:
            before = len(ran)
            await turn()
            most = max(most, len(ran) - before)
    assert ran == list(range(30))
    assert most <= 2 * 4  # ``turn`` takes two of the loop's
    assert await pool.settle(5)


@pytest.mark.asyncio
async def test_what_is_submitted_while_the_loop_has_its_turn_waits_for_its_own() -> None:
    pool, ran = Workers(asyncio.get_running_loop(), turn=2), []

    async def job(number: int) -> None:
        ran.append(number)

    for number in range(4):
        pool.submit(job(number))
    async with asyncio.timeout(5):
        while len(ran) < 2:
            await turn()
        assert pool.resting
        pool.submit(job(4))
        tasks = pool.tasks
    assert await pool.settle(5)
    assert ran == [0, 1, 2, 3, 4]
    assert tasks == 1
