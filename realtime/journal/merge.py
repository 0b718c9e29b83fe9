"""Pure: no I/O, no clock, no task. What came in live and what was read from the log, put together: each entry once.

For each watched channel it is known up to where everything was seen. An entry whose channel had another one after
that place shows a hole: it waits, and all after it, until the missing one comes or patience ends; then the log is to
be read from where the hole begins. Rules: entries of one channel come out once and in their order; everything comes
out in the order of positions, unless the network lost or overtook something of one channel that another could not
show. What cannot be had any more is said (``lost``), never passed over.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from realtime.journal.positions import Channel, DraftId, Entry, Position

WAITING_LIMIT: Final = 1_000
"""Entries that wait for a missing one; more are dropped here and read from the log."""
PATIENCE_SECONDS: Final = 0.1
"""What a missing entry has to come by itself: two connections to one Redis differ by less."""
IDS_LIMIT: Final = 2_000
"""Numbers of each node that came out, against repeats under a new position (after a log was lost): twice what a node
offers anew. So however many nodes offer anew at once, none has another's forgotten."""
NODES_LIMIT: Final = 1_000
"""Nodes of which that is remembered; each start of a process is one. Who has been silent for longest is forgotten."""
ALL_IDS_LIMIT: Final = 200_000
"""Numbers of all nodes together, about 30 MB: what a hundred nodes can offer anew. Beyond it those of nodes that are
silent for longest are forgotten (of them only the newest is known then)."""
SETTLED_SECONDS: Final = 20.0
"""After a log was lost: until then what others offer anew may still come in between what is new."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Hand this to the members of these channels: those of the entry that had not seen it yet."""

    entry: Entry
    channels: tuple[Channel, ...]


@dataclass(slots=True)
class Progress:
    """What to do after something came in."""

    deliver: list[Delivery] = field(default_factory=list)
    lost: set[Channel] = field(default_factory=set)
    """Something of these channels is gone for ever: their members are not complete any more."""


class _Node:
    """What came out of one node."""

    __slots__ = ("ids", "newest")

    def __init__(self) -> None:
        self.newest = -1
        self.ids: OrderedDict[int, Position] = OrderedDict()


