"""An open connection that is read as it comes: each reply is handed over in the turn in which it arrived, without a
task that waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import hiredis
from redis import exceptions

from adapters.redis.connection import Link

_NOTHING: Final = object()


def packed(*words: bytes) -> bytes:
    """A command as it is written."""
    made: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # any number of them
    return made


class Wire(asyncio.Protocol):
    """Takes a link over, which from now on only this reads and writes; who lent it still has to cut it.

    ``take(reply)`` is called for each reply, an error of the server's among them (as redis-py names it). ``ended`` is
    done when the link broke, or when ``take`` raised: with what that was. Nothing is handed over afterwards.
    Raises one of FAILURES where the link is broken by now.
    """

    def __init__(self, link: Link, take: Callable[[Any], None]) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[BaseException] = loop.create_future()
        self.heard_at = loop.time()
        """When something came last."""
        self._clock = loop.time
        self._take = take
        self._link = link
        self._paused = False
        self._reader = hiredis.Reader(
            protocolError=exceptions.InvalidResponse, replyError=link.parse_error, notEnoughData=_NOTHING
        )
        self._transport, self._before = link.hand_over(self)

    def write(self, data: bytes) -> None:
        """At once, or when the socket takes it; where the link is broken, nowhere."""
        if not self.ended.done():
            self._transport.write(data)

    def pause(self) -> None:
        """Read no more until ``resume``; what came already is handed over."""
        if not self._paused and not self.ended.done():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self.heard_at = self._clock()
            if not self.ended.done():
                self._transport.resume_reading()

    def end(self, error: BaseException) -> None:
        """Close at once. Repeats do nothing."""
        if not self.ended.done():
            self.ended.set_result(error)
        self._link.abort()

    # --- asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if self.ended.done():
            return
        self.heard_at = self._clock()
        reader, take = self._reader, self._take
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOTHING:
                take(reply)
                if self.ended.done():
                    return
        except Exception as error:  # also a defect, ours or redis-py's: whoever waits for the end says so
            self.end(error)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(error or exceptions.ConnectionError("closed"))
        self._before.connection_lost(error)  # redis-py closes its end of it, and would wait for this
