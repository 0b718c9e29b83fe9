"""A queue between those who read sockets and the one who follows, bounded in number and bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Generic, TypeVar

ITEMS_LIMIT: Final = 1_000
BYTES_LIMIT: Final = 16 << 20
"""Beyond this the readers wait, and what waits for them is bounded by Redis's output buffer."""

Item = TypeVar("Item")


class Inflow(Generic[Item]):
    """Many may put, one takes. Belongs to the event loop it is first waited in."""

    def __init__(self, items: int = ITEMS_LIMIT, size_bytes: int = BYTES_LIMIT) -> None:
        self._items_limit = items
        self._bytes_limit = size_bytes
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._closed = False

    @property
    def full(self) -> bool:
        return len(self._items) >= self._items_limit or self._bytes >= self._bytes_limit

    def push(self, item: Item, size: int = 0) -> None:
        """At once and whatever the bounds: for the few that must not wait, and after ``room``."""
        self._items.append((item, size))
        self._bytes += size
        self._filled.set()

    async def room(self) -> None:
        """Returns when there is room for at least one more, or nobody takes any longer."""
        while self.full and not self._closed:
            self._room.clear()
            await self._room.wait()

    async def take(self) -> Item | None:
        """The next one; None once closed."""
        while not self._items and not self._closed:
            self._filled.clear()
            await self._filled.wait()
        if self._closed:
            return None
        item, size = self._items.popleft()
        self._bytes -= size
        self._room.set()
        return item

    def close(self) -> None:
        """Ends ``take`` and lets those go who wait for room. Repeats do nothing."""
        self._closed = True
        self._items.clear()
        self._filled.set()
        self._room.set()
