"""What clients missed, where the log is one for several nodes: from this node's memory, or else read from the log.

What came out on this node was heard by whoever was here; so it is what those who come are told from the log, and the
rest comes to them as it comes to everybody. Of each channel it is known how far that is (``Lane.seen``); the two are
compared in the turn in which somebody begins to hear, so nothing is missed between them and nothing comes twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Final

from realtime.cluster.lane import Lane
from realtime.errors import OutsideError
from realtime.eventloop.loops import PerLoop
from realtime.journal.positions import Channel, Entry, Position
from realtime.journal.trail import Trail, Wanted
from realtime.recovery.reader import Reader
from realtime.rooms.hub import Hub
from realtime.rooms.keeper import Keeper
from realtime.session.session import Member, State
from realtime.settings import Settings

PATIENCE: Final = 2
"""Times that of the bus: so long somebody who comes back is kept waiting for what it missed."""
AGAIN_SECONDS: Final = 0.3
LOOK_SECONDS: Final = 0.02
"""How often it is looked whether what was told here without its place has been handed over, or a slow bus answers."""


class Missed:
    """One server's."""

    def __init__(self, hub: Hub, settings: Settings) -> None:
        self._hub = hub
        self._settings = settings
        self._readers: PerLoop[dict[str, Reader]] = PerLoop(lambda loop: {})

    # --- clients with a pid

    async def prepare(self, member: Member, begin: Callable[[], None]) -> str | None:
        """Find what it missed; ``begin`` is called in the turn from which on it hears for itself. Why it cannot go on
        as who it was, or None."""
        keeper, trail = self._hub.keepers[member.namespace], _trail(member)
        lane = _lane(keeper)
        if member.state is not State.PENDING:
            return None
        if lane is None:
            with self._hub.changing:
                reason = trail.look_up(keeper.log, member.sid, member.namespace)
                if reason is None:
                    begin()
            return reason
        return await self._prepare(member, trail, keeper, lane, begin)

    async def _prepare(
        self, member: Member, trail: Trail, keeper: Keeper, lane: Lane, begin: Callable[[], None]
    ) -> str | None:
        back = trail.record is not None
        heard = await self._heard(lane, (None, member.sid, *trail.rooms))
        if not heard and back:
            return "bus"
        if member.state is not State.PENDING:
            return None
        trail.upto = max(trail.upto, lane.incoming.newest_known)  # what was said before this is told before CONNECT
        wanted = trail.wants(keeper.log, member.sid, member.namespace)
        if isinstance(wanted, str):
            return wanted
        reason = await self.look_back(member.namespace, wanted.channels, wanted.start) if back else None
        if reason is not None or member.state is not State.PENDING:
            return reason
        with self._hub.changing:
            wanted = trail.wants(keeper.log, member.sid, member.namespace)  # rooms may have been changed meanwhile
            if isinstance(wanted, str):
                return wanted
            found = self.entries(member.namespace, wanted.channels, wanted.start) if back else _at_hand(lane, wanted)
            if found is None and back:
                return "gone"
            trail.tell(found or (), wanted)
            begin()
        return None

    # --- anybody

    def is_elsewhere(self, namespace: str) -> bool:
        """Does the log of this namespace lie where it has to be waited for?"""
        keeper = self._hub.keepers.get(namespace)
        return keeper is not None and _lane(keeper) is not None

    async def look_back(self, namespace: str, channels: Collection[Channel], start: Position) -> str | None:
        """Have at hand what was said in these channels after this place: ``entries`` has it in the turn in which this
        returns. Why not, or None. Waits no longer than twice as long as the bus is waited for."""
        keeper = self._hub.keepers.get(namespace)
        lane = None if keeper is None else _lane(keeper)
        if keeper is None or lane is None:
            return None
        lane.need(*channels)
        try:
            async with asyncio.timeout(PATIENCE * self._settings.bus_patience_seconds):
                if not await self._heard(lane, tuple(channels)):
                    return "bus"
                return await self._read(keeper, lane, channels, start)
        except (OutsideError, TimeoutError):
            return "bus"
        finally:  # rooms it had left before, and any where it leaves while it is asked, are nobody's
            lane.spare(*(each for each in channels if not self._hub.is_watched(namespace, each)))

    async def _heard(self, lane: Lane, channels: Collection[Channel]) -> bool:
        """A bus that is only slow, for a whole node's clients come at once, is asked once more."""
        for _ in range(PATIENCE):
            if await lane.heard(tuple(channels)):
                return True
            if lane.alone:
                break
            await asyncio.sleep(AGAIN_SECONDS)
        return False

    async def _read(self, keeper: Keeper, lane: Lane, channels: Collection[Channel], start: Position) -> str | None:
        reader = self._reader(lane)
        while keeper.log.epoch == start.epoch:
            if lane.owes(channels):  # what this node has told without its place comes into the log soon, or never
                await asyncio.sleep(LOOK_SECONDS)
                continue
            # What it has heard elsewhere must not come to it here once more, nor an offset less than what it is told.
            newest = start._replace(offset=max(start.offset, *map(lane.seen, channels)))
            if lane.newest.offset < newest.offset and not await lane.reach(newest):
                if lane.alone:
                    return "bus"
                if start.offset > lane.incoming.newest_known:
                    return "gone"  # the log ends before: nobody was ever given this, or it was lost
                await asyncio.sleep(LOOK_SECONDS)
                continue
            if keeper.log.since_in(channels, start) is not None:
                return None
            excerpt = await reader.read(start, max(start.offset, *map(lane.seen, channels)))
            if excerpt is None:
                return "gone"
            if excerpt.last >= max(map(lane.seen, channels)) and not lane.owes(channels):
                return None
            await asyncio.sleep(0)  # others have spoken meanwhile
        return "epoch"

    def entries(self, namespace: str, channels: Collection[Channel], start: Position) -> Iterable[Entry] | None:
        """What was said in these channels after this place and came out here, in order. None: it is not at hand."""
        keeper = self._hub.keepers[namespace]
        lane = _lane(keeper)
        if lane is not None and lane.owes(channels):
            return None
        found = keeper.log.since_in(channels, start)
        if found is not None or lane is None or keeper.log.epoch != start.epoch:
            return found
        excerpt = self._reader(lane).at_hand(start)
        if excerpt is None or not all(lane.incoming.is_watched((channel,)) for channel in channels):
            return None  # what is said in one that is not heard yet neither came out nor will
        if excerpt.last < max(lane.seen(channel) for channel in channels):
            return None
        passage = excerpt.since_in(channels, start)
        if all(lane.seen(channel) >= passage.last for channel in passage.channels):
            return passage
        return [entry for entry in passage if _came_out(lane, channels, entry)]

    def _reader(self, lane: Lane) -> Reader:
        readers = self._readers(asyncio.get_running_loop())
        reader = readers.get(lane.namespace)
        if reader is None:
            reader = readers[lane.namespace] = Reader(lane.since, self._settings.log_limit_bytes)
        return reader


def _trail(member: Member) -> Trail:
    trail: Trail = member.trail
    return trail


def _lane(keeper: Keeper) -> Lane | None:
    return keeper.lane if isinstance(keeper.lane, Lane) else None


def _at_hand(lane: Lane, wanted: Wanted) -> Iterable[Entry] | None:
    """For who is new: what came out since it came, of the channels that are heard already."""
    mirror, start = lane.mirror, wanted.start
    known = {channel: after for channel, after in wanted.channels.items() if mirror.covers({channel: after}, start)}
    return mirror.since_in(known, start)


def _came_out(lane: Lane, channels: Collection[Channel], entry: Entry) -> bool:
    return any(channel in channels and lane.seen(channel) >= entry.offset for channel in entry.draft.channels)
