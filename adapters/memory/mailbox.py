"""What is for one listener, in any thread and on any event loop: bounded, and it says when something was dropped."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from threading import Lock
from typing import Final, Generic, TypeVar

LIMIT: Final = 10_000
"""Items that wait for a listener that is slow."""

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """One listener at a time. ``close`` ends its iteration."""

    def __init__(self, overflow: Callable[[], list[Item]], limit: int = LIMIT) -> None:
        """``overflow``: what is said in the place of everything that waits when that is too much."""
        self._overflow = overflow
        self._limit = limit
        self._items: deque[Item] = deque()
        self._lock = Lock()
        self._closed = False
        self._wake: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def put(self, item: Item) -> None:
        with self._lock:
            self._items.append(item)
            if len(self._items) > self._limit:
                self._items = deque(self._overflow())
        self.ring()

    def close(self) -> None:
        """Repeats do nothing."""
        self._closed = True
        self.ring()

    def ring(self) -> None:
        """Wake the listener, whatever there is."""
        wake = self._wake
        if wake is not None:
            with suppress(RuntimeError):  # its loop is closed
                wake[0].call_soon_threadsafe(wake[1].set)

    async def take(self, seconds: float | None = None) -> Item | None:
        """The next item; None when closed, or when none came in this time."""
        event = asyncio.Event()
        self._wake = (asyncio.get_running_loop(), event)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if not self._items and not self._closed:
                    await event.wait()
        with self._lock:
            return self._items.popleft() if self._items else None

    @property
    def closed(self) -> bool:
        return self._closed and not self._items

    async def __aiter__(self) -> AsyncIterator[Item]:
        while not self.closed:
            item = await self.take()
            if item is not None:
                yield item
