"""One heap and one timer for every ping and deadline of an event loop.

A session keeps at most one entry here. Moving a deadline later costs nothing: the entry fires at its
old time, the owner looks at its clock and asks again.
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count
from typing import Protocol


class Owner(Protocol):
    """Who is woken. ``alarm`` belongs to this module."""

    alarm: Alarm | None

    def tick(self, now: float) -> None:
        """It is time; the owner asks again if it wants to be woken again. Must not raise."""


class Alarm:
    """An entry of the heap; without an owner it is void and thrown away when its time comes."""

    __slots__ = ("number", "owner", "when")

    def __init__(self, when: float, number: int, owner: Owner) -> None:
        self.when = when
        self.number = number
        self.owner: Owner | None = owner

    def __lt__(self, other: Alarm) -> bool:
        return (self.when, self.number) < (other.when, other.number)


class Deadlines:
    """Belongs to one event loop; times are those of ``loop.time()``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[Alarm] = []
        self._numbers = count()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, owner: Owner, when: float) -> None:
        """Wake the owner at ``when`` or before; an entry that fires earlier is kept as it is."""
        alarm = owner.alarm
        if alarm is not None:
            if alarm.when <= when:
                return
            alarm.owner = None
        owner.alarm = alarm = Alarm(when, next(self._numbers), owner)
        heappush(self._heap, alarm)
        if self._heap[0] is alarm:
            self._arm()

    @staticmethod
    def clear(owner: Owner) -> None:
        """Never wake this owner again; repeats do nothing."""
        if owner.alarm is not None:
            owner.alarm.owner = None
            owner.alarm = None

    def run(self, now: float) -> None:
        """Wake everybody whose time has come. The timer calls it; tests may, with a time of their own."""
        heap = self._heap
        while heap and heap[0].when <= now:
            owner = heappop(heap).owner
            if owner is not None:
                owner.alarm = None
                owner.tick(now)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._heap[0].when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self.run(self._loop.time())
        while self._heap and self._heap[0].owner is None:
            heappop(self._heap)
        if self._heap:
            self._arm()
