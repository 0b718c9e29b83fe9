"""Sessions of one process: who may come back, for as many nodes as live in it (tests have several)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from threading import RLock
from time import monotonic
from typing import Final

from adapters.memory.mailbox import Mailbox
from realtime.errors import OutsideError
from realtime.journal.away import Absent, Away
from realtime.journal.recent import Recent
from realtime.journal.resume import Record, changed
from realtime.ports import Claimed, Expired

CHANGES_LIMIT: Final = 1_000
"""For one client that is away."""


class MemoryStore:
    """What the nodes share."""

    def __init__(self, clock: Callable[[], float] = monotonic, limit: int = 100_000) -> None:
        self.clock = clock
        self.lock = RLock()
        self.away = Away(limit)
        self.nodes: dict[str, MemorySessions] = {}
        self.owners: Recent[str] = Recent(limit, 3_600)
        """Whose a session is that was claimed; nobody's ("") if it was forgotten."""
        self.changes: dict[str, list[tuple[bool, str, int]]] = {}
        """Rooms that were entered (else left) for somebody since it was last kept connected."""

    def has_changed(self, pid: str | None, change: tuple[bool, str, int]) -> None:
        if pid is not None and self.away.find(pid) is not None:
            self.changes.setdefault(pid, []).append(change)
            del self.changes[pid][:-CHANGES_LIMIT]

    def forget_changes(self) -> None:
        """Of those who are not here any more."""
        if len(self.changes) > len(self.away):
            self.changes = {pid: made for pid, made in self.changes.items() if self.away.find(pid) is not None}

    def tell(self, node: str, notice: Claimed | Expired) -> None:
        if node in self.nodes:
            self.nodes[node].hear(notice)

    def expire(self) -> None:
        """Whose node has ended is told to another."""
        for absent in self.away.expire(self.clock()):
            node = absent.record.node
            self.tell(node if node in self.nodes else next(iter(self.nodes), node), Expired(absent.record))


class MemorySessions:
    """Keeps the port ``Sessions``. May be used from several threads and event loops; ``notices`` on one at a time."""

    def __init__(self, node: str, store: MemoryStore | None = None) -> None:
        self.node = node
        self._store = store or MemoryStore()
        self._mailbox: Mailbox[Claimed | Expired] = Mailbox(list)
        self._closed = False
        self._store.nodes[node] = self

    def hear(self, notice: Claimed | Expired) -> None:
        """Something for this node."""
        self._mailbox.put(notice)

    def ring(self) -> None:
        """Times have changed."""
        self._mailbox.ring()

    async def keep(self, records: Sequence[Record], seconds: float, *, away: bool = False) -> Sequence[str]:
        store = self._open()
        others: list[str] = []
        with store.lock:
            now = store.clock()
            for record in records:
                owner = store.owners.get(record.pid, now)
                if owner is not None and owner != record.node:
                    others.append(record.pid)
                    continue
                if not away:
                    store.changes.pop(record.pid, None)
                for change in store.changes.get(record.pid, ()):
                    record = changed(record, *change)
                for given_up in store.away.keep(Absent(record, now + seconds)):
                    store.tell(given_up.record.node, Expired(given_up.record))
            store.forget_changes()
            for each in store.nodes.values():
                each.ring()
        return others

    async def look(self, pid: str) -> Record | None:
        store = self._open()
        with store.lock:
            store.expire()
            absent = store.away.find(pid)
            return None if absent is None else absent.record

    async def claim(self, pid: str, node: str) -> Record | None:
        store = self._open()
        with store.lock:
            store.expire()
            absent = store.away.claim(pid)
            if absent is None:
                return None
            store.changes.pop(pid, None)
            store.owners.put(pid, node, store.clock())
            if absent.record.node != node:
                store.tell(absent.record.node, Claimed(pid))
            return absent.record

    async def forget(self, pids: Sequence[str]) -> None:
        store = self._open()
        with store.lock:
            for pid in pids:
                store.away.claim(pid)
                store.owners.put(pid, "", store.clock())

    async def enter(self, namespace: str, sid: str, room: str, after: int) -> bool:
        store = self._open()
        with store.lock:
            store.has_changed(store.away.pid_of(namespace, sid), (True, room, after))
            return store.away.enter(namespace, sid, room, after)

    async def leave(self, namespace: str, sid: str | None, room: str, until: int) -> int:
        store = self._open()
        with store.lock:
            sids = store.away.in_room(namespace, room) if sid is None else [sid]
            for each in sids:
                store.has_changed(store.away.pid_of(namespace, each), (False, room, until))
            return sum(store.away.leave(namespace, each, room, until) for each in sids)

    async def forget_sid(self, namespace: str, sid: str) -> bool:
        store = self._open()
        with store.lock:
            pid = store.away.pid_of(namespace, sid)
            await self.forget([] if pid is None else [pid])
            return pid is not None

    async def forget_room(self, namespace: str, room: str) -> int:
        store = self._open()
        with store.lock:
            pids = [store.away.pid_of(namespace, sid) for sid in store.away.in_room(namespace, room)]
            await self.forget([pid for pid in pids if pid is not None])
            return len(pids)

    async def notices(self) -> AsyncIterator[Claimed | Expired]:
        store = self._store
        while not self._mailbox.closed:
            with store.lock:
                store.expire()
                when = store.away.next_expiry()
            notice = await self._mailbox.take(None if when is None else max(0.0, when - store.clock()))
            if notice is not None:
                yield notice

    async def close(self) -> None:
        self._closed = True
        self._store.nodes.pop(self.node, None)
        self._mailbox.close()

    def _open(self) -> MemoryStore:
        if self._closed:
            raise OutsideError("The session store is closed")
        return self._store
