from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from realtime.journal.away import ABSENT_BYTES, OPEN_BYTES, STALE_TIMES, Absent, Away
from realtime.journal.positions import Position
from realtime.journal.resume import Record, Stay

P = Position("e", 0)


def absent(pid: str, *rooms: str, until: float = 10, namespace: str = "/") -> Absent:
    stays = tuple(Stay(room, 0) for room in rooms)
    return Absent(Record(pid, f"sid-{pid}", namespace, "", "", b"", stays, P, P, P), until)


def test_found_by_pid_sid_and_room() -> None:
    away = Away()
    one = absent("1", "a", "b")
    assert away.keep(one) == []
    assert away.has("/", "sid-1")
    assert not away.has("/other", "sid-1")
    assert away.in_room("/", "a") == away.in_room("/", "sid-1") == ["sid-1"]
    assert away.in_room("/", "c") == []
    assert away.pid_of("/", "sid-1") == "1"
    assert away.claim("1") is one
    assert away.claim("1") is None
    assert away.in_room("/", "a") == []
    assert not away.has("/", "sid-1")


def test_rooms_are_changed_while_it_is_away() -> None:
    away = Away()
    away.keep(absent("1", "a"))
    assert away.enter("/", "sid-1", "b", 5)
    assert not away.enter("/", "sid-1", "b", 6)
    assert away.leave("/", "sid-1", "a", 7)
    assert not away.leave("/", "sid-1", "a", 8)
    assert not away.enter("/", "nobody", "b", 5)
    assert not away.leave("/", "nobody", "b", 5)
    found = away.claim("1")
    assert found is not None
    assert found.record.stays == (Stay("a", 0, 7), Stay("b", 5))


def test_over_the_limit_the_first_to_leave_is_given_up() -> None:
    away = Away(limit=2)
    away.keep(absent("1"))
    away.keep(absent("2"))
    assert [each.record.pid for each in away.keep(absent("3"))] == ["1"]
    assert len(away) == 2


def test_and_over_the_limit_in_bytes() -> None:
    away = Away(size_bytes=3 * (ABSENT_BYTES + OPEN_BYTES + 1))
    for pid in "123":
        assert away.keep(absent(pid, "a")) == []
    assert [each.record.pid for each in away.keep(absent("4", "x" * 100))] == ["1", "2"], "a long name weighs"
    assert away.enter("/", "sid-3", "y" * 5_000, 1)
    assert [each.record.pid for each in away.keep(absent("5"))] == ["3"], "and so does what was entered meanwhile"
    assert [each.record.pid for each in away.keep(absent("6", "z" * 10_000))] == ["4", "5", "6"]
    assert (len(away), away.size) == (0, 0)


def of(who: str, pid: str, *rooms: str) -> Absent:
    found = absent(pid, *rooms)
    found.of = who
    return found


def test_whoever_has_the_most_gives_up_its_first() -> None:
    away = Away(limit=4)
    for pid in "12":
        away.keep(of("honest", pid))
    given_up = [each.record.pid for pid in "abcdefgh" for each in away.keep(of("flood", pid))]
    assert given_up == list("abcdef"), "a flood pushes out itself"
    for pid in "12":
        assert away.claim(pid) is not None
    assert [each.record.pid for pid in "3456" for each in away.keep(of("another", pid))] == ["3", "4"]


def test_and_it_is_counted_in_bytes() -> None:
    away = Away(size_bytes=9 * ABSENT_BYTES)
    away.keep(of("large", "1", "x" * 4 * ABSENT_BYTES))
    assert [away.keep(of("small", pid)) for pid in "abc"] == [[], [], []]
    assert [each.record.pid for each in away.keep(of("small", "d"))] == ["1"]
    away.keep(of("grows", "2"))
    assert away.enter("/", "sid-2", "y" * 5 * ABSENT_BYTES, 1)
    assert [each.record.pid for each in away.keep(of("small", "e"))] == ["2"], "what was entered meanwhile counts, too"


def test_shares_that_are_empty_are_not_remembered() -> None:
    away = Away()
    for number in range(3 * STALE_TIMES):
        away.keep(of(f"user{number}", "1"))
    assert len(away._shares) == 1
    assert len(away._largest) <= STALE_TIMES + 3


def test_while_somebody_asks_to_be_let_in_as_it_nobody_else_may_and_its_time_stands_still() -> None:
    away = Away()
    one = absent("1", "a", until=10)
    away.keep(one)
    assert away.hold("1", 10) is None, "its time is over"
    assert away.hold("2", 0) is None
    assert away.hold("1", 9) is one
    assert away.hold("1", 9) is None
    assert (away.next_expiry(), away.expire(99), away.holds(one)) == (None, [], True)
    assert away.enter("/", "sid-1", "b", 5)
    away.release(one)
    assert (away.next_expiry(), away.holds(one)) == (10, False)
    assert away.hold("1", 9) is one
    assert away.claim("1") is one
    away.release(one)
    assert (away.next_expiry(), away.holds(one), away.find("1")) == (None, False, None)


def test_time_ends() -> None:
    away = Away()
    assert away.next_expiry() is None
    away.keep(absent("1", until=10))
    away.keep(absent("2", until=20))
    assert away.next_expiry() == 10
    assert away.expire(9) == []
    assert [each.record.pid for each in away.expire(10)] == ["1"]
    assert away.next_expiry() == 20
    away.keep(absent("3", until=15))
    away.keep(absent("2", until=12))
    assert [each.record.pid for each in away.expire(14)] == ["2"], "kept again, for a shorter time"
    assert away.next_expiry() == 15


def test_times_of_those_who_are_back_are_swept() -> None:
    away = Away()
    for number in range(2 * STALE_TIMES):
        away.keep(absent("1", until=number))
    assert len(away._times) <= STALE_TIMES + 3
    assert away.next_expiry() == 2 * STALE_TIMES - 1


class Anything(RuleBasedStateMachine):
    """Whatever happens, the three ways of finding somebody agree."""

    def __init__(self) -> None:
        super().__init__()
        self.away = Away(limit=4)

    @rule(pid=st.sampled_from("12345"), rooms=st.sets(st.sampled_from("ab")))
    def keep(self, pid: str, rooms: set[str]) -> None:
        self.away.keep(absent(pid, *sorted(rooms)))

    @rule(pid=st.sampled_from("12345"))
    def claim(self, pid: str) -> None:
        self.away.claim(pid)

    @rule(pid=st.sampled_from("12345"), room=st.sampled_from("abc"))
    def enter(self, pid: str, room: str) -> None:
        self.away.enter("/", f"sid-{pid}", room, 1)

    @rule(pid=st.sampled_from("12345"), room=st.sampled_from("abc"))
    def leave(self, pid: str, room: str) -> None:
        self.away.leave("/", f"sid-{pid}", room, 2)

    @invariant()
    def agree(self) -> None:
        assert len(self.away) <= 4
        assert set(self.away._by_sid.values()) == set(self.away._absent)
        for room in "abc":
            inside = {
                pid
                for pid, each in self.away._absent.items()
                if any(stay.room == room and stay.until is None for stay in each.record.stays)
            }
            assert self.away._in_room.get(("/", room), set()) == inside
        assert self.away.size == sum(each.size for each in self.away._absent.values())


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=50, stateful_step_count=20)
