"""How fast those who come (back) are let in and told what they missed: so much in one turn of the event loop.

A client that reads fast would be given its whole replay in one turn, and five thousand that come back together all of
theirs: whoever is connected would wait for seconds. So replays leave in turns, and while many wait for theirs, who
comes next waits before CONNECT, where nothing piles up for it. What one of them costs depends on the machine and on
the application: where a turn takes long, fewer pass in the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Final, Protocol

TURN_SECONDS: Final = 0.01
"""A turn that somebody waits in is to take no longer: whoever is connected waits for one or two."""
FRAMES: Final = 256
"""Of all replays together, in one turn: about a millisecond. What many missed alike is some frames in one."""
AT_ONCE: Final = 64
"""Of one client in one turn; what is said to a client in one turn leaves in one write."""
BYTES: Final = 1 << 18
"""The same in bytes, of all together."""
BUSY: Final = 32
"""Replays that may wait for their turn before the next client is let in."""
HANDSHAKES: Final = 32
"""New connections in one turn: a quarter of a millisecond each."""
LET_IN: Final = 16
"""Clients that come or go in one turn while others wait: a tenth of a millisecond each, and its application's steps."""


class Paced(Protocol):
    """Has a replay that is not through."""

    def let_out(self, frames: int) -> tuple[int, int, bool]:
        """Send so many at most; answers how many there were, their bytes, and whether it could go on. If not, it is
        through, or has to wait for its reader, and then calls ``Pacer.add`` again."""


GoOn = Callable[[], bool]
"""Called when it is its turn. False: it has given up, and the turn is the next one's."""


class Gate:
    """So many in one turn of the loop, in the order of asking; fewer while turns take long. Belongs to one event loop.
    ``clock`` is in seconds."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, in_a_turn: int, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._most = self._pace = self._left = in_a_turn
        self._waiting: deque[GoOn] = deque()
        self._called = False
        self._began: float | None = None
        """When this turn began, if somebody waits."""

    async def enter(self) -> None:
        """Returns in this turn, or in one to come."""
        if self._is_open():
            return
        turn = self._loop.create_future()
        self._waiting.append(partial(_wake, turn))
        await turn

    def ask(self, go_on: GoOn) -> bool:
        """The same by plain call. False: wait, ``go_on`` is called."""
        if self._is_open():
            return True
        self._waiting.append(go_on)
        return False

    def _is_open(self) -> bool:
        self._call()
        if self._left <= 0 or self._waiting:
            return False
        self._left -= 1
        return True

    def _call(self) -> None:
        if not self._called:
            self._called = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._called = False
        self._keep_pace()
        self._left = self._pace
        try:
            while self._waiting and self._left > 0:
                if self._waiting.popleft()():
                    self._left -= 1
        finally:  # what goes wrong with one of them is nobody else's
            if self._waiting:
                self._call()

    def _keep_pace(self) -> None:
        """After a turn in which somebody waited: half as many where it took too long, for those who came through and
        whatever else there was; twice as many where it did not."""
        before, self._began = self._began, self._clock() if self._waiting else None
        if before is None or self._began is None:
            return
        took = self._began - before
        if took > TURN_SECONDS:
            self._pace = max(1, self._pace // 2)
        elif took < TURN_SECONDS / 2:
            self._pace = min(self._most, 2 * self._pace)


def _wake(turn: asyncio.Future[None]) -> bool:
    if turn.done():
        return False
    turn.set_result(None)
    return True


class Pacer:
    """Belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.door = Gate(loop, HANDSHAKES)
        self._ready: deque[Paced] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._called = False
        self._frames = FRAMES
        self._bytes = BYTES
        """What is left of this turn."""

    def __len__(self) -> int:
        """Replays that could go on now."""
        return len(self._ready)

    def add(self, replay: Paced) -> None:
        """It has something to send, and its reader takes it: what this turn has left for it leaves at once."""
        if self._ready or not self._let_out(replay):
            self._ready.append(replay)

    def grant(self) -> bool:
        """May a wire that asks by itself take one frame more in this turn? Not past those that wait for theirs."""
        if self._ready or self._frames <= 0:
            return False
        self._frames -= 1
        self._call()
        return True

    async def room(self) -> None:
        """Returns when there is time for one replay more; in the order of asking."""
        if not self._waiting and len(self._ready) < BUSY and self._frames > 0:
            return
        turn = self._loop.create_future()
        self._waiting.append(turn)
        self._call()
        await turn

    def _let_out(self, replay: Paced) -> bool:
        """False: it wants another turn."""
        self._call()
        if self._frames <= 0 or self._bytes <= 0:
            return False
        frames, size, more = replay.let_out(min(self._frames, AT_ONCE))
        self._frames -= frames
        self._bytes -= size
        return not more

    def _call(self) -> None:
        if not self._called:
            self._called = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._called = False
        self._frames, self._bytes = FRAMES, BYTES
        try:
            for _ in range(len(self._ready)):
                if self._frames <= 0 or self._bytes <= 0:
                    break
                first = self._ready.popleft()
                if not self._let_out(first):
                    self._ready.append(first)
            for _ in range(min(LET_IN, BUSY - len(self._ready))):
                if self._waiting and not (turn := self._waiting.popleft()).done():
                    turn.set_result(None)
        finally:  # what goes wrong with one of them is nobody else's
            if self._ready or self._waiting:
                self._call()
