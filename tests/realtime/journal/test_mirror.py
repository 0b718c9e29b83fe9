from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

from realtime.journal.log import Log
from realtime.journal.mirror import Mirror
from realtime.journal.positions import Channel, Draft, Entry, Position


def entry(offset: int, *rooms: str, epoch: str = "e", size: int = 1) -> Entry:
    draft = Draft(("n", offset), "/", rooms or None, (), "e", b'["' + b"x" * size + b'"]', 1)
    return Entry(draft, Position(epoch, offset), (0,) * len(draft.channels))


def mirror(*channels: Channel, start: int = 0, **bounds: Any) -> Mirror:
    made = Mirror("e", **bounds)
    for channel in channels:
        made.watch(channel, start)
    return made


def offsets(found: Iterable[Entry] | None) -> list[int] | None:
    return None if found is None else [each.offset for each in found]


def test_it_has_what_came_out_and_says_from_where_on() -> None:
    mine = mirror(None, "a", start=10)
    for each in (entry(12, "a"), entry(15), entry(20, "a", "b")):
        mine.add(each, 0.0)
    assert (mine.newest, mine.head("a"), mine.head(None), mine.head("b")) == (Position("e", 20), 20, 15, 20)
    assert mine.newest_of(["a", None]) == 20
    assert offsets(mine.since_in(["a", None], Position("e", 10))) == [12, 15, 20]
    assert offsets(mine.since_in(["a"], Position("e", 12), 19)) == []
    assert offsets(mine.since_in(["a"], Position("e", 9))) is None, "it was not watched then"
    assert offsets(mine.since_in(["b"], Position("e", 20))) is None, "it is not watched"
    assert offsets(mine.since_in(["a"], Position("f", 12))) is None
    assert offsets(mine.since_in(["a"], Position("e", 21))) is None, "that is elsewhere"
    mine.reach(21)
    assert offsets(mine.since_in(["a"], Position("e", 21))) == []


def test_a_channel_may_matter_from_a_later_offset_on() -> None:
    mine = mirror(None)
    mine.add(entry(1), 0.0)
    mine.watch("a", 5)
    mine.add(entry(6, "a"), 0.0)
    assert mine.since_in([None, "a"], Position("e", 0)) is None
    assert offsets(mine.since_in({None: 0, "a": 5}, Position("e", 0))) == [1, 6]
    assert mine.since_in({None: 0, "a": 4}, Position("e", 0)) is None


def test_late_ones_find_their_place_and_repeats_are_nothing() -> None:
    mine = mirror("a")
    for offset in (1, 4, 3, 3, 2):
        mine.add(entry(offset, "a"), 0.0)
    assert offsets(mine.since_in(["a"], Position("e", 0))) == [1, 2, 3, 4]
    assert (len(mine), mine.last, mine.head("a")) == (4, 4, 4)


@pytest.mark.parametrize("bounds", [{"entries": 3}, {"seconds": 3.0}, {"size_bytes": 2_000}])
def test_what_is_over_the_bounds_is_gone_and_said(bounds: dict[str, Any]) -> None:
    mine = mirror("a", **bounds)
    for offset in range(1, 11):
        mine.add(entry(offset, "a", size=40), float(offset))
    assert 1 <= len(mine) <= 3
    oldest = mine.oldest
    assert mine.since_in(["a"], Position("e", oldest - 1)) is None
    assert offsets(mine.since_in(["a"], Position("e", oldest))) == list(range(oldest + 1, 11))
    assert mine.head("a") == 10
    mine.add(entry(oldest, "a"), 11.0)
    assert mine.since_in(["a"], Position("e", oldest - 1)) is None


def test_a_single_one_stays_however_large() -> None:
    mine = mirror("a", size_bytes=100)
    mine.add(entry(1, "a", size=1_000), 0.0)
    assert len(mine) == 1


def test_what_was_not_watched_for_a_time_is_not_all_there() -> None:
    mine = mirror("a")
    mine.add(entry(1, "a"), 0.0)
    mine.unwatch("a")
    mine.watch("a", 5)
    mine.reach(5)
    assert mine.since_in(["a"], Position("e", 1)) is None
    assert offsets(mine.since_in(["a"], Position("e", 5))) == []


def test_what_is_lost_is_not_passed_over() -> None:
    mine = mirror("a", "b")
    mine.add(entry(1, "a"), 0.0)
    mine.reach(9)
    mine.tear(["a", "unknown"], 9)
    assert mine.since_in(["a"], Position("e", 1)) is None
    assert offsets(mine.since_in(["b"], Position("e", 1))) == []


def test_another_log_begins_and_is_read_from_its_beginning() -> None:
    mine = mirror("a", start=7)
    mine.add(entry(8, "a"), 0.0)
    mine.turn("f")
    mine.add(entry(9, "a"), 0.0)
    assert (mine.newest, len(mine), mine.size) == (Position("f", 0), 0, 0)
    mine.add(entry(1, "a", epoch="f"), 0.0)
    assert offsets(mine.since_in(["a"], Position("f", 0))) == [1]


def test_heads_of_what_is_watched_stay_and_others_go_with_their_entries() -> None:
    mine = mirror("a", entries=1)
    mine.add(entry(1, "a", "b"), 0.0)
    mine.add(entry(2, "c"), 0.0)
    assert (mine.head("a"), mine.head("b"), mine.head("c")) == (1, 0, 2)


@pytest.mark.parametrize("seed", range(30))
def test_it_answers_what_the_log_answers(seed: int) -> None:
    """Of channels that are watched from the beginning, with the same entries and no bounds in the way."""
    choice = random.Random(seed)
    log, mine = Log("e"), mirror(None, "a", "b")
    for number in range(60):
        rooms: Iterable[str] = choice.choice([(), ("a",), ("b",), ("a", "b"), ("c",)])
        kept = log.append(Draft(("n", number), "/", tuple(rooms) or None, (), "e", b"[]", 0), 0.0)
        mine.add(kept, 0.0)
    for _ in range(20):
        channels = choice.sample([None, "a", "b"], choice.randint(1, 3))
        start, upto = Position("e", choice.randint(0, 60)), choice.choice([None, choice.randint(0, 60)])
        assert offsets(mine.since_in(channels, start, upto)) == offsets(log.since_in(channels, start, upto))
    assert [mine.head(channel) for channel in (None, "a", "b")] == [log.head(channel) for channel in (None, "a", "b")]


def test_what_was_found_once_is_not_told_without_what_came_out_late() -> None:
    mine = mirror("a")
    mine.add(entry(1, "a"), 0.0)
    mine.add(entry(4, "a"), 0.0)
    found = mine.since_in(["a"], Position("e", 0))
    assert mine.since_in(["a"], Position("e", 0)) is found
    mine.add(entry(3, "a"), 0.0)
    assert offsets(mine.since_in(["a"], Position("e", 0))) == [1, 3, 4]
    assert offsets(found) == [1, 4]
