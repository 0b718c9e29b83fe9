"""Clients that come back: who they were, what they missed, and that nobody is two at a time.

A client is given a secret pid with CONNECT and an offset with every event. When its connection ends without a word
its record is kept for the recovery window; whoever shows the pid then is let in again, through the same door and
under its old sid, and is told what it missed before CONNECT. If anything of that is gone it starts clean, and is told
why.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import orjson

from realtime.away import Absent, Away
from realtime.codecs import Dialect, SocketIOText, json_bytes
from realtime.encoded import Encoded
from realtime.environ import query_of
from realtime.errors import CloseCode, UsageError
from realtime.hub import Hub
from realtime.identity import Identity
from realtime.journal import Log
from realtime.keeper import Keeper
from realtime.metrics import Metrics
from realtime.names import Reason
from realtime.positions import Position
from realtime.recovery import Record, Refused, starting_point
from realtime.said import OffsetMsgPack, OffsetText, SplicedText
from realtime.seldom import Seldom
from realtime.session import Member, State
from realtime.settings import Settings
from realtime.trail import Offer, Trail

logger = logging.getLogger("realtime")

RECOVERABLE: Final = frozenset(
    {Reason.TRANSPORT_CLOSE, Reason.TRANSPORT_ERROR, Reason.PING_TIMEOUT, Reason.SLOW, Reason.LIMIT}
)
"""Ends that nobody chose. Who leaves, is sent away or breaks the protocol has left; so has who was here when this
process began to end, for its memory ends with it."""
SWEEP: Final = 1_000
"""Sessions that are ended in a row before others get their turn: whole networks are cut off together."""
SETTLE_SECONDS: Final = 5.0
"""What the disconnect hook of the connection before may take, while its client waits to be let in again."""
_PYTHON: Final = re.compile(rb"(?:^|&)transport=(?:polling|websocket)&EIO=4(?:&|$)")
"""How python-engineio's clients write their query; every other client puts EIO first."""


def takes_offsets(scope: Mapping[str, Any]) -> bool:
    """``?recovery=0|1`` decides; without it everybody but python-socketio's clients, whose handlers of one argument
    would be called with two."""
    wish = query_of(scope).get("recovery", "auto")
    return wish == "1" or (wish != "0" and _PYTHON.search(scope.get("query_string", b"")) is None)


def user_key(user: Any) -> str | None:
    """Who that is, for comparing; None for a user that cannot be compared."""
    if user is None:
        return ""
    if isinstance(user, Identity):
        return f"{'guest' if user.anonymous else 'user'}:{user.user_id}"
    try:
        return hashlib.sha256(json_bytes(user)).hexdigest()
    except UsageError:
        return None


