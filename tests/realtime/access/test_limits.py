from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.access.limits import Gcra, Quota, SlidingWindow, parse_rate
from realtime.errors import UsageError

THREADS = 4


@pytest.fixture
def hasty_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that change places as often as the interpreter lets them."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            yield pool
    finally:
        sys.setswitchinterval(usual)


steps = st.floats(0, 5, allow_nan=False)
starts = st.floats(-1_000, 1_000_000)


@pytest.mark.parametrize(
    ("text", "count", "seconds"),
    [
        ("20/10s", 20, 10.0),
        ("100/s", 100, 1.0),
        ("5/1m", 5, 60.0),
        ("3/m", 3, 60.0),
        ("1000/2h", 1000, 7200.0),
        ("1/0.5s", 1, 0.5),
    ],
)
def test_a_rate_is_read(text: str, count: int, seconds: float) -> None:
    assert parse_rate(text) == (count, seconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", "20", "20/", "/10s", "20/10", "20/10d", "0/10s", "20/0s", "-1/s", "1.5/s", "20/10s ", "20/10s\n"),
        *("20 / 10s", "٢/s", "1e9/s", "1/.5s", "9" * 5_000 + "/s"),
    ],
)
def test_nonsense_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="20/10s"):
        parse_rate(text)


def test_a_rate_that_is_no_text_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        parse_rate(20)  # type: ignore[arg-type]


@given(st.text(max_size=20))
def test_any_text_is_a_rate_or_a_usage_error(text: str) -> None:
    try:
        count, seconds = parse_rate(text)
    except UsageError:
        return
    assert count >= 1
    assert seconds > 0


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0), (math.inf, 1), (math.nan, 1)])
def test_gcra_refuses_senseless_settings(rate: float, burst: int) -> None:
    with pytest.raises(UsageError):
        Gcra(rate, burst)


def test_gcra_lets_a_burst_through_then_one_for_each_interval() -> None:
    limit = Gcra(10, 5)
    assert [limit.hit(100.0) for _ in range(5)] == [None] * 5
    assert limit.hit(100.0) == pytest.approx(0.1)
    assert limit.hit(100.0) == pytest.approx(0.1), "a refused hit consumes nothing"
    assert limit.hit(100.05) == pytest.approx(0.05)
    assert limit.hit(100.1) is None
    assert limit.hit(100.1) == pytest.approx(0.1)


def test_gcra_counts_the_cost() -> None:
    limit = Gcra(10, 10)
    assert limit.hit(0.0, 8) is None
    assert limit.hit(0.0, 3) == pytest.approx(0.1)
    assert limit.hit(0.0, 2) is None
    assert limit.hit(1e9, 11) == math.inf, "more than the burst never fits"
    assert limit.hit(1e9, 10) is None


def test_gcra_forgets_after_a_pause_and_saves_up_no_more_than_a_burst() -> None:
    limit = Gcra(1, 3)
    assert [limit.hit(0.0) for _ in range(4)].count(None) == 3
    assert [limit.hit(1e6) for _ in range(10)].count(None) == 3


@pytest.mark.parametrize("burst", [1, 7, 10, 100, 1000])
@pytest.mark.parametrize("now", [0.0, 12345.678, 1.7e9])
def test_gcra_loses_no_event_of_a_full_burst_to_rounding(burst: int, now: float) -> None:
    limit = Gcra(0.3, burst)
    assert [limit.hit(now) for _ in range(burst + 1)].count(None) == burst


def test_gcra_grows_stricter_not_wider_when_the_clock_steps_back() -> None:
    limit = Gcra(1, 1)
    assert limit.hit(1_000.0) is None
    assert limit.hit(500.0) == pytest.approx(501)
    assert limit.hit(1_001.0) is None


@given(st.floats(0.1, 1_000), st.integers(1, 50), starts, st.lists(st.tuples(steps, st.integers(1, 5)), max_size=80))
def test_gcra_never_lets_more_through_than_burst_and_rate(
    rate: float, burst: int, now: float, moves: list[tuple[float, int]]
) -> None:
    limit = Gcra(rate, burst)
    allowed: list[tuple[float, int]] = []
    for step, cost in moves:
        now += step
        wait = limit.hit(now, cost)
        if wait is None:
            allowed.append((now, cost))
        elif wait == math.inf:
            assert cost > burst
        else:
            assert wait > 0
    for first in range(len(allowed)):
        total = 0
        for when, cost in allowed[first:]:
            total += cost
            assert total <= burst + rate * (when - allowed[first][0]) + 1e-3


