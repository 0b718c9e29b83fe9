"""What several messages to one client in one turn of the event loop cost: one write, or two.

The first leaves at once, so a lone message is not late; those that follow in the same turn leave together at its end.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from realtime.loops import PerLoop

LATE_BYTES: Final = 1 << 15
"""Kept back for one client; more leaves at once, and the transport says when it is too much."""


class Flushable(Protocol):
    """Who has kept something back in this turn."""

    def flush(self) -> None: ...


class Turns:
    """Numbers the turns in which something is sent. Belongs to one event loop."""

    __slots__ = ("_armed", "_late", "_loop", "number")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._armed = False
        self._late: list[Flushable] = []
        self.number = 0

    def begin(self) -> int:
        """Something is sent; answers the number of this turn, which ends when the loop comes round."""
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._end)
        return self.number

    def keep(self, sender: Flushable) -> None:
        """This one wants to be flushed at the end of the turn."""
        self._late.append(sender)

    def _end(self) -> None:
        self._armed = False
        self.number += 1
        late, self._late = self._late, []
        for sender in late:
            sender.flush()


turns_of: PerLoop[Turns] = PerLoop(Turns)
