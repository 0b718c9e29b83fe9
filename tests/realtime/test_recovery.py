from __future__ import annotations

from collections.abc import Sequence

import pytest

from realtime.positions import Draft, Entry, Position
from realtime.recovery import Record, Refused, Replay, Stay, concerns, resume

EPOCH = "epoch"


def at(offset: int, epoch: str = EPOCH) -> Position:
    return Position(epoch, offset)


def entry(offset: int, *rooms: str, skip: tuple[str, ...] = ()) -> Entry:
    return Entry(Draft(("n", offset), "/chat", rooms or None, skip, "e", b"[]", 0), at(offset), ())


def record(
    *stays: Stay, base: int = 0, sent: int = 0, position: int = 0, incomplete: str | None = None, epoch: str = EPOCH
) -> Record:
    return Record("pid", "sid", "/chat", "node", "", b"{}", stays, at(base, epoch), at(sent, epoch),
                  at(position, epoch), incomplete)  # fmt: skip


class Kept:
    """A log of these entries that reaches back to ``oldest``."""

    def __init__(self, *entries: Entry, oldest: int = 0) -> None:
        self.entries = entries
        self.oldest = oldest
        self.asked: list[int] = []

    def since(self, position: Position) -> Sequence[Entry] | None:
        self.asked.append(position.offset)
        if position.epoch != EPOCH or position.offset < self.oldest:
            return None
        return [each for each in self.entries if each.offset > position.offset]


def test_what_was_missed_in_ones_rooms_comes_in_order() -> None:
    log = Kept(entry(1, "a"), entry(2, "b"), entry(3, "a"), entry(4), entry(5, "sid"), entry(6, "a", skip=("sid",)))
    found = resume(record(Stay("a", 0), sent=1, position=1), at(1), log.since)
    assert isinstance(found, Replay)
    assert [each.offset for each in found.entries] == [3, 4, 5]
    assert found.position == at(6)


def test_a_stay_begins_and_ends() -> None:
    stays = record(Stay("a", 2, 4), Stay("b", 3))
    heard = [n for n in range(1, 7) if concerns(stays, entry(n, "a"))]
    assert heard == [3, 4]
    assert [n for n in range(1, 7) if concerns(stays, entry(n, "b", "a"))] == [3, 4, 5, 6]
    assert not concerns(stays, entry(5, "other"))


def test_who_has_seen_the_newest_for_it_reads_from_where_it_was_complete() -> None:
    """Idle for longer than the log reaches back, and nothing was missed."""
    log = Kept(entry(901, "a"), oldest=900)
    found = resume(record(Stay("a", 0), sent=5, position=900), at(5), log.since)
    assert isinstance(found, Replay)
    assert log.asked == [900]
    assert [each.offset for each in found.entries] == [901]


def test_who_has_not_seen_the_newest_reads_from_what_it_has() -> None:
    log = Kept(entry(4, "a"), entry(5, "a"), entry(6, "x"))
    found = resume(record(Stay("a", 0), sent=5, position=6), at(3), log.since)
    assert isinstance(found, Replay)
    assert [each.offset for each in found.entries] == [4, 5]


def test_never_given_a_position_means_nothing_was_seen() -> None:
    log = Kept(entry(4, "a"), entry(5, "a"), oldest=3)
    nothing_sent = resume(record(Stay("a", 0), base=4, sent=4, position=4), None, log.since)
    assert isinstance(nothing_sent, Replay)
    assert [each.offset for each in nothing_sent.entries] == [5]
    all_lost = resume(record(Stay("a", 3), base=3, sent=4, position=5), None, log.since)
    assert isinstance(all_lost, Replay)
    assert [each.offset for each in all_lost.entries] == [4, 5]


def test_nothing_missed_is_a_replay_of_nothing() -> None:
    found = resume(record(position=7), at(7), Kept().since)
    assert found == Replay([], at(7))


def test_a_record_that_is_older_than_what_the_client_has_seen() -> None:
    """It was kept a second before the node died; the client heard more in that second."""
    log = Kept(entry(8, "a"), entry(9, "a"))
    found = resume(record(Stay("a", 0), sent=5, position=6), at(8), log.since)
    assert isinstance(found, Replay)
    assert [each.offset for each in found.entries] == [9]


@pytest.mark.parametrize(
    ("found", "offered", "reason"),
    [
        (record(incomplete="alone"), at(0), "incomplete"),
        (record(position=5), at(5, "other"), "epoch"),
        (record(position=5, epoch="other"), at(5), "epoch"),
        (record(base=5, sent=6, position=6), at(4), "rooms"),
        (record(sent=50, position=50), at(4), "gone"),
    ],
)
def test_never_a_part(found: Record, offered: Position, reason: str) -> None:
    assert resume(found, offered, Kept(oldest=10).since) == Refused(reason)
