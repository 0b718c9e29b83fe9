"""What a node knows of one namespace's log: its keys, the newest place seen, how far each watched channel came in."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from adapters.redis.ear import Ear
from adapters.redis.heard import Heard, Verdict
from adapters.redis.inflow import Inflow
from adapters.redis.keys import Keys, token
from adapters.redis.message import NewLog, read_head, read_message
from adapters.redis.seal import RefusedMessage, Signer
from adapters.redis.seen import Seen
from adapters.redis.shards import Shards
from realtime.journal.positions import Channel, DraftId, Entry, Position
from realtime.metrics import Metrics
from realtime.ports import Followed, Notice, NoticeKind, Told

OWN_LIMIT: Final = 1_000
"""Own entries that are to come in; twice what is offered at a time."""
OWN_BYTES: Final = 1 << 14
"""Of each; what is longer is read, which takes long anyway."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all streams of a journal have in common."""

    prefix: str
    node: str
    signer: Signer
    shards: Shards
    inflow: Inflow[Followed]
    metrics: Metrics
    changed: Callable[[], None]
    """A subscription broke or is back."""
    doubtful: Callable[[Stream], None]
    """Somebody says that another log has begun; only a script knows."""


class Stream:
    """Turns what its ear hears into what a follower is told: each entry once, in the order of positions."""

    def __init__(self, namespace: str, shared: Shared) -> None:
        self.namespace = namespace
        self.keys = Keys(shared.prefix, namespace)
        self.seen = Seen()
        self._shared = shared
        self._inflow, self._metrics = shared.inflow, shared.metrics
        self._came: dict[bytes, Position] = {}
        """By watched channel: everything of it up to here came in, or was told to be read from the log."""
        self._behind: dict[bytes, Position] = {}
        self._own: dict[int, tuple[Entry, bytes]] = {}
        """What this node has offered, by offset, with its seal, until it comes in; bounded."""
        self._last = Position("", 0)
        """The newest that came in since the subscription stood."""
        self._returning = False
        self._flying: dict[int, DraftId] = {}
        """Drafts that were offered and not answered, in that order."""
        self._begun = 0
        self._heard, self._told = Heard(), Heard()
        """Which entries, and which volatile emissions, of each node came in."""
        self.slow = self.slow_told = 0
        """Drafts, and volatile emissions, that are on their way by a task."""
        self.fresh = _fresh()
        """Eight characters for the epoch that the script may have to begin; others when it has."""
        self.ear = Ear(
            shared.shards, self.keys.log, shared.inflow, hear=self._hear, broken=self._broken, back=self._back
        )

    def begin(self, id: DraftId) -> tuple[bytes, int]:
        """A draft is offered. Answers, for the script, which one of its node is on its way just before it, and a mark
        for ``end``."""
        node, number = next(reversed(self._flying.values()), ("", 0))
        self._begun += 1
        self._flying[self._begun] = id
        return b"%d" % number if node == id[0] and number != id[1] else b"", self._begun

    def end(self, mark: int) -> None:
        """It was answered, one way or the other."""
        del self._flying[mark]

    def complete(self, channel: bytes, position: Position) -> None:
        """From here on everything of this channel comes in, or is missed."""
        came = self._came.get(channel)
        if came is None or came.epoch != position.epoch or came.offset < position.offset:
            self._came[channel] = position

    def expect(self, channel: bytes) -> None:
        """It is to be watched; until it is known from where on, the log has more of it than came in."""
        self._came.setdefault(channel, Position("", 0))

    def forget(self, channel: bytes) -> None:
        self._came.pop(channel, None)
        self._behind.pop(channel, None)

    @property
    def watched(self) -> list[bytes]:
        return list(self._came)

    def behind(self, end: Position, heads: Mapping[bytes, int]) -> dict[bytes, Position]:
        """Of these channels, those whose newest entry in the log has not come in."""
        return {
            channel: Position(end.epoch, offset)
            for channel, offset in heads.items()
            if (came := self._came.get(channel)) is not None and (came.epoch != end.epoch or came.offset < offset)
        }

    def still_behind(self, found: dict[bytes, Position]) -> bool:
        """Was something of this missing a round ago? Then it is not asked for again: the log will be read."""
        lost = {
            channel: place
            for channel, place in self._behind.items()
            if (came := self._came.get(channel)) is not None
            and channel in found
            and (came.epoch != place.epoch or came.offset < place.offset)
        }
        self._came.update(lost)
        self._behind = {channel: place for channel, place in found.items() if channel not in lost}
        return bool(lost)

    def learn(self, epoch: str, offset: int, draft: str = "") -> None:
        """The log was seen to have come so far."""
        if epoch != self.seen.epoch and epoch.endswith(self.fresh.decode()):
            self.fresh = _fresh()
        if self.seen.take(epoch, offset, draft):
            self._heard.clear()
            self._all_read(Position(epoch, offset))
            self._inflow.push(Notice(NoticeKind.EPOCH, self.namespace))

    def expect_own(self, entry: Entry, sealed: bytes) -> None:
        """Redis has answered that it is kept. Where it is to come in, it need not be read: the seal is known."""
        last, place = self._last, entry.position
        if place.epoch == last.epoch and place.offset <= last.offset:
            return  # it was here before its answer
        if len(sealed) <= OWN_BYTES and not self._came.keys().isdisjoint(map(token, entry.draft.channels)):
            self._own[place.offset] = entry, sealed
            if len(self._own) > OWN_LIMIT:
                del self._own[next(iter(self._own))]

    def _known(self, message: bytes) -> Entry | None:
        """One of our own, of which every byte is as it was offered, in the place that Redis has given it."""
        head = read_head(message)
        if head is None:
            return None
        epoch, offset, start = head
        entry, sealed = self._own.pop(offset, (None, b""))
        if entry is None or entry.position.epoch != epoch or message[start:] != sealed:
            return None
        return entry

    def _hear(self, channel: bytes, message: bytes) -> None:
        heard: Entry | Told | NewLog | None = self._known(message) if self._own else None
        try:
            if heard is None:
                heard = read_message(self._shared.signer, self.namespace, message)
        except RefusedMessage as refused:
            self._metrics.bus_refused.add(refused.reason)
            return
        if isinstance(heard, NewLog):
            self._doubt_log(heard.epoch)
        elif not self._is_for(channel, heard.draft.channels):
            self._metrics.bus_refused.add("channel")
        elif isinstance(heard, Told):
            self._hear_told(heard, len(message))
        else:
            self._hear_entry(heard, len(message))

    def _is_for(self, channel: bytes, rooms: Sequence[Channel]) -> bool:
        """Was it said for this channel? Redis, which put it there, has no key."""
        return channel in [self.keys.channel(token(room)) for room in rooms]

    def _doubt_log(self, epoch: str) -> None:
        """Somebody says that there is another log. Only Redis knows; what that one has is read from it."""
        if epoch != self.seen.epoch:
            self._shared.doubtful(self)

    def _hear_entry(self, entry: Entry, size: int) -> None:
        position = entry.position
        if position.epoch == self._last.epoch and position.offset <= self._last.offset:
            return  # it is for several channels, and came in on one of them before
        if position.epoch != self.seen.epoch:
            self._doubt_log(position.epoch)
            return
        node, number = entry.draft.id
        if self._heard.take(node, number, position.offset) is not Verdict.NEW:
            # An entry has one place. Where this one is missing all the same it is read from the log.
            self._metrics.bus_refused.add("repeated")
            self._inflow.push(Notice(NoticeKind.BEHIND, self.namespace))
            return
        self._last = position
        if self.ear.up and not self._returning:  # else it may be of a log that went back, and what was seen proves it
            self.learn(position.epoch, position.offset, f"{node}:{number}")
        for room in entry.draft.channels:
            channel = token(room)
            if channel in self._came:
                self._came[channel] = position
        self._metrics.bus_messages.add("in")
        self._inflow.push(entry, size)

    def _hear_told(self, told: Told, size: int) -> None:
        draft = told.draft
        if draft.id[0] == self._shared.node:
            return
        if self._told.take(*draft.id) is not Verdict.NEW:
            if len(draft.channels) == 1:  # one for several came in on another of them
                self._metrics.bus_refused.add("repeated")
            return
        self._metrics.bus_messages.add("in")
        self._inflow.push(told, size)

    def compared(self) -> None:
        """The log was asked how far it is, and what it says was learnt."""
        if self._returning:
            self._returning = False
            self._all_read(self.seen.position)
            self._inflow.push(Notice(NoticeKind.BACK, self.namespace))

    def _all_read(self, position: Position) -> None:
        """Whoever is told what is told now reads the log up to here."""
        self._behind.clear()
        for channel in self._came:
            self.complete(channel, position)

    def _broken(self) -> None:
        self._returning = False
        self._own.clear()
        self._shared.changed()
        self._inflow.push(Notice(NoticeKind.BROKEN, self.namespace))

    def _back(self) -> None:
        """Not told yet: first the log is compared with what was seen of it, for it may be another."""
        self._last = Position("", 0)
        self._behind.clear()
        self._returning = True
        self._shared.changed()
        self._shared.doubtful(self)


def _fresh() -> bytes:
    return secrets.token_hex(4).encode()
