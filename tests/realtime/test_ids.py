from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.ids import ALPHABET, RANDOM_BITS, make_id, new_id, now_iso

milliseconds = st.integers(0, (1 << 48) - 1)
randoms = st.integers(0, (1 << RANDOM_BITS) - 1)


@given(one=st.tuples(milliseconds, randoms), other=st.tuples(milliseconds, randoms))
def test_ids_sort_as_their_numbers_do(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (make_id(*one) < make_id(*other)) is (one < other)
    assert (make_id(*one) == make_id(*other)) is (one == other)


@given(milliseconds, randoms)
def test_an_id_is_26_characters_that_are_safe_anywhere(when: int, random: int) -> None:
    made = make_id(when, random)
    assert len(made) == 26
    assert set(made) <= set(ALPHABET)
    number = 0
    for letter in made:
        number = number * 32 + ALPHABET.index(letter)
    assert number == when << RANDOM_BITS | random


def test_new_ids_only_grow_also_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [new_id() for _ in range(500)]
    now = time.time_ns()
    monkeypatch.setattr("realtime.ids.time.time_ns", lambda: now - 3_600_000_000_000)
    made += [new_id() for _ in range(500)]
    assert made == sorted(set(made))


def test_new_ids_of_many_threads_are_all_different() -> None:
    made: list[str] = []

    def work() -> None:
        made.extend([new_id() for _ in range(500)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(set(made)) == 4000


def test_an_id_tells_its_time() -> None:
    before = time.time_ns() // 1_000_000
    made = new_id()
    after = time.time_ns() // 1_000_000
    assert make_id(before, 0) <= made <= make_id(after + 1, 0)


def test_now_is_utc_in_milliseconds_with_a_z() -> None:
    told = now_iso()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(told)) < timedelta(seconds=5)
