from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from realtime.encoding.codecs import NOOP_FRAME, Encoded, text
from realtime.session.leaving import CLIENT_BYTES, KEEP_SECONDS, OVERTAKEN_SECONDS, Leaving


def words(count: int = 2) -> Sequence[Encoded]:
    return [text(f"41/{number}") for number in range(count)]


def test_last_words_are_said_once() -> None:
    leaving, last = Leaving(), words()
    assert leaving.keep("a", last, now=0) == 0
    assert leaving.waits_for("a", now=1)
    assert leaving.claim("a", now=1) is last
    assert leaving.claim("a", now=1) is None
    assert not leaving.waits_for("a", now=1)


def test_who_was_ended_is_known_for_a_short_time_and_not_too_many_are() -> None:
    leaving = Leaving(packets=2)
    for now, id in enumerate("abc"):
        leaving.end(id, now)
    assert [leaving.has_ended(id, now=2) for id in "abcd"] == [False, True, True, False]
    assert not leaving.has_ended("b", now=1 + KEEP_SECONDS)


def test_a_poll_that_its_good_bye_has_overtaken_is_answered_once_and_soon() -> None:
    leaving = Leaving()
    for id in "ab":
        leaving.overtake(id, now=0)
    assert leaving.waits_for("a", now=1)
    assert leaving.claim("a", now=1) == (NOOP_FRAME,)
    assert leaving.claim("a", now=1) is None
    assert not leaving.waits_for("a", now=1)
    assert not leaving.waits_for("b", now=OVERTAKEN_SECONDS)
    assert leaving.claim("b", now=OVERTAKEN_SECONDS) is None
    assert not leaving.has_ended("a", now=1), "it ended itself"


def test_who_was_never_here_is_told_nothing() -> None:
    leaving = Leaving()
    leaving.keep("a", words(), now=0)
    assert leaving.claim("b", now=0) is None
    assert not leaving.waits_for("b", now=0)


def test_they_are_kept_for_a_short_time() -> None:
    leaving = Leaving()
    leaving.keep("a", words(), now=0)
    leaving.keep("b", words(), now=1)
    assert leaving.claim("a", now=KEEP_SECONDS) is None
    assert leaving.claim("b", now=KEEP_SECONDS) is not None


def test_whoever_comes_later_clears_away_what_is_over() -> None:
    leaving = Leaving()
    for id in "abc":
        leaving.keep(id, words(), now=0)
    leaving.keep("d", words(), now=KEEP_SECONDS)
    assert len(leaving) == 1


def test_over_the_bound_the_oldest_give_way() -> None:
    leaving = Leaving(packets=5)
    assert [leaving.keep(id, words(), now=0) for id in "abc"] == [0, 0, 1]
    assert [leaving.waits_for(id, now=0) for id in "abc"] == [False, True, True]
    assert leaving.keep("long", words(6), now=0) == 3, "and what is longer than all of it is not kept at all"
    assert len(leaving) == 0


def test_what_waited_for_a_client_is_kept_up_to_a_bound() -> None:
    leaving, last = Leaving(), words()
    leaving.keep("a", [text("x" * CLIENT_BYTES), text("y" * 100), *last], now=0)
    kept = leaving.claim("a", now=0)
    assert kept is not None
    assert [each.size for each in kept] == [100, *(each.size for each in last)]
    alone = [text("x" * 2 * CLIENT_BYTES)]
    leaving.keep("b", alone, now=0)
    assert leaving.claim("b", now=0) == alone


def test_over_the_bound_in_bytes_the_oldest_give_way() -> None:
    leaving = Leaving(size_bytes=1_000)
    assert [leaving.keep(id, [text("x" * 400)], now=0) for id in "abc"] == [0, 0, 1]
    assert leaving.claim("b", now=0) is not None
    assert leaving.keep("d", [text("x" * 400)], now=0) == 0, "what was claimed counts no longer"
    assert [leaving.waits_for(id, now=0) for id in "abcd"] == [False, False, True, True]


@given(st.lists(st.tuples(st.sampled_from("kc"), st.sampled_from("abcdef"), st.integers(1, 4), st.integers(0, 30))))
def test_there_is_never_more_than_may_be(moves: list[tuple[str, str, int, int]]) -> None:
    leaving, now, kept = Leaving(packets=8), 0, {}
    for number, (move, id, count, later) in enumerate(moves):
        now += later
        if move == "k":
            name = f"{id}{number}"  # a session ends once
            kept[name] = count
            leaving.keep(name, words(count), now)
        else:
            for name in [each for each in kept if each.startswith(id)]:
                found = leaving.claim(name, now)
                assert found is None or len(found) == kept[name]
        assert sum(count for name, count in kept.items() if leaving.waits_for(name, now=0)) <= 8
