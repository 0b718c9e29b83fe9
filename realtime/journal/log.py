"""Pure: no I/O, no clock, no task. One namespace's log: what was emitted, in one order, for a time.

Bounded three ways: number, age, bytes; the oldest entries go first, and ``since`` says when it does not reach
back far enough: what it answers is everything or nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final, Protocol

from realtime.journal.passage import Passage, Passages
from realtime.journal.positions import Channel, Draft, DraftId, Entry, Position

ENTRY_BYTES: Final = 500
"""What an entry costs beside its payload (measured: 430 on CPython 3.11 for one room)."""
CHANNEL_BYTES: Final = 64
SWEEP: Final = 1_000
"""Heads of channels that are kept beyond those in the log, before those nobody watches are looked for."""

NOTHING_READ: Final[tuple[int, list[Entry]]] = (-1, [])
Kept = tuple[Any, ...]
"""(time, bytes, offset, previous, id or None, namespace, rooms, skip, event, inner, arguments, attachments)."""


class Past(Protocol):
    """What can be asked of a log, wherever it lies: ``Log`` is all of it, ``Mirror`` what came out on this node."""

    epoch: str
    last: int

    @property
    def newest(self) -> Position: ...

    def head(self, channel: Channel) -> int: ...

    def reaches(self, position: Position) -> bool: ...

    def since_in(self, channels: Iterable[Channel], position: Position, upto: int | None = None) -> Passage | None: ...


class Log:
    """Belongs to whoever made it: changes one at a time."""

    __slots__ = (
        "_by_id", "_heads", "_kept", "_most", "_passages", "_read", "_seconds", "_size_limit", "_sweep_at", "_watched",
        "epoch", "last", "size",
    )  # fmt: skip

    def __init__(
        self,
        epoch: str,
        *,
        entries: int = 10_000,
        seconds: float = 3_600.0,
        size_bytes: int = 1 << 24,
        watched: Callable[[Channel], bool] = lambda channel: False,
    ) -> None:
        """``watched``: is somebody in this channel? Then its newest offset is known even when that entry is gone."""
        self.epoch = epoch
        self.last = 0
        """The newest offset."""
        self.size = 0
        """Bytes, roughly."""
        self._most = entries
        self._seconds = seconds
        self._size_limit = size_bytes
        self._watched = watched
        self._kept: deque[Kept] = deque()
        self._read = NOTHING_READ
        """What ``since`` answered last, until something is appended."""
        self._passages = Passages()
        """What ``since_in`` answered, until something goes."""
        self._by_id: dict[DraftId, int] = {}
        self._heads: dict[Channel, int] = {}
        self._sweep_at = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def newest(self) -> Position:
        return Position(self.epoch, self.last)

    @property
    def oldest(self) -> int:
        """It reaches back to this offset: entries after it are here."""
        return self.last - len(self._kept)

    def append(self, draft: Draft, now: float) -> Entry:
        """Keep this; the entry that it was kept as, if its id is known already."""
        known = self._by_id.get(draft.id)
        if known is not None:
            return self._entry(self._kept[known - self.oldest - 1])
        _, namespace, rooms, skip, event, body, arguments, attachments, _ = draft
        inner = body[1:-1]
        self._by_id[draft.id] = self.add(draft.id, namespace, rooms, skip, event, inner, arguments, attachments, now)
        return self._entry(self._kept[-1])

    def add(
        self,
        id: DraftId | None,
        namespace: str,
        rooms: tuple[str, ...] | None,
        skip: tuple[str, ...],
        event: str,
        inner: bytes,
        arguments: int,
        attachments: tuple[bytes, ...],
        now: float,
    ) -> int:
        """Keep what a draft of these fields would be, whose id (the number is the offset where it is None) nobody will
        offer again; answers its offset. ``inner`` is the body without its brackets, and a copy of its own: the bytes
        that orjson makes hold on to 4 KiB at least."""
        offset = self.last = self.last + 1
        self._read = NOTHING_READ
        heads, kept = self._heads, self._kept
        if rooms is not None and len(rooms) == 1:  # what nearly every emission is
            room = rooms[0]
            previous: tuple[int, ...] = (heads.get(room, 0),)
            heads[room] = offset
            size = len(inner) + ENTRY_BYTES
        else:
            channels: tuple[Channel, ...] = (None,) if rooms is None else rooms
            previous = tuple([heads.get(channel, 0) for channel in channels])
            for channel in channels:
                heads[channel] = offset
            size = len(inner) + ENTRY_BYTES + CHANNEL_BYTES * len(channels)
        if attachments:
            size += sum(map(len, attachments))
        # A plain tuple of plain values: the garbage collector looks at it once, and not at each of 10,000 again.
        kept.append((now, size, offset, previous, id, namespace, rooms, skip, event, inner, arguments, attachments))
        self.size += size
        while len(kept) > self._most or self.size > self._size_limit or kept[0][0] <= now - self._seconds:
            if len(kept) == 1:
                break  # even alone it may be too large; the log is what is here, so it stays
            self._drop_oldest()
        return offset

    def _entry(self, kept: Kept) -> Entry:
        _, _, offset, previous, id, namespace, rooms, skip, event, inner, arguments, attachments = kept
        body = b"[%b]" % inner
        draft = Draft(id or ("", offset), namespace, rooms, skip, event, body, arguments, attachments)
        return Entry(draft, Position(self.epoch, offset), previous)

    def since(self, position: Position) -> Sequence[Entry] | None:
        """Everything after this position; not to be changed. None: it does not reach back so far, or is another's."""
        if position.epoch != self.epoch or not self.oldest <= position.offset <= self.last:
            return None
        start, found = self._read
        if start != position.offset:
            kept = list(islice(reversed(self._kept), self.last - position.offset))
            found = [self._entry(each) for each in reversed(kept)]
            self._read = (position.offset, found)  # who was cut off together comes back together
        return found

    def reaches(self, position: Position) -> bool:
        """Is everything after this position here?"""
        return position.epoch == self.epoch and self.oldest <= position.offset <= self.last

    def since_in(self, channels: Iterable[Channel], position: Position, upto: int | None = None) -> Passage | None:
        """As ``since``, of these channels alone (and up to this offset), each entry made when it is asked for: this
        costs what they hold, and not what the log holds; and the first time alone."""
        if not self.reaches(position):
            return None
        heads, start = self._heads, position.offset
        spoken = tuple([channel for channel in channels if heads.get(channel, 0) > start])
        newest = max([heads[channel] for channel in spoken], default=start)
        key = (spoken, start, newest if upto is None else min(newest, upto))
        found = self._passages.get(key)
        return self._passages.keep(key, self._passage(*key)) if found is None else found

    def _passage(self, channels: tuple[Channel, ...], start: int, upto: int) -> Passage:
        kept, first, found = self._kept, self.oldest + 1, {}
        for channel in channels:
            offset = self._heads[channel]
            while offset > start:
                each = kept[offset - first]
                if offset <= upto:
                    found[offset] = each
                offset = each[3][(each[6] or (None,)).index(channel)]
        offsets = sorted(found)
        told = [found[offset] for offset in offsets]
        return Passage(self.epoch, channels, offsets, told, self._entry, frozenset().union(*[each[7] for each in told]))

    def head(self, channel: Channel) -> int:
        """The newest offset of a channel; 0 where none is known. Exact for what is watched or still here."""
        return self._heads.get(channel, 0)

    def newest_of(self, channels: Sequence[Channel]) -> int:
        """The newest offset of any of these."""
        heads = self._heads
        return max([heads.get(channel, 0) for channel in channels], default=0)

    def _drop_oldest(self) -> None:
        oldest = self._kept.popleft()
        self._passages.clear()
        self.size -= oldest[1]
        if oldest[4] is not None:
            self._by_id.pop(oldest[4], None)
        heads, offset = self._heads, oldest[2]
        for channel in oldest[6] or (None,):
            if heads.get(channel) == offset and not self._watched(channel):
                del heads[channel]
        if len(heads) > 2 * len(self._kept) + SWEEP and self.last >= self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        """Channels that were watched when their last entry went, and are not any more."""
        oldest = self.oldest
        stale = [channel for channel, head in self._heads.items() if head <= oldest and not self._watched(channel)]
        for channel in stale:
            del self._heads[channel]
        # What is watched stays, and with many rooms that is most: it is not looked at again for each entry.
        self._sweep_at = self.last + len(self._heads)