class Returning:
    """One server's clients that may come back."""

    def __init__(
        self,
        hub: Hub,
        metrics: Metrics,
        settings: Settings,
        dialect: Dialect,
        dumps: Callable[[Any], str] | None = None,
    ) -> None:
        self._hub = hub
        self._metrics = metrics
        self._settings = settings
        self._dumps = dumps
        self._node = f"{settings.node or 'node'}.{secrets.token_hex(4)}"
        self._clock = monotonic
        self._live: dict[str, Member] = {}
        self._seldom = Seldom()
        self._asked_anew: set[Member] = set()
        """Who is being let in again, and was in rooms that its authorise step had entered."""
        self.away = hub.away = Away(settings.recovery_limit_clients, settings.recovery_limit_bytes)
        self._sweeping = False
        spliced = isinstance(dialect, SocketIOText)
        self._plain: Dialect = SplicedText(dumps) if spliced else dialect
        self._offsets: Dialect = OffsetText(dumps) if spliced else OffsetMsgPack()
        """Packets that a client of this dialect is sent are the same in namespaces that keep nothing."""
        self.settled: Callable[[Member], Awaitable[None]] | None = None
        self.on_expired: Callable[[Absent], None] = lambda absent: None
        self.remembers: Callable[[str], bool] = lambda namespace: False
        """Does this namespace want to hear of sessions that expire?"""
        metrics.away.read = lambda: {(): float(len(self.away))}

    def keep(self, namespace: str) -> None:
        """From now on this namespace keeps what it says. Repeats change nothing."""
        if namespace in self._hub.keepers:
            return
        settings, hub = self._settings, self._hub
        log = Log(
            secrets.token_hex(6),
            entries=settings.log_limit_entries,
            seconds=settings.log_limit_seconds,
            size_bytes=settings.log_limit_bytes,
            watched=lambda channel: hub.is_watched(namespace, channel),
        )
        hub.keepers[namespace] = Keeper(namespace, log, self._clock, self._dumps)

    def keeps(self, namespace: str) -> bool:
        """Does it keep what it says?"""
        return namespace in self._hub.keepers

    def is_for(self, scope: Mapping[str, Any], wanted: Iterable[str]) -> bool:
        """Is there anything to recover, for a client that can? ``wanted`` are namespaces that keep what
        they say from now on."""
        for namespace in wanted:
            self.keep(namespace)
        return bool(self._hub.keepers) and takes_offsets(scope)

    def newest(self, namespace: str) -> str | None:
        """The newest offset, as clients are given it; None in a namespace that keeps nothing."""
        keeper = self._hub.keepers.get(namespace)
        return None if keeper is None else keeper.mark

    def dialect(self, recovers: bool) -> Dialect:
        """How Socket.IO clients are spoken to that take offsets, or do not."""
        return self._offsets if recovers else self._plain

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
        """Before the authorise step: is this somebody who was here before?"""
        trail: Trail = member.trail
        offer = trail.offer
        if offer is None:
            return
        absent = await self._find(member, offer)
        if absent is None:
            trail.reason = trail.reason or "unknown"
        elif offer.broken:
            self._give_up(absent, trail, "offset")
        elif member.state is not State.PENDING:
            self.away.keep(absent)  # it has left while it waited
        else:
            self._let_go_on(member, trail, absent)

    async def _find(self, member: Member, offer: Offer) -> Absent | None:
        old = self._live.get(offer.pid)
        if old is not None and old.namespace == member.namespace:
            return await self._take_over(old)
        absent = self.away.claim(offer.pid)
        if absent is None:
            return None
        if absent.until <= self._clock():
            self.on_expired(absent)
            return None
        if absent.record.namespace != member.namespace:
            self.away.keep(absent)
            return None
        leaving = self._hub.find(absent.record.sid, member.namespace)
        if leaving is not None:
            await self._settle(leaving)
        return absent

    async def _take_over(self, old: Member) -> Absent | None:
        """Its connection is half open: we have not noticed its end. It goes; the session stays."""
        trail: Trail = old.trail
        record = self._record_of(old)
        self._live.pop(trail.pid, None)
        trail.taken = True
        trail.kept = record is not None
        absent = None if record is None else Absent(record, self._clock() + self._window, old)
        old.session.close(CloseCode.REPLACED, "replaced by another connection", Reason.REPLACED)
        await self._settle(old)
        return absent

    async def _settle(self, old: Member) -> None:
        """Its disconnect hook comes before the connect hook of who it is now."""
        if self.settled is not None and old.session.loop is asyncio.get_running_loop():
            with suppress(TimeoutError):
                await asyncio.wait_for(self.settled(old), SETTLE_SECONDS)

    def _let_go_on(self, member: Member, trail: Trail, absent: Absent) -> None:
        record, keeper = absent.record, self._hub.keepers[member.namespace]
        with self._hub.changing:
            found = starting_point(record, trail.offer.position if trail.offer else None)
            if isinstance(found, Position) and not keeper.log.reaches(found):
                found = Refused("gone")
            if isinstance(found, Position) and not self._hub.rename(member, record.sid):
                found = Refused("unknown")
            if isinstance(found, Position):
                trail.go_on(absent, keeper.log.last)
                self._hub.restore(member, trail.rooms)
                if any(stay.granted for stay in record.stays):
                    self._asked_anew.add(member)
        if isinstance(found, Refused):
            self._give_up(absent, trail, found.reason)
        else:
            member.data = orjson.loads(record.data)

    def _give_up(self, absent: Absent, trail: Trail, reason: str) -> None:
        trail.reason = reason
        self.on_expired(absent)

    def unfit(self, member: Member) -> str | None:
        """After the authorise step: why it may not go on as who it was. None: it may, and what it missed is ready."""
        trail: Trail = member.trail
        log = self._hub.keepers[member.namespace].log
        if trail.record is not None and user_key(member.user) != trail.record.user:
            return "user"
        if trail.record is not None and trail.absent is None:
            return "unknown"  # it was sent away meanwhile
        with self._hub.changing:
            reason = trail.look_up(log, member.sid, member.namespace)
            if reason is None:
                self._stop_returning(member)
        return reason

    def start_clean(self, member: Member, reason: str, sid: str) -> None:
        """It is let in, but as somebody new."""
        trail: Trail = member.trail
        absent, keeper = trail.absent, self._hub.keepers[member.namespace]
        with self._hub.changing:
            self._hub.rename(member, sid, keep_rooms=False)
            trail.start(new_pid(), keeper.log.newest)
        trail.reason = reason
        member.data = {}
        member.user = member.expires_at = member.held = None  # what was held back was for who it is not
        if member.asked is not None:
            member.asked.abandon()
        if member.socket is not None:
            member.socket.cache.clear()
        if absent is not None and reason == "user":
            self._keep_absent(absent)  # it is somebody else's
        elif absent is not None:
            self.on_expired(absent)

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
        trail.missed, trail.meanwhile = iter(()), ()
        session.outbox.replay(self._counted(keeper.again(session.dialect, missed)))
        self._live[trail.pid] = member
        accepted = session.accept(member, data)
        for encoded in keeper.again(session.dialect, meanwhile):
            session.offer(encoded)
        self._metrics.replayed.add(amount=len(meanwhile))
        return accepted

    def _counted(self, frames: Iterator[Encoded]) -> Iterator[Encoded]:
        count = 0
        try:
            for count, encoded in enumerate(frames, 1):  # noqa: B007
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
        if member.state is State.PENDING:
            self._stop_returning(member)
            if trail.absent is not None:
                self._keep_absent(trail.absent)
            return
        self._live.pop(trail.pid, None)
        if reason in RECOVERABLE or (reason == Reason.REPLACED and member.session.closed):
            record = self._record_of(member)
            if record is not None:
                trail.kept = True
                note = member if self.remembers(member.namespace) else None
                self._keep_absent(Absent(record, self._clock() + self._window, note))

    def _record_of(self, member: Member) -> Record | None:
        user, data = user_key(member.user), None
        with suppress(UsageError):
            data = bytes(memoryview(json_bytes(member.data)))  # a copy: orjson's own holds on to 4 KiB
        if user is None or data is None:
            more = self._seldom.left_out("record", monotonic())
            if more is not None:
                words = "a client of %s cannot come back: its user or its data is not JSON (%d more since then)"
                logger.warning(words, member.namespace, more)
            self._metrics.drops.add("record")
            return None
        trail: Trail = member.trail
        log = self._hub.keepers[member.namespace].log
        return trail.record_of(log, member.sid, member.namespace, self._node, user, data)

    def _keep_absent(self, absent: Absent) -> None:
        for given_up in self.away.keep(absent):
            self._metrics.drops.add("record")
            self.on_expired(given_up)
        self._plan()

    def _stop_returning(self, member: Member) -> None:
        trail: Trail = member.trail
        if trail.returning:
            trail.returning = False
            self._asked_anew.discard(member)
            self._hub.keepers[member.namespace].returning -= 1

    @property
    def _window(self) -> float:
        return self._settings.recovery_window_seconds

    def forget(self, namespace: str, target: Any) -> None:
        """Whoever is away and in this room, or has this sid, is not to come back."""
        for sid in self.away.in_room(namespace, target):
            pid = self.away.pid_of(namespace, sid)
            absent = self.away.claim(pid) if pid is not None else None
            if absent is not None:
                self.on_expired(absent)
        for member in self._hub.select(namespace, target):  # and who is just being let in again
            if member.trail is not None and member.trail.absent is not None and member.state is State.PENDING:
                absent, member.trail.absent = member.trail.absent, None
                self.on_expired(absent)
        for member in list(self._asked_anew):  # or was in this room, if its authorise step enters it again
            absent = member.trail.absent
            if member.namespace == namespace and absent is not None and member.trail.is_due(target):
                member.trail.absent = None
                self.on_expired(absent)

    # --- time

    def _plan(self) -> None:
        """Look at who is away when the first of them expires."""
        when = self.away.next_expiry()
        if self._sweeping or when is None:
            return
        self._sweeping = True
        asyncio.get_running_loop().call_later(max(0.0, when - self._clock()), self.sweep)

    def sweep(self) -> None:
        """End the sessions whose time is over."""
        self._sweeping = False
        for absent in self.away.expire(self._clock(), SWEEP):
            self.on_expired(absent)
        self._plan()


def new_pid() -> str:
    """192 random bits: whoever shows it is let in as the client it was given to."""
    return secrets.token_urlsafe(24)
