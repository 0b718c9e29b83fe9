"""Pure: no I/O, no clock, no task. Who is in which room of one namespace: an index both ways.

Rules: a client's own sid is a room of one that nobody else may enter; an empty room does not exist;
leaving costs time proportional to the rooms of the one who leaves, never to all rooms.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

Member = TypeVar("Member")
Target = Hashable | Iterable[Hashable] | None
"""One room, several rooms (a list, tuple or set), or None for everyone."""


class Rooms(Generic[Member]):
    """The clients of one namespace and their rooms.

    Whoever changes it from several threads does so one at a time (the hub has a lock for it); reading needs
    none: a reader walks over a copy and sees each client either before or after a change.
    """

    def __init__(self) -> None:
        self.everyone: dict[str, Member] = {}
        self._members: dict[Hashable, dict[str, Member]] = {}
        self._joined: dict[str, dict[Hashable, None]] = {}

    def __len__(self) -> int:
        """How many rooms have members, own-sid rooms not counted."""
        return len(self._members)

    def __contains__(self, room: Hashable) -> bool:
        return room in self._members

    def attach(self, sid: str, member: Member) -> None:
        """A client is here. Raises ValueError when the sid is taken: a sid names one client for ever."""
        if sid in self.everyone:
            raise ValueError(f"sid {sid!r} is attached already")
        self.everyone[sid] = member

    def detach(self, sid: str) -> tuple[Hashable, ...]:
        """A client is gone from all its rooms; answers which they were, its own sid left out. Repeats do nothing."""
        rooms = tuple(self._joined.pop(sid, ()))
        for room in rooms:
            self._drop(sid, room)
        self.everyone.pop(sid, None)
        return rooms

    def join(self, sid: str, room: Hashable) -> bool:
        """True when this was a change. Raises ValueError for an unknown sid or the sid room of somebody else."""
        if sid not in self.everyone:
            raise ValueError("sid is not connected to requested namespace")
        if room == sid:
            return False
        if room in self.everyone:
            raise ValueError("cannot enter a sid room")
        joined = self._joined.setdefault(sid, {})
        if room in joined:
            return False
        joined[room] = None
        self._members.setdefault(room, {})[sid] = self.everyone[sid]
        return True

    def leave(self, sid: str, room: Hashable) -> bool:
        """True when this was a change."""
        joined = self._joined.get(sid)
        if joined is None or room not in joined:
            return False
        del joined[room]
        if not joined:
            del self._joined[sid]
        self._drop(sid, room)
        return True

    def close(self, room: Hashable) -> tuple[str, ...]:
        """Everybody leaves; answers who that was. Raises ValueError for a sid room."""
        if room in self.everyone:
            raise ValueError("cannot close a sid room")
        sids = tuple(self._members.get(room, ()))
        for sid in sids:
            self.leave(sid, room)
        return sids

    def rooms_of(self, sid: str) -> tuple[Hashable, ...]:
        """The rooms of one client, its own sid first; empty for an unknown sid."""
        if sid not in self.everyone:
            return ()
        return (sid, *self._joined.get(sid, ()))

    def joined(self, sid: str) -> int:
        """How many rooms this client has joined, its own sid not counted."""
        return len(self._joined.get(sid, ()))

    def has(self, sid: str, room: Hashable) -> bool:
        return room == sid or room in self._joined.get(sid, ())

    def members(self, room: Hashable) -> list[Member]:
        """A copy: safe to walk over while others come and go."""
        found = self._members.get(room)
        if found is not None:
            return list(found.values())
        alone = self.everyone.get(room) if isinstance(room, str) else None
        return [] if alone is None else [alone]

    def select(self, target: Target) -> list[Member]:
        """Each client of the target once, in the order of joining. None is everyone, an empty list nobody."""
        if target is None:
            return list(self.everyone.values())
        if isinstance(target, str) or not isinstance(target, list | tuple | set | frozenset):
            return self.members(target)  # type: ignore[arg-type]
        return list(self._union(target))

    def _union(self, rooms: Iterable[Hashable]) -> Iterator[Member]:
        seen: set[int] = set()
        for room in rooms:
            for member in self.members(room):
                if id(member) not in seen:
                    seen.add(id(member))
                    yield member

    def _drop(self, sid: str, room: Hashable) -> None:
        members = self._members.get(room)
        if members is not None:
            members.pop(sid, None)
            if not members:
                del self._members[room]
