"""Pure: no I/O, no clock, no task. What of a namespace's log came out on this node: so much of it, and from where on.

The log lies elsewhere and is for everybody; a mirror has what this node was told of the channels that it watches, so
that most of those who come back need not ask for it. It answers what ``Log`` answers, strictly: a question about a
channel that was not watched all the time since is answered by None, never by a part.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from realtime.journal.log import CHANNEL_BYTES, ENTRY_BYTES
from realtime.journal.passage import Passage, Passages, passage_of
from realtime.journal.positions import Channel, Entry, Position


class _Kept(NamedTuple):
    time: float
    size: int
    entry: Entry


class Mirror:
    """Belongs to whoever made it: changes one at a time. Bounded as ``Log`` is; what is over the bounds is gone."""

    def __init__(
        self, epoch: str, *, entries: int = 10_000, seconds: float = 3_600.0, size_bytes: int = 1 << 24
    ) -> None:
        """``epoch`` is one that no log has, until the real one is known (``turn``)."""
        self.epoch = epoch
        self.last = 0
        """The newest offset that came out: what this node's clients are complete up to."""
        self.size = 0
        self._most = entries
        self._seconds = seconds
        self._size_limit = size_bytes
        self._kept: dict[int, _Kept] = {}
        self._times: deque[int] = deque()
        self._floor = 0
        self._places: dict[Channel, list[int]] = {}
        self._heads: dict[Channel, int] = {}
        self._from: dict[Channel, int] = {}
        self._passages = Passages()
        """What ``since_in`` answered, until something is added."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def newest(self) -> Position:
        return Position(self.epoch, self.last)

    @property
    def oldest(self) -> int:
        """What came out at this offset and before is not here any more."""
        return self._floor

    # --- what happens

    def turn(self, epoch: str) -> None:
        """Another log has begun, or the first one is known: nothing of before is good for anything."""
        self.epoch, self.last, self.size, self._floor = epoch, 0, 0, 0
        for table in (self._kept, self._places, self._heads):
            table.clear()
        self._times.clear()
        self._passages.clear()
        self._from = dict.fromkeys(self._from, 0)

    def watch(self, channel: Channel, offset: int) -> None:
        """Everything of this channel after the offset comes out here from now on. Repeats change nothing."""
        self._from.setdefault(channel, offset)

    def unwatch(self, channel: Channel) -> None:
        self._from.pop(channel, None)
        self._heads.pop(channel, None)

    def tear(self, channels: Iterable[Channel], offset: int) -> None:
        """Something of these is lost: they are complete again from this offset on."""
        for channel in channels:
            if channel in self._from:
                self._from[channel] = max(self._from[channel], offset)

    def reach(self, offset: int) -> None:
        """Everything that is watched came out up to here."""
        self.last = max(self.last, offset)

    def add(self, entry: Entry, now: float) -> None:
        """It came out. The same twice is once."""
        offset = entry.position.offset
        if entry.position.epoch != self.epoch or offset in self._kept or offset <= self._floor:
            return
        draft = entry.draft
        size = draft.size + ENTRY_BYTES + CHANNEL_BYTES * len(draft.channels)
        self._passages.clear()
        self._kept[offset] = _Kept(now, size, entry)
        self._times.append(offset)
        self.size += size
        for channel in draft.channels:
            places = self._places.setdefault(channel, [])
            insort(places, offset)
            self._heads[channel] = places[-1]
        self.last = max(self.last, offset)
        while len(self._kept) > 1 and self._is_over(now):
            self._drop_oldest()

    def _is_over(self, now: float) -> bool:
        oldest = self._kept[self._times[0]]
        return len(self._kept) > self._most or self.size > self._size_limit or oldest.time <= now - self._seconds

    def _drop_oldest(self) -> None:
        kept = self._kept.pop(self._times.popleft())
        offset = kept.entry.position.offset
        self.size -= kept.size
        self._floor = max(self._floor, offset)
        for channel in kept.entry.draft.channels:
            places = self._places[channel]
            places.remove(offset)
            if not places:
                del self._places[channel]
                if channel not in self._from:
                    self._heads.pop(channel, None)

    # --- what is asked

    def head(self, channel: Channel) -> int:
        """The newest offset of a channel that came out here; 0 where none is known."""
        return self._heads.get(channel, 0)

    def newest_of(self, channels: Sequence[Channel]) -> int:
        return max([self.head(channel) for channel in channels], default=0)

    def covers(self, channels: Iterable[Channel], position: Position) -> bool:
        """Is everything of these after this position here? A mapping says from which later offset on each matters."""
        if not self.reaches(position):
            return False
        since, start, after = self._from, position.offset, channels if isinstance(channels, Mapping) else {}
        return all(channel in since and since[channel] <= max(start, after.get(channel, 0)) for channel in channels)

    def reaches(self, position: Position) -> bool:
        """Is everything after this position here, of what was watched since?"""
        return position.epoch == self.epoch and self._floor <= position.offset <= self.last

    def since_in(self, channels: Iterable[Channel], position: Position, upto: int | None = None) -> Passage | None:
        """What is after this position in any of these channels (and up to this offset), in order; None where not all
        of it is here."""
        wanted = channels if isinstance(channels, Mapping) else tuple(channels)
        if not self.covers(wanted, position):
            return None
        places, start = self._places, position.offset
        spoken = tuple([channel for channel in wanted if channel in places and places[channel][-1] > start])
        newest = max([places[channel][-1] for channel in spoken], default=start)
        key = (spoken, start, newest if upto is None else min(newest, upto))
        known = self._passages.get(key)
        return self._passages.keep(key, self._passage(*key)) if known is None else known

    def _passage(self, channels: tuple[Channel, ...], start: int, upto: int) -> Passage:
        found: dict[int, Entry] = {}
        for channel in channels:
            places = self._places[channel]
            within = places[bisect_right(places, start) : bisect_right(places, upto)]
            found.update([(offset, self._kept[offset].entry) for offset in within])
        return passage_of(self.epoch, channels, found)
