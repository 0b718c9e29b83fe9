from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from realtime.journal.log import ENTRY_BYTES, SWEEP, Log
from realtime.journal.positions import Channel, Draft, Position

ROOMS = st.one_of(st.none(), st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True).map(tuple))


def draft(number: int, rooms: tuple[str, ...] | None = ("a",), body: bytes = b"[]") -> Draft:
    return Draft(("n", number), "/chat", rooms, (), "e", body, 0)


def test_offsets_grow_by_one_and_an_id_is_kept_once() -> None:
    log = Log("e")
    first, second = log.append(draft(1), 0), log.append(draft(2), 0)
    assert log.append(draft(1), 5) == first
    assert (first.position, second.position, log.newest) == (Position("e", 1), Position("e", 2), Position("e", 2))
    assert log.since(Position("e", 0)) == [first, second]
    assert log.since(Position("e", 2)) == []


@given(st.lists(ROOMS, max_size=40))
def test_previous_names_the_entry_of_the_channel_before(targets: list[tuple[str, ...] | None]) -> None:
    log, newest = Log("e"), dict.fromkeys([None, "a", "b", "c"], 0)
    for number, rooms in enumerate(targets, 1):
        entry = log.append(draft(number, rooms), 0)
        assert entry.previous == tuple(newest[channel] for channel in entry.draft.channels)
        newest |= dict.fromkeys(entry.draft.channels, number)
    assert [log.head(channel) for channel in newest] == list(newest.values())
    assert log.newest_of(["a", None]) == max(newest["a"], newest[None])
    assert log.newest_of([]) == 0


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2_000)), min_size=1, max_size=60),
    st.integers(1, 10),
    st.integers(1, 40),
    st.integers(ENTRY_BYTES, 5 * ENTRY_BYTES),
)
def test_bounded_in_number_age_and_bytes(
    steps: list[tuple[int, int]], entries: int, seconds: int, size_bytes: int
) -> None:
    log, now, all_entries = Log("e", entries=entries, seconds=seconds, size_bytes=size_bytes), 0, []
    times = []
    for number, (passed, length) in enumerate(steps, 1):
        now += passed
        all_entries.append(log.append(draft(number, body=b"x" * length), now))
        times.append(now)
        assert len(log) <= entries
        assert len(log) == 1 or log.size <= size_bytes
        assert len(log) == 1 or times[log.oldest] > now - seconds
        assert log.size >= 0
    for offset in range(len(steps) + 2):
        found = log.since(Position("e", offset))
        if log.oldest <= offset <= log.last:
            assert found == all_entries[offset:]
        else:
            assert found is None


def test_another_epoch_and_the_future_are_not_ours() -> None:
    log = Log("e")
    log.append(draft(1), 0)
    assert log.since(Position("other", 1)) is None
    assert log.since(Position("e", 2)) is None


def test_an_id_that_was_trimmed_is_new_again() -> None:
    log = Log("e", entries=2)
    for number in (1, 2, 3):
        log.append(draft(number), 0)
    assert log.append(draft(1), 0).offset == 4


def test_the_head_of_a_watched_channel_outlives_its_entry() -> None:
    watched: set[Channel] = {"kept"}
    log = Log("e", entries=2, watched=lambda channel: channel in watched)
    for number, room in enumerate(["kept", "gone", "x", "x"], 1):
        log.append(draft(number, (room,)), 0)
    assert (log.head("kept"), log.head("gone"), log.head("x")) == (1, 0, 4)


def test_heads_of_channels_that_nobody_watches_any_more_are_swept() -> None:
    watched: set[Channel] = {f"r{number}" for number in range(2 * SWEEP)}
    log = Log("e", entries=2, watched=lambda channel: channel in watched)
    for number in range(2 * SWEEP):
        log.append(draft(number + 1, (f"r{number}",)), 0)
    assert log.head("r0") == 1
    watched.clear()
    for number in range(2 * SWEEP, 5 * SWEEP):
        log.append(draft(number + 1, ("x",)), 0)
    assert log.head("r0") == 0
    assert log.head("x") == 5 * SWEEP


def test_many_watched_channels_are_not_looked_at_for_every_entry() -> None:
    asked: list[Channel] = []
    log = Log("e", entries=2, watched=lambda channel: not asked.append(channel))  # type: ignore[func-returns-value]
    for number in range(2 * SWEEP):
        log.append(draft(number + 1, (f"r{number}",)), 0)
    asked.clear()
    for number in range(2 * SWEEP, 3 * SWEEP):
        log.append(draft(number + 1, ("x",)), 0)
    assert len(asked) < 5 * SWEEP
    assert log.head("r0") == 1


@given(
    st.lists(ROOMS, max_size=40),
    st.sets(st.sampled_from([None, "a", "b", "c"])),
    st.integers(0, 40),
    st.integers(1, 40),
)
def test_of_some_channels_is_what_all_of_it_has_of_them(
    targets: list[tuple[str, ...] | None], channels: set[Channel], start: int, entries: int
) -> None:
    log = Log("e", entries=entries, watched=lambda channel: channel == "a")
    for number, rooms in enumerate(targets, 1):
        log.append(draft(number, rooms), 0)
    position = Position("e", start)
    everything, some = log.since(position), log.since_in(channels, position)
    if everything is None:
        assert some is None
    else:
        assert some is not None
        assert list(some) == [entry for entry in everything if channels & set(entry.draft.channels)]


def test_what_a_silent_channel_missed_is_not_looked_for_in_the_whole_log() -> None:
    log = Log("e")
    for number in range(1, 1_001):
        log.append(draft(number, ("b",) if number % 500 else ("a",)), 0)
    made = Counting(log)
    assert [entry.offset for entry in log.since_in(["a"], Position("e", 0)) or ()] == [500, 1_000]
    assert made.looked_at == 2


def test_who_missed_the_same_is_answered_from_one_passage() -> None:
    log = Log("e", entries=4)
    for number, room in enumerate("abab", 1):
        log.append(draft(number, (room,)), 0)
    found = log.since_in([None, "sid", "a"], Position("e", 0))
    assert found is not None
    assert found is log.since_in(["another", "a"], Position("e", 0), 4), "nothing was said in what they do not share"
    log.append(draft(5, ("b",))._replace(skip=("x",)), 0)
    assert log.since_in(["a"], Position("e", 0)) is None, "the first is gone"
    fresh = log.since_in(["b"], Position("e", 1))
    assert fresh is not None
    assert ([each.offset for each in fresh], fresh.last, set(fresh.skipped)) == ([2, 4, 5], 5, {"x"})
    assert [each.offset for each in found] == [1, 3], "who holds it has it"


class Counting(deque[Any]):
    """Takes the place of what a log has kept, and counts what is looked at."""

    def __init__(self, log: Log) -> None:
        super().__init__(log._kept)
        self.looked_at = 0
        log._kept = self

    def __getitem__(self, index: Any) -> Any:
        self.looked_at += 1
        return super().__getitem__(index)
