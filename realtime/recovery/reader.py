"""The log of a namespace, where it lies elsewhere: read once for all who come back together.

A node that was killed sends its clients to the others all at once, and each of them would read the same ten pages.
And who has missed more than is kept for anybody is told so without reading: a log only gets longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from realtime.journal.excerpt import Excerpt
from realtime.journal.positions import Position
from realtime.ports import Stretch

IDLE_SECONDS: Final = 5.0
"""So long what was read is kept for others."""

ReadOn = Callable[[Position], Awaitable[Stretch | None]]


class Reader:
    """Belongs to one event loop. ``read_on`` answers a page of the log, as ``Journal.since`` does."""

    def __init__(self, read_on: ReadOn, limit_bytes: int) -> None:
        self._read_on = read_on
        self._limit = limit_bytes
        self._excerpt: Excerpt | None = None
        self._shortest = 0, ""
        """What is after an earlier offset than this, in this epoch, is more than ``limit_bytes``, for ever."""
        self._lock = asyncio.Lock()
        self._over: asyncio.TimerHandle | None = None

    async def read(self, start: Position, upto: int) -> Excerpt | None:
        """Everything after ``start`` and up to this offset at least, where there is so much. None: the log does not
        reach back so far, is another one, or that would be more than ``limit_bytes``. Raises OutsideError."""
        async with self._lock:
            if self._is_too_much(start):
                return None
            excerpt = self._excerpt
            if excerpt is None or not excerpt.begins_before(start):
                excerpt = Excerpt(start)
            while excerpt.last < upto:
                page = await self._read_on(excerpt.end)
                if page is None or page.upto.epoch != excerpt.epoch:
                    self._excerpt = None
                    if excerpt.end == start:
                        return None
                    excerpt = Excerpt(start)  # perhaps it was only the end of what others had read that is gone
                    continue
                excerpt.add(page.entries, page.upto.offset)
                if excerpt.size > self._limit:  # who comes next, and has missed less, reads on from here
                    excerpt.shrink(self._limit)
                    self._shortest = excerpt.first, excerpt.epoch
                self._keep(excerpt)
                if not excerpt.begins_before(start):
                    return None
                if not page.more:
                    break
            self._keep(excerpt)
            return excerpt

    def _is_too_much(self, start: Position) -> bool:
        offset, epoch = self._shortest
        return start.epoch == epoch and start.offset < offset

    def at_hand(self, start: Position) -> Excerpt | None:
        """What was read, where it begins so early."""
        excerpt = self._excerpt
        return excerpt if excerpt is not None and excerpt.begins_before(start) else None

    def _keep(self, excerpt: Excerpt) -> None:
        self._excerpt = excerpt
        if self._over is not None:
            self._over.cancel()
        self._over = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._forget)

    def _forget(self) -> None:
        self._excerpt = self._over = None