@given(st.floats(0.1, 1_000), st.integers(1, 50), starts, st.integers(1, 50))
def test_gcra_tells_the_shortest_wait(rate: float, burst: int, now: float, cost: int) -> None:
    limit = Gcra(rate, burst)
    while (wait := limit.hit(now, min(cost, burst))) is None:
        pass
    assert limit.hit(now + wait * 0.99 - 1e-6, min(cost, burst)) is not None
    assert limit.hit(now + wait + 1e-6, min(cost, burst)) is None


@pytest.mark.parametrize(
    ("limit", "seconds", "keys"), [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, math.inf, 1), (1, math.nan, 1)]
)
def test_a_window_refuses_senseless_settings(limit: int, seconds: float, keys: int) -> None:
    with pytest.raises(UsageError):
        SlidingWindow(limit, seconds, keys)


def test_ten_in_any_sixty_seconds_means_ten() -> None:
    window = SlidingWindow(10, 60)
    assert [window.hit("alice", 55.0 + n) for n in range(10)] == [None] * 10
    # A counter that starts anew at each full minute would let ten more through here.
    assert window.hit("alice", 65.0) == pytest.approx(50.0)
    assert window.hit("bob", 65.0) is None
    assert window.hit("alice", 114.9) == pytest.approx(0.1)
    assert window.hit("alice", 115.0) is None, "refused hits were not counted"
    assert window.hit("alice", 115.0) == pytest.approx(1.0)


def test_a_window_forgets_keys_without_hits() -> None:
    window = SlidingWindow(2, 10)
    for number in range(100):
        window.hit(f"key {number}", 0.0)
        window.hit(f"key {number}", float(number % 2))
    assert len(window) == 100
    for _ in range(60):
        window.hit("another", 50.0)
    assert len(window) == 1
    assert window.forgotten == 0, "nothing that still counted was given up"


def test_a_key_that_was_at_its_limit_and_came_back_is_counted_afresh() -> None:
    window = SlidingWindow(2, 10)
    assert window.hit("a", 0.0) is window.hit("a", 1.0) is None
    assert window.hit("a", 10.5) is None
    assert window.hit("a", 10.9) == pytest.approx(0.1)
    assert window.hit("b", 30.0) is window.hit("a", 30.0) is window.hit("a", 30.0) is None
    assert window.hit("a", 30.0) == pytest.approx(10.0)


def test_a_flood_of_new_keys_frees_no_limited_key_and_locks_nobody_out() -> None:
    window = SlidingWindow(3, 60, max_keys=50)
    for _ in range(3):
        assert window.hit("limited", 0.0) is None
    for number in range(1_000):
        assert window.hit(f"flood {number}", number / 100) is None
    assert len(window) == 50
    assert window.forgotten == 951
    assert window.hit("limited", 10.0) == pytest.approx(50.0)
    assert window.hit("newcomer", 10.0) is None
    assert window.turned_away == 0


def test_where_every_key_is_at_its_limit_a_new_one_waits_for_the_first_to_leave() -> None:
    window = SlidingWindow(1, 60, max_keys=3)
    assert [window.hit(key, now) for now, key in enumerate("abc")] == [None] * 3
    assert window.hit("d", 10.0) == pytest.approx(50.0)
    assert (window.turned_away, window.forgotten, len(window)) == (1, 0, 3)
    assert window.hit("d", 60.0) is None


@given(
    st.integers(1, 4),
    st.floats(0.5, 20),
    starts,
    st.lists(st.tuples(steps, st.sampled_from("abcdef")), max_size=120),
)
def test_a_window_agrees_with_the_plain_definition(
    limit: int, seconds: float, now: float, moves: list[tuple[float, str]]
) -> None:
    window = SlidingWindow(limit, seconds)
    kept: dict[str, list[float]] = defaultdict(list)
    for step, key in moves:
        now += step
        inside = [when for when in kept[key] if when > now - seconds]
        wait = window.hit(key, now)
        assert (wait is None) == (len(inside) < limit)
        if wait is None:
            kept[key].append(now)
        else:
            assert wait == pytest.approx(inside[0] + seconds - now, abs=1e-6)
    live = sum(1 for hits in kept.values() if hits and hits[-1] > now - seconds)
    assert len(window) >= live


