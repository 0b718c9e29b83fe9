from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.journal.log import Log
from realtime.journal.merge import SETTLED_SECONDS, Merge, Progress
from realtime.journal.positions import Draft, Entry, Position
from tests.realtime.sea import CHANNELS, Sea, Weather

ROOMS = st.one_of(st.none(), st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True).map(tuple))


def fill(log: Log, *targets: tuple[str, ...] | str | None) -> list[Entry]:
    rooms = [(target,) if isinstance(target, str) else target for target in targets]
    return [log.append(Draft(("n", log.last + 1), "/", each, (), "e", b"[]", 0), 0) for each in rooms]


def merge(*channels: str | None, patience: float = 1.0, limit: int = 100) -> Merge:
    made = Merge(Position("e", 0), patience=patience, limit=limit)
    for channel in channels:
        made.watch(channel, Position("e", 0))
    return made


def offsets(progress: Progress) -> list[int]:
    return [delivery.entry.offset for delivery in progress.deliver]


def test_in_order_everything_comes_out_at_once() -> None:
    mine = merge("a", None)
    for entry in fill(Log("e"), "a", None, ("a", "b"), "a"):
        assert offsets(mine.live(entry, 0)) == [entry.offset]
    assert mine.need(99) is None
    assert mine.upto == 4


def test_other_rooms_numbers_are_no_holes() -> None:
    log, mine = Log("e"), merge("a")
    one, _, _, four = fill(log, "a", "b", None, "a")
    assert offsets(mine.live(one, 0)) + offsets(mine.live(four, 0)) == [1, 4]


def test_what_is_not_watched_is_nothing() -> None:
    mine = merge("a")
    (entry,) = fill(Log("e"), "b")
    assert mine.live(entry, 0) == Progress()
    mine.watch("b", Position("e", 0))
    mine.unwatch("b")
    assert mine.live(entry, 0) == Progress()
    assert mine.seen("b") == 0


def test_a_repeat_comes_out_once() -> None:
    mine = merge("a")
    (entry,) = fill(Log("e"), "a")
    assert offsets(mine.live(entry, 0)) == [1]
    assert offsets(mine.live(entry, 0)) == []


def test_who_came_too_early_waits_and_so_does_everybody_behind() -> None:
    mine = merge("a", "b")
    one, two, three = fill(Log("e"), "a", "a", "b")
    assert offsets(mine.live(two, 0)) == []
    assert offsets(mine.live(three, 0)) == []
    assert offsets(mine.live(one, 0)) == [1, 2, 3]
    assert mine.need(99) is None


def test_when_patience_ends_the_log_is_read_from_the_hole() -> None:
    log, mine = Log("e"), merge("a", patience=1)
    one, two, three = fill(log, "a", "a", "a")
    mine.live(one, 0)
    mine.live(three, 10)
    assert mine.need(10.9) is None
    assert mine.wake_at() == 11
    assert mine.need(11) == Position("e", 1)
    assert mine.wake_at() is None
    assert offsets(mine.stored([two, three], Position("e", 3), 11)) == [2, 3]
    assert mine.need(99) is None


def test_a_long_hole_is_read_page_by_page_and_what_comes_meanwhile_waits() -> None:
    log, mine = Log("e"), merge("a", patience=0)
    entries = fill(log, *["a"] * 6)
    mine.live(entries[4], 0)
    assert mine.need(0) == Position("e", 0)
    assert offsets(mine.live(entries[5], 0)) == []
    assert offsets(mine.stored(entries[:2], Position("e", 2), 0, more=True)) == [1, 2]
    assert mine.need(0) == Position("e", 2)
    assert offsets(mine.stored(entries[2:5], Position("e", 5), 0, more=True)) == [3, 4, 5, 6]


