"""What one client has asked for and what is not done yet: in order for each membership, bounded for the connection.

A membership with nothing to do has no task and no entry here. At the limit the wire stops reading, and at half of
it reads on, so that a client that asks faster than it is served slows itself and nobody else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine, Hashable, Iterator
from typing import Any, Generic, Protocol, TypeVar

Member = TypeVar("Member", bound=Hashable)
Given = TypeVar("Given", contravariant=True)

Job = tuple[str, Any, Any]
"""``("connect", auth, None)``, ``("event", data, ack id)`` or ``("end", reason, None)``."""


class Host(Protocol[Given]):
    """What an inbox asks of its session."""

    async def perform(self, member: Given, job: Job) -> None:
        """Must not raise."""

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this as a task."""

    def stop_reading(self) -> None: ...

    def read_on(self) -> None: ...


class Inbox(Generic[Member]):
    """Belongs to the event loop of its session."""

    __slots__ = ("_host", "_lanes", "_limit", "_waiting", "full")

    def __init__(self, host: Host[Member], limit: int) -> None:
        self._host = host
        self._limit = limit
        self._lanes: dict[Member, deque[Job]] = {}
        self._waiting = 0
        self.full = False
        """Does the wire not read on our account?"""

    def __len__(self) -> int:
        """How many memberships have something to do, those that have ended included."""
        return len(self._lanes)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._lanes)

    def is_busy(self, member: Member) -> bool:
        return member in self._lanes

    def put(self, member: Member, job: Job) -> None:
        """This is to be done for the client, after what came before it."""
        lane = self._lanes.get(member)
        if lane is None:
            self._lanes[member] = deque()
            self._host.start(self._work(member, job))
            return
        lane.append(job)
        self._waiting += 1
        if self._waiting >= self._limit and not self.full:
            self.full = True
            self._host.stop_reading()

    async def _work(self, member: Member, job: Job | None) -> None:
        """Lives while there is something to do for this membership, and no longer. Cancelled, it drops the rest."""
        lane = self._lanes[member]
        try:
            while job is not None:
                await self._host.perform(member, job)
                job = self._next(lane)
        finally:
            del self._lanes[member]
            self._done(len(lane))

    def _next(self, lane: deque[Job]) -> Job | None:
        if not lane:
            return None
        self._done(1)
        return lane.popleft()

    def _done(self, jobs: int) -> None:
        self._waiting -= jobs
        if self.full and self._waiting <= self._limit // 2:
            self.full = False
            self._host.read_on()
