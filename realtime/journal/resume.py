"""Pure: no I/O, no clock, no task. What is known about a client that may come back, and whether it may go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from realtime.journal.positions import Channel, Entry, Position


class Stay(NamedTuple):
    """A client in a room: it hears of the room's entries with ``after < offset <= until``."""

    room: str
    after: int
    until: int | None = None
    """None: it is in it still."""
    asked: bool = False
    """Entered by a name that the client chose: the rule is asked again when it comes back."""
    granted: bool = False
    """Entered in the authorise step: whoever comes back is in it, and hears of it, if that step enters it again."""


class Record(NamedTuple):
    """One client in one namespace, as it was when it was last known to be complete."""

    pid: str
    """Its secret; whoever shows it is this client."""
    sid: str
    namespace: str
    node: str
    """Where it was connected last."""
    user: str
    """Who it was: the same must come back. Opaque."""
    data: bytes
    """JSON of the dictionary that the application fills."""
    stays: tuple[Stay, ...]
    """Rooms it is in, and those it left after ``base``."""
    base: Position
    """Nothing before this is known of it: where it connected, or from where on its stays are."""
    sent: Position
    """The newest entry that was for it (or a later place). Who has seen this has seen all up to ``position``."""
    position: Position
    """Everything for it up to here was handed to its connection."""
    incomplete: str | None = None
    """Why it cannot be proved complete."""
    moved: bool = False
    """``base`` is later than where it connected: who shows no offset may have missed what was before it."""


class Replay(NamedTuple):
    """It may go on: these entries are what it missed, in order."""

    entries: Sequence[Entry]
    position: Position
    """Complete up to here when they have been sent."""


class Refused(NamedTuple):
    """It starts clean. ``reason`` is one of ``unknown``, ``incomplete``, ``epoch``, ``rooms`` and ``gone``."""

    reason: str


Since = Callable[[Position], Sequence[Entry] | None]
"""All entries after a position; None when the log does not reach back so far, or is another."""


def resume(record: Record, offered: Position | None, since: Since) -> Replay | Refused:
    """What a client missed that comes back with the position it was given last (None: it was never given one)."""
    start = starting_point(record, offered)
    if isinstance(start, Refused):
        return start
    entries = since(start)
    if entries is None:
        return Refused("gone")
    missed = concerning(record, entries)
    end = Position(start.epoch, max(start.offset, entries[-1].offset if entries else 0))
    return Replay(missed, end)


def starting_point(record: Record, offered: Position | None) -> Position | Refused:
    """From where on the log has to be read for this client."""
    if record.incomplete is not None:
        return Refused("incomplete")
    if offered is None and record.moved:
        return Refused("rooms")
    shown = record.base if offered is None else offered
    if shown.epoch != record.position.epoch:
        return Refused("epoch")
    if shown.offset >= record.sent.offset:
        # It has seen the newest that was for it, so nothing up to where it was complete is missing, however long ago.
        return max(shown, record.position)
    return Refused("rooms") if shown.offset < record.base.offset else shown


def concerns(record: Record, entry: Entry) -> bool:
    """Is this entry for the client?"""
    return bool(concerning(record, (entry,)))


def concerning(record: Record, entries: Iterable[Entry]) -> list[Entry]:
    """Those of these entries that are for the client. Its stays are looked up, not gone through: there may be two
    hundred of them, and ten thousand entries."""
    return list(filter(hearing(record), entries))


def hearing(record: Record) -> Callable[[Entry], bool]:
    """As ``concerns``, for entry after entry."""
    sid, stays = record.sid, _by_room(record.stays)
    return lambda entry: sid not in entry.draft.skip and _is_heard(entry, sid, stays)


def hears_all(record: Record, channels: Iterable[Channel], after: int) -> bool:
    """Does it hear of everything in these channels after this offset that does not skip it?"""
    return all(
        channel is None
        or channel == record.sid
        or any(stay.room == channel and stay.until is None and stay.after <= after for stay in record.stays)
        for channel in channels
    )


def channels_of(record: Record) -> Mapping[Channel, int]:
    """All that an entry for it may be in, each with the offset after which it hears of it."""
    found: dict[Channel, int] = {None: 0, record.sid: 0}
    for stay in record.stays:
        found[stay.room] = min(stay.after, found.get(stay.room, stay.after))
    return found


def _by_room(stays: Iterable[Stay]) -> dict[str, list[Stay]]:
    found: dict[str, list[Stay]] = {}
    for stay in stays:
        found.setdefault(stay.room, []).append(stay)
    return found


def _is_heard(entry: Entry, sid: str, stays: dict[str, list[Stay]]) -> bool:
    rooms = entry.draft.rooms
    if rooms is None or sid in rooms:
        return True
    for room in rooms:
        for stay in stays.get(room, ()):
            if stay.after < entry.offset and (stay.until is None or entry.offset <= stay.until):
                return True
    return False


def changed(record: Record, entered: bool, room: str, offset: int) -> Record:
    """It was put into this room while it was away, and hears of what is after this offset; or was taken out of it, and
    hears of what was up to there. What it did itself later than that stays as it is."""
    if not entered:
        stays = [
            stay._replace(until=offset) if stay.room == room and stay.until is None and stay.after <= offset else stay
            for stay in record.stays
        ]
        return record._replace(stays=tuple(stays))
    mine = [stay for stay in record.stays if stay.room == room]
    if any(stay.until is not None and stay.until > offset for stay in mine):
        return record
    if any(stay.until is None for stay in mine):
        stays = [stay._replace(granted=False) if stay.room == room else stay for stay in record.stays]
        return record._replace(stays=tuple(stays))
    return record._replace(stays=(*record.stays, Stay(room, offset)))
