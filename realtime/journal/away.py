"""Pure: no I/O, no clock, no task. Who is away and may come back: found by pid, by sid, and by room.

Bounded, and fair: what is known of them is charged to those they are of (``Absent.of``: a user or an address), and
where it is too much, whoever has the most gives up its first. A flood of strangers pushes out itself.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, Final

from realtime.journal.resume import Record, Stay

STALE_TIMES: Final = 1_000
"""Times of those who are back, before they are swept out."""
ABSENT_BYTES: Final = 1_000
"""What one who is away costs beside its data and its rooms (measured on CPython 3.11, as the two below)."""
NOTE_BYTES: Final = 4_000
"""The same with a note: its membership and its connection are not given up before it."""
OPEN_BYTES: Final = 460
"""A room that it is in, beside the name; it is found by the room, too."""
LEFT_BYTES: Final = 150
"""A room that it has left."""


@dataclass(slots=True)
class Absent:
    """A client that is away: what is known of it, until when it may come back, and a note of its keeper's."""

    record: Record
    until: float
    note: Any = None
    of: str = ""
    """Who is charged for it."""
    held: bool = False
    """Somebody is just being let in as this client: its time stands still, and nobody else may."""
    size: int = 0
    """Bytes, roughly, as ``Away`` counted them."""


class _Share:
    """What one user or address has here."""

    __slots__ = ("pids", "size")

    def __init__(self) -> None:
        self.size = 0
        self.pids: OrderedDict[str, None] = OrderedDict()


