"""Rooms against a model: a dictionary of sets says the same, only slower."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from realtime.rooms.index import Rooms

SIDS = [f"sid-{number}" for number in range(6)]
NAMES = ["lobby", "kitchen", 7, ("a", "b"), "", "sid-3"]
"""Room names may be anything hashable; one of them is somebody's sid, sometimes."""

sids = st.sampled_from(SIDS)
names = st.sampled_from(NAMES)


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.rooms: Rooms[str] = Rooms()
        self.here: list[str] = []
        self.joined: dict[str, list[object]] = {}

    def members(self, room: object) -> set[str]:
        return {sid for sid in self.here if room == sid or room in self.joined[sid]}

    @rule(sid=sids)
    def attach(self, sid: str) -> None:
        if sid in self.here:
            with pytest.raises(ValueError, match="attached already"):
                self.rooms.attach(sid, sid.upper())
        elif any(sid in joined for joined in self.joined.values()):
            return  # sids are random: none is ever a room's name beforehand
        else:
            self.rooms.attach(sid, sid.upper())
            self.here.append(sid)
            self.joined[sid] = []

    @rule(sid=sids)
    def detach(self, sid: str) -> None:
        assert self.rooms.detach(sid) == tuple(self.joined.pop(sid, ()))
        self.here = [each for each in self.here if each != sid]

    @rule(sid=sids, room=names)
    def join(self, sid: str, room: object) -> None:
        if sid not in self.here or (room in self.here and room != sid):
            with pytest.raises(ValueError, match="sid"):
                self.rooms.join(sid, room)
            return
        is_new = room != sid and room not in self.joined[sid]
        assert self.rooms.join(sid, room) is is_new
        if is_new:
            self.joined[sid].append(room)

    @rule(sid=sids, room=names)
    def leave(self, sid: str, room: object) -> None:
        was_in = room in self.joined.get(sid, ())
        assert self.rooms.leave(sid, room) is was_in
        if was_in:
            self.joined[sid].remove(room)

    @rule(room=names)
    def close(self, room: object) -> None:
        if room in self.here:
            with pytest.raises(ValueError, match="sid room"):
                self.rooms.close(room)
            return
        assert set(self.rooms.close(room)) == self.members(room)
        for joined in self.joined.values():
            if room in joined:
                joined.remove(room)

    @rule(wanted=st.lists(st.one_of(names, sids), max_size=4), kind=st.sampled_from([list, tuple, set, frozenset]))
    def select(self, wanted: list[object], kind: type) -> None:
        found = self.rooms.select(kind(wanted))
        assert len(found) == len(set(found)), "nobody is selected twice"
        members: set[str] = set().union(*(self.members(room) for room in wanted))
        assert set(found) == {sid.upper() for sid in members}

    @invariant()
    def everyone_is_where_the_model_says(self) -> None:
        assert self.rooms.select(None) == [sid.upper() for sid in self.here]
        for sid in SIDS:
            there = sid in self.here
            assert self.rooms.rooms_of(sid) == ((sid, *self.joined[sid]) if there else ())
            assert self.rooms.joined(sid) == len(self.joined.get(sid, ()))
            assert self.rooms.has(sid, "lobby") is ("lobby" in self.joined.get(sid, ()))
        for room in NAMES:
            assert {member.lower() for member in self.rooms.members(room)} == self.members(room)
        occupied = {room for joined in self.joined.values() for room in joined}
        assert len(self.rooms) == len(occupied), "an empty room does not exist"
        assert all(room in self.rooms for room in occupied)


TestRooms = Model.TestCase
TestRooms.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("nobody", ["", [], (), set()])
def test_an_empty_selection_is_nobody(nobody: object) -> None:
    rooms: Rooms[str] = Rooms()
    rooms.attach("a", "A")
    assert rooms.select(nobody) == []
    assert rooms.select(None) == ["A"]


def test_members_is_a_copy() -> None:
    rooms: Rooms[str] = Rooms()
    for sid in "abc":
        rooms.attach(sid, sid)
        rooms.join(sid, "lobby")
    for member in rooms.members("lobby"):
        rooms.detach(member)
    assert rooms.members("lobby") == []
    assert rooms.select(None) == []


def test_leaving_touches_only_ones_own_rooms() -> None:
    rooms: Rooms[str] = Rooms()
    looked: list[object] = []

    class Room(str):
        """A name that tells when it is looked at."""

        def __hash__(self) -> int:
            looked.append(self)
            return super().__hash__()

        def __eq__(self, other: object) -> bool:
            return super().__eq__(other)

    for number in range(100):
        rooms.attach(f"looking-{number}", "x")
        rooms.join(f"looking-{number}", Room(f"{number}"))
    rooms.attach("a", "A")
    rooms.join("a", "lobby")
    looked.clear()
    assert rooms.detach("a") == ("lobby",)
    assert looked == []
