"""Pure: no I/O, no clock, no task. Log lines about what anybody outside can cause: one in a while, and a number."""

from __future__ import annotations

from typing import Final

QUIET_SECONDS: Final = 60.0
"""An operator sees within a minute that it goes on, and a flood writes no more than a line a minute."""


class Seldom:
    """One line in so many seconds for each kind. Kinds are our own words: a client must not grow this table."""

    def __init__(self, seconds: float = QUIET_SECONDS) -> None:
        self._seconds = seconds
        self._next: dict[str, float] = {}
        self._silent: dict[str, int] = {}

    def left_out(self, kind: str, now: float) -> int | None:
        """How many lines of this kind were left out since the last one; None when this one is to be left out, too."""
        if now < self._next.get(kind, now):
            self._silent[kind] = self._silent.get(kind, 0) + 1
            return None
        self._next[kind] = now + self._seconds
        return self._silent.pop(kind, 0)
