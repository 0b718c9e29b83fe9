"""One heap and one timer for every ping and deadline of an event loop.

A session keeps at most one entry here. Moving a deadline later costs nothing: the entry fires at its
old time, the owner looks at its clock and asks again.
"""

from __future__ import annotations

import asyncio
import logging
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, Protocol

logger = logging.getLogger("realtime")

VOID_LIMIT: Final = 64
"""Void entries that may lie in the heap whatever its size; above, they are at most half of it."""


class Owner(Protocol):
    """Who is woken. ``alarm`` belongs to this module."""

    alarm: Alarm | None

    def tick(self, now: float) -> None:
        """It is time; the owner asks again if it wants to be woken again. What it raises is logged."""


class Alarm:
    """An entry of the heap; without an owner it is void and thrown away when its time comes, or before."""

    __slots__ = ("home", "number", "owner", "when")

    def __init__(self, when: float, number: int, owner: Owner, home: Deadlines) -> None:
        self.when = when
        self.number = number
        self.owner: Owner | None = owner
        self.home: Deadlines | None = home
        """None once it has left the heap."""

    def __lt__(self, other: Alarm) -> bool:
        return (self.when, self.number) < (other.when, other.number)


class Deadlines:
    """Belongs to one event loop; times are those of ``loop.time()``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[Alarm] = []
        self._void = 0
        self._numbers = count()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Entries, void ones included: what the memory holds."""
        return len(self._heap)

    def set(self, owner: Owner, when: float) -> None:
        """Wake the owner at ``when`` or before; an entry that fires earlier is kept as it is."""
        alarm = owner.alarm
        if alarm is not None:
            if alarm.when <= when:
                return
            self.clear(owner)
        owner.alarm = alarm = Alarm(when, next(self._numbers), owner, self)
        heappush(self._heap, alarm)
        if self._heap[0] is alarm:
            self._arm()

    @staticmethod
    def clear(owner: Owner) -> None:
        """Never wake this owner again; repeats do nothing."""
        alarm, owner.alarm = owner.alarm, None
        if alarm is not None:
            alarm.owner = None
            if alarm.home is not None:
                alarm.home._voided()

    def run(self, now: float) -> None:
        """Wake everybody whose time has come, once each. The timer calls it; tests may, with a time of their own."""
        for alarm in self._take_due(now):
            owner = alarm.owner
            if owner is not None:  # else one of those before it has ended this one
                owner.alarm = None
                self._wake(owner, now)

    def _take_due(self, now: float) -> list[Alarm]:
        due = []
        while self._heap and self._heap[0].when <= now:
            alarm = heappop(self._heap)
            alarm.home = None
            if alarm.owner is None:
                self._void -= 1
            else:
                due.append(alarm)
        return due

    @staticmethod
    def _wake(owner: Owner, now: float) -> None:
        try:
            owner.tick(now)
        except Exception:  # one client's fault must not stop the clock of the others
            logger.exception("a deadline failed")

    def _voided(self) -> None:
        self._void += 1
        if self._void > VOID_LIMIT and self._void > len(self._heap) // 2:
            self._heap = [alarm for alarm in self._heap if alarm.owner is not None]
            heapify(self._heap)
            self._void = 0

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._heap[0].when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self.run(self._loop.time())
        if self._heap:
            self._arm()
