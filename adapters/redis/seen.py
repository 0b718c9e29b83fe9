"""Pure: no I/O, no clock, no task. The newest place of a log that this node has seen, in order to notice a loss."""

from __future__ import annotations

from typing import Final

from realtime.journal.positions import Position

STAMP: Final = 12
"""The first digits of an epoch are the time at which it began, in milliseconds, hexadecimal: later ones are greater."""


class Seen:
    """What is handed in may be late or repeated; only something newer counts."""

    __slots__ = ("draft", "epoch", "offset")

    def __init__(self) -> None:
        self.epoch = ""
        self.offset = 0
        self.draft = ""
        """``NODE:NUMBER`` of the entry in that place, where it is known."""

    def take(self, epoch: str, offset: int, draft: str = "") -> bool:
        """Does another log begin with this? (The first one is no other.)"""
        if epoch != self.epoch:
            if epoch[:STAMP] < self.epoch[:STAMP]:
                return False
            before, self.epoch, self.offset, self.draft = self.epoch, epoch, offset, draft
            return before != ""
        if offset > self.offset or (offset == self.offset and draft):
            self.offset, self.draft = offset, draft
        return False

    @property
    def arguments(self) -> tuple[bytes, bytes, bytes]:
        """For the scripts."""
        return self.epoch.encode(), b"%d" % self.offset, self.draft.encode("utf-8", "surrogatepass")

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.offset)
