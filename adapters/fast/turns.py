"""What several messages to one client in one turn of the event loop cost: one write, or two.

The first leaves at once, so a lone message is not late; those that follow in the same turn leave together at its end.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from realtime.eventloop.loops import PerLoop

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


class Speaker:
    """The sending half of a connection. ``_transport`` is there once the connection is made."""

    __slots__ = ("_late", "_late_bytes", "_transport", "_turn", "_turns")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._transport: asyncio.Transport
        self._turns = turns_of(loop)
        self._turn = -1
        self._late: list[bytes] | None = None
        self._late_bytes = 0

    def _say(self, data: bytes) -> None:
        """At once if it is the first of this turn, else with those that follow."""
        turns = self._turns
        if self._turn != turns.number:
            self._turn = turns.begin()
            self._transport.write(data)
        else:
            self._keep(data)

    def _open_turn(self, data: bytes) -> None:
        """Kept back although it is the first: what is said next in this turn travels with it."""
        self._turn = self._turns.begin()
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        if self._late is None:
            self._late = []
            self._turns.keep(self)
        self._late.append(data)
        self._late_bytes += len(data)
        if self._late_bytes > LATE_BYTES:
            self.flush()

    def _put(self, data: bytes) -> None:
        """Now, after what was kept back."""
        if self._late is not None:
            self.flush()
        self._transport.write(data)

    def flush(self) -> None:
        """What was kept back in this turn leaves."""
        late, self._late, self._late_bytes = self._late, None, 0
        if late and not self._transport.is_closing():
            self._transport.write(b"".join(late))
