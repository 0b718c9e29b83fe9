from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.eventloop.workers import Workers
from realtime.session.inbox import TURN, About, Inbox, Job, Then

PATIENCE_SECONDS = 5


class House:
    """Keeps the port ``Host``. A job of the kind ``wait`` waits for the gate of its member, so does an event whose last
    field says so, one with ``beside`` runs next to the others, the rest is done at once."""

    def __init__(self, limit: int = 8) -> None:
        self.workers = Workers(asyncio.get_running_loop())
        self.inbox: Inbox[str] = Inbox(self, limit)
        self.gates: dict[str, asyncio.Event] = {}
        self.began: list[tuple[str, Any]] = []
        self.done: list[tuple[str, Any]] = []
        self.reading: list[bool] = []
        self.done_at_reading_on = 0
        self.tasks: dict[str, asyncio.Task[Any] | None] = {}

    def gate(self, member: str) -> asyncio.Event:
        return self.gates.setdefault(member, asyncio.Event())

    def perform(self, member: str, job: Job) -> Coroutine[Any, Any, None] | None:
        kind, what, how = job
        if kind == "beside":
            self.start(self._do(member, what, waits=True))
            return None
        return self._do(member, what, waits="wait" in (kind, how))

    async def _do(self, member: str, what: Any, waits: bool) -> None:
        self.began.append((member, what))
        self.tasks[member] = asyncio.current_task()
        if waits:
            await self.gate(member).wait()
        self.done.append((member, what))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self.workers.submit(work)

    start_apart = start

    def run(self, work: Coroutine[Any, Any, None], then: Then[About], about: About) -> bool:
        return self.workers.run(work, then, about)

    def stop_reading(self) -> None:
        self.reading.append(False)

    def read_on(self) -> None:
        self.reading.append(True)
        self.done_at_reading_on = len(self.done)

    async def settle(self, left: int = 0) -> None:
        """Returns when nothing runs but so many jobs that wait."""
        assert await self.workers.settle(PATIENCE_SECONDS, spared=left)


@asynccontextmanager
async def house(limit: int = 8) -> AsyncIterator[House]:
    made = House(limit)
    yield made
    for gate in made.gates.values():
        gate.set()
    await made.settle()
    assert len(made.inbox) == 0
    assert not made.inbox.full


def wait(number: int) -> Job:
    return ("wait", number, None)


def quick(number: int) -> Job:
    return ("quick", number, None)


def beside(number: int) -> Job:
    return ("beside", number, None)


def event(number: int) -> Job:
    return ("event", number, None)


def waiting_event(number: int) -> Job:
    return ("event", number, "wait")


KINDS = [quick, wait, beside, event, waiting_event]