class Away:
    """Over ``limit`` clients or ``size_bytes`` of what is known of them, the first to leave of those who have the most
    here is given up."""

    def __init__(self, limit: int = 100_000, size_bytes: int = 1 << 27) -> None:
        self._limit = limit
        self._limit_bytes = size_bytes
        self.size = 0
        """Bytes, roughly."""
        self._absent: OrderedDict[str, Absent] = OrderedDict()
        self._times: list[tuple[float, str]] = []
        self._by_sid: dict[tuple[str, str], str] = {}
        self._in_room: dict[tuple[str, Any], set[str]] = {}
        self._shares: dict[str, _Share] = {}
        self._largest: list[tuple[int, str]] = []
        """Shares by size (negative, the largest first), as they were when they grew last."""

    def __len__(self) -> int:
        return len(self._absent)

    def keep(self, absent: Absent) -> list[Absent]:
        """It left. Answers who had to be given up for it."""
        record = absent.record
        self.claim(record.pid)
        self._absent[record.pid] = absent
        absent.held = False
        absent.size = 0
        self._shares.setdefault(absent.of, _Share()).pids[record.pid] = None
        self._grow(absent, _size(absent))
        self._remember_time(absent.until, record.pid)
        self._by_sid[record.namespace, record.sid] = record.pid
        for stay in record.stays:
            if stay.until is None:
                self._in_room.setdefault((record.namespace, stay.room), set()).add(record.pid)
        given_up = []
        while len(self._absent) > self._limit or self.size > self._limit_bytes:
            found = self.claim(next(iter(self._most().pids)))
            given_up += [found] if found is not None else []
        return given_up

    def claim(self, pid: str) -> Absent | None:
        """It is back, or given up: out of here. None for a pid that is not here."""
        absent = self._absent.pop(pid, None)
        if absent is None:
            return None
        self.size -= absent.size
        share = self._shares[absent.of]
        share.size -= absent.size
        del share.pids[pid]
        if not share.pids:
            del self._shares[absent.of]
        record = absent.record
        del self._by_sid[record.namespace, record.sid]
        for stay in record.stays:
            if stay.until is None:
                self._out_of(record.namespace, stay.room, pid)
        return absent

    def hold(self, pid: str, now: float) -> Absent | None:
        """Somebody asks to be let in as this client. None where there is none (any more), or somebody else asks."""
        absent = self._absent.get(pid)
        if absent is None or absent.held or absent.until <= now:
            return None
        absent.held = True
        return absent

    def release(self, absent: Absent) -> None:
        """That came to nothing: it is away as before."""
        if self._absent.get(absent.record.pid) is absent and absent.held:
            absent.held = False
            self._remember_time(absent.until, absent.record.pid)

    def holds(self, absent: Absent) -> bool:
        """Is it still here, and held?"""
        return self._absent.get(absent.record.pid) is absent and absent.held

    def expire(self, now: float, most: int = 1 << 31) -> list[Absent]:
        """Those whose time is over, out of here; so many at once."""
        gone: list[Absent] = []
        while len(gone) < most and (when := self.next_expiry()) is not None and when <= now:
            absent = self.claim(heappop(self._times)[1])
            gone += [absent] if absent is not None else []
        return gone

    def next_expiry(self) -> float | None:
        """When the first of them is given up."""
        times = self._times
        while times and not self._is_due(*times[0]):
            heappop(times)
        return times[0][0] if times else None

    def _is_due(self, until: float, pid: str) -> bool:
        absent = self._absent.get(pid)
        return absent is not None and absent.until == until and not absent.held

    def _remember_time(self, until: float, pid: str) -> None:
        heappush(self._times, (until, pid))
        if len(self._times) > 2 * len(self._absent) + STALE_TIMES:
            self._times = [(absent.until, each) for each, absent in self._absent.items() if not absent.held]
            heapify(self._times)

    def _grow(self, absent: Absent, size: int) -> None:
        absent.size += size
        self.size += size
        share = self._shares[absent.of]
        share.size += size
        heappush(self._largest, (-share.size, absent.of))
        if len(self._largest) > 2 * len(self._shares) + STALE_TIMES:
            self._largest = [(-share.size, of) for of, share in self._shares.items()]
            heapify(self._largest)

    def _most(self) -> _Share:
        """Who has the most. A share that has shrunk is still noted as it was, and put right when it comes first."""
        while True:
            size, of = self._largest[0]
            share = self._shares.get(of)
            if share is None:
                heappop(self._largest)
            elif share.size != -size:
                heapreplace(self._largest, (-share.size, of))
            else:
                return share

    def find(self, pid: str) -> Absent | None:
        """Whoever is away under this pid; it stays so."""
        return self._absent.get(pid)

    def has(self, namespace: str, sid: str) -> bool:
        return (namespace, sid) in self._by_sid

    def enter(self, namespace: str, sid: str, room: Any, after: int) -> bool:
        """It is put into a room meanwhile. True when this was a change."""
        absent = self._find(namespace, sid)
        if absent is None:
            return False
        if absent.record.pid in self._in_room.get((namespace, room), ()):  # from now on not by its authorise step alone
            stays = [s._replace(granted=False) if s.room == room else s for s in absent.record.stays]
            absent.record = absent.record._replace(stays=tuple(stays))
            return False
        stay = Stay(room, after)
        absent.record = absent.record._replace(stays=(*absent.record.stays, stay))
        self._grow(absent, _size_of(stay))
        self._in_room.setdefault((namespace, room), set()).add(absent.record.pid)
        return True

    def leave(self, namespace: str, sid: str, room: Any, until: int) -> bool:
        """It is taken out of a room meanwhile. True when this was a change."""
        absent = self._find(namespace, sid)
        if absent is None or absent.record.pid not in self._in_room.get((namespace, room), ()):
            return False
        record = absent.record
        stays = [s._replace(until=until) if s.room == room and s.until is None else s for s in record.stays]
        absent.record = record._replace(stays=tuple(stays))
        self._out_of(namespace, room, record.pid)
        return True

    def in_room(self, namespace: str, room: Any) -> list[str]:
        """The sids of those that are in a room; of the one itself, where the room is its sid."""
        pids = set(self._in_room.get((namespace, room), ()))
        own = self._by_sid.get((namespace, room)) if isinstance(room, str) else None
        return [self._absent[pid].record.sid for pid in (pids | {own} if own is not None else pids)]

    def is_in(self, namespace: str, room: str) -> bool:
        """Is anybody who is away in this room, or is it its own?"""
        return (namespace, room) in self._in_room or (namespace, room) in self._by_sid

    def pid_of(self, namespace: str, sid: str) -> str | None:
        return self._by_sid.get((namespace, sid))

    def _find(self, namespace: str, sid: str) -> Absent | None:
        pid = self._by_sid.get((namespace, sid))
        return None if pid is None else self._absent[pid]

    def _out_of(self, namespace: str, room: Any, pid: str) -> None:
        pids = self._in_room.get((namespace, room))
        if pids is not None:
            pids.discard(pid)
            if not pids:
                del self._in_room[namespace, room]


def _size(absent: Absent) -> int:
    record = absent.record
    data = len(record.data) + len(record.user)
    size = ABSENT_BYTES + data + sum([_size_of(stay) for stay in record.stays])
    return size if absent.note is None else size + NOTE_BYTES + data


def _size_of(stay: Stay) -> int:
    room: Any = stay.room  # any value, on one node
    return (len(room) if isinstance(room, str) else 0) + (OPEN_BYTES if stay.until is None else LEFT_BYTES)
