"""What a handler may do with its client: ``Socket``. One for each client and namespace, on every wire."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any, Protocol

from starlette.requests import HTTPConnection

from realtime.errors import AccessError, LimitError, PayloadError
from realtime.identity import Identity
from realtime.names import Reason, is_system_room, problem_with_name
from realtime.rooms import Target
from realtime.session import Member, State
from realtime.spoken import name_and_args


class House(Protocol):
    """What a socket asks of the server."""

    async def publish(
        self, namespace: str, event: str, args: tuple[Any, ...], to: Target, skip: Collection[str], volatile: bool
    ) -> int: ...

    async def call(
        self, event: str, data: Any = None, to: str | None = None, *, namespace: str, timeout: float
    ) -> Any: ...

    async def on_room(self, hook: str, socket: Socket, room: str) -> None: ...

    def enter(self, member: Member, room: str) -> None: ...

    def leave(self, member: Member, room: str) -> bool: ...

    def rooms_of(self, member: Member) -> tuple[Any, ...]: ...


class Socket:
    """A client in a namespace. ``user`` is what the authorise step answered; ``data`` is yours to fill."""

    def __init__(self, member: Member, house: House) -> None:
        self._member = member
        self._house = house
        self._connection: HTTPConnection | None = None
        self._cache: dict[Any, Any] = {}

    @property
    def sid(self) -> str:
        return self._member.sid

    @property
    def namespace(self) -> str:
        return self._member.namespace

    @property
    def wire(self) -> str:
        """``websocket``, ``polling``, ``raw`` or ``sse``."""
        wire = self._member.session.wire
        return wire.name if wire is not None else self._member.session.kind

    @property
    def connected(self) -> bool:
        return self._member.state is State.JOINED

    @property
    def auth(self) -> Any:
        """What the client sent with CONNECT."""
        return self._member.auth

    @property
    def data(self) -> dict[str, Any]:
        """Yours; it lives as long as the connection. ``Server.session()`` shows the same."""
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
        return self._member.user

    @user.setter
    def user(self, user: Any) -> None:
        """An Identity that expires ends the connection at that time, unless a later one takes its place."""
        member = self._member
        member.user = user
        expires_at = user.expires_at if isinstance(user, Identity) else None
        if expires_at is None:
            member.expires_at = None
        else:
            leeway = member.session.core.settings.jwt_leeway_seconds  # let in within it, it must not be cut at once
            member.expires_at = member.session.loop.time() + max(0.0, expires_at + leeway - time.time())
            member.session.wake_at(member.expires_at)

    async def join(self, room: str) -> None:
        """Enter a room whose name the client chose; the namespace's ``may_join`` and ``joined`` run.

        Raises PayloadError for a bad name, AccessError for a room of the system or where the rule says no,
        LimitError for too many rooms. A room it is in already is no change.
        """
        problem = problem_with_name(room, "room")
        if problem is not None:
            raise PayloadError(problem)
        if is_system_room(room):
            raise AccessError("This room belongs to the system", code="system_room")
        if room in self.rooms:
            return
        await self._house.on_room("may_join", self, room)
        limit = self._member.session.core.settings.rooms_per_connection
        if len(self.rooms) >= limit:
            raise LimitError(f"No more than {limit} rooms for one connection", code="too_many_rooms")
        self.enter(room)
        await self._house.on_room("joined", self, room)

    def enter(self, room: str) -> None:
        """Enter a room whose name is the application's own; no rule is asked and no limit holds."""
        if self.connected or self._member.state is State.PENDING:
            self._house.enter(self._member, room)

    async def leave(self, room: str) -> None:
        """Leave a room; ``left`` runs if it was in it."""
        if self._house.leave(self._member, room):
            await self._house.on_room("left", self, room)

    async def emit(self, event: Any, data: Any = None, *, volatile: bool = False) -> None:
        """To this client alone: an event name and data, or a pydantic model whose class names the event."""
        name, args = name_and_args(event, data)
        await self._house.publish(self.namespace, name, args, self.sid, (), volatile)

    async def call(self, event: Any, data: Any = None, *, timeout: float = 60) -> Any:
        """Emit and wait for the client's acknowledgement. Raises python-socketio's TimeoutError."""
        name, args = name_and_args(event, data)
        return await self._house.call(name, args, to=self.sid, namespace=self.namespace, timeout=timeout)

    async def disconnect(self, reason: str = Reason.SERVER) -> None:
        """End its membership in this namespace."""
        self._member.session.dismiss(self.namespace, reason)

    def __repr__(self) -> str:
        return f"<Socket {self.sid} in {self.namespace} over {self.wire}>"
