"""What one client has asked for and what is not done yet: in order for each membership, bounded for the connection.

A membership with nothing to do has no task and no entry here. At the limit the wire stops reading, and at half of
it reads on, so that a client that asks faster than it is served slows itself and nobody else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterator
from typing import Any, Final, Generic, Protocol, TypeVar

Member = TypeVar("Member", bound=Hashable)
Given = TypeVar("Given", contravariant=True)

Job = tuple[str, Any, Any]
"""``("connect", auth, None)``, ``("event", data, ack id)`` or ``("end", reason, None)``."""


TURN: Final = 8
"""Jobs of one membership that had to wait, in a row, before the loop may look at its sockets again: when the bus turns
out to be away, all that waited for it goes on at once."""
About = TypeVar("About")
Then = Callable[[About, Awaitable[None]], Coroutine[Any, Any, None]]


class Host(Protocol[Given]):
    """What an inbox asks of its session."""

    def perform(self, member: Given, job: Job) -> Coroutine[Any, Any, None] | None:
        """What does this job, to be awaited; None when it is done or under way. Neither must raise."""

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this soon, after what was started before it."""

    def start_apart(self, work: Coroutine[Any, Any, None]) -> None:
        """The same in a line of its own, in which who comes and who goes holds up nobody who says something."""

    def run(self, work: Coroutine[Any, Any, None], then: Then[About], about: About) -> bool:
        """Run this at once. True: it is done; else ``then(about, what is left of it)`` will be run."""

    def stop_reading(self) -> None: ...

    def read_on(self) -> None: ...


class Inbox(Generic[Member]):
    """Belongs to the event loop of its session."""

    __slots__ = ("_host", "_lanes", "_limit", "_waiting", "full")

    def __init__(self, host: Host[Member], limit: int) -> None:
        self._host = host
        self._limit = limit
        self._lanes: dict[Member, deque[Job] | None] = {}
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
        lanes = self._lanes
        if member not in lanes:
            lanes[member] = None
            if job[0] != "event":  # what changes who is here waits for its turn, until all that led to it is done
                self._host.start_apart(self._work(member, job))
                return
            doing = self._host.perform(member, job)
            if doing is None or self._host.run(doing, self._go_on, member):
                if lanes[member]:
                    self._host.start(self._work(member, self._next(member)))
                else:
                    del lanes[member]
            return
        lane = lanes[member]
        if lane is None:
            lane = lanes[member] = deque()
        lane.append(job)
        self._waiting += 1
        if self._waiting >= self._limit and not self.full:
            self.full = True
            self._host.stop_reading()

    async def _go_on(self, member: Member, rest: Awaitable[None]) -> None:
        """An event was begun and has to wait: what is left of it, and then whatever came meanwhile."""
        try:
            await rest
        except BaseException:
            self._drop(member)
            raise
        await self._work(member, self._next(member))

    async def _work(self, member: Member, job: Job | None) -> None:
        """Lives while there is something to do for this membership, and no longer. Cancelled, it drops the rest."""
        handed_on, done = False, 0
        try:
            while job is not None:
                done += 1
                if done % TURN == 0:
                    await asyncio.sleep(0)
                doing = self._host.perform(member, job)
                if doing is not None:
                    await doing
                job = self._next(member)
                if doing is None and job is not None:
                    # What is under way beside us waits for its start where we would: the next job must not overtake it.
                    handed_on = True
                    self._host.start(self._work(member, job))
                    return
        finally:
            if not handed_on:
                self._drop(member)

    def _drop(self, member: Member) -> None:
        lane = self._lanes.pop(member)
        if lane:
            self._done(len(lane))

    def _next(self, member: Member) -> Job | None:
        lane = self._lanes[member]
        if not lane:
            return None
        self._done(1)
        return lane.popleft()

    def _done(self, jobs: int) -> None:
        self._waiting -= jobs
        if self.full and self._waiting <= self._limit // 2:
            self.full = False
            self._host.read_on()