def test_a_hole_that_begins_before_what_was_read() -> None:
    """Nobody knew of the first one when the log was asked from behind it."""
    log, mine = Log("e"), merge("a", "b", patience=0)
    one, two, three, four = fill(log, "b", "a", "b", "a")
    mine.live(two, 0)
    mine.back(Position("e", 4))
    assert mine.need(0) == Position("e", 2)
    assert offsets(mine.stored([three, four], Position("e", 4), 0)) == []
    assert mine.need(0) == Position("e", 0)
    assert offsets(mine.stored([one, two, three, four], Position("e", 4), 0)) == [1, 3, 4]
    assert mine.need(0) is None


def test_a_channel_that_is_watched_later_gets_what_it_has_not_seen() -> None:
    log, mine = Log("e"), merge("a", patience=0)
    (both,) = fill(log, ("a", "b"))
    assert [d.channels for d in mine.live(both, 0).deliver] == [("a",)]
    mine.watch("b", Position("e", 0))  # its answer was under way when the entry came
    (second,) = fill(log, "b")
    mine.live(second, 0)
    assert mine.need(0) == Position("e", 0)
    found = mine.stored([both, second], Position("e", 2), 0)
    assert [(d.entry.offset, d.channels) for d in found.deliver] == [(1, ("b",)), (2, ("b",))]


def test_the_newest_position_of_a_channel_shows_a_lost_last_message() -> None:
    log, mine = Log("e"), merge("a", patience=1)
    (entry,) = fill(log, "a")
    mine.heads({"a": 1, "never watched": 7}, 0)
    assert mine.need(0.5) is None
    assert mine.need(1) == Position("e", 0)
    assert offsets(mine.stored([entry], Position("e", 1), 1)) == [1]
    mine.heads({"a": 1}, 2)
    assert mine.wake_at() is None


def test_what_waits_is_no_lost_last_message() -> None:
    log, mine = Log("e"), merge("a", patience=1)
    _, two = fill(log, "a", "a")
    mine.live(two, 0)
    mine.heads({"a": 2}, 0.5)
    assert mine.wake_at() == 1


def test_what_the_log_has_no_longer_is_said() -> None:
    log, mine = Log("e", entries=1), merge("a", "b", patience=0)
    _, two, three = fill(log, "a", "a", "b")
    mine.live(two, 0)
    mine.live(three, 0)
    assert mine.need(0) == Position("e", 0)
    found = mine.gone(0)
    assert found.lost == {"a", "b"}
    assert offsets(found) == [3]
    assert mine.need(0) is None
    assert mine.gone(0) == Progress()


def test_more_than_the_bound_is_read_from_the_log() -> None:
    log, mine = Log("e"), merge("a", patience=100, limit=3)
    entries = fill(log, *["a"] * 10)
    for entry in entries[1:]:
        mine.live(entry, 0)
    assert mine.need(0) == Position("e", 0)
    assert offsets(mine.stored(entries[:5], Position("e", 5), 0, more=True)) == list(range(1, 6))
    assert mine.need(0) == Position("e", 5), "what was dropped is to be read"
    assert offsets(mine.stored(entries[5:], Position("e", 10), 0)) == list(range(6, 11))
    assert mine.stored(entries, Position("e", 10), 0) == Progress()


def test_another_log_begins_and_the_old_one_is_over() -> None:
    old, new, mine = Log("e"), Log("f"), merge("a", patience=0)
    one, late = fill(old, "a", "a")
    mine.live(one, 0)
    again = new.append(one.draft, 0)
    (other,) = fill(new, "a")
    found = mine.live(other, 0)
    assert (offsets(found), found.lost) == ([], {"a"})
    assert mine.live(late, 0) == Progress()
    assert mine.need(0) == Position("f", 0)
    assert offsets(mine.stored([again, other], Position("f", 2), 0)) == [2], "the first was delivered before"
    assert mine.stored([], Position("e", 9), 0) == Progress()
    assert mine.back(Position("g", 3)).lost == {"a"}
    assert mine.need(0) == Position("g", 0)


