from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from realtime.journal.positions import Draft, Entry, Position
from realtime.journal.resume import Record, Refused, Replay, Stay, concerns, hears_all, resume
from tests.realtime.sea import Sea, Shore, Weather

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


def test_stays_are_not_gone_through_for_each_entry() -> None:
    stays = Stays(Stay(f"r{number}", 0) for number in range(200))
    log = Kept(*(entry(number, "r7" if number == 500 else "busy") for number in range(1, 1_001)))
    found = resume(record(sent=1_000)._replace(stays=stays), at(0), log.since)
    assert isinstance(found, Replay)
    assert [each.offset for each in found.entries] == [500]
    assert stays.walks <= 2


class Stays(tuple[Stay, ...]):
    """Counts how often it is walked through."""

    walks = 0

    def __iter__(self) -> Iterator[Stay]:
        self.walks += 1
        return super().__iter__()


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


class Guest:
    """A client by hand: its connection loses what was on its way when it breaks."""

    def __init__(self, sea: Sea, sid: str) -> None:
        self.sea, self.sid = sea, sid
        self.got: list[int] = []
        self.stays: list[Stay] = []
        self.base = self.after = 0
        self.shore: Shore | None = None
        self.clean = 0

    def come(self, shore: Shore, replay: Replay | None, record: Record | None = None) -> None:
        self.shore = shore
        for room in (None, self.sid, *(stay.room for stay in self.stays if stay.until is None)):
            self.sea.watch(shore, room)
        if replay is None or record is None:
            self.base = self.after = self.sea.log.last
            self.got, self.stays, self.start = [], [], self.base
        else:
            self.after = replay.position.offset
            self.got += [each.offset for each in replay.entries]

    def hear(self, found: Entry) -> None:
        if found.offset > self.after and concerns(self.record(0), found):
            self.got.append(found.offset)

    def record(self, upto: int) -> Record:
        sent = at(max([self.base, *self.got]), "epoch0")
        base, position = at(self.base, "epoch0"), at(max(upto, self.after), "epoch0")
        return Record("pid", self.sid, "/", "n", "", b"{}", tuple(self.stays), base, sent, position)

    def enter(self, room: str) -> None:
        if self.shore is not None and all(stay.room != room or stay.until is not None for stay in self.stays):
            self.sea.watch(self.shore, room)
            self.stays.append(Stay(room, max(self.shore.merge.joins_after(room), self.after)))

    def leave(self, room: str) -> None:
        if self.shore is not None:
            upto = max(self.shore.merge.upto, self.after)
            self.stays = [s._replace(until=upto) if s.room == room and s.until is None else s for s in self.stays]

    def cut(self) -> None:
        """The newest few events are lost on the way; some time later it is back, anywhere."""
        if self.shore is None:
            return
        record, chance = self.record(self.shore.merge.upto), self.sea.random
        self.shore = None
        kept = len(self.got) - chance.randint(0, 3)
        self.got = self.got[: max(0, kept)]
        self.sea.at(self.sea.now + chance.random(), lambda: self.back(record))

    def back(self, record: Record) -> None:
        shore = self.sea.random.choice(self.sea.shores)
        for room in (None, self.sid, *(stay.room for stay in self.stays)):
            self.sea.watch(shore, room)
        found = resume(record, at(self.got[-1], "epoch0") if self.got else None, self.sea.log.since)
        if isinstance(found, Refused):
            self.clean += 1
            self.come(shore, None)
        else:
            self.come(shore, found, record)


class Harbour(Sea):
    """Nodes with clients."""

    guests: tuple[Guest, ...] = ()

    def arrive(self, shore: Shore, entry: Entry) -> None:
        self.tell(shore, lambda: super(Harbour, self).arrive(shore, entry))

    def read(self, shore: Shore, position: Position, limit: int = 7) -> None:
        self.tell(shore, lambda: super(Harbour, self).read(shore, position, limit))

    def tell(self, shore: Shore, step: Callable[[], None]) -> None:
        before = len(shore.order)
        step()
        for offset in shore.order[before:]:
            for guest in self.guests:
                if guest.shore is shore:
                    guest.hear(self.all[offset - 1])

    def break_off(self, shore: Shore) -> None:
        shore.broken = True

    def mend(self, shore: Shore) -> None:
        shore.broken = False
        shore.take(shore.merge.back(self.log.newest))
        self.look(shore)


def voyage(seed: int, **bounds: int) -> Harbour:
    sea = Harbour(seed, Weather(repeats=0.1, delay=0.3, in_order=True), **bounds)
    chance = sea.random
    sea.guests = tuple(Guest(sea, f"s{number}") for number in range(4))
    for guest in sea.guests:
        guest.come(chance.choice(sea.shores), None)
        for _ in range(6):
            change = chance.choice([guest.enter, guest.enter, guest.leave])
            sea.at(chance.random() * 4, lambda change=change: change(chance.choice("abc")))
        for _ in range(3):
            sea.at(chance.random() * 4, guest.cut)
    for number in range(1, 60):
        rooms = None if chance.random() < 0.2 else tuple(chance.sample(["a", "b", "c", "s1"], chance.randint(1, 2)))
        sea.at(chance.random() * 4, lambda number=number, rooms=rooms: sea.emit("n0", number, rooms))
    for shore in sea.shores:
        when = chance.random() * 3
        sea.at(when, lambda shore=shore: sea.break_off(shore))
        sea.at(when + chance.random(), lambda shore=shore: sea.mend(shore))
    sea.run(6)
    sea.settle()
    return sea


@pytest.mark.parametrize("seeds", [range(start, start + 50) for start in range(0, 300, 50)], ids=str)
def test_clients_that_come_and_go_have_everything_once(seeds: range) -> None:
    """Nodes lose their connection for a while, clients lose theirs and come back elsewhere, rooms are changed."""
    for seed in seeds:
        for guest in voyage(seed).guests:
            stays = Record("", guest.sid, "/", "", "", b"", tuple(guest.stays), at(0), at(0), at(0))
            expected = [e.offset for e in guest.sea.all if e.offset > guest.start and concerns(stays, e)]
            assert guest.clean == 0, f"seed {seed}"
            assert guest.got == expected, f"seed {seed}, {guest.sid}"


@pytest.mark.parametrize("seeds", [range(start, start + 50) for start in range(0, 100, 50)], ids=str)
def test_with_a_short_log_everything_or_a_clean_start(seeds: range) -> None:
    clean = 0
    for seed in seeds:
        sea = voyage(seed, entries=8)
        for guest in sea.guests:
            clean += guest.clean
            if any(shore.lost for shore in sea.shores):
                continue  # a node that lost something marks its sessions; here nobody does
            stays = Record("", guest.sid, "/", "", "", b"", tuple(guest.stays), at(0), at(0), at(0))
            expected = [e.offset for e in sea.all if e.offset > guest.start and concerns(stays, e)]
            assert guest.got == expected, f"seed {seed}, {guest.sid}"
    assert clean


def test_who_hears_everything_in_some_channels() -> None:
    mine = record(Stay("left", 0, 9), Stay("a", 3), Stay("late", 7))
    assert hears_all(mine, (None, "sid", "a"), 3)
    assert not hears_all(mine, (None, "a"), 2), "it came to this room later"
    assert not hears_all(mine, ("left",), 3)
    assert not hears_all(mine, ("another",), 3)
    assert hears_all(mine, ("a", "late"), 7)
    assert hears_all(mine, (), 0)
