"""The clients of this node: who is where, and handing one emission to all who should get it.

An emission is encoded once for each dialect, however many receive it; the fan-out is a plain loop
without ``await``. The hub delivers here and only here: other nodes are the bus's business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from threading import Lock, get_ident
from time import perf_counter
from typing import Any

from realtime.encoding.codecs import Dialect, Encoded
from realtime.journal.away import Away
from realtime.journal.positions import Channel
from realtime.journal.said import Said
from realtime.metrics import Metrics
from realtime.rooms.emitted import BusState, Emitted
from realtime.rooms.index import Rooms, Target
from realtime.rooms.keeper import Keeper, Watching, is_nobody, noted, spoken
from realtime.session.session import Member, Session, State

logger = logging.getLogger("realtime")

JOINED = State.JOINED  # looking a member up in its Enum costs more than the comparison it is for
authorizing: ContextVar[Member | None] = ContextVar("authorizing", default=None)
"""The member whose authorise step this is: its sid may be that of somebody who is away, and what the step does to this
sid is done to who is coming; what others do, to who is away."""


class Hub:
    """All memberships of one server, by namespace. May be used from several threads: clients may live on several
    event loops (Starlette's TestClient gives each its own), and an application may emit from any."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.changing = Lock()
        self.namespaces: dict[str, Rooms[Member]] = {}
        self.keepers: dict[str, Keeper] = {}
        """Namespaces that keep what they say, for clients that come back."""
        self.away: Away | None = None
        """Who may come back: rooms may be changed for them, too."""
        self.moved: Callable[[Member], None] | None = None
        """Is told of members that enter or leave a room and may come back."""
        self._leaving: dict[tuple[str, str], Member] = {}
        metrics.rooms.read = self._count_rooms

    # --- the port Index, for sessions

    def attach(self, member: Member) -> None:
        with self.changing:
            rooms = self.namespaces.get(member.namespace)
            if rooms is None:
                rooms = self.namespaces[member.namespace] = Rooms()
            rooms.attach(member.sid, member)
            lane = self._lane(member.namespace)
            if lane is not None:
                lane.need(None, member.sid)

    def detach(self, member: Member) -> None:
        """Out of all rooms at once; until ``forget`` the disconnect hook can still ask which they were."""
        self._leaving[member.namespace, member.sid] = member
        with self.changing:
            rooms = self.namespaces.get(member.namespace)
            if rooms is not None and rooms.everyone.get(member.sid) is member:
                member.rooms_left = (member.sid, *rooms.detach(member.sid))
                if not rooms.everyone:
                    self.namespaces.pop(member.namespace, None)
                self._spare(member.namespace, None, *member.rooms_left)

    def forget(self, member: Member) -> None:
        if self._leaving.get((member.namespace, member.sid)) is member:
            del self._leaving[member.namespace, member.sid]

    def rename(self, member: Member, sid: str, *, keep_rooms: bool = True) -> bool:
        """A member that nobody knows yet gets another sid. False where somebody has it. Hold ``changing``."""
        rooms = self.namespaces.get(member.namespace)
        if rooms is None or rooms.everyone.get(member.sid) is not member or sid in rooms.everyone:
            return False  # by now its sid may be that of somebody else, who is let in as this client
        before = member.sid
        joined: tuple[Any, ...] = rooms.detach(before)
        member.sid = sid
        rooms.attach(sid, member)
        for room in joined if keep_rooms else ():
            rooms.join(sid, room)
        lane = self._lane(member.namespace)
        if lane is not None:
            lane.need(sid)
            lane.spare(before, *(() if keep_rooms else joined))
        return True

    def restore(self, member: Member, wanted: Iterable[Any]) -> None:
        """Back into the rooms it was in, and in no other. Hold ``changing``."""
        rooms, wanted = self.namespaces[member.namespace], dict.fromkeys(wanted)
        lane = self._lane(member.namespace)
        for room in rooms.rooms_of(member.sid):
            if room != member.sid and room not in wanted:
                rooms.leave(member.sid, room)
                self._spare(member.namespace, room)
        for room in wanted:
            with suppress(ValueError):  # by now the name is somebody's sid
                rooms.join(member.sid, room)
                if lane is not None:
                    lane.need(room)

    def _is_step(self, sid: str, namespace: str) -> bool:
        """Is this done to a member by its own authorise step?"""
        member = authorizing.get()
        return member is not None and member.sid == sid and member.namespace == namespace and member.trail.returning

    def is_watched(self, namespace: str, channel: Channel) -> bool:
        """Is anybody here in this channel? (The room of a sid, too.)"""
        rooms = self.namespaces.get(namespace)
        return rooms is not None and (channel is None or channel in rooms or channel in rooms.everyone)

    def is_awaited(self, namespace: str, channel: Channel) -> bool:
        """May somebody come back into this channel?"""
        return channel is not None and self.away is not None and self.away.is_in(namespace, channel)

    def _lane(self, namespace: str) -> Watching | None:
        """Who has to know which channels there are members of, where other nodes speak to them, too."""
        keeper = self.keepers.get(namespace)
        return None if keeper is None else keeper.lane

    def _spare(self, namespace: str, *channels: Any) -> None:
        lane = self._lane(namespace)
        if lane is not None:
            lane.spare(*channels)

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
        with self.changing:
            rooms, keeper = self.namespaces.get(namespace), self.keepers.get(namespace)
            if keeper is not None:
                keeper.check_room(room)
            step = keeper is not None and self._is_step(sid, namespace)
            if keeper is not None and not step and self.away is not None and self.away.has(namespace, sid):
                keeper.need(room)
                return self.away.enter(namespace, sid, room, keeper.joins_after(room))
            if rooms is None:
                raise ValueError("sid is not connected to requested namespace")
            changed = rooms.join(sid, room)
            trail = rooms.everyone[sid].trail if keeper is not None else None
            if trail is not None and keeper is not None and (changed or (step and trail.is_due(room))):
                trail.entered(room, keeper.joins_after(room), granted=step)
                self._moved(rooms.everyone[sid])
            if changed and keeper is not None:
                keeper.need(room)
            return changed

    def leave(self, sid: str, namespace: str, room: Any) -> bool:
        """True when this was a change."""
        with self.changing:
            return self._leave(sid, namespace, room)

    def _leave(self, sid: str, namespace: str, room: Any) -> bool:
        rooms, keeper = self.namespaces.get(namespace), self.keepers.get(namespace)
        step = keeper is not None and self._is_step(sid, namespace)
        if keeper is not None and not step and self.away is not None and self.away.has(namespace, sid):
            return self.away.leave(namespace, sid, room, keeper.log.last)
        if rooms is None or not rooms.leave(sid, room):
            return False
        self._spare(namespace, room)
        if keeper is not None and (trail := rooms.everyone[sid].trail) is not None:
            trail.left(room, keeper.log.last, granted=step)
            self._moved(rooms.everyone[sid])
        return True

    def _moved(self, member: Member) -> None:
        if self.moved is not None and member.state is JOINED:
            self.moved(member)

    def close_room(self, room: Any, namespace: str) -> None:
        """Everybody here leaves it. Raises ValueError for the room of a sid."""
        with self.changing:
            rooms, keeper = self.namespaces.get(namespace), self.keepers.get(namespace)
            self._spare(namespace, room)
            for sid in rooms.close(room) if rooms is not None else ():
                trail = rooms.everyone[sid].trail if rooms is not None else None
                if trail is not None and keeper is not None and rooms is not None:
                    trail.left(room, keeper.log.last)
                    self._moved(rooms.everyone[sid])
            if keeper is None:
                return
            if self.away is not None:
                for sid in self.away.in_room(namespace, room):
                    self.away.leave(namespace, sid, room, keeper.log.last)

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
        """Hand this to everybody here whom it concerns; answers how many that were, an ``Emitted`` where it was kept.

        Raises UsageError when the arguments cannot be encoded; then nobody got anything.
        """
        self._metrics.emissions.add(namespace)
        keeper, kept = self.keepers.get(namespace), None
        if keeper is None or volatile or keeper.lane is not None:
            members = self.select(namespace, target)
        else:
            members, kept = self._keep(keeper, event, args, target, skip)
        if skip:
            members = [member for member in members if member.sid not in skip]
        place = None if kept is None else kept[1]
        if not members:
            return 0 if place is None else Emitted.made(0, BusState.NONE, place, due=True)
        started = perf_counter()
        dialects = {member.session.dialect for member in members}
        forms: dict[Any, Encoded | None]
        if keeper is None:
            forms = {each: each.event(namespace, event, args) for each in dialects}
        elif kept is None:
            forms = {each: noted(each, namespace, event, args, keeper.mark) for each in dialects}
        else:
            forms = {each: spoken(each, namespace, *kept) for each in dialects}
        reached = self._hand_out(namespace, members, forms, started, volatile, key)
        return reached if place is None else Emitted.made(reached, BusState.NONE, place, due=True)

    def deliver_said(
        self, namespace: str, said: Said, mark: str, members: Sequence[Member], *, volatile: bool, key: str | None
    ) -> int:
        """The same with what was encoded before, perhaps by another node; ``mark`` is the offset it is given."""
        self._metrics.emissions.add(namespace)
        if not members:
            return 0
        started = perf_counter()
        dialects = {member.session.dialect for member in members}
        forms = {each: self._speak(each, namespace, said, mark) for each in dialects}
        return self._hand_out(namespace, members, forms, started, volatile, key)

    def _speak(self, dialect: Dialect, namespace: str, said: Said, mark: str) -> Encoded | None:
        """It is said to others already: a dialect that has no words for it is in nobody's way."""
        try:
            return spoken(dialect, namespace, said, mark)
        except Exception:
            logger.exception("%s of %s cannot be said in %s", said.name, namespace, dialect.name)
            self._metrics.drops.add("dialect")
            return None

    def _hand_out(
        self,
        namespace: str,
        members: Sequence[Member],
        forms: Mapping[Any, Encoded | None],
        started: float,
        volatile: bool,
        key: str | None,
    ) -> int:
        reached = 0
        thread = get_ident()
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

    def _keep(
        self, keeper: Keeper, event: str, args: Sequence[Any], target: Target, skip: Collection[str]
    ) -> tuple[list[Member], tuple[Said, str] | None]:
        """Who is to hear it, and the offset that it is given; nobody comes or goes between the two."""
        with self.changing:
            members = self.select(keeper.namespace, target)
            if not members and is_nobody(target):
                return members, None
            kept = keeper.keep(event, args, target, skip)
        if keeper.returning:
            members = [member for member in members if member.trail is None or not member.trail.returning]
        return members, kept

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
