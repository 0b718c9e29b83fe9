from __future__ import annotations

from realtime.journal.away import Absent
from realtime.journal.log import Log
from realtime.journal.passage import Passage
from realtime.journal.positions import Draft, Position
from realtime.journal.resume import Record, Stay
from realtime.journal.trail import LEFT_LIMIT, Offer, Trail


def at(offset: int) -> Position:
    return Position("e", offset)


def fill(log: Log, *rooms: str) -> None:
    for room in rooms:
        log.append(Draft(("n", log.last + 1), "/", (room,), (), "e", b"[]", 0), 0)


def record(trail: Trail, log: Log) -> Record:
    return trail.record_of(log, "sid", "/", "node", "user", b"{}")


def test_a_record_tells_the_rooms_and_the_newest_for_it() -> None:
    log, trail = Log("e"), Trail("pid", at(0))
    fill(log, "a", "a", "b")
    trail.entered("a", log.last)
    trail.entered("b", log.last)
    trail.asked_for("b")
    trail.asked_for("never entered")
    assert record(trail, log).sent == at(0), "what was said before it came was not for it"
    fill(log, "b", "c")
    found = record(trail, log)
    assert found == Record(
        "pid", "sid", "/", "node", "user", b"{}", (Stay("a", 3), Stay("b", 3, None, True)), at(0), at(4), at(5)
    )
    assert trail.rooms_asked_for() == ["b"]
    fill(log, "sid")
    assert record(trail, log).sent == at(6)


def test_rooms_left_are_remembered_while_something_was_said_in_them() -> None:
    log, trail = Log("e"), Trail("pid", at(0))
    trail.entered("a", 0)
    trail.left("a", 0)
    assert record(trail, log).stays == ()
    trail.entered("a", 0)
    fill(log, "a")
    trail.left("a", log.last)
    trail.left("a", log.last)
    assert record(trail, log).stays == (Stay("a", 0, 1),)


def test_of_many_rooms_left_the_oldest_are_forgotten_and_the_base_moves() -> None:
    log, trail = Log("e"), Trail("pid", at(0))
    for number in range(LEFT_LIMIT + 3):
        trail.entered(f"r{number}", log.last)
        fill(log, f"r{number}")
        trail.left(f"r{number}", log.last)
    assert len(record(trail, log).stays) == LEFT_LIMIT
    assert record(trail, log).base == trail.base == at(3)


def test_who_goes_on_has_its_rooms_and_no_others() -> None:
    log, trail = Log("e"), Trail("new", at(9), Offer("old", at(5)))
    fill(log, *["x"] * 9)
    trail.entered("of somebody new", 9)
    before = Record(
        "old", "sid", "/", "", "", b"", (Stay("gone", 1, 4), Stay("left", 1, 7), Stay("a", 2, None, True)),
        at(0), at(7), at(8),
    )  # fmt: skip
    trail.go_on(Absent(before, 0), 9)
    assert (trail.pid, trail.base, trail.upto, trail.returning) == ("old", at(5), 9, True)
    now = trail.as_it_is(log)
    assert now.stays == (Stay("left", 1, 7), Stay("a", 2, None, True))
    assert (now.sent, now.position, now.base) == (at(7), at(8), at(5))


def test_what_was_heard_since_it_came() -> None:
    log, trail = Log("e", entries=2), Trail("pid", at(0))
    assert (trail.look_up(log, "sid", "/"), trail.meanwhile) == (None, [])
    trail.entered("a", 0)
    fill(log, "a", "b")
    assert trail.look_up(log, "sid", "/") is None
    assert ([*trail.missed], [entry.offset for entry in trail.meanwhile]) == ([], [1])
    trail.meanwhile = ()
    fill(log, "a", "a")
    assert (trail.look_up(log, "sid", "/"), trail.meanwhile) == (None, ())


def test_what_it_missed_is_read_from_its_rooms_alone_and_made_when_it_is_wanted() -> None:
    log, trail = Log("e"), Trail("new", at(6), Offer("old", at(1)))
    fill(log, "a", "b", "a", "sid", "a", "b")
    before = Record("old", "sid", "/", "", "", b"", (Stay("a", 0),), at(0), at(5), at(1))
    trail.go_on(Absent(before, 0), 6)
    fill(log, "a", "b")
    assert trail.look_up(log, "sid", "/") is None
    assert [entry.offset for entry in trail.meanwhile] == [7]
    assert [entry.offset for entry in trail.missed] == [3, 4, 5]


def test_rooms_of_the_authorise_step_are_those_that_it_enters_again() -> None:
    log, trail = Log("e"), Trail("new", at(9), Offer("old", at(0)))
    fill(log, *["x"] * 9)
    stays = (Stay("a", 1, 4, granted=True), Stay("a", 5, granted=True), Stay("b", 1, 4, granted=True))
    before = Record("old", "sid", "/", "", "", b"", (*stays, Stay("c", 2, granted=True)), at(0), at(7), at(8))
    trail.go_on(Absent(before, 0), 9)
    assert (trail.rooms, trail.is_due("a"), trail.as_it_is(log).stays) == ([], True, ())
    trail.entered("a", 9, granted=True)
    assert (trail.rooms, trail.is_due("a"), trail.is_due("c")) == (["a"], False, True)
    assert trail.as_it_is(log).stays == (Stay("a", 1, 4, granted=True), Stay("a", 5, granted=True))
    trail.entered("new", 9, granted=True)
    trail.entered("later", 9)
    assert trail.as_it_is(log).stays[2:] == (Stay("new", 9, granted=True), Stay("later", 9))


