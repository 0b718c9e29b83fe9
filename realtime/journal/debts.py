"""Pure: no I/O, no clock, no task. What was delivered on this node before it had its place: it is not delivered here a
second time, and is owed to everybody else until it is handed over."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from realtime.journal.positions import Channel, Position
from realtime.journal.spool import Item

NUMBERS_LIMIT: Final = 20_000
"""Own emissions whose place may still come in; twice what a log or a spool holds."""
UNPROVED: Final = str(Position("alone", 0))
"""In the place of an offset while its bearer could be told something twice. It is of no log: who shows it starts clean,
on any node, also where this one was killed."""


class Debts:
    """Of one namespace. True while something is owed."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[int, None] = OrderedDict()
        self._channels: dict[Channel, int] = {}
        self._doubtful_until = 0.0

    def __bool__(self) -> bool:
        return bool(self._channels)

    def delivered(self, item: Item) -> None:
        """Everybody here whom it concerns has heard it."""
        item.delivered = True
        self._numbers[item.number] = None
        if len(self._numbers) > NUMBERS_LIMIT:
            self._numbers.popitem(last=False)

    def knows(self, number: int) -> bool:
        """Was it delivered before it had a place?"""
        return number in self._numbers

    def owe(self, item: Item) -> None:
        """It is to be handed over. Repeats change nothing."""
        if not item.owed:
            item.owed = True
            for channel in item.draft.channels:
                self._channels[channel] = self._channels.get(channel, 0) + 1

    def settle(self, item: Item) -> None:
        """It was handed over, or never will be. Repeats change nothing."""
        if item.owed:
            item.owed = False
            for channel in item.draft.channels:
                if self._channels[channel] == 1:
                    del self._channels[channel]
                else:
                    self._channels[channel] -= 1

    def doubt(self, until: float) -> None:
        """A log was lost: until then others offer anew what clients here may have heard."""
        self._doubtful_until = until

    def mark(self, newest: Position, now: float, behind: bool = False) -> str:
        """What clients are to show when they come back: the newest offset here, unless what they have heard is still to
        get its place, behind it, or (``behind``) something before it is still to come."""
        return UNPROVED if behind or self._channels or now < self._doubtful_until else str(newest)

    def concern(self, channels: Iterable[Channel]) -> bool:
        """Is something owed to one of these?"""
        return any(channel in self._channels for channel in channels)
