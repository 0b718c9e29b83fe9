"""Pure: no I/O, no clock, no task. Which channels a node has to watch: asked for together, given up a little later.

A channel is asked for, and then stands: everything of it comes in from a known offset on. One that nobody needs any
more lingers, for clients come back and rooms are entered again; what lingers is bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from typing import Final

from realtime.journal.positions import Channel

LINGER_SECONDS: Final = 5.0
LINGER_LIMIT: Final = 10_000
"""Channels that linger; over it the longest goes at once."""


class Watches:
    """Of one namespace. Times are the caller's, in seconds."""

    def __init__(self, *, linger: float = LINGER_SECONDS, limit: int = LINGER_LIMIT) -> None:
        self._linger = linger
        self._limit = limit
        self._asked: dict[Channel, int | None] = {}
        """And the newest offset that was known when it was needed, where the first question was not answered."""
        self._standing: dict[Channel, None] = {}
        self._leaving: OrderedDict[Channel, float] = OrderedDict()
        self._held: OrderedDict[Channel, float] = OrderedDict()
        """Lingering for somebody who may come back; as many as ``Away`` has rooms."""

    def __len__(self) -> int:
        return len(self._standing)

    @property
    def standing(self) -> list[Channel]:
        return list(self._standing)

    def stands(self, channel: Channel) -> bool:
        return channel in self._standing

    def is_asked(self, channel: Channel) -> bool:
        return channel in self._asked

    def need(self, channel: Channel) -> bool:
        """Somebody is in it. True when it has to be asked for."""
        self._leaving.pop(channel, None)
        self._held.pop(channel, None)
        if channel in self._standing or channel in self._asked:
            return False
        self._asked[channel] = None
        return True

    def next(self, most: int) -> list[Channel]:
        """To be asked for: so many of them."""
        return list(islice(self._asked, most))

    def stood(self, channels: Iterable[Channel]) -> dict[Channel, int | None]:
        """They stand. Answers from which offset on each is needed, where that is before now."""
        found = {}
        for channel in channels:
            if channel in self._asked:
                found[channel] = self._asked.pop(channel)
                self._standing[channel] = None
        return found

    def failed(self, channels: Iterable[Channel], newest: int) -> None:
        """They do not stand yet, and somebody is in them since ``newest`` was the newest offset known."""
        for channel in channels:
            if self._asked.get(channel, 0) is None:
                self._asked[channel] = newest

    def again(self, newest: int) -> None:
        """Everything is to be asked for anew: another connection to the journal."""
        self._asked = {**dict.fromkeys(self._standing, newest), **self._asked}
        self._standing.clear()

    def spare(self, channel: Channel, now: float) -> None:
        """Perhaps nobody is in it any more: to be looked at later."""
        if (channel in self._standing or channel in self._asked) and channel not in self._leaving:
            self._leaving[channel] = now + self._linger

    def hold(self, channel: Channel, until: float) -> None:
        """It is needed by somebody who may come back: look again then. ``until`` grows from call to call."""
        if channel in self._standing or channel in self._asked:
            self._held[channel] = until

    def due(self, now: float) -> list[Channel]:
        """To be looked at: is anybody in these?"""
        found = []
        for queue, limit in ((self._leaving, self._limit), (self._held, None)):
            while queue:
                channel, when = next(iter(queue.items()))
                if when > now and (limit is None or len(queue) <= limit):
                    break
                del queue[channel]
                found.append(channel)
        return found

    def next_due(self) -> float | None:
        """When ``due`` has something to say that it has not now."""
        if len(self._leaving) > self._limit:
            return 0.0
        return min([when for queue in (self._leaving, self._held) for when in islice(queue.values(), 1)], default=None)

    def drop(self, channels: Iterable[Channel]) -> None:
        """Nobody is in these: they are not watched any more."""
        for channel in channels:
            for table in (self._standing, self._asked, self._leaving, self._held):
                table.pop(channel, None)
