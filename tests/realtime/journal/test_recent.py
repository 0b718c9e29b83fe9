from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from realtime.journal.recent import Recent

MOST, SECONDS = 5, 10.0
STEPS = st.lists(st.tuples(st.integers(0, 8), st.floats(0, 6)), max_size=60)


@given(STEPS)
def test_it_answers_the_newest_of_the_last_seconds_and_never_grows(steps: list[tuple[int, float]]) -> None:
    recent: Recent[int] = Recent(MOST, SECONDS)
    put: dict[int, tuple[float, int]] = {}
    now = 0.0
    for number, (key, pause) in enumerate(steps):
        now += pause
        put[key] = (now, number)
        recent.put(key, number, now)
        assert 1 <= len(recent) <= MOST
        kept = [each for each in sorted(put, key=lambda each: put[each])[-MOST:] if put[each][0] > now - SECONDS]
        for each in put:
            assert recent.get(each, now) == (put[each][1] if each in kept else None)


def test_an_answer_is_forgotten_when_its_time_is_up() -> None:
    recent: Recent[str] = Recent(MOST, SECONDS)
    recent.put("key", "answer", 100.0)
    assert recent.get("key", 109.9) == "answer"
    assert recent.get("key", 110.0) is None


def test_the_oldest_gives_way() -> None:
    recent: Recent[int] = Recent(2, SECONDS)
    for number in range(3):
        recent.put(number, number, float(number))
    assert [recent.get(number, 3.0) for number in range(3)] == [None, 1, 2]


def test_forgetting() -> None:
    recent: Recent[int] = Recent()
    recent.put("key", 1, 0.0)
    recent.forget("key")
    recent.forget("key")
    assert recent.get("key", 0.0) is None
    assert len(recent) == 0


def test_a_key_put_again_is_young_again() -> None:
    recent: Recent[int] = Recent(2, SECONDS)
    for key in ("a", "b", "a", "c"):
        recent.put(key, 1, 0.0)
    assert [recent.get(key, 0.0) for key in ("a", "b", "c")] == [1, None, 1]