def test_after_a_break_the_log_comes_first() -> None:
    log, mine = Log("e"), merge("a")
    one, two, three = fill(log, "a", "a", "a")
    mine.live(one, 0)
    assert mine.back(Position("e", 2)) == Progress()
    assert offsets(mine.live(three, 0)) == []
    assert mine.need(0) == Position("e", 1)
    assert offsets(mine.stored([two], Position("e", 2), 0)) == [2, 3]
    mine.back(Position("e", 3))
    assert mine.need(0) is None, "nothing was missed"


@given(st.lists(ROOMS, max_size=30), st.randoms(use_true_random=False), st.sets(st.sampled_from([None, "a", "b", "c"])))
def test_any_order_with_repeats_gives_each_channel_its_own(
    targets: list[tuple[str, ...] | None], chance: random.Random, channels: set[str | None]
) -> None:
    log, mine = Log("e"), merge(*channels)
    entries = fill(log, *targets)
    arriving = entries + chance.choices(entries, k=10) if entries else []
    chance.shuffle(arriving)
    heard: dict[str | None, list[int]] = {channel: [] for channel in channels}
    for entry in arriving:
        for delivery in mine.live(entry, 0).deliver:
            for channel in delivery.channels:
                heard[channel].append(delivery.entry.offset)
    assert heard == {c: [e.offset for e in entries if c in e.draft.channels] for c in channels}


def storm(seed: int, weather: Weather, **bounds: int) -> Sea:
    sea = Sea(seed, weather, **bounds)
    chance = sea.random
    for shore in sea.shores:
        for channel in chance.sample(CHANNELS, chance.randint(1, 4)):
            sea.watch(shore, channel)
    for number in range(1, 80):
        rooms = None if chance.random() < 0.2 else tuple(chance.sample("abc", chance.randint(1, 2)))
        sea.at(chance.random() * 4, lambda number=number, rooms=rooms: sea.emit("n0", number, rooms))
    for _ in range(3):
        shore, channel = chance.choice(sea.shores), chance.choice(CHANNELS)
        sea.at(chance.random() * 4, lambda shore=shore, channel=channel: sea.watch(shore, channel))
    sea.run(4)
    sea.settle()
    return sea


@pytest.mark.parametrize("seeds", [range(start, start + 50) for start in range(0, 300, 50)], ids=str)
def test_loss_repeats_delay_and_overtaking(seeds: range) -> None:
    for seed in seeds:
        sea = storm(seed, Weather(loss=0.15, repeats=0.15, delay=0.5))
        for shore in sea.shores:
            assert shore.lost == set(), f"seed {seed}"
            for channel in shore.since:
                assert shore.heard[channel] == sea.expected(shore, channel), f"seed {seed}, {shore.name}, {channel}"


@pytest.mark.parametrize("seeds", [range(start, start + 50) for start in range(0, 100, 50)], ids=str)
def test_a_network_that_keeps_the_order_gives_everybody_one_order(seeds: range) -> None:
    for seed in seeds:
        sea = storm(seed, Weather(repeats=0.2, delay=0.5, in_order=True))
        for shore in sea.shores:
            assert shore.order == sorted(set(shore.order)), f"seed {seed}, {shore.name}"


@pytest.mark.parametrize("seeds", [range(start, start + 50) for start in range(0, 200, 50)], ids=str)
def test_a_short_log_loses_nothing_in_silence(seeds: range) -> None:
    """It reaches back for ten entries: what is missing in a channel is said to be lost; nothing is told twice."""
    said = 0
    for seed in seeds:
        sea = storm(seed, Weather(loss=0.5, repeats=0.1, delay=0.5), entries=10)
        for shore in sea.shores:
            said += len(shore.lost)
            for channel in shore.since:
                heard, expected = shore.heard[channel], sea.expected(shore, channel)
                assert heard == sorted(set(heard)), f"seed {seed}: twice or out of order"
                assert heard == expected or channel in shore.lost, f"seed {seed}, {shore.name}, {channel}"
    assert said


