"""What happens with an event, a connect and a disconnect: typed namespaces first, python-socketio's style else.

One place turns exceptions into answers, so that every client gets the same error object on every wire.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Iterable, Sequence
from threading import get_ident
from time import perf_counter
from typing import Any, Protocol

from realtime.access.identity import Identity
from realtime.access.limits import Quota
from realtime.clients.context import Socket
from realtime.errors import LimitError, RealtimeError, UsageError, connect_refusal, label_of, wire_error
from realtime.journal.away import Absent
from realtime.names import Reason
from realtime.recovery.gone import gone
from realtime.recovery.returning import Returning
from realtime.rooms.hub import authorizing
from realtime.server.classic import Classic, Refused
from realtime.session.endings import note_limit
from realtime.session.session import Core, Member, State
from realtime.typed.namespace import Namespace
from realtime.typed.plan import FOREIGN, translated

logger = logging.getLogger("realtime")


FAILURES = (Exception, asyncio.CancelledError)
"""What comes out of a handler; see ``_ends_us``."""
JOINED = State.JOINED  # looking a member up in its Enum costs more than the comparison it is for


class Host(Protocol):
    """What the application asks of the server."""

    always_connect: bool
    async_handlers: bool
    not_handled: object
    namespaces: Any
    handlers: dict[str, Any]
    namespace_handlers: dict[str, Any]
    core: Core
    settings: Any
    metrics: Any

    def socket_of(self, member: Member) -> Socket: ...

    def dismiss(self, member: Member, reason: str) -> None: ...

    def environ_of(self, member: Member) -> dict[str, Any]: ...

    async def heard(self, namespace: str, *channels: str | None) -> bool: ...


class Application:
    """Keeps the port ``session.Application`` for one server."""

    def __init__(self, host: Any) -> None:
        self._host: Host = host
        self.typed: dict[str, Namespace] = {}
        self.classic = Classic(host)
        self._quota = Quota(host.settings.connections_per_user)
        self._counted: dict[Member, str] = {}
        """Not by sid: who comes back has the sid of who is just leaving."""
        self._turned_away: set[str] = set()
        self._ending: dict[str, list[asyncio.Future[None]]] = {}
        returning: Returning = host.returning
        returning.settled = self.settled
        returning.absence.address_of = lambda member: host.eio.origins.client_address(member.session.scope)
        returning.absence.on_expired = self._expired
        returning.absence.remembers = lambda namespace: namespace in self.typed and self.typed[namespace].remembers
        self.returning = returning

    # --- questions

    def knows(self, namespace: str) -> bool:
        """May clients connect to this namespace? (python-socketio's rule for what is not typed.)"""
        host = self._host
        return (
            namespace in self.typed
            or namespace in host.handlers
            or namespace in host.namespace_handlers
            or host.namespaces == "*"
            or namespace in host.namespaces
        )

    def overlaps(self, member: Member, data: Sequence[Any]) -> bool:
        """May this event run beside others of the same client?"""
        typed = self.typed.get(member.namespace)
        return self._host.async_handlers if typed is None else data[0] in typed.concurrent

    def limited(self, namespace: str) -> bool:
        """Does the limit of events per second hold here? In typed namespaces, and where nobody handles anything."""
        host = self._host
        return namespace in self.typed or not (
            namespace in host.handlers
            or namespace in host.namespace_handlers
            or "*" in host.handlers
            or "*" in host.namespace_handlers
        )

    def label(self, namespace: str) -> str:
        """For metrics: with ``namespaces="*"`` clients choose names, and must not grow a table with them."""
        host = self._host
        known = namespace in self.typed or namespace in host.handlers or namespace in host.namespace_handlers
        return namespace if known or namespace in host.namespaces else "other"

    # --- connect

    async def connect(self, member: Member, auth: Any) -> None:
        """Authorise, answer CONNECT or CONNECT_ERROR, greet. Never raises an Exception."""
        session = member.session
        typed = self.typed.get(member.namespace)
        early = typed is None and self._host.always_connect
        if member.trail is not None:
            await self.returning.claim(member)
        if early and not session.accept(member, {"sid": member.sid}):
            return
        try:
            await self._let_in(typed, member, auth)
        except Refused as refused:
            self._turn_away(member, refused.data, early)
            return
        except FAILURES as error:
            if _ends_us(error):
                raise
            answer = self._explain(error, member, "connect")
            self._turn_away(member, connect_refusal(answer), early)
            return
        if not early and not self._accept(member):
            self._give_back(member)  # it left while its connect handler ran
            return
        self._host.metrics.connects.add(self.label(member.namespace), "accepted")
        if typed is not None:
            await self._greet(typed, member)

    def _accept(self, member: Member) -> bool:
        if member.trail is not None:
            return self.returning.accept(member)
        return member.session.accept(member, {"sid": member.sid})

    async def _let_in(self, typed: Namespace | None, member: Member, auth: Any) -> None:
        await self._authorize(typed, member, auth)
        if member.trail is None:
            await self._host.heard(member.namespace, None, member.sid)
        else:
            if member.trail.owner is not None and await self._takes_over(typed, member):
                if member.state is not State.PENDING:
                    return  # it has left while the old connection ended
                await self._authorize(typed, member, auth)
            reason = await self._unfit(typed, member)
            if reason is not None and member.state is State.PENDING:
                self.returning.start_clean(member, reason, self._host.core.new_sid())
                await self._authorize(typed, member, auth)
                await self.returning.unfit(member)
        if typed is not None and isinstance(member.user, Identity):
            # A guest who calls itself alice must not use up the connections of the alice with a token.
            user = f"{'guest' if member.user.anonymous else 'user'}:{member.user.user_id}"
            if not self._quota.take(user):
                raise LimitError("Too many connections of this user", code="too_many_connections")
            self._counted[member] = user

    async def _authorize(self, typed: Namespace | None, member: Member, auth: Any) -> None:
        step = authorizing.set(member) if member.trail is not None else None
        try:
            if typed is not None:
                await typed.let_in(self._host.socket_of(member), auth)
                return
            environ = self._host.environ_of(member)
            if member.trail is not None:
                environ = {**environ, "realtime.recovered": member.trail.record is not None}
            await self.classic.connect(member.namespace, member.sid, environ, auth)
        finally:
            if step is not None:
                authorizing.reset(step)

    async def _takes_over(self, typed: Namespace | None, member: Member) -> bool:
        """A stranger was let in that shows the pid of somebody who is connected. True: it is to be asked in again, as
        that one, whose connection has ended."""
        rooms = self.returning.rooms_to_ask(member)
        if rooms is None or not await self.returning.take_over(member, await self._refuses(typed, member, rooms)):
            return False
        if typed is None:  # it was let in under a sid that nobody will hear of again
            try:
                await self.classic.disconnect(member.namespace, member.sid, str(Reason.REPLACED))
            except FAILURES as error:
                if _ends_us(error):
                    raise
                logger.exception("the disconnect handler of %s failed", member.namespace)
        self.returning.succeed(member)
        return True

    async def _unfit(self, typed: Namespace | None, member: Member) -> str | None:
        """Why a client that comes back may not go on as who it was: its rooms' rules are asked again, too."""
        asked = member.trail.rooms_asked_for()
        reason = await self._refuses(typed, member, asked) or await self.returning.unfit(member)
        more = [room for room in member.trail.rooms_asked_for() if room not in asked]  # it went on elsewhere until now
        return reason or await self._refuses(typed, member, more)

    async def _refuses(self, typed: Namespace | None, member: Member, rooms: Iterable[str]) -> str | None:
        """May it be in these rooms?"""
        for room in rooms if typed is not None else ():
            try:
                await typed.on_room("may_join", self._host.socket_of(member), room)  # type: ignore[union-attr]
            except FAILURES as error:
                if _ends_us(error):
                    raise
                self._explain(error, member, "may_join")
                return "access"
        return None

    def _expired(self, absent: Absent) -> None:
        """Nobody came back in time, or will not: the namespace may want to know."""
        typed, member = self.typed.get(absent.record.namespace), absent.note
        if typed is not None and typed.remembers:
            member = member or gone(self._host.core, absent.record)
            self._host.core.threshold(asyncio.get_running_loop()).submit(self._say_expired(typed, member))

    async def _say_expired(self, typed: Namespace, member: Member) -> None:
        try:
            await typed.say_expired(self._host.socket_of(member))
        except Exception:
            logger.exception("the hook expired of %s failed", member.namespace)

    def _turn_away(self, member: Member, data: Any, early: bool) -> None:
        self._host.metrics.connects.add(self.label(member.namespace), "refused")
        if early:
            self._turned_away.add(member.sid)  # told CONNECT, but never let in: neither event nor hook runs for it
            member.heard = False
            self._host.dismiss(member, Reason.SERVER)
        else:
            member.session.refuse(member, data)

    async def _greet(self, typed: Namespace, member: Member) -> None:
        try:
            await typed.greet(self._host.socket_of(member))
        except FAILURES as error:
            if _ends_us(error):
                raise
            member.session.fail(member.namespace, None, self._explain(error, member, "connected"))

    # --- events

    def event(self, member: Member, data: Sequence[Any], ack: int | None) -> Coroutine[Any, Any, None]:
        """Handle and acknowledge; whatever goes wrong becomes the error object. Never raises an Exception."""
        typed = self.typed.get(member.namespace)
        if typed is None:
            return self._classic_event(member, data, ack)
        return self._typed_event(typed, member, data, ack)

    async def _typed_event(self, typed: Namespace, member: Member, data: Sequence[Any], ack: int | None) -> None:
        name = data[0]
        try:
            handler = typed.events.get(name) or typed.find(name)
            handler.received.count += 1
            started = perf_counter()
            try:
                value = await handler.begin(member.socket or self._host.socket_of(member), data)
            finally:
                handler.seconds.observe(perf_counter() - started)
            if handler.finish is not None:
                value = handler.finish(value)
            if ack is not None:
                self._acknowledge(member, ack, (value,))
        except FAILURES as error:
            if _ends_us(error):
                raise
            label = name if name in typed.events else "other"
            member.session.fail(member.namespace, ack, self._explain(error, member, label))

    async def _classic_event(self, member: Member, data: Sequence[Any], ack: int | None) -> None:
        namespace, name = member.namespace, data[0]
        label = name if self.classic.handles(namespace, name) else "other"
        self._host.metrics.events_in.add(self.label(namespace), label)
        try:
            value = await self.classic.event(namespace, member.sid, data)
            if ack is not None and value is not self._host.not_handled:
                self._acknowledge(member, ack, value if isinstance(value, tuple) else () if value is None else (value,))
        except FAILURES as error:
            if _ends_us(error):
                raise
            member.session.fail(namespace, ack, self._explain(error, member, label))

    @staticmethod
    def _acknowledge(member: Member, ack: int, answer: Sequence[Any]) -> None:
        if member.state is JOINED:
            session = member.session
            encoded = session.dialect.ack(member.namespace, ack, answer)
            if encoded is not None:
                outbox = session.outbox
                way = outbox.way
                if way is None or session.thread != get_ident():
                    session.offer(encoded)
                elif not way(encoded):  # ``offer`` without its two calls
                    outbox.way = None

    def _explain(self, error: BaseException, member: Member, what: str) -> dict[str, Any]:
        """What the client is told; what is our own fault is logged, under the same incident id."""
        if isinstance(error, FOREIGN):
            error = translated(error)
        incident = secrets.token_hex(6)
        answer = wire_error(error, incident)
        if not isinstance(error, RealtimeError) or isinstance(error, UsageError):
            logger.error("%s of %s failed (incident %s)", what, member.namespace, incident, exc_info=error)
        code = "internal" if answer["code"] == "internal" else label_of(error)
        if isinstance(error, LimitError):
            note_limit(member.session, code)
        self._host.metrics.errors.add(self.label(member.namespace), code)
        return answer

    # --- the end

    async def ended(self, member: Member, reason: str) -> None:
        """Run the disconnect hook of a member that was let in. Never raises an Exception."""
        typed = self.typed.get(member.namespace)
        try:
            if member.sid in self._turned_away:
                pass
            elif typed is None:
                await self.classic.disconnect(member.namespace, member.sid, str(reason))
            else:
                await typed.say_goodbye(self._host.socket_of(member), str(reason))
        except FAILURES as error:
            if _ends_us(error):
                raise
            logger.exception("the disconnect handler of %s failed", member.namespace)
        finally:
            self._turned_away.discard(member.sid)
            self._give_back(member)
            if typed is None or not typed.remembers:
                member.socket = None  # it holds on to the member
            for waiting in self._ending.pop(member.sid, ()):
                _resolve(waiting)

    def expired(self, member: Member) -> None:
        """The member's token has reached its end: tell it, and end its membership."""
        session = member.session
        told = session.dialect.event(member.namespace, "token_expired", [{"message": "Your token has expired"}])
        if told is not None:
            session.offer(told)
        session.dismiss(member.namespace, Reason.EXPIRED)

    async def settled(self, member: Member) -> None:
        """Returns when the disconnect hook of a member of this event loop that was just dismissed has run.

        Cancelled, it stops waiting; the hook runs on.
        """
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ending.setdefault(member.sid, []).append(waiting)
        if self._host.core.hub.find(member.sid, member.namespace) is None:  # type: ignore[attr-defined]
            self._ending.pop(member.sid, None)
            return
        await waiting

    async def rest(self, seconds: float) -> None:
        """Wait until handlers have finished, this long at the most; only those of this loop."""
        await self._host.core.settle(seconds)

    def _give_back(self, member: Member) -> None:
        user = self._counted.pop(member, None)
        if user is not None:
            self._quota.give(user)


def _ends_us(error: BaseException) -> bool:
    """Is it our own task that is cancelled, and not something that a handler waited for?"""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
