"""Pure: no I/O, no clock, no task. A stretch of a log that lies elsewhere, read for those who come back."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence

from realtime.journal.log import CHANNEL_BYTES, ENTRY_BYTES
from realtime.journal.passage import Passage, Passages, passage_of
from realtime.journal.positions import Channel, Entry, Position


class Excerpt:
    """Everything of the log, of all channels, after ``first`` and up to ``last``. Grows at its end."""

    def __init__(self, start: Position) -> None:
        self.epoch = start.epoch
        self.first = self.last = start.offset
        self.size = 0
        """Bytes, roughly."""
        self._sizes: deque[tuple[int, int]] = deque()
        self._entries: dict[Channel, list[Entry]] = {}
        self._offsets: dict[Channel, list[int]] = {}
        self._passages = Passages()

    @property
    def end(self) -> Position:
        return Position(self.epoch, self.last)

    def begins_before(self, position: Position) -> bool:
        """Is everything after this position here, up to the end?"""
        return position.epoch == self.epoch and self.first <= position.offset

    def add(self, entries: Sequence[Entry], upto: int) -> None:
        """What follows, and nothing is missing up to there."""
        for entry in entries:
            if entry.offset <= self.last:
                continue
            size = entry.draft.size + ENTRY_BYTES + CHANNEL_BYTES * len(entry.draft.channels)
            self.size += size
            self._sizes.append((entry.offset, size))
            for channel in entry.draft.channels:
                self._entries.setdefault(channel, []).append(entry)
                self._offsets.setdefault(channel, []).append(entry.offset)
        self.last = max(self.last, upto)

    def shrink(self, size: int) -> None:
        """Forget the beginning, until no more than so many bytes are left."""
        if self.size <= size:
            return
        self._passages.clear()
        while self.size > size:
            self.first, gone = self._sizes.popleft()
            self.size -= gone
        for channel, offsets in list(self._offsets.items()):
            at = bisect_right(offsets, self.first)
            if at == len(offsets):
                del self._offsets[channel], self._entries[channel]
            elif at:
                del offsets[:at], self._entries[channel][:at]

    def since_in(self, channels: Iterable[Channel], position: Position) -> Passage:
        """What is after this position in any of these channels, in order: this costs what they hold, the first time."""
        offsets, start = self._offsets, position.offset
        spoken = tuple([channel for channel in channels if channel in offsets and offsets[channel][-1] > start])
        key = (spoken, start, max([offsets[channel][-1] for channel in spoken], default=start))
        known = self._passages.get(key)
        return self._passages.keep(key, self._passage(spoken, start)) if known is None else known

    def _passage(self, channels: tuple[Channel, ...], start: int) -> Passage:
        found: dict[int, Entry] = {}
        for channel in channels:
            at = bisect_right(self._offsets[channel], start)
            found.update(zip(self._offsets[channel][at:], self._entries[channel][at:], strict=True))
        return passage_of(self.epoch, channels, found)
