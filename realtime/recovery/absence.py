"""Clients that leave: who of them may come back, what is kept of them meanwhile, and when that is over."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Address, ip_address, ip_network
from math import inf
from time import monotonic
from typing import Any, Final, Protocol

from realtime.access.identity import Identity
from realtime.encoding.codecs import json_bytes
from realtime.errors import UsageError
from realtime.journal.away import Absent, Away
from realtime.journal.resume import Record
from realtime.journal.trail import Trail
from realtime.metrics import Metrics
from realtime.names import Reason
from realtime.rooms.hub import Hub
from realtime.session.session import Member, State
from realtime.settings import Settings
from realtime.telemetry.seldom import Seldom

logger = logging.getLogger("realtime")

RECOVERABLE: Final = frozenset(
    {Reason.TRANSPORT_CLOSE, Reason.TRANSPORT_ERROR, Reason.PING_TIMEOUT, Reason.SLOW, Reason.LIMIT}
)
"""Ends that nobody chose. Who leaves, is sent away or breaks the protocol has left; so has who was here when this
process began to end, for its memory ends with it."""
ENDING: Final = 10_000
"""Sessions whose time is over here, until the store tells that it is over everywhere."""
SWEEP: Final = 1_000
"""Sessions that are ended in a row before others get their turn: whole networks are cut off together."""
NETWORK_BITS: Final = 64
"""Of an IPv6 address: what one customer of a provider has, and addresses below it cost nothing."""


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


def charged_to(user: Any, address: str) -> str:
    """Whose share what is kept of a client counts in: its user's, where a token says who that is; else its address's,
    for names that anybody may choose are no bound."""
    if isinstance(user, Identity) and not user.anonymous:
        return f"user:{user.user_id}"
    with suppress(ValueError):
        parsed = ip_address(address)
        if isinstance(parsed, IPv6Address):
            return str(ip_network((parsed, NETWORK_BITS), strict=False))
    return address


class Store(Protocol):
    """Where other nodes find them (see ``SessionStore``)."""

    def changed(self, member: Member) -> None: ...

    def left(self, pid: str) -> None: ...

    def ended(self, pid: str) -> None: ...


class Absence:
    """One server's clients that are away. With a ``store`` they may come back on any node, and it tells when their time
    is over."""

    def __init__(self, hub: Hub, metrics: Metrics, settings: Settings, node: str) -> None:
        self.node = node
        self.clock = monotonic
        self.live: dict[str, Member] = {}
        """Who is connected, by pid."""
        self.away = hub.away = Away(settings.recovery_limit_clients, settings.recovery_limit_bytes)
        self.on_expired: Callable[[Absent], None] = lambda absent: None
        self.remembers: Callable[[str], bool] = lambda namespace: False
        """Does this namespace want to hear of sessions that expire?"""
        self.address_of: Callable[[Member], str] = lambda member: ""
        self._hub = hub
        self._metrics = metrics
        self._settings = settings
        self._seldom = Seldom()
        self._sweeping = False
        self.store: Store | None = None
        self._remote: dict[str, Absent] = {}
        """Clients of other nodes that somebody asks here to be let in as."""
        self._ending: dict[str, Absent] = {}
        metrics.away.read = lambda: {(): float(len(self.away))}

    @property
    def window(self) -> float:
        """Seconds in which a client may come back."""
        return self._settings.recovery_window_seconds

    def left(self, member: Member, reason: str) -> None:
        """The membership of somebody that was let in is about to end."""
        trail: Trail = member.trail
        self.live.pop(trail.pid, None)
        absent = self.absent_of(member) if self._may_return(member, reason) else None
        if absent is not None:
            trail.kept = True
            if not self.remembers(member.namespace):
                absent.note = None
            self.keep(absent)
        elif self.store is not None:
            self.store.ended(trail.pid)

    def _may_return(self, member: Member, reason: str) -> bool:
        """A node that is drained ends, and what is in its memory; not what is in the store."""
        return (
            reason in RECOVERABLE
            or (reason == Reason.REPLACED and member.session.closed)
            or (reason == Reason.DRAINING and self.store is not None)
        )

    def joined(self, member: Member) -> None:
        """It was let in."""
        self.live[member.trail.pid] = member
        if self.store is not None:
            self.store.changed(member)

    def end(self, member: Member) -> Absent | None:
        """Somebody else is about to go on as this member, which is told so and has to go: what is known of it. None
        where that cannot be written down."""
        trail: Trail = member.trail
        absent = self.absent_of(member)
        self.live.pop(trail.pid, None)
        trail.taken = True
        trail.kept = absent is not None
        return absent

    def absent_of(self, member: Member) -> Absent | None:
        """What would be kept of it if it left now, with itself as the note."""
        record = self.record_of(member)
        if record is None:
            return None
        return Absent(record, self.clock() + self.window, member, of=charged_to(member.user, self.address_of(member)))

    def record_of(self, member: Member) -> Record | None:
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
        return trail.record_of(log, member.sid, member.namespace, self.node, user, data)

    def stand_in_of(self, member: Member) -> Record:
        """In the place of a record that cannot be written: nobody goes on from it, and nobody else has this pid."""
        trail: Trail = member.trail
        log = self._hub.keepers[member.namespace].log
        record = trail.record_of(log, member.sid, member.namespace, self.node, "", b"{}")
        return record._replace(incomplete="record")

    def keep(self, absent: Absent) -> None:
        """It is away from now on."""
        given_up = self.away.keep(absent)
        if self.store is not None:
            self.store.left(absent.record.pid)
        for each in given_up:
            self._metrics.drops.add("record")
            self._end(each)
        self._plan()

    def hold(self, pid: str, namespace: str) -> Absent | None:
        """Somebody asks to be let in as this client, which was here before (see ``Away.hold``)."""
        absent = self.away.find(pid)
        if absent is None or absent.record.namespace != namespace:
            return None
        return self.away.hold(pid, self.clock())

    def is_known(self, pid: str) -> bool:
        """Is it here, or asked for here?"""
        return pid in self.live or pid in self._remote or self.away.find(pid) is not None

    def borrow(self, record: Record) -> Absent | None:
        """The same with a client that was elsewhere."""
        if record.pid in self._remote:
            return None
        absent = self._remote[record.pid] = Absent(record, inf, held=True)
        return absent

    def holds(self, absent: Absent) -> bool:
        """Is it still away, and held?"""
        return self._remote.get(absent.record.pid) is absent or self.away.holds(absent)

    def take(self, absent: Absent) -> None:
        """It is back."""
        if self._remote.get(absent.record.pid) is absent:
            del self._remote[absent.record.pid]
        elif self.away.find(absent.record.pid) is absent:
            self.away.claim(absent.record.pid)

    def release(self, absent: Absent) -> None:
        """Who wanted to be let in as this client was not, or is not it: it is away as before."""
        if self._remote.get(absent.record.pid) is absent:
            del self._remote[absent.record.pid]
        self.away.release(absent)
        self._plan()

    def give_up(self, absent: Absent) -> None:
        """It does not come back."""
        self.take(absent)
        self._end(absent)

    def _end(self, absent: Absent) -> None:
        if self.store is not None:
            self.store.ended(absent.record.pid)
        self.on_expired(absent)

    def has_expired(self, record: Record) -> None:
        """The store tells: nobody came back as this client, on any node."""
        member = self.live.get(record.pid)
        if member is not None:  # it was not away; the store could not be told so for too long
            if self.store is not None:
                self.store.changed(member)
            return
        absent = self._ending.pop(record.pid, None) or self.away.claim(record.pid)
        self.on_expired(absent or Absent(record, 0.0))

    def forget(self, namespace: str, target: Any) -> None:
        """Whoever is away and in this room, or has this sid, is not to come back; nor who is just being let in."""
        for sid in self.away.in_room(namespace, target):
            pid = self.away.pid_of(namespace, sid)
            absent = self.away.claim(pid) if pid is not None else None
            if absent is not None:
                self._end(absent)
        for member in self._hub.select(namespace, target):
            trail: Trail | None = member.trail
            if trail is not None and trail.absent is not None and member.state is State.PENDING:
                absent, trail.absent = trail.absent, None
                if trail.confirmed or self.holds(absent):
                    self.give_up(absent)

    # --- time

    def _plan(self) -> None:
        """Look at who is away when the first of them expires."""
        when = self.away.next_expiry()
        if self._sweeping or when is None:
            return
        self._sweeping = True
        asyncio.get_running_loop().call_later(max(0.0, when - self.clock()), self.sweep)

    def sweep(self) -> None:
        """End the sessions whose time is over."""
        self._sweeping = False
        for absent in self.away.expire(self.clock(), SWEEP):
            if self.store is None:
                self.on_expired(absent)
            else:
                self._ending[absent.record.pid] = absent
        while len(self._ending) > ENDING:
            del self._ending[next(iter(self._ending))]
        self._plan()
