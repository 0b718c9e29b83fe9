from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.eventloop.deadlines import VOID_LIMIT, Alarm, Deadlines

PATIENCE_SECONDS = 5


class Sleeper:
    """Keeps the port ``Owner``: remembers when it was woken, and does then what it was told to."""

    def __init__(self, then: Callable[[float], None] | None = None) -> None:
        self.alarm: Alarm | None = None
        self.woken: list[float] = []
        self.then = then

    def tick(self, now: float) -> None:
        self.woken.append(now)
        if self.then is not None:
            self.then(now)


@pytest.fixture
def deadlines() -> Iterator[Deadlines]:
    """Of a loop that never runs: time is what a test says."""
    loop = asyncio.new_event_loop()
    yield Deadlines(loop)
    loop.close()


def test_an_owner_is_woken_at_its_time_and_not_before(deadlines: Deadlines) -> None:
    owner = Sleeper()
    deadlines.set(owner, 10)
    deadlines.run(9.999)
    assert owner.woken == []
    deadlines.run(10)
    deadlines.run(11)
    assert owner.woken == [10]
    assert owner.alarm is None
    assert len(deadlines) == 0


def test_the_earliest_is_woken_first_and_of_two_at_once_the_one_that_asked_first(deadlines: Deadlines) -> None:
    order: list[str] = []
    for name, when in (("late", 3), ("early", 1), ("middle", 2), ("middle too", 2)):
        deadlines.set(Sleeper(lambda _, name=name: order.append(name)), when)  # type: ignore[misc]
    deadlines.run(3)
    assert order == ["early", "middle", "middle too", "late"]


def test_a_later_deadline_keeps_the_entry_and_an_earlier_one_moves_it(deadlines: Deadlines) -> None:
    owner = Sleeper()
    deadlines.set(owner, 10)
    alarm = owner.alarm
    deadlines.set(owner, 20)
    assert owner.alarm is alarm
    deadlines.set(owner, 5)
    deadlines.run(5)
    assert owner.woken == [5]
    deadlines.run(20)
    assert owner.woken == [5]


def test_who_is_cleared_is_not_woken_and_may_ask_again(deadlines: Deadlines) -> None:
    owner = Sleeper()
    deadlines.set(owner, 1)
    deadlines.clear(owner)
    deadlines.clear(owner)
    deadlines.run(2)
    assert owner.woken == []
    deadlines.set(owner, 3)
    deadlines.run(3)
    assert owner.woken == [3]


def test_who_asks_again_for_now_waits_for_the_next_run(deadlines: Deadlines) -> None:
    owner = Sleeper(lambda now: deadlines.set(owner, now))
    deadlines.set(owner, 1)
    deadlines.run(1)
    assert owner.woken == [1]
    deadlines.run(1)
    assert owner.woken == [1, 1]


def test_one_may_end_another_whose_time_has_come_as_well(deadlines: Deadlines) -> None:
    second = Sleeper()
    first = Sleeper(lambda _: deadlines.clear(second))
    deadlines.set(first, 1)
    deadlines.set(second, 1)
    deadlines.run(1)
    assert first.woken == [1]
    assert second.woken == []


def test_one_that_fails_does_not_stop_the_clock_of_the_others(
    deadlines: Deadlines, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: float) -> None:
        raise RuntimeError("of one client")

    other = Sleeper()
    deadlines.set(Sleeper(fail), 1)
    deadlines.set(other, 1)
    deadlines.run(1)
    assert other.woken == [1]
    assert "a deadline failed" in caplog.text


def test_many_who_come_and_go_leave_no_heap_behind(deadlines: Deadlines) -> None:
    for _ in range(10_000):
        owner = Sleeper()
        deadlines.set(owner, 1_000)
        deadlines.clear(owner)
    assert len(deadlines) <= VOID_LIMIT


def test_void_entries_are_at_most_as_many_as_the_others_where_there_are_many(deadlines: Deadlines) -> None:
    owners = [Sleeper() for _ in range(1_000)]
    for owner in owners:
        deadlines.set(owner, 50)
    alive = len(owners)
    for number, owner in enumerate(owners):
        if number % 10:
            deadlines.clear(owner)
            alive -= 1
            assert len(deadlines) <= alive + max(VOID_LIMIT, alive)
    deadlines.run(50)
    assert sum(len(owner.woken) for owner in owners) == 100
    assert len(deadlines) == 0


steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 4), st.integers(0, 30)),
        st.tuples(st.just("clear"), st.integers(0, 4), st.just(0)),
        st.tuples(st.just("run"), st.just(0), st.integers(0, 10)),
    )
)


@given(steps)
def test_each_is_woken_exactly_when_its_earliest_wish_has_come(script: list[tuple[str, int, int]]) -> None:
    loop = asyncio.new_event_loop()
    try:
        deadlines, owners = Deadlines(loop), [Sleeper() for _ in range(5)]
        wishes: dict[int, int] = {}
        expected: list[list[int]] = [[] for _ in owners]
        now = 0
        for step, who, value in script:
            if step == "set":
                deadlines.set(owners[who], now + value)
                wishes[who] = min(wishes.get(who, now + value), now + value)
            elif step == "clear":
                deadlines.clear(owners[who])
                wishes.pop(who, None)
            else:
                now += value
                deadlines.run(now)
                for due in [who for who, when in wishes.items() if when <= now]:
                    expected[due].append(now)
                    del wishes[due]
            assert [owner.woken for owner in owners] == expected
            assert {number for number, owner in enumerate(owners) if owner.alarm is not None} == set(wishes)
    finally:
        loop.close()


@pytest.mark.asyncio
async def test_the_timer_of_the_loop_wakes_whoever_is_first_and_goes_on() -> None:
    loop = asyncio.get_running_loop()
    deadlines, woken, done = Deadlines(loop), [], asyncio.Event()

    def wake(now: float, name: str) -> None:
        woken.append((name, now >= wishes[name]))
        if name == "third":
            done.set()

    start = loop.time()
    wishes = {"never": start + 3_600, "third": start + 0.03, "first": start + 0.01, "second": start + 0.02}
    owners = {name: Sleeper(lambda now, name=name: wake(now, name)) for name in wishes}  # type: ignore[misc]
    for name, owner in owners.items():
        deadlines.set(owner, wishes[name])
    await asyncio.wait_for(done.wait(), PATIENCE_SECONDS)
    assert woken == [("first", True), ("second", True), ("third", True)]
    deadlines.clear(owners["never"])


@pytest.mark.asyncio
async def test_who_asks_again_when_woken_is_woken_again() -> None:
    loop = asyncio.get_running_loop()
    deadlines, done = Deadlines(loop), asyncio.Event()

    def again(now: float) -> None:
        if len(owner.woken) == 3:
            done.set()
        else:
            deadlines.set(owner, now + 0.001)

    owner = Sleeper(again)
    deadlines.set(owner, loop.time() + 0.001)
    await asyncio.wait_for(done.wait(), PATIENCE_SECONDS)
    assert len(owner.woken) == 3
    assert len(deadlines) == 0
