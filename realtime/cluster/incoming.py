"""What comes in of one namespace, on one node: channels watched as clients come and go, live entries and those read
from the journal put together, the journal asked now and then whether it is there and whether anything is missing.

Belongs to one event loop. Two tasks: one watches channels, one reads the log where something is missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from realtime.errors import OutsideError, RealtimeError
from realtime.journal.merge import Merge, Progress
from realtime.journal.positions import Channel, Entry, Position
from realtime.journal.watches import Watches
from realtime.metrics import Metrics
from realtime.ports import Journal, NoticeKind, Stretch

logger = logging.getLogger("realtime.bus")

WATCH_BATCH: Final = 1_000
"""Channels asked for together: a Redis that takes them in one command is busy for less than a millisecond."""
PROBE_SECONDS: Final = 3.0
"""How often the journal is asked where it ends, so that its absence is known before somebody speaks."""
RETRY_SECONDS: Final = 0.25
"""The same while it does not answer, or while its subscription is broken."""
LATE_SECONDS: Final = 0.5
"""What an entry of our own has to come in by itself, after it was confirmed; then the log is compared."""
FRESH_SECONDS: Final = 30.0
"""How often all channels are compared, so that a later break costs the reading of this time and not of a whole log."""


class Receiver(Protocol):
    """Who is told what came out."""

    def came_out(self, entry: Entry, channels: tuple[Channel, ...]) -> None: ...

    def lost(self, channels: Iterable[Channel]) -> None: ...

    def turned(self, position: Position) -> None:
        """Another log has begun, or the first one is known."""

    def stood(self, channels: Mapping[Channel, int], position: Position, fresh: Collection[Channel]) -> None:
        """These are watched, each from an offset on; nobody in the ``fresh`` ones is to hear of what was before."""

    def reached(self, offset: int) -> None:
        """Everything that is watched came out up to here."""

    def is_needed(self, channel: Channel) -> bool: ...

    def held_until(self, channel: Channel, now: float) -> float | None:
        """Until when nobody is in it, and somebody may come back into it; None: nobody may."""

    def dropped(self, channels: Iterable[Channel]) -> None: ...

    def answered(self) -> None: ...

    def failed(self, error: BaseException) -> None: ...


@dataclass(slots=True, eq=False)
class _Waiter:
    left: int
    done: asyncio.Future[bool]


class Incoming:
    """Times are those of the loop."""

    def __init__(self, namespace: str, receiver: Receiver, metrics: Metrics, clock: Callable[[], float]) -> None:
        self.namespace = namespace
        self.merge: Merge | None = None
        """None until the journal has told a position."""
        self.watches = Watches()
        self.newest_known = 0
        """The newest offset anybody has told; not all up to it came out here."""
        self.journal: Journal
        self._to = receiver
        self._metrics = metrics
        self._clock = clock
        self._waiting: dict[Channel, list[_Waiter]] = {}
        self._reaching: list[tuple[int, asyncio.Future[bool]]] = []
        self._wanted = asyncio.Event()
        self._look = asyncio.Event()
        self._in_doubt = True
        self._broken = False
        self._late_at: float | None = None
        self._compared_at = self._probe_at = 0.0
        self._epoch: str | None = None

    def begin(self, journal: Journal) -> list[asyncio.Task[None]]:
        """On this journal from now on; what was watched on another is asked for anew. The caller ends the tasks."""
        self.journal = journal
        self._waiting.clear()  # who waited on another loop does not any more
        self._reaching.clear()
        self._wanted, self._look = asyncio.Event(), asyncio.Event()
        self.watches.again(self.newest_known)
        self._broken = False
        self._doubt()
        self._wanted.set()
        loop = asyncio.get_running_loop()
        return [loop.create_task(self._watch()), loop.create_task(self._read())]

    # --- what others want

    def need(self, channels: Iterable[Channel]) -> None:
        for channel in channels:
            if self.watches.need(channel):
                self._wanted.set()

    def spare(self, channels: Iterable[Channel]) -> None:
        now, idle = self._clock(), self.watches.next_due() is None
        for channel in channels:
            self.watches.spare(channel, now)
        if idle:
            self._wanted.set()  # to wait for them from now on

    def heard(self, channels: Sequence[Channel]) -> asyncio.Future[bool] | bool:
        """True when everything said from now on in these comes in; a future that knows it soon; False where one is not
        even asked for."""
        missing = [channel for channel in channels if not self.watches.stands(channel)]
        if not missing:
            return True
        if not all(map(self.watches.is_asked, missing)):
            return False
        waiter = _Waiter(len(missing), asyncio.get_running_loop().create_future())
        for channel in missing:
            self._waiting.setdefault(channel, []).append(waiter)
        return waiter.done

    def owe(self, channels: Iterable[Channel]) -> None:
        """Whoever waited for these was told that they come in later: so does what is said until then."""
        if self.merge is not None:
            self.watches.failed(channels, self.newest_known)

    def reach(self, position: Position) -> asyncio.Future[bool] | bool:
        """True when everything up to there came out here; a future that knows it soon; False for another log."""
        merge = self.merge
        if merge is None or merge.epoch != position.epoch:
            return False
        if merge.upto >= position.offset:
            return True
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._reaching.append((position.offset, done))
        self._in_doubt = True  # nothing need be missing: perhaps what others have seen is for nobody here
        self._look.set()
        return done

    def _tell_reached(self, merge: Merge) -> None:
        waiting, self._reaching = self._reaching, []
        for offset, done in waiting:
            if merge.upto < offset and not done.done():
                self._reaching.append((offset, done))
            elif not done.done():
                done.set_result(True)

    def joins_after(self, channel: Channel) -> int:
        merge = self.merge
        if merge is None:
            return 0
        return merge.joins_after(channel) if merge.watches(channel) else self.newest_known

    def is_watched(self, channels: Iterable[Channel]) -> bool:
        """Will entries of one of these come out here?"""
        merge = self.merge
        return merge is not None and any(map(merge.watches, channels))

    # --- what the follower hears

    def live(self, entry: Entry) -> None:
        self.learn(entry.position)
        if self.merge is not None:
            self._go_on(self.merge.live(entry, self._clock()))

    def notice(self, kind: NoticeKind) -> None:
        if kind in (NoticeKind.BROKEN, NoticeKind.BACK):
            self._broken = kind is NoticeKind.BROKEN
        self._doubt()

    def _doubt(self) -> None:
        """What comes live waits until the log was asked."""
        self._in_doubt = True
        if self.merge is not None:
            self.merge.doubt()
        self._look.set()

    def learn(self, position: Position) -> None:
        """The journal told that it is so far."""
        merge = self.merge
        if merge is None:
            self.merge = Merge(position)
            self.newest_known = position.offset
            self._turn(self.merge)
        elif position.epoch == merge.epoch:
            self.newest_known = max(self.newest_known, position.offset)

    def expect(self) -> None:
        """An entry of our own was confirmed and is to come in soon."""
        if self._late_at is None:
            self._late_at = self._clock() + LATE_SECONDS
            self._look.set()

    def all_came(self) -> None:
        """No entry of our own is expected any more."""
        self._late_at = None

    # --- watching

    async def _watch(self) -> None:
        while True:
            due = self.watches.next_due()
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - self._clock())):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            await self._sweep()
            while batch := self.watches.next(WATCH_BATCH):
                if not await self._ask_for(batch):
                    await asyncio.sleep(RETRY_SECONDS)
                await self._sweep()  # also while there is no end of new ones, or no room for them

    async def _ask_for(self, batch: list[Channel]) -> bool:
        try:
            position = await self.journal.watch(self.namespace, *batch)
        except Exception as error:
            _note(error)
            if self.merge is not None:
                self.watches.failed(batch, self.newest_known)
            self._settle(batch, False)
            self._to.failed(error)
            return False
        self._to.answered()
        if self.merge is not None and self.merge.epoch != position.epoch:
            self._go_on(self.merge.back(position))
        self.learn(position)
        self._stand(batch, position)
        return True

    def _stand(self, batch: list[Channel], position: Position) -> None:
        merge = self.merge
        assert merge is not None
        stood = self.watches.stood(batch)
        starts = {c: position.offset if since is None else min(since, position.offset) for c, since in stood.items()}
        for channel, start in starts.items():
            merge.watch(channel, Position(position.epoch, start))
        if any(start < position.offset for start in starts.values()):
            merge.behind = True
            self._doubt()  # what was said in these since then is in the log
        self._to.stood(starts, position, [channel for channel, since in stood.items() if since is None])
        self._settle(batch, True)

    def _settle(self, channels: Iterable[Channel], stands: bool) -> None:
        for channel in channels:
            for waiter in self._waiting.pop(channel, ()):
                waiter.left -= 1
                if not waiter.done.done() and (not stands or waiter.left == 0):
                    waiter.done.set_result(stands)

    async def _sweep(self) -> None:
        """Give up what nobody needs any more."""
        now, gone = self._clock(), []
        for channel in self.watches.due(now):
            if self._to.is_needed(channel):
                continue
            until = self._to.held_until(channel, now)
            if until is not None:
                self.watches.hold(channel, until)
            else:
                gone.append(channel)
        if gone:
            self.watches.drop(gone)
            self._settle(gone, False)
            for channel in gone:
                if self.merge is not None:
                    self.merge.unwatch(channel)
            self._to.dropped(gone)
            await self.journal.unwatch(self.namespace, *gone)

    # --- reading

    async def _read(self) -> None:
        failures = 0
        while True:
            self._probe_at = self._clock() + (RETRY_SECONDS if failures or self._broken else PROBE_SECONDS)
            await self._until_due(patiently=bool(failures or self._broken))
            try:
                if self._is_in_doubt():
                    await self._compare()
                elif failures or self._clock() >= self._probe_at:
                    await self._probe()
                healed = 0
                while self.merge is not None and (start := self.merge.need(self._clock())) is not None:
                    healed += await self._read_from(self.merge, start)
                self._metrics.journal_gaps.add("healed", amount=int(healed > 0))
            except Exception as error:
                _note(error)
                failures += 1
                self._to.failed(error)
            else:
                failures = 0
                self._to.answered()

    async def _until_due(self, *, patiently: bool) -> None:
        """Until there is doubt (``patiently``: not at once), a hole has waited long enough, or it is time to ask."""
        while True:
            now = self._clock()
            times = [self._probe_at]
            if self.merge is not None and (wake := self.merge.wake_at()) is not None:
                times.append(wake)
            if self._late_at is not None:
                times.append(self._late_at)
            if min(times) <= now or (self._in_doubt and not patiently):
                return
            self._look.clear()
            try:
                async with asyncio.timeout(min(times) - now):
                    await self._look.wait()
            except TimeoutError:
                return

    def _is_in_doubt(self) -> bool:
        now = self._clock()
        late = self._late_at is not None and now >= self._late_at
        return self._in_doubt or self._broken or late or now - self._compared_at >= FRESH_SECONDS

    async def _probe(self) -> None:
        position = await self.journal.newest(self.namespace)
        if self.merge is not None and position.epoch != self.merge.epoch:
            self._doubt()
        self.learn(position)

    async def _compare(self) -> None:
        """What was missed is found: of each channel that is watched the log tells how far it is."""
        self._in_doubt = False
        reaching = list(self._reaching)
        try:
            newest = await self.journal.newest(self.namespace)
            heads = await self.journal.heads(self.namespace, self.watches.standing)
        except OutsideError:
            self._in_doubt = True
            raise
        self._compared_at = self._clock()
        self._late_at = None
        self.learn(newest)
        for offset, done in reaching:
            if offset > newest.offset and not done.done():
                done.set_result(False)  # the log ends before
        assert self.merge is not None
        certain = not self._broken and not self._in_doubt
        self._go_on(self.merge.compare(newest, heads, self._clock(), certain=certain))
        self._to.reached(self.merge.upto)
        self._tell_reached(self.merge)

    async def _read_from(self, merge: Merge, start: Position) -> int:
        """Answers how many entries were found."""
        stretch = await self.journal.since(self.namespace, start)
        now = self._clock()
        if stretch is not None:
            self._go_on(merge.stored(stretch.entries, stretch.upto, now, more=stretch.more))
            self._to.reached(merge.upto)
            self._tell_reached(merge)
            return len(stretch.entries)
        newest = await self.journal.newest(self.namespace)
        self._go_on(merge.back(newest) if newest.epoch != merge.epoch else merge.gone(now))
        return 0

    def _turn(self, merge: Merge) -> None:
        self._epoch = merge.epoch
        for _, done in self._reaching:
            if not done.done():
                done.set_result(False)
        self._reaching.clear()
        self._to.turned(Position(merge.epoch, merge.upto))

    async def since(self, position: Position, limit: int) -> Stretch | None:
        return await self.journal.since(self.namespace, position, limit=limit)

    def _go_on(self, progress: Progress) -> None:
        merge = self.merge
        assert merge is not None
        if merge.epoch != self._epoch:
            self._turn(merge)
        if progress.lost:
            self._metrics.journal_gaps.add("lost")
            self._to.lost(progress.lost)
        for delivery in progress.deliver:
            self._to.came_out(delivery.entry, delivery.channels)
        if merge.wake_at() is not None or merge.need(self._clock()) is not None:
            self._look.set()


def _note(error: Exception) -> None:
    """What is not the outside's fault is a defect, ours or the journal's: the next attempt may do better."""
    if not isinstance(error, RealtimeError):
        logger.error("the journal could not be asked", exc_info=error)
