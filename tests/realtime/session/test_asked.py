from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.session.asked import CALLBACK_LIMIT, Asked, block


class Waiter:
    """A callback that minds what becomes of it."""

    def __init__(self) -> None:
        self.answers: list[tuple[Any, ...]] = []
        self.given_up = 0
        self.not_read = 0

    def __call__(self, *args: Any) -> None:
        self.answers.append(args)

    def abandoned(self) -> None:
        self.given_up += 1

    def blocked(self) -> None:
        self.not_read += 1


def nothing_dropped(reason: str) -> None:
    raise AssertionError(f"dropped: {reason}")


def nothing_started(work: Coroutine[Any, Any, None]) -> None:
    work.close()
    raise AssertionError("started work of its own")


def test_an_answer_reaches_who_asked_and_only_once() -> None:
    asked, one, other = Asked(nothing_dropped), Waiter(), Waiter()
    first, second = asked.expect(one), asked.expect(other)
    assert (first, second, len(asked)) == (1, 2, 2)
    assert asked.answer(second, ["x", 2], nothing_started)
    assert not asked.answer(second, ["again"], nothing_started)
    assert asked.answer(first, [], nothing_started)
    assert (one.answers, other.answers) == ([()], [("x", 2)])
    assert len(asked) == 0


@pytest.mark.parametrize("id", [0, -1, 2, 2**31])
def test_an_answer_that_nobody_asked_for_disturbs_nobody(id: int) -> None:
    asked, waiter = Asked(nothing_dropped), Waiter()
    asked.expect(waiter)
    assert not asked.answer(id, ["stray"], nothing_started)
    assert waiter.answers == []
    assert len(asked) == 1


def test_an_id_is_never_used_twice() -> None:
    asked = Asked(nothing_dropped)
    ids = []
    for _ in range(5):
        ids.append(asked.expect(Waiter()))
        asked.answer(ids[-1], [], nothing_started)
    assert ids == [1, 2, 3, 4, 5]


def test_a_callback_that_raises_is_logged_and_answered_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("of the application")

    asked = Asked(nothing_dropped)
    assert asked.answer(asked.expect(fail), [], nothing_started)
    assert "an acknowledgement callback failed" in caplog.text


def test_a_callback_that_takes_other_arguments_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """How many there are is the client's to say."""
    asked = Asked(nothing_dropped)
    assert asked.answer(asked.expect(lambda one: one), [1, 2, 3], nothing_started)
    assert "an acknowledgement callback failed" in caplog.text


def test_a_coroutine_function_is_started_beside_and_its_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []

    async def hear(word: str) -> None:
        heard.append(word)
        raise RuntimeError("later")

    asked = Asked(nothing_dropped)
    started: list[Coroutine[Any, Any, None]] = []
    assert asked.answer(asked.expect(hear), ["x"], started.append)
    assert heard == []
    asyncio.run(started[0])
    assert heard == ["x"]
    assert "an acknowledgement callback failed" in caplog.text


def test_a_coroutine_function_that_succeeds_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def hear(*_: Any) -> None:
        return None

    asked = Asked(nothing_dropped)
    started: list[Coroutine[Any, Any, None]] = []
    asked.answer(asked.expect(hear), [], started.append)
    asyncio.run(started[0])
    assert caplog.text == ""


def test_the_end_is_told_to_everybody_who_waits_and_can_hear_it() -> None:
    asked, waiters, deaf = Asked(nothing_dropped), [Waiter() for _ in range(3)], [0]
    for waiter in waiters:
        asked.expect(waiter)
    asked.expect(lambda: deaf)
    asked.answer(1, [], nothing_started)
    asked.abandon()
    asked.abandon()
    assert [waiter.given_up for waiter in waiters] == [0, 1, 1]
    assert len(asked) == 0
    assert not asked.answer(2, ["late"], nothing_started)


def test_who_minds_that_nothing_is_read_is_told_once_and_a_late_answer_is_no_fault() -> None:
    asked, waiter, patient = Asked(nothing_dropped), Waiter(), list[Any]()
    first, second = asked.expect(waiter), asked.expect(patient.append)
    block([None, asked])
    block([asked])
    third = asked.expect(waiter)
    assert waiter.not_read == 1
    for id in (first, second, third):
        assert asked.answer(id, [id], nothing_started)
        assert not asked.answer(id, [id], nothing_started)
    assert (patient, waiter.answers) == ([second], [(third,)])
    asked.abandon()
    assert waiter.given_up == 0


def test_who_was_told_already_is_not_told_again_when_the_client_goes() -> None:
    asked, waiter = Asked(nothing_dropped), Waiter()
    asked.expect(waiter)
    asked.block()
    asked.abandon()
    assert (waiter.not_read, waiter.given_up) == (1, 0)


def test_over_the_limit_the_oldest_is_given_up_and_counted() -> None:
    drops: Counter[str] = Counter()
    asked, waiters = Asked(lambda reason: drops.update([reason])), [Waiter() for _ in range(CALLBACK_LIMIT + 2)]
    ids = [asked.expect(waiter) for waiter in waiters]
    assert len(asked) == CALLBACK_LIMIT
    assert drops == {"callback": 2}
    assert [waiter.given_up for waiter in waiters[:4]] == [1, 1, 0, 0]
    assert not asked.answer(ids[1], [], nothing_started)
    assert asked.answer(ids[2], [], nothing_started)
    assert asked.answer(ids[-1], [], nothing_started)


@given(st.lists(st.one_of(st.none(), st.integers(-1, 12)), max_size=40))
def test_each_callback_hears_one_answer_or_that_none_will_come(script: list[int | None]) -> None:
    asked, waiters = Asked(nothing_dropped), [Waiter()]
    for step in script:
        if step is None:
            assert asked.expect(waiters[-1]) == len(waiters)
            waiters.append(Waiter())
        else:
            before = [list(waiter.answers) for waiter in waiters]
            if not asked.answer(step, [step], nothing_started):
                assert [waiter.answers for waiter in waiters] == before
    asked.abandon()
    for number, waiter in enumerate(waiters[:-1], 1):
        assert (waiter.answers, waiter.given_up) in (([(number,)], 0), ([], 1))