async def began(made: House, *expected: tuple[str, int]) -> None:
    """Returns when these have begun and nothing more is under way but what waits."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(made.began) < len(expected):
            await made.workers.settle(0.001)
    assert made.began == list(expected)


@pytest.mark.asyncio
async def test_one_job_after_the_other_in_order_for_each_membership() -> None:
    async with house() as made:
        for number in range(3):
            made.inbox.put("a", wait(number))
        await began(made, ("a", 0))
        assert made.inbox.is_busy("a")
        assert not made.inbox.is_busy("b")
        assert list(made.inbox) == ["a"]
        made.gate("a").set()
        await made.settle()
        assert made.done == [("a", 0), ("a", 1), ("a", 2)]
        assert not made.inbox.is_busy("a")


@pytest.mark.asyncio
async def test_one_membership_does_not_wait_for_another() -> None:
    async with house() as made:
        made.inbox.put("a", wait(0))
        made.inbox.put("b", wait(0))
        made.gate("b").set()
        await began(made, ("a", 0), ("b", 0))
        await made.settle(left=1)
        assert made.done == [("b", 0)]


async def idle(made: House) -> None:
    """Returns when a worker waits, so that an event can begin at once."""
    made.inbox.put("warm", quick(0))
    await made.settle()
    made.began.clear()
    made.done.clear()


@pytest.mark.asyncio
async def test_an_event_that_waits_for_nothing_is_done_before_put_returns() -> None:
    async with house() as made:
        await idle(made)
        made.inbox.put("a", event(0))
        assert made.done == [("a", 0)]
        assert not made.inbox.is_busy("a")
        assert len(made.workers) == 0


@pytest.mark.asyncio
async def test_an_event_that_waits_goes_on_later_and_what_came_meanwhile_follows_in_order() -> None:
    async with house() as made:
        await idle(made)
        made.inbox.put("a", waiting_event(0))
        assert made.began == [("a", 0)]
        for number, kind in enumerate((event, quick, waiting_event, event), 1):
            made.inbox.put("a", kind(number))
        made.inbox.put("b", event(0))
        await began(made, ("a", 0), ("b", 0))
        assert made.done == [("b", 0)]
        made.gate("a").set()
        await made.settle()
        assert made.done == [("b", 0), *(("a", number) for number in range(5))]


@pytest.mark.asyncio
async def test_what_an_event_brings_about_while_it_is_begun_follows_it() -> None:
    async with house() as made:
        await idle(made)

        async def bring() -> None:
            made.inbox.put("a", quick(1))
            made.inbox.put("a", event(2))
            assert made.inbox.is_busy("a")
            made.done.append(("a", 0))

        do, made.perform = made.perform, lambda member, job: bring() if job[1] == 0 else do(member, job)  # type: ignore[method-assign]
        made.inbox.put("a", event(0))
        await made.settle()
        assert made.done == [("a", 0), ("a", 1), ("a", 2)]
        assert not made.inbox.is_busy("a")


@pytest.mark.asyncio
async def test_an_event_that_is_cancelled_while_it_waits_takes_the_rest_with_it() -> None:
    async with house(limit=2) as made:
        await idle(made)
        made.inbox.put("a", waiting_event(0))
        for number in range(1, 4):
            made.inbox.put("a", event(number))
        assert made.reading == [False]
        task = made.tasks["a"]
        assert task is not None
        task.cancel()
        await made.settle()
        assert made.done == []
        assert made.reading == [False, True]
        assert not made.inbox.is_busy("a")


@pytest.mark.asyncio
async def test_who_has_nothing_to_do_has_no_entry() -> None:
    async with house() as made:
        for number in range(100):
            made.inbox.put(f"member {number}", quick(number))
        assert len(made.inbox) == 100
        await made.settle()
        assert len(made.inbox) == 0
        assert len(made.done) == 100


@pytest.mark.asyncio
async def test_at_the_limit_reading_stops_once_and_goes_on_at_half_of_it() -> None:
    async with house(limit=4) as made:
        for number in range(4):  # one is under way, three wait
            made.inbox.put("a", wait(number))
        assert made.reading == []
        for number in range(4, 7):
            made.inbox.put("a", wait(number))
        assert made.reading == [False]
        assert made.inbox.full
        made.gate("a").set()
        await made.settle()
        assert made.reading == [False, True]
        assert made.done_at_reading_on == 4  # of seven: the fifth is taken up, and two wait
        assert not made.inbox.full


@pytest.mark.asyncio
async def test_the_limit_is_that_of_all_memberships_together() -> None:
    async with house(limit=4) as made:
        for member in "ab":
            for number in range(3):
                made.inbox.put(member, wait(number))
        assert made.reading == [False]
        made.gate("a").set()
        await made.settle(left=1)
        assert made.reading == [False, True]


@pytest.mark.asyncio
async def test_a_job_that_is_cancelled_takes_the_rest_of_its_membership_with_it_and_no_other() -> None:
    async with house(limit=4) as made:
        for number in range(6):
            made.inbox.put("a", wait(number))
        made.inbox.put("b", wait(0))
        await began(made, ("a", 0), ("b", 0))
        task = made.tasks["a"]
        assert task is not None
        task.cancel()
        await made.settle(left=1)
        assert not made.inbox.is_busy("a")
        assert made.reading == [False, True]
        made.gate("b").set()
        await made.settle()
        assert made.done == [("b", 0)]
        made.inbox.put("a", quick(9))
        await made.settle()
        assert made.done == [("b", 0), ("a", 9)]


@pytest.mark.asyncio
async def test_what_runs_beside_starts_in_order_and_holds_up_nobody() -> None:
    async with house() as made:
        for job in (beside(0), beside(1), quick(2), beside(3), quick(4)):
            made.inbox.put("a", job)
        await began(made, *[("a", number) for number in range(5)])
        assert made.done == [("a", 2), ("a", 4)]
        assert not made.inbox.is_busy("a")
        made.gate("a").set()
        await made.settle()
        assert {number for _, number in made.done} == {0, 1, 2, 3, 4}


@pytest.mark.asyncio
async def test_what_comes_while_something_runs_beside_is_served() -> None:
    async with house() as made:
        made.inbox.put("a", beside(0))
        await began(made, ("a", 0))
        made.inbox.put("a", wait(1))
        made.inbox.put("a", quick(2))
        await began(made, ("a", 0), ("a", 1))
        assert made.done == []
        made.gate("a").set()
        await made.settle()
        assert sorted(made.done) == [("a", 0), ("a", 1), ("a", 2)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(KINDS)), max_size=40), st.integers(1, 6))
def test_everything_is_done_once_starts_in_order_and_reading_goes_on(script: list[tuple[str, Any]], limit: int) -> None:
    async def main() -> None:
        async with house(limit) as made:
            expected: dict[str, list[int]] = {}
            for number, (member, kind) in enumerate(script):
                made.inbox.put(member, kind(number))
                expected.setdefault(member, []).append(number)
            for member in expected:
                made.gate(member).set()
            await made.settle()
            for member, numbers in expected.items():
                assert [number for who, number in made.began if who == member] == numbers
            assert sorted(number for _, number in made.done) == list(range(len(script)))
            assert made.reading == [False, True] * (len(made.reading) // 2)

    asyncio.run(asyncio.wait_for(main(), PATIENCE_SECONDS))


@pytest.mark.asyncio
async def test_what_waited_together_goes_on_in_turns() -> None:
    """Else who asks for something else waits until all of it is done."""
    async with house(limit=100) as made:
        made.inbox.put("a", ("wait", 0, None))
        for number in range(1, 40):
            made.inbox.put("a", ("event", number, None))
        seen: list[int] = []

        def look() -> None:
            seen.append(len(made.done))
            if len(made.done) < 40:
                asyncio.get_running_loop().call_soon(look)

        made.gate("a").set()
        look()
        await made.settle()
        steps = [after - before for before, after in zip(seen, [*seen[1:], 40], strict=True)]
        assert max(steps) <= TURN
        assert [what for _, what in made.done] == list(range(40))
