"""Clients that come back: who they were, what they missed, and that nobody is two at a time.

A client is given a secret pid with CONNECT and an offset with every event. When its connection ends without a word
its record is kept for the recovery window; whoever shows the pid then is let in again, through the same door and
under its old sid, and is told what it missed before CONNECT. If anything of that is gone it starts clean, and is told
why.

Nothing is taken from anybody before whoever comes is let in. Who shows the pid of a client that is away is asked in
under its sid, but the session stays where it is (``Away.hold``) until it may go on. Who shows the pid of a client that
is still connected is asked in as a stranger first; when it is the same user the old connection ends (4504), and it is
asked in again as who it was.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import orjson

from realtime.access.limits import SlidingWindow
from realtime.encoding.codecs import Dialect
from realtime.encoding.encoded import Encoded
from realtime.errors import CloseCode, OutsideError
from realtime.eventloop.loops import PerLoop
from realtime.journal.away import Absent
from realtime.journal.meanwhile import data_of, rooms_of
from realtime.journal.passage import Passage
from realtime.journal.positions import Entry, Position
from realtime.journal.resume import Record, Refused, starting_point
from realtime.journal.trail import Offer, Trail
from realtime.metrics import Metrics
from realtime.names import Reason
from realtime.recovery.absence import Absence, user_key
from realtime.recovery.keepers import Keepers
from realtime.recovery.missed import Missed
from realtime.recovery.store import Newest, OpenSessions, SessionStore
from realtime.rooms.hub import Hub
from realtime.rooms.keeper import Keeper
from realtime.session.session import Member, Session, State
from realtime.settings import Settings

SETTLE_SECONDS: Final = 5.0
"""What the disconnect hook of the connection before may take, while its client waits to be let in again."""
PID_LIMIT: Final = 64
"""Characters; ours have 32, and what is longer need not be looked for."""
AT_ONCE: Final = 64
"""Clients for whom the store and the log are asked at a time: of thousands that come together nobody is kept waiting
for an answer longer than it takes, and nobody's patience ends while it is others' turn."""
LOOKS: Final = 2
"""The store is asked once more: a whole node's clients come at once, and so does its time-out."""
RETURNS_SECONDS: Final = 60.0
"""The time for ``recovery_limit_returns``."""