@given(st.integers(1, 3), st.integers(1, 5), st.lists(st.tuples(steps, st.integers(0, 20)), max_size=200))
def test_a_full_window_keeps_its_size_and_its_refusals(limit: int, keys: int, moves: list[tuple[float, int]]) -> None:
    window = SlidingWindow(limit, 10, keys)
    now = 0.0
    free_at: dict[int, float] = {}
    hits: dict[int, list[float]] = defaultdict(list)
    for step, key in moves:
        now += step
        wait = window.hit(str(key), now)
        assert len(window) <= keys
        if wait is None:
            assert now >= free_at.get(key, -math.inf) - 1e-9, "a refused key was freed before its time"
            hits[key].append(now)
        else:
            assert 0 < wait < 10 + 1e-9
            if len([when for when in hits[key] if when > now - 10]) >= limit:
                free_at[key] = now + wait


def test_forgetting_is_spread_over_the_hits() -> None:
    window = SlidingWindow(5, 10)
    for number in range(1_000):
        window.hit(str(number), 0.0)
    sizes = []
    for _ in range(5):
        window.hit("one", 20.0)
        sizes.append(len(window))
    assert all(0 < before - after <= 4 for before, after in pairwise(sizes))


def test_a_window_is_exact_over_several_threads(hasty_threads: ThreadPoolExecutor) -> None:
    window = SlidingWindow(3, 10)
    for number in range(4_000):
        window.hit(f"old {number}", 0.0)

    def hits(_: int) -> list[float | None]:
        return [window.hit(str(number), 50.0) for number in range(2_000) for _ in range(2)]

    found = [wait for each in hasty_threads.map(hits, range(THREADS), timeout=30) for wait in each]
    assert found.count(None) == 2_000 * 3
    assert len(window) == 2_000


def test_a_quota_is_exact_over_several_threads(hasty_threads: ThreadPoolExecutor) -> None:
    quota = Quota(THREADS - 1)

    def moves(_: int) -> bool:
        return all(quota.give("alice") for _ in range(20_000) if quota.take("alice"))

    assert all(hasty_threads.map(moves, range(THREADS), timeout=30))
    assert (quota.count("alice"), len(quota)) == (0, 0)


def test_a_quota_is_taken_and_given_back() -> None:
    quota = Quota(2)
    assert [quota.take("alice") for _ in range(3)] == [True, True, False]
    assert quota.take("bob")
    assert quota.count("alice") == 2
    assert quota.give("alice")
    assert quota.take("alice")
    assert quota.give("bob")
    assert len(quota) == 1


def test_a_quota_never_goes_below_zero() -> None:
    quota = Quota(1)
    assert not quota.give("alice")
    assert quota.take("alice")
    assert quota.give("alice")
    assert not quota.give("alice")
    assert (quota.count("alice"), len(quota)) == (0, 0)
    assert quota.take("alice")
    assert not quota.take("alice")


def test_a_quota_without_a_limit_counts_only() -> None:
    quota = Quota(None)
    assert all(quota.take("alice") for _ in range(1_000))
    assert quota.count("alice") == 1_000


@pytest.mark.parametrize("limit", [0, -1])
def test_a_quota_refuses_a_senseless_limit(limit: int) -> None:
    with pytest.raises(UsageError):
        Quota(limit)


@given(st.integers(1, 4), st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=100))
def test_a_quota_agrees_with_a_plain_count(limit: int, moves: list[tuple[bool, str]]) -> None:
    quota, out = Quota(limit), dict.fromkeys("abc", 0)
    for take, key in moves:
        if take:
            assert quota.take(key) == (out[key] < limit)
            out[key] = min(limit, out[key] + 1)
        else:
            assert quota.give(key) == (out[key] > 0)
            out[key] = max(0, out[key] - 1)
        assert quota.count(key) == out[key]
    assert len(quota) == sum(1 for count in out.values() if count)
