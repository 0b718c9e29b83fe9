"""Pure: no I/O, no clock, no task. One namespace's log: what was emitted, in one order, for a time.

Bounded three ways: number, age, bytes; the oldest entries go first, and ``since`` says when it does not reach
back far enough: what it answers is everything or nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from realtime.positions import Channel, Draft, DraftId, Entry, Position

ENTRY_BYTES: Final = 700
"""What an entry costs beside its payload (measured: 640 on CPython 3.11 for one room)."""
SWEEP: Final = 1_000
"""Heads of channels that are kept beyond those in the log, before those nobody watches are looked for."""


class Log:
    """Belongs to whoever made it: changes one at a time."""

    __slots__ = ("_by_id", "_heads", "_kept", "_most", "_seconds", "_size_limit", "_watched", "epoch", "last", "size")

    def __init__(
        self,
        epoch: str,
        *,
        entries: int = 10_000,
        seconds: float = 3_600.0,
        size_bytes: int = 1 << 25,
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
        self._kept: deque[tuple[float, int, Entry]] = deque()
        self._by_id: dict[DraftId, Entry] = {}
        self._heads: dict[Channel, int] = {}

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
            return known
        offset = self.last = self.last + 1
        heads, rooms = self._heads, draft.rooms
        previous: tuple[int, ...]
        if rooms is not None and len(rooms) == 1:  # what nearly every emission is
            room = rooms[0]
            previous = (heads.get(room, 0),)
            heads[room] = offset
        else:
            channels = draft.channels
            previous = tuple([heads.get(channel, 0) for channel in channels])
            for channel in channels:
                heads[channel] = offset
        entry = Entry(draft, Position(self.epoch, offset), previous)
        size = len(draft.body) + ENTRY_BYTES if len(previous) == 1 and not draft.attachments else _size(draft)
        self._kept.append((now, size, entry))
        self._by_id[draft.id] = entry
        self.size += size
        kept = self._kept
        while len(kept) > self._most or self.size > self._size_limit or kept[0][0] <= now - self._seconds:
            if len(kept) == 1:
                break  # the newest is always here: its number must not be given twice
            self._drop_oldest()
        return entry

    def since(self, position: Position) -> list[Entry] | None:
        """Everything after this position. None: it does not reach back so far, or it is another log's."""
        if position.epoch != self.epoch or not self.oldest <= position.offset <= self.last:
            return None
        found = [entry for _, _, entry in islice(reversed(self._kept), self.last - position.offset)]
        found.reverse()
        return found

    def head(self, channel: Channel) -> int:
        """The newest offset of a channel; 0 where none is known. Exact for what is watched or still here."""
        return self._heads.get(channel, 0)

    def newest_of(self, channels: Sequence[Channel]) -> int:
        """The newest offset of any of these."""
        heads = self._heads
        return max([heads.get(channel, 0) for channel in channels], default=0)

    def _drop_oldest(self) -> None:
        _, size, entry = self._kept.popleft()
        self.size -= size
        del self._by_id[entry.draft.id]
        heads = self._heads
        for channel in entry.draft.channels:
            if heads.get(channel) == entry.offset and not self._watched(channel):
                del heads[channel]
        if len(heads) > 2 * len(self._kept) + SWEEP:
            self._sweep()

    def _sweep(self) -> None:
        """Channels that were watched when their last entry went, and are not any more."""
        oldest = self.oldest
        stale = [channel for channel, head in self._heads.items() if head <= oldest and not self._watched(channel)]
        for channel in stale:
            del self._heads[channel]


def _size(draft: Draft) -> int:
    return draft.size + ENTRY_BYTES + 64 * len(draft.channels)
