"""WebSocket's own ping, for connections that Engine.IO does not ping: a client that does not answer is closed."""

from __future__ import annotations

import asyncio
from typing import Protocol

from adapters.fast.frames import Opcode, write_frame
from realtime.errors import CloseCode


class Line(Protocol):
    """The protocol, as this clock sees it."""

    @property
    def reading_paused(self) -> bool: ...

    def write(self, frame: bytes) -> bool: ...

    def close(self, code: int, reason: str) -> None: ...


class Keepalive:
    """A ping every ``interval`` seconds; ``timeout`` seconds for any pong, None to wait for none.

    While we do not read, the time-out stands still: the answer may lie unread.
    """

    __slots__ = ("_due", "_interval", "_line", "_loop", "_timeout", "_timer")

    def __init__(self, line: Line, loop: asyncio.AbstractEventLoop, interval: float, timeout: float | None) -> None:
        self._line = line
        self._loop = loop
        self._interval = interval
        self._timeout = timeout
        self._due = False
        self._timer = loop.call_later(interval, self._ping)

    def heard(self) -> None:
        """A pong came."""
        self._due = False

    def stop(self) -> None:
        self._timer.cancel()

    def _ping(self) -> None:
        self._due = True
        self._line.write(write_frame(Opcode.PING))
        if self._timeout is None:
            self._timer = self._loop.call_later(self._interval, self._ping)
        else:
            self._timer = self._loop.call_later(self._timeout, self._judge, self._timeout)

    def _judge(self, timeout: float) -> None:
        if not self._due:
            self._timer = self._loop.call_later(max(0.0, self._interval - timeout), self._ping)
        elif self._line.reading_paused:
            self._timer = self._loop.call_later(timeout, self._judge, timeout)
        else:
            self._line.close(CloseCode.SERVER_ERROR, "keepalive ping timeout")
