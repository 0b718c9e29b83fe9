"""Pure: no I/O, no clock, no task. What a log has in some channels between two places: found once for all who missed
the same.

A network that breaks cuts off a room, and five thousand come back to the same fifty entries: they are looked up once,
and told from parts that are encoded once (``Keeper.together``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from realtime.journal.positions import Channel, Entry

PART_BITS: Final = 5
"""Entries whose offsets differ in these bits alone are told together: at most 32, and the same ones wherever else
somebody begins."""
PASSAGES_ENTRIES: Final = 20_000
"""Of all passages that are kept for others; then it begins anew. A place in the list is 8 bytes, the entries are the
log's own."""

Key = tuple[Channel | int | tuple[Channel, ...], ...]


class Passage:
    """Entries in order, of one epoch; not to be changed. Each is made when it is asked for."""

    __slots__ = ("_kept", "_make", "_offsets", "_parts", "channels", "epoch", "skipped")

    def __init__(
        self,
        epoch: str,
        channels: tuple[Channel, ...],
        offsets: Sequence[int],
        kept: Sequence[Any],
        make: Callable[[Any], Entry],
        skipped: frozenset[str],
    ) -> None:
        """``kept`` are those of the ``offsets``, and ``make`` makes an entry of one. ``skipped``: sids that one of them
        is not for."""
        self.epoch = epoch
        self.channels = channels
        """All of them are in one of these."""
        self.skipped = skipped
        self._offsets = offsets
        self._kept = kept
        self._make = make
        self._parts: list[tuple[int, ...]] | None = None

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[Entry]:
        return map(self._make, self._kept)

    @property
    def last(self) -> int:
        """The offset of the last; 0 where there is none."""
        return self._offsets[-1] if self._offsets else 0

    @property
    def parts(self) -> list[tuple[int, ...]]:
        """The offsets, as they are told together: with the epoch they name their entries, whoever asks."""
        if self._parts is None:
            self._parts = [tuple(part) for _, part in groupby(self._offsets, lambda offset: offset >> PART_BITS)]
        return self._parts

    def entries(self, start: int, end: int) -> list[Entry]:
        """By their numbers here."""
        return [self._make(kept) for kept in self._kept[start:end]]


def passage_of(epoch: str, channels: tuple[Channel, ...], found: Mapping[int, Entry]) -> Passage:
    """Of entries that are made already, by their offsets, in any order."""
    offsets = sorted(found)
    entries = [found[offset] for offset in offsets]
    skipped = frozenset().union(*[entry.draft.skip for entry in entries])
    return Passage(epoch, channels, offsets, entries, _as_it_is, skipped)


def _as_it_is(entry: Entry) -> Entry:
    return entry


class Passages:
    """Those that were asked for last."""

    __slots__ = ("_entries", "_found")

    def __init__(self) -> None:
        self._found: dict[Key, Passage] = {}
        self._entries = 0

    def get(self, key: Key) -> Passage | None:
        return self._found.get(key)

    def keep(self, key: Key, passage: Passage) -> Passage:
        """For whoever asks for the same. Answers it."""
        self._entries += len(passage) + 1
        if self._entries > PASSAGES_ENTRIES:
            self.clear()
        else:
            self._found[key] = passage
        return passage

    def clear(self) -> None:
        """What they hold is not the log's any more."""
        if self._found:
            self._found.clear()
        self._entries = 0
