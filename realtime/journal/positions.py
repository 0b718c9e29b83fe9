"""Pure: no I/O, no clock, no task. The words of the journal: positions, what is to be kept, and what was kept.

A position is (epoch, offset): the offset grows by one with every entry of a namespace's log, and the epoch
changes when the log was lost or went back, so that a number of another log is never taken for one of this.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

EPOCH_LIMIT: Final = 32
"""Characters, ASCII letters and digits: with the offset a position stays below 64."""
OFFSET_LIMIT: Final = (1 << 63) - 1

_POSITION: Final = re.compile(r"([A-Za-z0-9]{1,32})-(0|[1-9][0-9]{0,18})")

Channel = str | None
"""A room, or None for everyone in the namespace."""
DraftId = tuple[str, int]
"""(node, the node's own number): the same twice is the same emission."""


class Position(NamedTuple):
    """A place in a namespace's log: after the entry of this offset. Offset 0 is before the first."""

    epoch: str
    offset: int

    def __str__(self) -> str:
        """One opaque string of at most 64 ASCII characters: what clients are given."""
        return f"{self.epoch}-{self.offset}"

    @staticmethod
    def parse(text: object) -> Position | None:
        """The position that a client offers; None for whatever is none. Never raises."""
        match = _POSITION.fullmatch(text) if isinstance(text, str) else None
        if match is None or int(match[2]) > OFFSET_LIMIT:
            return None
        return Position(match[1], int(match[2]))


class Draft(NamedTuple):
    """An emission that is to be kept. ``body`` is the JSON array of its arguments, encoded once; bytes in them are
    Socket.IO's placeholders there and lie beside it."""

    id: DraftId
    namespace: str
    rooms: tuple[str, ...] | None
    """None: everyone. Several rooms: each client in any of them, once."""
    skip: tuple[str, ...]
    """Sids that it is not for."""
    event: str
    body: bytes
    arguments: int
    """How many there are in ``body``: who splices need not count."""
    attachments: tuple[bytes, ...] = ()
    key: str | None = None
    """Of those with one key only the latest waits for a slow reader; a log need not keep it."""

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (None,) if self.rooms is None else self.rooms

    @property
    def size(self) -> int:
        """Bytes, roughly: what a log counts."""
        rooms = sum(map(len, self.rooms or ())) + sum(map(len, self.skip))
        return len(self.body) + len(self.event) + rooms + sum(map(len, self.attachments))


class Entry(NamedTuple):
    """A draft that was kept."""

    draft: Draft
    position: Position
    previous: tuple[int, ...]
    """For each of ``draft.channels`` the offset of that channel's entry before this one; 0: none is known any more.
    Who has not seen that one has missed something; numbers of other channels are no holes."""

    @property
    def offset(self) -> int:
        return self.position.offset
