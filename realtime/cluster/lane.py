"""One namespace on a node among others: what is said here goes to the journal and comes back with its place, what is
said elsewhere comes in; both are delivered here in one order, each once.

Belongs to the event loop of its backplane, except what says otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from realtime.cluster.incoming import Incoming
from realtime.cluster.outgoing import Outgoing
from realtime.encoding.codecs import array
from realtime.errors import OutsideError, label_of
from realtime.eventloop.loops import end_tasks
from realtime.journal.debts import UNPROVED, Debts
from realtime.journal.mirror import Mirror
from realtime.journal.positions import Channel, Draft, DraftId, Entry, Position
from realtime.journal.said import Said
from realtime.journal.spool import RECENT_SECONDS, Item
from realtime.journal.trail import Trail
from realtime.metrics import Metrics
from realtime.ports import Followed, Journal, Notice, Stretch, Told
from realtime.rooms.emitted import BusState, Emitted
from realtime.rooms.hub import Hub
from realtime.rooms.index import Target
from realtime.rooms.keeper import Keeper, is_nobody, rooms_of
from realtime.session.session import Member
from realtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Shared:
    """What the lanes of a node have in common."""

    node: str
    hub: Hub
    settings: Settings
    metrics: Metrics
    clock: Callable[[], float]
    dumps: Callable[[Any], str] | None
    next_number: Callable[[], int]
    call: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
    """Run this on the loop of the backplane and answer what it does, from any loop."""
    soon: Callable[..., None]
    """Call this on the loop of the backplane, at once where this is it, from any thread."""
    changed: Callable[[Lane], None]
    """It went alone, or came back."""


class Lane:
    """``keeper.log`` is a ``Mirror``: what came out here."""

    def __init__(self, keeper: Keeper, shared: Shared) -> None:
        assert isinstance(keeper.log, Mirror)
        self.namespace = keeper.namespace
        self.keeper = keeper
        self.mirror = keeper.log
        self._shared = shared
        self._hub, self._metrics, self._clock = shared.hub, shared.metrics, shared.clock
        self.incoming = Incoming(self.namespace, self, shared.metrics, shared.clock)
        self.outgoing = Outgoing(self, shared.settings, shared.metrics, shared.clock)
        self._debts = Debts()
        self._known = False
        self._tasks: list[asyncio.Task[None]] = []

    # --- what is asked of it, from anywhere

    @property
    def newest(self) -> Position:
        """The newest that came out here; what this node's clients are complete up to."""
        return self.mirror.newest

    @property
    def alone(self) -> bool:
        """The bus has not answered for longer than the patience."""
        return self.outgoing.alone

    def joins_after(self, channel: Channel) -> int:
        """Who enters this channel now hears of what is after this offset."""
        return self.incoming.joins_after(channel)

    def seen(self, channel: Channel) -> int:
        """Everything of this channel up to here came out here; 0 for one that is not watched."""
        merge = self.incoming.merge
        return 0 if merge is None else merge.seen(channel)

    def owes(self, channels: Iterable[Channel]) -> bool:
        """Was something for one of these delivered here without its place, which is not handed over yet? Who was away
        meanwhile has not heard it, and it is in no log."""
        return self._debts.concern(channels)

    def need(self, *channels: Channel) -> None:
        """Somebody is in these now. From any thread."""
        self._shared.soon(self.incoming.need, channels)

    def spare(self, *channels: Channel) -> None:
        """Perhaps nobody is in these any more. From any thread."""
        self._shared.soon(self.incoming.spare, channels)

    async def heard(self, channels: Sequence[Channel]) -> bool:
        """Returns when what is said from now on in these channels comes in. False where the bus is away: then it comes
        in when that is back. Waits no longer than the patience. From any loop."""
        return await self._patiently(lambda: self.incoming.heard(channels), lambda: self.incoming.owe(channels))

    async def reach(self, position: Position) -> bool:
        """Returns when everything up to this position came out here, which another instance has shown to somebody.
        False for another log, and where the bus is away. Waits no longer than the patience. From any loop."""
        return await self._patiently(lambda: self.incoming.reach(position))

    async def _patiently(self, question: Callable[[], Any], otherwise: Callable[[], None] = lambda: None) -> bool:
        async def ask() -> bool:
            answer: asyncio.Future[bool] | bool = False if self.alone else question()
            if not isinstance(answer, bool):
                done, _ = await asyncio.wait((answer,), timeout=self._shared.settings.bus_patience_seconds)
                answer = bool(done) and answer.result()
            if not answer:
                otherwise()
            return answer

        with suppress(OutsideError):
            return bool(await self._shared.call(ask))
        return False

    async def since(self, position: Position, *, limit: int = 1_000) -> Stretch | None:
        """What the journal has of all channels after this position (see ``Journal.since``). Raises OutsideError. From
        any loop."""

        async def ask() -> Stretch | None:
            return await self.incoming.since(position, limit)

        found: Stretch | None = await self._shared.call(ask)
        return found

    async def emit(
        self, event: str, args: Sequence[Any], target: Target, skip: Collection[str], *, volatile: bool, key: str | None
    ) -> Emitted:
        """Answers when it was delivered here: with its place, or without where the bus is away. From any loop; never
        raises for bus trouble. Raises UsageError for what is not JSON, and for rooms that are not strings."""
        if is_nobody(target):
            return Emitted()
        rooms = rooms_of(target)
        for room in rooms or ():
            self.keeper.check_room(room)
        body, attachments = array(args, self._shared.dumps)
        inner = body[1:-1]
        said = Said(event, inner, len(args), attachments, args)
        draft = Draft(
            ("", 0), self.namespace, rooms, tuple(skip), event, b"[%b]" % inner, len(args), attachments, key
        )  # fmt: skip
        if volatile:
            reached = self._say_here(self._members(draft.rooms, draft.skip), draft, said, volatile=True)
            self._shared.soon(self._tell, draft)
            return Emitted.made(reached, BusState.AWAY if self.alone else BusState.UP)

        async def ask() -> Emitted:
            return await self._offer(draft, said)

        try:
            emitted: Emitted = await self._shared.call(ask)
        except OutsideError:  # the loop that it was handed over to has ended; the next one goes on with what there is
            emitted = Emitted.made(0, BusState.AWAY, due=True)
        return emitted

    # --- life

    def begin(self, journal: Journal) -> None:
        """On this journal, and on this event loop, from now on."""
        self.outgoing.begin(journal)
        self._tasks = self.incoming.begin(journal)

    async def end(self) -> None:
        """What was not handed over is lost."""
        self.outgoing.end()
        await end_tasks(*self._tasks)

    # --- saying

    def _offer(self, draft: Draft, said: Said) -> Awaitable[Emitted]:
        draft = draft._replace(id=(self._shared.node, self._shared.next_number()))
        done: asyncio.Future[Emitted] = asyncio.get_running_loop().create_future()
        self.outgoing.offer(Item(draft, self._clock(), said, done))
        return done

    def _tell(self, draft: Draft) -> None:
        self.outgoing.tell(draft._replace(id=(self._shared.node, self._shared.next_number())))

    # --- Sender: what came of what was said

    def is_ready(self, item: Item) -> bool:
        """Not while one of its channels is only being watched: it would be delivered here late, or not at all."""
        asked = self.incoming.watches.is_asked
        return not any(map(asked, item.draft.channels))

    def confirmed(self, item: Item) -> None:
        entry = item.entry
        assert entry is not None
        self.incoming.learn(entry.position)
        if self._is_expected(item):
            self.incoming.expect()  # it comes in with what others say, in its place
        else:
            self._come_out(item, 0)

    def refused(self, item: Item, error: BaseException) -> None:
        self._metrics.emissions_refused.add(label_of(error))
        if not item.delivered:
            self._deliver_without_place(item, BusState.REFUSED)
        self._settle_one(item)

    def given_up(self, item: Item) -> None:
        self._metrics.drops.add("spool")
        self._settle_one(item)

    def deliver_alone(self, item: Item) -> None:
        self._metrics.emissions_alone.add(self.namespace)
        self._debts.owe(item)
        self._deliver_without_place(item)

    def changed(self, alone: bool) -> None:
        self._shared.changed(self)

    def _deliver_without_place(self, item: Item, bus: BusState = BusState.AWAY) -> None:
        members = self._members(item.draft.rooms, item.draft.skip, True)
        for member in members:
            if member.trail is not None:
                member.trail.heard_alone(item.draft.id)
        reached = self._say_here(members, item.draft, item.said, volatile=False)
        self._debts.delivered(item)
        place = None if item.entry is None else str(item.entry.position)
        _answer(item, Emitted.made(reached, bus, place, due=True))

    def _come_out(self, item: Item, reached: int) -> None:
        """It has its place, and whoever is here has heard it."""
        assert item.entry is not None
        self.outgoing.came_in(item, item.entry)
        if item.delivered:
            self._settle_one(item)
        else:
            item.delivered = True
            _answer(item, Emitted.made(reached, BusState.UP, str(item.entry.position), due=True))
        item.said = item.ticket = None

    def _settle_one(self, item: Item) -> None:
        """Nothing more comes of what was delivered without a place."""
        self._debts.settle(item)
        item.said = None
        if not self._debts:
            with self._hub.changing:
                self._mark()
                for member in self._hub.select(self.namespace, None):
                    if member.trail is not None:
                        member.trail.proved(self.incoming.newest_known)

    def _say_here(self, members: list[Member], draft: Draft, said: Said, *, volatile: bool) -> int:
        """With the newest offset in the place of its own."""
        return self._hub.deliver_said(self.namespace, said, self._mark(), members, volatile=volatile, key=draft.key)

    def _mark(self) -> str:
        """What clients are to show when they come back."""
        behind = self.incoming.merge is not None and self.incoming.merge.behind
        self.keeper.mark = mark = self._debts.mark(self.mirror.newest, self._clock(), behind)
        return mark

    def _members(self, rooms: Iterable[Channel] | None, skip: Collection[str], newcomers: bool = False) -> list[Member]:
        """Not who is being let in: that one is told from the log (who is new does not wait for what is not in it)."""
        members = self._hub.select(self.namespace, None if rooms is None else list(rooms))
        if self.keeper.returning:
            members = [each for each in members if each.trail is None or not each.trail.waits(newcomers)]
        return [member for member in members if member.sid not in skip] if skip else members

    # --- what comes in

    def take(self, item: Followed) -> None:
        """The journal's follower heard this."""
        if isinstance(item, Entry):
            self.incoming.live(item)
            own = self._own(item.draft.id)
            if own is not None and own.entry is not None and not self._is_expected(own):
                self._come_out(own, 0)  # nobody here is to hear it: it came before, or they came after it
        elif isinstance(item, Told):
            members = self._members(item.draft.rooms, item.draft.skip)
            self._say_here(members, item.draft, Said.again(item.draft), volatile=True)
        elif isinstance(item, Notice):
            self.incoming.notice(item.kind)

    # --- Receiver: what came out

    def came_out(self, entry: Entry, channels: tuple[Channel, ...]) -> None:
        draft = entry.draft
        item = self._own(draft.id)
        with self._hub.changing:
            late = entry.offset < self.mirror.last and entry.position.epoch == self.mirror.epoch
            self.mirror.add(entry, self._clock())
            mark = UNPROVED if late else self._mark()
            members = [] if self._is_known(draft.id) else self._concerned(entry, channels)
        said = item.said if item is not None and item.said is not None else Said.again(draft)
        reached = self._hub.deliver_said(self.namespace, said, mark, members, volatile=False, key=draft.key)
        if item is not None:
            self.outgoing.came_in(item, entry)
            self._come_out(item, reached)

    def _own(self, id: DraftId) -> Item | None:
        return self.outgoing.spool.find(id[1]) if id[0] == self._shared.node else None

    def _is_known(self, id: DraftId) -> bool:
        """Was it delivered here before it had a place?"""
        return id[0] == self._shared.node and self._debts.knows(id[1])

    def _concerned(self, entry: Entry, channels: tuple[Channel, ...]) -> list[Member]:
        """Members of these channels, but not those who heard it in another of its channels."""
        draft = entry.draft
        members = self._members(None if None in channels else channels, draft.skip)
        if len(channels) == len(draft.channels):
            return members
        rest = [each for each in draft.channels if each not in channels and self.incoming.is_watched((each,))]
        before = {member.sid for member in self._members(rest, ())}
        return [member for member in members if member.sid not in before]

    def reached(self, offset: int) -> None:
        with self._hub.changing:
            self.mirror.reach(offset)
            self._mark()
        for item in [each for each in self.outgoing.spool.kept if each.entry and each.entry.offset <= offset]:
            if not self._is_expected(item):
                self._come_out(item, 0)  # whoever is in its rooms now came after it

    def _is_expected(self, item: Item) -> bool:
        """Will it come out here, in this log or in one that is not known yet?"""
        merge, entry = self.incoming.merge, item.entry
        assert merge is not None
        assert entry is not None
        asked = self.incoming.watches.is_asked  # soon watched, perhaps from before: then somebody is still to be told
        heard = [channel for channel in entry.draft.channels if merge.watches(channel) or asked(channel)]
        behind = any(merge.seen(channel) < entry.offset for channel in heard)
        return bool(heard) and (behind or entry.position.epoch != merge.epoch)

    def turned(self, position: Position) -> None:
        if self._known:
            self._metrics.journal_epochs.add(self.namespace)
            self._debts.doubt(self._clock() + RECENT_SECONDS)
        self._known = True
        with self._hub.changing:
            self.mirror.turn(position.epoch)
            self._mark()
        again = self.outgoing.spool.again(position.epoch, self._clock())
        for item in [each for each in again if each.delivered]:
            self._debts.owe(item)
        self.outgoing.stir()

    def lost(self, channels: Iterable[Channel]) -> None:
        gone = list(channels)
        with self._hub.changing:
            self.mirror.tear(gone, self.incoming.newest_known)
            for member in self._hub.select(self.namespace, None if None in gone else gone):
                if member.trail is not None:
                    member.trail.unproved = "lost"

    def stood(self, channels: Mapping[Channel, int], position: Position, fresh: Collection[Channel]) -> None:
        with self._hub.changing:
            for channel, start in channels.items():
                self.mirror.watch(channel, start)
            for channel in fresh:
                self._settle_trails(channel, position)
        self.outgoing.stir()

    def _settle_trails(self, channel: Channel, position: Position) -> None:
        """Members that came while this was being asked for hear of it from here on."""
        for member in self._hub.select(self.namespace, channel):
            trail: Trail | None = member.trail
            if trail is not None:
                trail.hears_from(None if channel in (None, member.sid) else channel, position)

    def is_needed(self, channel: Channel) -> bool:
        return self._hub.is_watched(self.namespace, channel)

    def held_until(self, channel: Channel, now: float) -> float | None:
        awaited = self._hub.is_awaited(self.namespace, channel)
        return now + self._shared.settings.recovery_window_seconds if awaited else None

    def dropped(self, channels: Iterable[Channel]) -> None:
        with self._hub.changing:
            for channel in channels:
                self.mirror.unwatch(channel)

    def answered(self) -> None:
        self.outgoing.answered()

    def failed(self, error: BaseException) -> None:
        self.outgoing.failed(error)


def _answer(item: Item, emitted: Emitted) -> None:
    done, item.ticket = item.ticket, None
    if done is not None and not done.done():
        with suppress(RuntimeError):  # the loop of whoever waited has ended
            done.set_result(emitted)