class Returning(Keepers):
    """One server's clients that may come back."""

    def __init__(
        self,
        hub: Hub,
        metrics: Metrics,
        settings: Settings,
        dialect: Dialect,
        dumps: Callable[[Any], str] | None = None,
    ) -> None:
        super().__init__(hub, settings, dialect, dumps, lambda: self.absence.clock())
        self._metrics = metrics
        self.node = f"{settings.node or 'node'}.{secrets.token_hex(4)}"
        """Another one at each start of the process."""
        self.absence = Absence(hub, metrics, settings, self.node)
        self._returns = SlidingWindow(settings.recovery_limit_returns, RETURNS_SECONDS)
        self.settled: Callable[[Member], Awaitable[None]] | None = None
        self.store: SessionStore | None = None
        self._few: PerLoop[asyncio.Semaphore] = PerLoop(lambda loop: asyncio.Semaphore(AT_ONCE))
        self.missed = Missed(hub, settings)

    def open_store(self, open_sessions: OpenSessions, newest: Newest) -> None:
        """Sessions lie where other nodes find them, from now on."""
        self.store = self.absence.store = SessionStore(open_sessions, self.absence, self._hub, self._metrics, newest)
        self._hub.moved = self.store.changed

    # --- coming

    def admit(self, member: Member, auth: Any) -> Any:
        """A client asks to be let in: it gets a pid, and what it shows of an earlier one is taken out of its auth."""
        keeper = self._hub.keepers[member.namespace]
        offer = None
        if isinstance(auth, dict) and isinstance(auth.get("pid"), str):
            auth = dict(auth)
            pid, offset = auth.pop("pid"), auth.pop("offset", None)
            position = Position.parse(offset)
            broken = offset is not None and position is None
            offer = Offer(pid, position, broken)
            auth = auth or None
            member.auth = auth
        member.trail = trail = Trail(new_pid(), keeper.log.newest, offer)
        trail.returning = True
        keeper.returning += 1
        return auth

    async def claim(self, member: Member) -> None:
        """Before the authorise step: is this somebody who was here before? Nobody else is harmed by the answer."""
        trail: Trail = member.trail
        offer = trail.offer
        if offer is None:
            return
        found = self._find(member, offer.pid) or await self._find_elsewhere(member, trail)
        if found is None:
            trail.reason = trail.reason or "unknown"
        elif self._returns.hit(offer.pid, self.absence.clock()) is not None:
            trail.reason = "limit"
            self._let_be(found)
        elif isinstance(found, Member):
            trail.owner = found
        else:
            await self._ask_in(member, found)

    def _find(self, member: Member, pid: str) -> Member | Absent | None:
        """Whoever is known here under this pid; who is away is held."""
        live = self.absence.live.get(pid)
        if live is not None:
            return live if live.namespace == member.namespace else None
        return self.absence.hold(pid, member.namespace)

    async def _find_elsewhere(self, member: Member, trail: Trail) -> Absent | None:
        """Whoever other nodes have written down under this pid."""
        if self.store is None or trail.offer is None or len(trail.offer.pid) > PID_LIMIT:
            return None
        if self.absence.is_known(trail.offer.pid):
            return None
        record = None
        for attempt in range(LOOKS):
            try:
                async with self._few(member.session.loop):
                    record = await self.store.look(trail.offer.pid)
                break
            except OutsideError:
                if attempt == LOOKS - 1:
                    trail.reason = "store"
                    return None
        if record is None or record.namespace != member.namespace or member.state is not State.PENDING:
            return None
        return self.absence.borrow(record)

    def _let_be(self, found: Member | Absent) -> None:
        if isinstance(found, Absent):
            self.absence.release(found)

    async def _ask_in(self, member: Member, absent: Absent) -> None:
        """It is asked in as who it was, once that one's disconnect hook is through."""
        trail: Trail = member.trail
        trail.reason = self._doubt(absent.record, trail)
        if trail.reason is not None:
            trail.owner = absent  # who is it that cannot go on?
            return
        trail.absent = absent
        leaving = self._hub.find(absent.record.sid, member.namespace)
        if leaving is not None:
            await self._settle(leaving)
        if self.absence.holds(absent) and not self._go_on(member, absent):
            self.absence.release(absent)
            trail.absent, trail.reason = None, "unknown"

    def _doubt(self, record: Record, trail: Trail) -> str | None:
        """Why a client of this record cannot go on from what it showed, as far as that is known."""
        offer = trail.offer
        if offer is None or offer.broken:
            return "offset"
        found = starting_point(record, offer.position)
        if isinstance(found, Refused):
            return found.reason
        keeper = self._hub.keepers[record.namespace]
        return None if keeper.lane is not None or keeper.log.reaches(found) else "gone"

    def _go_on(self, member: Member, absent: Absent) -> bool:
        trail: Trail = member.trail
        with self._hub.changing:
            if not self._hub.rename(member, absent.record.sid, keep_rooms=False):
                return False
            trail.go_on(absent, self._hub.keepers[member.namespace].log.last)
            self._hub.restore(member, trail.rooms)
        member.data, member.held = orjson.loads(absent.record.data), None
        return True

    # --- whom it says it is, and who is still connected

    def rooms_to_ask(self, member: Member) -> list[Any] | None:
        """After the authorise step of a stranger: rooms whose rules are asked before it takes over from whom it says
        it is. None: it is not that one, or nobody is there any more, and it is let in as who it is."""
        trail: Trail = member.trail
        owner, trail.owner = trail.owner, None
        if member.state is not State.PENDING:
            return None
        if isinstance(owner, Absent):
            if user_key(member.user) == owner.record.user and self.absence.holds(owner):
                self.absence.give_up(owner)
            else:
                self.absence.release(owner)
        elif owner is not None and user_key(member.user) != user_key(owner.user):
            trail.reason = "user"
        elif owner is not None and self.absence.live.get(owner.trail.pid) is not owner:
            trail.reason = "unknown"  # it has left meanwhile, or somebody else was faster
        elif owner is not None:
            trail.owner = owner
            return owner.trail.rooms_asked_for()  # type: ignore[no-any-return]
        return None

    async def take_over(self, member: Member, reason: str | None) -> bool:
        """The old connection is half open: we have not noticed its end. It goes; the session stays, if there is no
        ``reason`` against it. True: go on with ``succeed``."""
        trail: Trail = member.trail
        owner, trail.owner = trail.owner, None
        if member.state is not State.PENDING or self.absence.live.get(owner.trail.pid) is not owner:
            trail.reason = "unknown"
            return False
        assert isinstance(owner, Member)
        absent = self.absence.end(owner)
        owner.session.close(CloseCode.REPLACED, "replaced by another connection", Reason.REPLACED)
        if absent is None:
            trail.reason = "unknown"
            return False
        trail.reason = reason or self._doubt(absent.record, trail)
        if trail.reason is None:
            self.absence.keep(absent)
            trail.absent = self.absence.hold(absent.record.pid, member.namespace)
        await self._settle(owner)
        if trail.reason is not None:
            self.absence.give_up(absent)
        return trail.absent is not None

    def succeed(self, member: Member) -> None:
        """It is asked in once more, as who it was."""
        trail: Trail = member.trail
        absent = trail.absent
        if member.state is not State.PENDING or absent is None:
            return
        sid = member.sid
        self._wipe(member)
        if not self._go_on(member, absent):
            self.absence.release(absent)
            self.start_clean(member, "unknown", sid)

    async def _settle(self, old: Member) -> None:
        """Its disconnect hook comes before the connect hook of who it is now."""
        if self.settled is not None and old.session.loop is asyncio.get_running_loop():
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    await self.settled(old)

    # --- let in

    async def unfit(self, member: Member) -> str | None:
        """After the authorise step: why it may not go on as who it was. None: it may, what it missed is ready, and
        nobody else can any more."""
        trail: Trail = member.trail
        if trail.record is not None:
            await member.session.core.pacers(member.session.loop).room()
        if member.state is not State.PENDING:
            return None
        if trail.record is not None and user_key(member.user) != trail.record.user:
            return "user"
        if trail.record is None:
            return await self.missed.prepare(member, lambda: self._stop_returning(member))
        async with self._few(member.session.loop):
            reason = await self._confirm(member)
            return reason or await self.missed.prepare(member, lambda: self._stop_returning(member))

    async def _confirm(self, member: Member) -> str | None:
        """Nobody else can be who it is from now on."""
        trail: Trail = member.trail
        absent = trail.absent
        if absent is None or not self.absence.holds(absent):
            return "unknown"  # it was sent away meanwhile, or has left
        if self.store is not None:
            try:
                record = await self.store.claim(absent)
            except OutsideError:
                return "store"
            if record is None:
                self.absence.take(absent)
                trail.absent = None
                return "unknown"  # somebody else was faster
            first = trail.record or record
            self.absence.take(absent)
            absent.record = record = rooms_of(first, absent.record, record)
            if trail.absent is None:
                self.absence.give_up(absent)  # it was sent away while it was claimed
                return "unknown"
            if member.state is not State.PENDING or user_key(member.user) != record.user:
                # It has left, or is somebody else by now: it is away as before, and we have it.
                until, record = self.absence.clock() + self.absence.window, record._replace(node=self.node)
                self.absence.keep(replace(absent, record=record, until=until))
                trail.absent = None
                return None if member.state is not State.PENDING else "user"
            member.data = data_of(first.data, member.data, record.data)
        with self._hub.changing:
            self.absence.take(absent)
            trail.confirm(absent.record)
            self._hub.restore(member, trail.rooms)
        return None

    def start_clean(self, member: Member, reason: str, sid: str) -> None:
        """It is let in, but as somebody new."""
        trail: Trail = member.trail
        absent, keeper = trail.absent, self._hub.keepers[member.namespace]
        with self._hub.changing:
            self._hub.rename(member, sid, keep_rooms=False)
            trail.start(new_pid(), keeper.log.newest)
            if not trail.returning:  # it was about to be let in as who it was, and had begun to hear
                trail.returning = True
                keeper.returning += 1
        trail.reason = reason
        member.data = {}
        self._wipe(member)  # what was held back was for who it is not
        if absent is not None and reason in ("user", "store"):
            self.absence.release(absent)  # it is somebody else's, or nobody can say whose it is now
        elif absent is not None:
            self.absence.give_up(absent)

    def _wipe(self, member: Member) -> None:
        """What its authorise step has left behind, before the step is run again."""
        member.user = member.expires_at = member.held = None
        if member.asked is not None:
            member.asked.abandon()
        if member.socket is not None:
            member.socket.cache.clear()

    def accept(self, member: Member) -> bool:
        """CONNECT leaves; before it what was missed, after it what was said while it was let in. False: it has left."""
        trail: Trail = member.trail
        if member.state is not State.PENDING:
            return False
        session = member.session
        data: dict[str, Any] = {"sid": member.sid, "pid": trail.pid}
        if trail.offer is not None:
            data |= {"recovered": True} if trail.record is not None else {"recovered": False, "reason": trail.reason}
            self._metrics.recoveries.add(trail.reason or "recovered")
        keeper, missed, meanwhile = self._hub.keepers[member.namespace], trail.missed, trail.meanwhile
        trail.missed, trail.meanwhile = (), ()
        if missed:
            session.replay(self._counted(self._tell(keeper, session, missed)))
        self.absence.joined(member)
        accepted = session.accept(member, data)
        for encoded in keeper.again(session.dialect, meanwhile):
            session.offer(encoded)
        self._metrics.replayed.add(amount=len(meanwhile))
        return accepted

    @staticmethod
    def _tell(keeper: Keeper, session: Session, missed: Iterable[Entry]) -> Iterator[tuple[Encoded, int]]:
        """And how many each stands for. An answer to a poll holds few, and is measured with each."""
        if isinstance(missed, Passage) and session.wire is not None and session.wire.name != "polling":
            return keeper.together(session.dialect, missed)
        return ((encoded, 1) for encoded in keeper.again(session.dialect, missed))

    def _counted(self, frames: Iterator[tuple[Encoded, int]]) -> Iterator[Encoded]:
        count = 0
        try:
            for encoded, more in frames:
                count += more
                yield encoded
        finally:
            self._metrics.replayed.add(amount=count)

    # --- leaving

    def left(self, member: Member, reason: str) -> None:
        """Its membership is about to end, whoever ends it."""
        trail: Trail = member.trail
        if trail.taken:
            return
        trail.taken = True
        if member.state is not State.PENDING:
            self.absence.left(member, reason)
            return
        self._stop_returning(member)
        if isinstance(trail.owner, Absent):
            self.absence.release(trail.owner)
        if trail.absent is not None:
            (self.absence.keep if trail.confirmed else self.absence.release)(trail.absent)

    def _stop_returning(self, member: Member) -> None:
        trail: Trail = member.trail
        if trail.returning:
            trail.returning = False
            self._hub.keepers[member.namespace].returning -= 1

    def forget(self, namespace: str, target: Any) -> None:
        """Whoever is away and in this room, or has this sid, is not to come back."""
        self.absence.forget(namespace, target)


def new_pid() -> str:
    """192 random bits: whoever shows it is let in as the client it was given to."""
    return secrets.token_urlsafe(24)