class Merge:
    """One namespace on one node. Times are the caller's, in seconds."""

    def __init__(self, position: Position, *, limit: int = WAITING_LIMIT, patience: float = PATIENCE_SECONDS) -> None:
        self.epoch = position.epoch
        self.upto = position.offset
        """The newest offset that came out, of any channel."""
        self._limit = limit
        self._patience = patience
        self._seen: dict[Channel, int] = {}
        self._waiting: dict[int, Entry] = {}
        self._order: list[int] = []
        self._hole: tuple[int, int, float] | None = None
        self._read: int | None = None
        self._read_to = 0
        self._nodes: OrderedDict[str, _Node] = OrderedDict()
        self._ids = 0
        self._past: OrderedDict[str, None] = OrderedDict()
        self._in_doubt = False
        self.behind = False
        """Set it where a channel is watched from before what came out: it is so until that was compared, or read."""
        self._old: dict[str, int] = {}
        """The newest number of each node when a log was lost: what is offered anew was in that one before what came out
        here."""
        self._now = 0.0
        self._settled_at = 0.0

    # --- channels

    def watch(self, channel: Channel, position: Position) -> None:
        """Entries of this channel after the position matter from now on. Repeats change nothing."""
        self._seen.setdefault(channel, position.offset if position.epoch == self.epoch else 0)

    def unwatch(self, channel: Channel) -> None:
        """Nobody is in it any more."""
        self._seen.pop(channel, None)

    def watches(self, channel: Channel) -> bool:
        return channel in self._seen

    def seen(self, channel: Channel) -> int:
        """Everything of this channel up to here came out; 0 for one that is not watched."""
        return self._seen.get(channel, 0)

    def joins_after(self, channel: Channel) -> int:
        """Who enters this channel now hears of what is after this offset: it has been watched from there on, and what
        others in it heard before is not repeated."""
        return max(self.upto, self.seen(channel))

    # --- what comes in

    def live(self, entry: Entry, now: float) -> Progress:
        """An entry came by itself: perhaps repeated, late, or too early."""
        self._now = now
        progress = Progress()
        if entry.position.epoch != self.epoch and not self._turn(entry.position, progress):
            return progress
        if not self._news(entry):
            return progress
        self._keep(entry)
        return self._drain(now, progress)

    def stored(self, entries: Sequence[Entry], upto: Position, now: float, *, more: bool = False) -> Progress:
        """What ``need`` asked for was read: these, and nothing else of any channel, up to ``upto``; ``more``: the
        log goes on behind it."""
        self._now = now
        start, progress = self._read, Progress()
        if start is None or upto.epoch != self.epoch:
            return progress
        for entry in entries:
            earlier = self._missing(entry)
            if earlier is not None and earlier < start:  # a hole that begins before what we had asked for
                self._read, self._read_to = earlier, max(self._read_to, upto.offset)
                return progress
            self._deliver(entry, progress)
        for channel, seen in self._seen.items():
            if start <= seen < upto.offset:
                self._seen[channel] = upto.offset
        self.upto = max(self.upto, upto.offset)
        self._read = upto.offset if more and upto.offset < self._read_to else None
        self._hole = None
        self.behind = self.behind and self._read is not None
        return self._drain(now, progress)

    def need(self, now: float) -> Position | None:
        """Read the log from here and hand it to ``stored`` (or ``gone``); None: nothing is missing that is known of."""
        if self._read is None and self._hole is not None:
            start, end, since = self._hole
            if now - since >= self._patience:
                self._read, self._read_to = start, end
        return None if self._read is None else Position(self.epoch, self._read)

    def wake_at(self) -> float | None:
        """When ``need`` may have something to say that it has not now."""
        return None if self._hole is None or self._read is not None else self._hole[2] + self._patience

    def gone(self, now: float) -> Progress:
        """The log does not reach back to what ``need`` asked for: go on without, and say whose it was."""
        start = self._read
        if start is None:
            return Progress()
        lost = {channel for channel, seen in self._seen.items() if seen < self._read_to}
        for channel in lost:
            self._seen[channel] = self._read_to
        self.upto = max(self.upto, self._read_to)
        self._read = self._hole = None
        self.behind = False
        return self._drain(now, Progress(lost=lost))

    def heads(self, newest: Mapping[Channel, int], now: float) -> None:
        """The newest offsets there are: a channel that is further than what was seen has a hole at its end."""
        for channel, offset in newest.items():
            seen = self._seen.get(channel)
            if seen is not None and offset > seen and self._hole is None and not self._comes(channel, seen):
                self._hole = (seen, offset, now)

    def doubt(self) -> None:
        """Something may have been missed of any channel: what comes live waits until the log was asked."""
        self._in_doubt = True

    def compare(self, newest: Position, heads: Mapping[Channel, int], now: float, *, certain: bool = True) -> Progress:
        """The log was asked how far it is, and after that for the newest offset of each watched channel. Channels that
        are behind are to be read; whatever else is watched is complete up to there. ``certain``: and nothing is missed
        that was said since then, so that there is no doubt any more."""
        progress = Progress()
        self._in_doubt = self._in_doubt and not certain
        if newest.epoch != self.epoch:
            self._turn(newest, progress)
            return progress
        behind = []
        for channel, offset in heads.items():
            seen = self._seen.get(channel, newest.offset)
            if seen < newest.offset:
                if offset > seen:
                    behind.append(seen)
                else:
                    self._seen[channel] = newest.offset
        if behind:
            self._read = min(behind) if self._read is None else min(self._read, *behind)
            self._read_to = max(self._read_to, newest.offset)
        elif self._read is None and not self._waiting and self._seen.keys() <= heads.keys():
            self.upto = max(self.upto, newest.offset)
        self.behind = self.behind and (self._in_doubt or self._read is not None)
        return self._drain(now, progress)

    def back(self, newest: Position) -> Progress:
        """Messages may have been missed: everything from where we are to here is to be read first."""
        progress = Progress()
        if newest.epoch != self.epoch:
            self._turn(newest, progress)
        elif newest.offset > self.upto or self._waiting:
            start = self.upto if self._read is None else min(self._read, self.upto)
            self._read, self._read_to = start, max(newest.offset, self._read_to)
        return progress

    # --- inside

    def _turn(self, position: Position, progress: Progress) -> bool:
        """Another log has begun: all of it is to be read, and what was only in the old one is lost. False for a log
        that is over."""
        if position.epoch in self._past:
            return False
        self._past[self.epoch] = None
        if len(self._past) > 100:
            self._past.popitem(last=False)
        self.epoch, self.upto = position.epoch, 0
        self._waiting.clear()
        self._order.clear()
        self._hole = None
        for channel in self._seen:
            self._seen[channel] = 0
        self._read, self._read_to = 0, position.offset
        self.behind = False
        progress.lost |= self._seen.keys()
        if self._now >= self._settled_at:
            self._old = {name: node.newest for name, node in self._nodes.items()}
        self._settled_at = self._now + SETTLED_SECONDS
        return True

    def _news(self, entry: Entry) -> bool:
        seen, offset = self._seen, entry.position.offset
        return offset not in self._waiting and any(
            offset > seen.get(channel, offset) for channel in entry.draft.channels
        )

    def _keep(self, entry: Entry) -> None:
        offset = entry.position.offset
        if len(self._waiting) >= self._limit:
            # Whatever is dropped is in the log: it is read from there, after what is missing anyway.
            self._read = self.upto if self._read is None else min(self._read, self.upto)
            self._read_to = max(self._read_to, offset)
            return
        self._waiting[offset] = entry
        heappush(self._order, offset)

    def _drain(self, now: float, progress: Progress) -> Progress:
        while self._order and self._read is None and not self._in_doubt:
            entry = self._waiting[self._order[0]]
            missing = self._missing(entry)
            if missing is not None:
                since = self._hole[2] if self._hole is not None else now
                self._hole = (missing, entry.position.offset, since)
                return progress
            self._hole = None
            del self._waiting[heappop(self._order)]
            self._deliver(entry, progress)
        return progress

    def _missing(self, entry: Entry) -> int | None:
        """From where on one of its channels is unknown; None when this is the next of each."""
        starts = [
            seen
            for channel, before in zip(entry.draft.channels, entry.previous, strict=True)
            if (seen := self._seen.get(channel)) is not None and seen < before and seen < entry.position.offset
        ]
        return min(starts, default=None)

    def _comes(self, channel: Channel, seen: int) -> bool:
        """Is something of this channel waiting already?"""
        return any(channel in entry.draft.channels and offset > seen for offset, entry in self._waiting.items())

    def _deliver(self, entry: Entry, progress: Progress) -> None:
        offset = entry.position.offset
        fresh = tuple([c for c in entry.draft.channels if c in self._seen and self._seen[c] < offset])
        if not fresh:
            return
        for channel in fresh:
            self._seen[channel] = offset
        self.upto = max(self.upto, offset)
        if self._is_new(entry.draft.id, entry.position):
            progress.deliver.append(Delivery(entry, fresh))

    def _is_new(self, id: DraftId, position: Position) -> bool:
        """Not what is offered again after a log was lost: whoever is here has it. Nor what was in a lost log before
        something that came out here: who is here and was in its room then has heard it, perhaps on another node, for
        nodes say what they say in the order of their numbers."""
        name, number = id
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = _Node()
            if len(self._nodes) > NODES_LIMIT:
                self._ids -= len(self._nodes.popitem(last=False)[1].ids)
        else:
            self._nodes.move_to_end(name)
        is_old = number <= self._old.get(name, -1)
        known = node.ids.get(number)
        if known is not None:  # the same one may come out for another of its channels
            return known == position and not is_old
        node.ids[number] = position
        self._ids += 1
        if len(node.ids) > IDS_LIMIT:
            node.ids.popitem(last=False)
            self._ids -= 1
        elif self._ids > ALL_IDS_LIMIT:
            self._forget_silent()
        if not is_old:
            node.newest = max(number, node.newest)
        return not is_old

    def _forget_silent(self) -> None:
        for node in self._nodes.values():
            if node.ids:
                self._ids -= len(node.ids)
                node.ids.clear()
                return
