"""The clients of this node: who is where, and handing one emission to all who should get it.

An emission is encoded once for each dialect, however many receive it; the fan-out is a plain loop
without ``await``. The hub delivers here and only here: other nodes are the bus's business.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from threading import Lock, get_ident
from time import perf_counter
from typing import Any

from realtime.codecs import Encoded
from realtime.metrics import Metrics
from realtime.rooms import Rooms, Target
from realtime.session import Member, Session, State

JOINED = State.JOINED  # looking a member up in its Enum costs more than the comparison it is for


class Hub:
    """All memberships of one server, by namespace. May be used from several threads: clients may live on several
    event loops (Starlette's TestClient gives each its own), and an application may emit from any."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._changing = Lock()
        self.namespaces: dict[str, Rooms[Member]] = {}
        self._leaving: dict[tuple[str, str], Member] = {}
        metrics.rooms.read = self._count_rooms

    # --- the port Index, for sessions

    def attach(self, member: Member) -> None:
        with self._changing:
            rooms = self.namespaces.get(member.namespace)
            if rooms is None:
                rooms = self.namespaces[member.namespace] = Rooms()
            rooms.attach(member.sid, member)

    def detach(self, member: Member) -> None:
        """Out of all rooms at once; until ``forget`` the disconnect hook can still ask which they were."""
        self._leaving[member.namespace, member.sid] = member
        with self._changing:
            rooms = self.namespaces.get(member.namespace)
            if rooms is not None:
                member.rooms_left = (member.sid, *rooms.detach(member.sid))
                if not rooms.everyone:
                    self.namespaces.pop(member.namespace, None)

    def forget(self, member: Member) -> None:
        self._leaving.pop((member.namespace, member.sid), None)

    # --- looking up

    def find(self, sid: str, namespace: str) -> Member | None:
        """A client of this node, also while its disconnect hook runs."""
        rooms = self.namespaces.get(namespace)
        member = rooms.everyone.get(sid) if rooms is not None else None
        return member if member is not None else self._leaving.get((namespace, sid))

    def is_connected(self, sid: str, namespace: str) -> bool:
        member = self.find(sid, namespace)
        return member is not None and member.state is State.JOINED

    def rooms_of(self, sid: str, namespace: str) -> tuple[Any, ...]:
        rooms = self.namespaces.get(namespace)
        if rooms is not None and sid in rooms.everyone:
            return rooms.rooms_of(sid)
        member = self._leaving.get((namespace, sid))
        return member.rooms_left if member is not None else ()

    def select(self, namespace: str, target: Target) -> list[Member]:
        """Each client of the target once. None is everyone; an empty list or string is nobody."""
        rooms = self.namespaces.get(namespace)
        return [] if rooms is None else rooms.select(target)

    def count(self, namespace: str, target: Target) -> int:
        return sum(member.state is State.JOINED for member in self.select(namespace, target))

    # --- rooms

    def join(self, sid: str, namespace: str, room: Any) -> bool:
        """True when this was a change. Raises ValueError as ``Rooms.join`` does."""
        with self._changing:
            rooms = self.namespaces.get(namespace)
            if rooms is None:
                raise ValueError("sid is not connected to requested namespace")
            return rooms.join(sid, room)

    def leave(self, sid: str, namespace: str, room: Any) -> bool:
        """True when this was a change."""
        with self._changing:
            rooms = self.namespaces.get(namespace)
            return rooms is not None and rooms.leave(sid, room)

    def close_room(self, room: Any, namespace: str) -> None:
        """Everybody here leaves it. Raises ValueError for the room of a sid."""
        with self._changing:
            rooms = self.namespaces.get(namespace)
            if rooms is not None:
                rooms.close(room)

    # --- delivering

    def deliver(
        self,
        namespace: str,
        event: str,
        args: Sequence[Any],
        target: Target = None,
        skip: Collection[str] = (),
        *,
        volatile: bool = False,
        key: str | None = None,
    ) -> int:
        """Hand this to everybody here whom it concerns; answers how many that were.

        Raises UsageError when the arguments cannot be encoded; then nobody got anything.
        """
        self._metrics.emissions.add(namespace)
        members = self.select(namespace, target)
        if skip:
            members = [member for member in members if member.sid not in skip]
        if not members:
            return 0
        started = perf_counter()
        reached = 0
        thread = get_ident()
        dialects = {member.session.dialect for member in members}
        forms: dict[Any, Encoded | None] = {each: each.event(namespace, event, args) for each in dialects}
        for member in members:
            session = member.session
            encoded = forms[session.dialect]
            if encoded is None:
                continue
            reached += 1
            outbox = session.outbox
            way = outbox.way
            if way is None or member.state is not JOINED or session.thread != thread:
                member.push(encoded, volatile, key)
            elif not way(encoded):  # ``push`` without its four calls: this is where a server spends its life
                outbox.way = None
        self._metrics.events_out.add(namespace, amount=reached)
        self._metrics.fanout_seconds.observe(perf_counter() - started, namespace)
        return reached

    def ask(self, members: Sequence[Member], event: str, args: Sequence[Any], callback: Callable[..., Any]) -> int:
        """The same with an acknowledgement wanted: each recipient has an id of its own, and is encoded for alone.

        A client whose dialect has no acknowledgements is told the event all the same. Where nothing is read from a
        client, a ``callback`` that minds (its method ``blocked``) is told at once, and the client nothing.
        """
        asked = 0
        blocked: Callable[[], None] | None = getattr(callback, "blocked", None)
        for member in members:
            session: Session = member.session
            if blocked is not None and session.inbox.full:
                blocked()
                asked += 1
                continue
            id = member.expect(callback)
            encoded = session.dialect.event(member.namespace, event, args, id)
            if encoded is not None:
                member.push(encoded)
                asked += 1
        return asked

    def _count_rooms(self) -> dict[tuple[str, ...], float]:
        return {(namespace,): float(len(rooms)) for namespace, rooms in list(self.namespaces.items())}
