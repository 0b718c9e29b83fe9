"""Pure: no I/O, no clock, no task. What is written down of one client while it is connected, should it come back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from realtime.journal.away import Absent
from realtime.journal.log import Past
from realtime.journal.passage import Passage
from realtime.journal.positions import Channel, DraftId, Entry, Position
from realtime.journal.resume import Record, Refused, Stay, channels_of, hearing, hears_all, starting_point

LEFT_LIMIT: Final = 100
"""Rooms left that are remembered; with more of them, who comes back with an older position starts clean."""


@dataclass(slots=True)
class Offer:
    """What a client showed that wants to come back."""

    pid: str
    position: Position | None
    broken: bool = False
    """It showed something that is no position."""


class Wanted(NamedTuple):
    """What somebody who comes is to be told: what was said in these channels (each with the offset after which it is in
    it) after a place, as far as it hears of it."""

    channels: Mapping[Channel, int]
    start: Position
    heard: Callable[[Entry], bool]
    record: Record

    def of(self, passage: Passage) -> Iterable[Entry]:
        """What of it it hears: the passage itself, where that is all of it."""
        sid = self.record.sid
        if sid not in passage.skipped and hears_all(self.record, passage.channels, self.start.offset):
            return passage
        return filter(self.heard, passage)


class Trail:
    """One member that may come back."""

    __slots__ = (
        "_base", "_beforehand", "_changes", "_due", "_left", "_moved", "_proved", "_stays", "_told", "absent",
        "catching_up", "confirmed", "kept", "meanwhile", "missed", "offer", "owner", "pid", "reason", "record",
        "returning", "taken", "unproved", "upto",
    )  # fmt: skip

    def __init__(self, pid: str, base: Position, offer: Offer | None = None) -> None:
        self.pid = pid
        self.offer = offer
        self.reason: str | None = None
        """Why it starts clean, if it had offered to go on."""
        self.record: Record | None = None
        """Who it was, while it is being let in again and after."""
        self.upto = base.offset
        """Entries up to here are told before CONNECT, later ones after it."""
        self.returning = False
        """It is being let in again: what is kept meanwhile is in the log, and is told from there."""
        self.missed: Iterable[Entry] = ()
        """What it is to be told before CONNECT, each made when there is room for it. A ``Passage`` where others missed
        the same."""
        self.meanwhile: Sequence[Entry] = ()
        """What is told after it: what was said while it was let in."""
        self.taken = False
        """It has left: its session was kept, goes on elsewhere, or is over."""
        self.kept = False
        """It may come back."""
        self.owner: Any = None
        """Whom it says it is, while that one is still connected or it is clear that it cannot go on."""
        self.start(pid, base)

    @property
    def base(self) -> Position:
        """From here on it has heard what was for it."""
        return self._base

    def start(self, pid: str, base: Position) -> None:
        """As somebody who was never here before."""
        self.pid = pid
        self.record = None
        self.absent: Absent | None = None
        self.confirmed = False
        """It is who it says it is, and nobody else can be any more."""
        self.upto = base.offset
        self._base = base
        self._moved = False
        self._told = 0
        """The newest that it was told from a log that lies elsewhere."""
        self.catching_up = 0
        """Replays on a wish of its own that are not through yet."""
        self._stays: dict[Any, Stay] = {}
        self._left: list[Stay] = []
        self._due: dict[Any, list[Stay]] = {}
        """What the authorise step had entered, until it does so again."""
        self._changes: list[tuple[bool, Any, int, bool]] = []
        """What the authorise step (the last is True), and until it is confirmed others here, have entered and left."""
        self._beforehand: set[DraftId] = set()
        """What it is told after CONNECT without a place: not from the log as well."""
        self._proved = 0
        self.unproved: str | None = None
        """Why it cannot be proved complete: ``alone`` (it heard something that has no place yet), ``lost``."""

    def hears_from(self, room: Any, position: Position) -> None:
        """It came before it was known from where on this room (or, None, everything of its own) comes in: from here."""
        if room is not None:
            stay, record = self._stays.get(room), self.record
            restored = record is not None and any(each.room == room for each in record.stays)
            if stay is not None and not restored and stay.after < position.offset:
                self._stays[room] = stay._replace(after=position.offset)
        elif self.record is None and (self._base.epoch != position.epoch or self._base.offset < position.offset):
            self._base = position
            self.upto = max(self.upto, position.offset)

    def waits(self, newcomers: bool) -> bool:
        """Is it being let in, and told from the log what is said meanwhile? ``newcomers``: for who is new this will not
        be there in time."""
        return self.returning and not (newcomers and self.record is None)

    def heard_alone(self, id: DraftId) -> None:
        """It was told something that has no place yet."""
        self.unproved = self.unproved or "alone"
        if self.returning:
            self._beforehand.add(id)

    def proved(self, upto: int) -> None:
        """What it heard without a place has one now, this or an earlier one: who shows an older offset starts clean."""
        if self.unproved == "alone":
            self.unproved = None
            if self.returning:
                self._proved = upto  # what others said before is still to be looked up
            else:
                self._forget_before(upto)

    def go_on(self, absent: Absent, upto: int) -> None:
        """As who it was, while it is being let in: its rooms, and what it heard in them."""
        self.absent = absent
        self.pid = absent.record.pid
        self.upto = upto
        self.returning = True
        self._changes = []
        self._beforehand, self._proved, self.unproved = set(), 0, None
        self._take_up(absent.record)

    def confirm(self, record: Record) -> None:
        """As who it was from now on. Its rooms may have been changed meanwhile: that counts, and what has been entered
        and left here since then."""
        self.confirmed = True
        changes, self._changes = self._changes, []
        self._take_up(record)
        for entered, room, offset, granted in changes:
            if entered:
                self.entered(room, offset, granted=granted)
            else:
                self.left(room, offset, granted=granted)
        self._changes.clear()

    def _take_up(self, record: Record) -> None:
        self.record = record
        seen = self.offer.position if self.offer is not None else None
        self._base = max(record.base, seen) if seen is not None else record.base
        self._moved = False
        self._stays, self._left, self._due = {}, [], {}
        for stay in record.stays:
            if stay.granted:
                self._due.setdefault(stay.room, []).append(stay)
            else:
                self._restore(stay)

    def _restore(self, stay: Stay) -> None:
        if stay.until is None:
            self._stays[stay.room] = stay
        elif stay.until > self._base.offset:
            self._left.append(stay)

    @property
    def rooms(self) -> list[Any]:
        """Those it is in."""
        return list(self._stays)

    def is_due(self, room: Any) -> bool:
        """Was it in this room because the authorise step had entered it, and has not done so again?"""
        return room in self._due

    def entered(self, room: Any, after: int, *, granted: bool = False) -> None:
        """``granted``: by its authorise step."""
        if self.record is not None and (granted or not self.confirmed):
            self._changes.append((True, room, after, granted))
        for stay in self._due.pop(room, ()) if granted else ():
            self._restore(stay)
        self._stays.setdefault(room, Stay(room, after, granted=granted))

    def asked_for(self, room: Any) -> None:
        """It named this room itself."""
        stay = self._stays.get(room)
        if stay is not None:
            self._stays[room] = stay._replace(asked=True)

    def rooms_asked_for(self) -> list[Any]:
        """Those it is in and had named itself."""
        return [stay.room for stay in self._stays.values() if stay.asked]

    def left(self, room: Any, until: int, *, granted: bool = False) -> None:
        """``granted``: by its authorise step."""
        if self.record is not None and (granted or not self.confirmed):
            self._changes.append((False, room, until, granted))
        stay = self._stays.pop(room, None)
        if stay is None or stay.after >= until:
            return  # nothing was said in it meanwhile
        self._left.append(stay._replace(until=until))
        if len(self._left) > LEFT_LIMIT:
            forgotten = self._left.pop(0)
            assert forgotten.until is not None
            self._forget_before(forgotten.until)

    def _forget_before(self, offset: int) -> None:
        """Who shows an older offset starts clean, and so does who was given none."""
        if offset > self._base.offset:
            self._base = Position(self._base.epoch, offset)
            self._moved = True

    def catch_up(self, upto: int) -> None:
        """It is told at its wish what was said before it came to a room: the last of that carries the offset ``upto``,
        what is before it less. Who is cut off before that one starts clean: its offset does not tell where it is."""
        self._forget_before(upto)
        self.catching_up += 1

    def caught_up(self) -> None:
        """The last of it leaves."""
        self.catching_up -= 1

    def wants(self, log: Past, sid: str, namespace: str) -> Wanted | str:
        """What it is to be told. Answers why it may not go on as who it was, where that is so."""
        if self.record is None:
            now, start = self.record_of(log, sid, namespace, "", "", b""), self._base
        else:
            now = self.as_it_is(log)
            found = starting_point(now, self.offer.position if self.offer is not None else None)
            if isinstance(found, Refused):
                return found.reason
            start = found
        return Wanted(channels_of(now), start, hearing(now), now)

    def look_up(self, log: Past, sid: str, namespace: str) -> str | None:
        """What it missed, and what was said for it while it was let in. Answers why it may not go on as who it was."""
        wanted = self.wants(log, sid, namespace)
        if isinstance(wanted, str):
            return wanted
        channels, start, heard, _ = wanted
        missed = log.since_in(channels, start, self.upto)
        if missed is None:  # somebody new: it took a log's length to let it in
            return None if self.record is None else "gone"
        after = log.since_in(channels, max(start, start._replace(offset=self.upto)))
        self.missed, self.meanwhile = wanted.of(missed), list(filter(heard, after or ()))
        return None

    def tell(self, entries: Iterable[Entry], wanted: Wanted) -> None:
        """The same, with what was found elsewhere of what it wants."""
        known, self._beforehand = self._beforehand, set()
        self._forget_before(self._proved)
        if isinstance(entries, Passage) and not known and entries.last <= self.upto:
            entries = wanted.of(entries)
            if isinstance(entries, Passage):
                self.missed, self._told = entries, max(self._told, entries.last)
                return
        told = [entry for entry in filter(wanted.heard, entries) if entry.draft.id not in known]
        self.missed = iter([entry for entry in told if entry.offset <= self.upto])
        self.meanwhile = [entry for entry in told if entry.offset > self.upto]
        self._told = max(self._told, *[entry.offset for entry in told]) if told else self._told

    def as_it_is(self, log: Past) -> Record:
        """Who it was, in the rooms that it is in now."""
        assert self.record is not None
        now = self.record_of(log, self.record.sid, self.record.namespace, "", "", b"")
        return self.record._replace(stays=now.stays, base=self._base)

    def record_of(self, log: Past, sid: str, namespace: str, node: str, user: str, data: bytes) -> Record:
        """As it is now."""
        heads = [head for stay in self._stays.values() if (head := log.head(stay.room)) > stay.after]
        heads += [self._told, log.head(None), log.head(sid), *(stay.until or 0 for stay in self._left)]
        stays = (*self._left, *self._stays.values())
        sent = Position(log.epoch, max(self._base.offset, *heads))
        incomplete = "replay" if self.catching_up else self.unproved
        return Record(
            self.pid, sid, namespace, node, user, data, stays, self._base, sent, log.newest, incomplete, self._moved
        )  # fmt: skip
