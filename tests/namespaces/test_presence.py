from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from namespaces.presence import Attendance, Stay

ROOMS = st.sampled_from(["lobby", "Lobby", "", "@a:b"])
USERS = st.sampled_from(["alice", "Alice", "bob", ""])
STEPS = st.lists(st.tuples(st.booleans(), ROOMS, USERS), max_size=60)


@given(STEPS)
def test_it_agrees_with_counting_by_hand(steps: list[tuple[bool, str, str]]) -> None:
    attendance = Attendance()
    counts: Counter[tuple[str, str]] = Counter()
    for arrives, room, user in steps:
        before = counts[room, user]
        if arrives:
            assert attendance.arrive(room, user, "now") is (before == 0)
            counts[room, user] += 1
        else:
            assert attendance.depart(room, user) is (before == 1)
            counts[room, user] = max(0, before - 1)
        for known, name in counts:
            found = dict(attendance.users(known)).get(name)
            assert (found.connections if found else 0) == counts[known, name]


@given(STEPS)
def test_nothing_stays_when_everybody_has_gone(steps: list[tuple[bool, str, str]]) -> None:
    attendance = Attendance()
    arrivals = [(room, user) for arrives, room, user in steps if arrives]
    for room, user in arrivals:
        attendance.arrive(room, user, "now")
    for room, user in arrivals:
        attendance.depart(room, user)
    assert attendance._rooms == {}


def test_users_come_in_the_order_of_arrival_and_keep_their_first_time() -> None:
    attendance = Attendance()
    for user, now in (("bob", "1"), ("alice", "2"), ("bob", "3")):
        attendance.arrive("lobby", user, now)
    assert attendance.users("lobby") == [("bob", Stay(2, "1")), ("alice", Stay(1, "2"))]
    assert attendance.users("elsewhere") == []


def test_departing_from_where_one_never_was_is_nothing() -> None:
    attendance = Attendance()
    assert attendance.depart("lobby", "alice") is False
    attendance.arrive("lobby", "alice", "now")
    assert attendance.depart("lobby", "bob") is False
    assert [user for user, _ in attendance.users("lobby")] == ["alice"]