def test_compared_with_the_log_only_what_is_behind_is_read() -> None:
    log, mine = Log("e"), merge("a", "b", "c")
    entries = fill(log, "a", "b", "x", "b", "x")
    assert offsets(mine.live(entries[0], 0.0)) == [1]
    progress = mine.compare(log.newest, {"a": 1, "b": 4, "c": 0}, 0.0)
    assert (progress.deliver, progress.lost) == ([], set())
    assert mine.need(0.0) == Position("e", 0), "where the channel is that is behind"
    assert offsets(mine.stored(entries, log.newest, 0.0)) == [2, 4]
    assert (mine.need(0.0), mine.upto) == (None, 5)
    for channel in ("a", "b", "c"):
        assert mine.seen(channel) == 5


def test_compared_with_the_log_what_has_everything_is_complete_up_to_its_end() -> None:
    log, mine = Log("e"), merge("a")
    entries = fill(log, "a", "x", "x")
    mine.live(entries[0], 0.0)
    mine.compare(log.newest, {"a": 1}, 0.0)
    assert (mine.need(0.0), mine.upto, mine.seen("a")) == (None, 3, 3)


def test_a_log_that_is_shorter_than_a_silent_channel_loses_nothing_of_it() -> None:
    """The others have said so much that the log does not reach back to where this channel was."""
    log, mine = Log("e", entries=2), merge("quiet", "busy")
    fill(log, *["busy"] * 9)
    mine.compare(log.newest, {"quiet": 0, "busy": 9}, 0.0)
    assert mine.need(0.0) == Position("e", 0)
    assert mine.gone(0.0).lost == {"busy"}


def test_what_was_asked_before_a_channel_was_watched_says_nothing_of_it() -> None:
    log, mine = Log("e"), merge("a")
    fill(log, "x", "x")
    mine.watch("b", Position("e", 1))
    mine.compare(log.newest, {"a": 0}, 0.0)
    assert (mine.upto, mine.seen("b")) == (0, 1)


def test_compared_with_another_log_everything_is_to_be_read() -> None:
    mine = merge("a")
    assert mine.compare(Position("other", 3), {"a": 3}, 0.0).lost == {"a"}
    assert mine.need(0.0) == Position("other", 0)
    assert mine.watches("a")
    assert not mine.watches("b")


def test_in_doubt_what_comes_live_waits_until_the_log_was_asked() -> None:
    """Something of another channel may have been missed, which no number shows."""
    log, mine = Log("e"), merge("a", "b")
    entries = fill(log, "a", "b", "a", "b")
    mine.live(entries[0], 0.0)
    mine.doubt()
    assert offsets(mine.live(entries[2], 0.0)) == []
    assert mine.need(9.0) is None
    assert offsets(mine.compare(log.newest, {"a": 3, "b": 4}, 0.0, certain=False)) == []
    assert offsets(mine.stored(entries, log.newest, 0.0)) == [2, 3, 4]
    (fifth,) = fill(log, "a")
    assert offsets(mine.live(fifth, 0.0)) == [], "it is not certain yet"
    assert offsets(mine.compare(log.newest, {"a": 5, "b": 4}, 0.0)) == []
    assert mine.need(0.0) == Position("e", 4)
    assert offsets(mine.stored([fifth], log.newest, 0.0)) == [5]
    (sixth,) = fill(log, "b")
    assert offsets(mine.live(sixth, 0.0)) == [6]


def told(entry: Entry, epoch: str, offset: int) -> Entry:
    """The same draft, offered anew."""
    return Entry(entry.draft, Position(epoch, offset), (offset - 1,))


def test_what_is_offered_anew_and_was_in_the_lost_log_before_what_came_out_is_told_to_nobody() -> None:
    """Who is here heard it on another node, or came after it."""
    log = Log("e")
    one, two, three, four = fill(log, "a", "a", "a", "a")
    mine = Merge(Position("e", 1), patience=0)
    mine.watch("a", Position("e", 1))
    assert offsets(mine.live(two, 0)) == [2]
    mine.live(told(one, "f", 1), 1)
    assert mine.need(1) == Position("f", 0)
    again = [told(one, "f", 1), told(two, "f", 2), told(three, "f", 3), told(four, "f", 4)]
    found = mine.stored(again, Position("f", 4), 1)
    assert offsets(found) == [3, 4], "three and four had not come out"


