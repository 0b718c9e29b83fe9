"""Who holds a name, in one process."""

from __future__ import annotations

from collections import Counter
from threading import Lock


class MemoryNameHolders:
    """Keeps the port ``NameHolders`` for one process. May be used from several threads."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._lock = Lock()

    async def hold(self, name: str) -> None:
        with self._lock:
            self._held[name] += 1

    async def release(self, name: str) -> None:
        with self._lock:
            self._held[name] -= 1
            if self._held[name] <= 0:
                del self._held[name]

    async def held(self, name: str) -> bool:
        with self._lock:
            return name in self._held

    async def close(self) -> None:
        with self._lock:
            self._held.clear()