def test_what_others_change_while_it_is_let_in_counts_and_so_does_what_its_authorise_step_did() -> None:
    log, trail = Log("e"), Trail("new", at(9), Offer("old", at(0)))
    fill(log, *["x"] * 9)
    before = Record("old", "sid", "/", "", "", b"", (Stay("a", 1), Stay("b", 1)), at(0), at(7), at(8))
    trail.go_on(Absent(before, 0), 9)
    trail.left("a", 9, granted=True)
    trail.entered("step", 9, granted=True)
    trail.left("c", 9)
    trail.entered("here", 9)
    meanwhile = before._replace(stays=(Stay("a", 1), Stay("b", 1, 8), Stay("c", 8)))
    trail.confirm(meanwhile)
    assert (trail.confirmed, trail.record, trail.rooms) == (True, meanwhile, ["step", "here"])
    assert trail.as_it_is(log).stays == (
        Stay("b", 1, 8), Stay("a", 1, 9), Stay("c", 8, 9), Stay("step", 9, granted=True), Stay("here", 9),
    )  # fmt: skip


def test_what_it_is_told_without_a_place_while_it_is_let_in_is_not_told_from_the_log_as_well() -> None:
    log = Log("e")
    kept = [log.append(Draft(("n", number), "/", None, (), "e", b"[]", 0), 0.0) for number in (1, 2, 3)]
    trail = Trail("pid", Position("e", 0))
    trail.heard_alone(("n", 9))
    trail.returning = True
    trail.heard_alone(("n", 2))
    wanted = trail.wants(log, "sid", "/")
    assert not isinstance(wanted, str)
    trail.tell(kept, wanted)
    assert [entry.offset for entry in trail.meanwhile] == [1, 3]
    assert trail.unproved == "alone"
    assert trail.record_of(log, "sid", "/", "", "", b"").incomplete == "alone"


def test_what_all_of_a_room_missed_is_one_passage_but_for_whom_some_of_it_is_not() -> None:
    log = Log("e")
    fill(log, "a", "a", "a")
    log.append(Draft(("n", 4), "/", ("a",), ("not for it",), "e", b"[]", 0), 0)

    def come(sid: str, stay: Stay) -> Trail:
        trail = Trail("new", at(4), Offer("old", at(1)))
        trail.go_on(Absent(Record("old", sid, "/", "", "", b"", (stay,), at(0), at(4), at(1)), 0), 4)
        assert trail.look_up(log, sid, "/") is None
        return trail

    some, others = come("sid", Stay("a", 0)), come("other", Stay("a", 1))
    assert isinstance(some.missed, Passage)
    assert some.missed is others.missed
    for sid, stay in (("not for it", Stay("a", 0)), ("late", Stay("a", 2)), ("left", Stay("a", 0, 3))):
        missed = come(sid, stay).missed
        assert not isinstance(missed, Passage)
        expected = {"not for it": [2, 3], "late": [3, 4], "left": [2, 3]}[sid]
        assert [entry.offset for entry in missed] == expected


def test_what_others_said_before_is_told_to_who_is_new_also_where_what_it_heard_alone_has_its_place_by_now() -> None:
    log = Log("e")
    others = log.append(Draft(("m", 1), "/", None, (), "e", b"[]", 0), 0.0)
    log.append(Draft(("n", 1), "/", None, (), "e", b"[]", 0), 0.0)
    trail = Trail("pid", Position("e", 0))
    assert not trail.waits(newcomers=False)
    trail.returning = True
    assert trail.waits(newcomers=False)
    assert not trail.waits(newcomers=True)
    trail.heard_alone(("n", 1))
    trail.proved(2)
    wanted = trail.wants(log, "sid", "/")
    assert not isinstance(wanted, str)
    assert wanted.start == Position("e", 0)
    trail.tell(log.since_in(wanted.channels, wanted.start) or (), wanted)
    assert [*trail.missed, *trail.meanwhile] == [others]
    assert trail.base == Position("e", 2), "who shows an older offset would hear its own twice"


def test_who_goes_on_is_told_from_the_log_what_it_was_to_hear_as_somebody_new() -> None:
    log, trail = Log("e"), Trail("new", at(9), Offer("old", at(0)))
    fill(log, *["x"] * 9)
    trail.returning = True
    trail.heard_alone(("n", 9))
    trail.go_on(Absent(Record("old", "sid", "/", "", "", b"", (Stay("x", 1),), at(0), at(7), at(8)), 0), 9)
    assert trail.waits(newcomers=True)
    assert trail.unproved is None
    wanted = trail.wants(log, "sid", "/")
    assert not isinstance(wanted, str)
    trail.tell(log.since_in(wanted.channels, wanted.start) or (), wanted)
    assert [entry.offset for entry in trail.missed] == list(range(2, 10))
