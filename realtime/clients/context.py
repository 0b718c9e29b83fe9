"""What a handler may do with its client: ``Socket``. One for each client and namespace, on every wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Protocol

from starlette.requests import HTTPConnection

from realtime.access.identity import Identity
from realtime.clients.spoken import name_and_args
from realtime.errors import AccessError, LimitError, PayloadError, Refusal, connect_refusal
from realtime.names import NAME_LIMIT, Reason, is_system_room, problem_with_name
from realtime.recovery.since import Since
from realtime.rooms.emitted import Emitted
from realtime.rooms.index import Target
from realtime.session.session import Member, State

LOOKS: Final = 3
"""While a room's rule is asked more is said in the room: so often the log is read for it, then the room begins now."""


class Publishing(Protocol):
    """Who takes an emission to its room."""

    async def publish(
        self,
        namespace: str,
        event: str,
        args: tuple[Any, ...],
        to: Target,
        skip: Collection[str],
        volatile: bool,
        key: str | None,
    ) -> Emitted: ...


class House(Publishing, Protocol):
    """What a socket asks of the server."""

    async def ask(self, namespace: str, event: str, args: tuple[Any, ...], sid: str, timeout: float | None) -> Any: ...

    async def on_room(self, hook: str, socket: Socket, room: str) -> None: ...

    def enter(self, member: Member, room: str) -> bool: ...

    def leave(self, member: Member, room: str) -> bool: ...

    def rooms_of(self, member: Member) -> tuple[Any, ...]: ...

    async def heard(self, namespace: str, *channels: str | None) -> bool: ...

    async def look_back(self, namespace: str, offset: str, *channels: str | None) -> str | None: ...

    def is_elsewhere(self, namespace: str) -> bool: ...

    def is_at_hand(self, namespace: str, offset: str, *channels: str | None) -> bool: ...

    def since(self, member: Member, offset: str, rooms: Collection[str] | None = None) -> Since: ...

    async def kept(self, member: Member) -> None: ...

    def dismiss(self, member: Member, reason: str) -> None: ...