def test_whatever_number_a_node_begins_with_it_is_told() -> None:
    log = Log("e")
    first = log.append(Draft(("n", 0), "/", ("a",), (), "e", b"[]", 0), 0)
    mine = Merge(Position("e", 0), patience=0)
    mine.watch("a", Position("e", 0))
    assert offsets(mine.live(first, 0)) == [1]


def test_while_others_may_still_offer_anew_a_second_loss_proves_nothing_more() -> None:
    log = Log("e")
    one, two, three, four = fill(log, "a", "a", "a", "a")
    mine = Merge(Position("e", 0), patience=0)
    mine.watch("a", Position("e", 0))
    assert offsets(mine.live(one, 0)) == [1]
    mine.live(told(four, "f", 1), 1)
    assert offsets(mine.stored([told(four, "f", 1)], Position("f", 1), 1)) == [1], (
        "it is new: two and three are on their way"
    )
    mine.live(told(two, "g", 1), 2)
    found = mine.stored([told(two, "g", 1), told(three, "g", 2), told(four, "g", 3)], Position("g", 3), 2)
    assert offsets(found) == [1, 2]
    for _ in range(2):
        mine.live(told(four, "h", 1), 2 + SETTLED_SECONDS)
    assert offsets(mine.stored([told(three, "h", 1)], Position("h", 1), 30)) == []


def offered_anew(mine: Merge, epoch: str, nodes: int, numbers: range, now: float) -> int:
    """How many of these came out: of each node, and all nodes at once."""
    before = mine.upto
    stored = Log(epoch)
    entries = [
        stored.append(Draft((f"n{node}", number), "/", ("a",), (), "e", b"[]", 0), 0)
        for number in numbers
        for node in range(nodes)
    ]
    if before == 0:
        mine.stored([], Position(epoch, 0), now)
    return sum(len(mine.live(entry, now).deliver) for entry in entries)


@pytest.mark.parametrize("nodes", [2, 15])
def test_however_many_nodes_offer_anew_nothing_comes_out_twice(nodes: int) -> None:
    """Also after a second loss, while only the numbers themselves tell what came out."""
    mine = merge("a")
    assert offered_anew(mine, "e", nodes, range(1_000), 0) == 1_000 * nodes
    mine.back(Position("f", 0))
    assert offered_anew(mine, "f", nodes, range(2_000), 1) == 1_000 * nodes, "the second half is new"
    mine.back(Position("g", 0))
    assert offered_anew(mine, "g", nodes, range(1_000, 2_001), SETTLED_SECONDS / 2) == nodes, "one of each is new"


def test_what_is_remembered_of_nodes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.journal.merge.ALL_IDS_LIMIT", 100)
    monkeypatch.setattr("realtime.journal.merge.NODES_LIMIT", 30)
    mine = merge("a")
    assert offered_anew(mine, "e", 50, range(10), 0) == 500
    assert len(mine._nodes) == 30
    assert mine._ids == sum(len(node.ids) for node in mine._nodes.values()) <= 100
    assert all(node.newest == 9 for node in list(mine._nodes.values())[1:])


@pytest.mark.parametrize("missing", [0, 1])
def test_it_is_behind_until_what_was_said_before_was_compared_and_read(missing: int) -> None:
    log, mine = Log("e"), merge("a", patience=0)
    one, two = fill(log, "a", "a")
    for entry in (one, two):
        mine.live(entry, 0)
    mine.watch("b", Position("e", 0))
    mine.behind = True
    mine.doubt()
    mine.compare(Position("e", 2), {"a": 2, "b": missing}, 0)
    assert mine.behind is bool(missing)
    if missing:
        assert mine.need(0) == Position("e", 0)
        mine.stored([one, two], Position("e", 2), 0)
    assert not mine.behind