class Socket:
    """A client in a namespace. ``user`` is what the authorise step answered; ``data`` is yours to fill."""

    def __init__(self, member: Member, house: House) -> None:
        self._member = member
        self._house = house
        self._connection: HTTPConnection | None = None
        self._cache: dict[Any, Any] = {}

    @property
    def sid(self) -> str:
        """This client in this namespace; another connection of the same client has another."""
        return self._member.sid

    @property
    def namespace(self) -> str:
        """The name of the namespace, such as ``/chat``."""
        return self._member.namespace

    @property
    def wire(self) -> str:
        """``websocket``, ``polling``, ``raw`` or ``sse``."""
        wire = self._member.session.wire
        return wire.name if wire is not None else self._member.session.kind

    @property
    def connected(self) -> bool:
        """Let in, and not gone yet."""
        return self._member.state is State.JOINED

    @property
    def recovered(self) -> bool:
        """It was here before, lost its connection and goes on: its sid, data and rooms are the same. Known from the
        authorise step on."""
        trail = self._member.trail
        return trail is not None and trail.record is not None

    @property
    def unrecovered(self) -> str | None:
        """Why it starts clean, if it had come to go on; else None."""
        trail = self._member.trail
        return None if trail is None else trail.reason

    @property
    def may_return(self) -> bool:
        """In the hook ``disconnected``: it lost its connection and may come back as who it was."""
        trail = self._member.trail
        return trail is not None and trail.kept

    @property
    def auth(self) -> Any:
        """What the client sent with CONNECT."""
        return self._member.auth

    @property
    def data(self) -> dict[str, Any]:
        """Yours; it lives as long as the connection, and comes back with a client that does (then it must be JSON).
        ``Server.session()`` shows the same."""
        return self._member.data

    @property
    def connection(self) -> HTTPConnection:
        """The handshake: headers, query, cookies, client address."""
        if self._connection is None:
            self._connection = HTTPConnection(dict(self._member.session.scope))
        return self._connection

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms it has joined, its own not counted; in the disconnect hook those that it was in."""
        found = self._house.rooms_of(self._member)
        return tuple(room for room in found if room != self._member.sid)

    @property
    def cache(self) -> dict[Any, Any]:
        """Values that the framework keeps for this connection."""
        return self._cache

    def loop_time(self) -> float:
        """The clock of this connection's event loop, in seconds."""
        return self._member.session.loop.time()

    @property
    def user(self) -> Any:
        """What the authorise step answered. Set it to change it: an Identity that expires ends the connection at
        that time, unless a later one takes its place."""
        return self._member.user

    @user.setter
    def user(self, user: Any) -> None:
        member = self._member
        member.user = user
        expires_at = user.expires_at if isinstance(user, Identity) else None
        if expires_at is None:
            member.expires_at = None
        else:
            leeway = member.session.core.settings.jwt_leeway_seconds  # let in within it, it must not be cut at once
            member.expires_at = member.session.loop.time() + max(0.0, expires_at + leeway - time.time())
            on_loop_of(member, member.session.wake_at, member.expires_at)

    async def join(self, room: str, *, since: str | None = None) -> Since | None:
        """Enter a room whose name the client chose; the namespace's ``may_join`` and ``joined`` run. With ``since``
        what was said in it after that offset is told now, and the answer says whether that was all of it; where that
        has to be waited for, ``may_join`` is asked again.

        Raises PayloadError for a bad name, AccessError for a room of the system or where the rule says no,
        LimitError for too many rooms. A room it is in already is no change, nor is any room for a client that
        left meanwhile.
        """
        limits = self._member.session.core.settings
        check_room(room, limits.room_name_limit_characters)
        if room in self.rooms:
            return None
        await self._house.on_room("may_join", self, room)
        self._check_number_of_rooms(room, limits.rooms_per_connection)
        reason = None
        if since is not None:
            reason = await self._look_back(room, since)
            self._check_number_of_rooms(room, limits.rooms_per_connection)
        try:
            entered = self.enter(room)
        except ValueError:  # the name is somebody's sid
            raise AccessError(NOT_YOURS, code="system_room") from None
        if not entered:
            return None
        told = self._house.since(self._member, since, (room,)) if since is not None else None
        if told is not None and not told.recovered:
            told = replace(told, reason=reason or told.reason)
        if self._member.trail is not None:
            self._member.trail.asked_for(room)
        await self._house.heard(self.namespace, room)
        await self._house.kept(self._member)
        await self._house.on_room("joined", self, room)
        return told

    def _check_number_of_rooms(self, room: str, limit: int) -> None:
        if room not in self.rooms and sum(not is_system_room(each) for each in self.rooms) >= limit:
            raise LimitError(f"No more than {limit} rooms for one connection", code="too_many_rooms")

    async def _look_back(self, room: str, since: str) -> str | None:
        """Have at hand what was said since then, in the turn in which the rule says yes: it may say no by now."""
        reason = None
        for _ in range(LOOKS):
            reason = await self._house.look_back(self.namespace, since, room)
            if not self._house.is_elsewhere(self.namespace):
                break
            await self._house.on_room("may_join", self, room)
            if reason is not None or self._house.is_at_hand(self.namespace, since, room):
                break
        return reason

    def enter(self, room: str) -> bool:
        """Enter a room whose name is the application's own; no rule is asked and no limit holds.

        True when this was a change. Raises ValueError for the sid of somebody else.
        """
        if self._member.state is State.GONE:
            return False
        return self._house.enter(self._member, room)

    async def leave(self, room: str) -> None:
        """Leave a room whose name the client chose; ``left`` runs if it was in it. Raises as ``join`` does."""
        check_room(room, self._member.session.core.settings.room_name_limit_characters)
        if self._house.leave(self._member, room):
            await self._house.kept(self._member)
            await self._house.on_room("left", self, room)

    async def emit(self, event: Any, data: Any = None, *, volatile: bool = False, key: str | None = None) -> Emitted:
        """To this client alone: an event name and data, or a pydantic model whose class names the event."""
        name, args = name_and_args(event, data)
        return await self._house.publish(self.namespace, name, args, self.sid, (), volatile, key)

    async def call(self, event: Any, data: Any = None, *, timeout: float = 60) -> Any:
        """Emit and wait for the client's acknowledgement, at most ``timeout`` seconds.

        Raises ClientGone at once when the client leaves before, InboxFull at once when its answer is not read because
        its events wait for handlers (perhaps for the one that calls), python-socketio's TimeoutError in the end.
        """
        name, args = name_and_args(event, data)
        return await self._house.ask(self.namespace, name, args, self.sid, timeout)

    async def disconnect(self, reason: str = Reason.SERVER) -> None:
        """End its membership in this namespace; in the authorise step, refuse it."""
        self._house.dismiss(self._member, reason)

    def __repr__(self) -> str:
        return f"<Socket {self.sid} in {self.namespace} over {self.wire}>"


NOT_YOURS: Final = "This room belongs to the system"


def check_room(room: str, limit: int = NAME_LIMIT, what: str = "room") -> None:
    """A room that a client may name; ``limit`` is in characters, ``what`` is the word for it in a sentence.

    Raises PayloadError for a bad name, AccessError for a room of the system.
    """
    problem = problem_with_name(room, what, limit)
    if problem is not None:
        raise PayloadError(problem)
    if is_system_room(room):
        raise AccessError(f"This {what} belongs to the system", code="system_room")


def on_loop_of(member: Member, call: Callable[..., object], *args: Any) -> None:
    """A handler without ``async`` runs in a thread, and what belongs to the loop of its client is done there."""
    loop = member.session.loop
    if asyncio._get_running_loop() is loop:
        call(*args)
    else:
        with suppress(RuntimeError):  # the loop is closed: the client is gone
            loop.call_soon_threadsafe(call, *args)


def dismiss(member: Member, reason: str) -> None:
    """End a membership, on its own loop; one that is being decided on is refused."""
    if member.state is State.PENDING:
        refusal = Refusal("refused", "Connection refused by server")
        member.session.refuse(member, connect_refusal(refusal.as_dict()))
    elif member.state is State.JOINED:
        member.session.dismiss(member.namespace, reason)
