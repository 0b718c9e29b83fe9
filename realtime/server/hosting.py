"""What typed namespaces, sockets and plain clients ask of the server that they are in: the other half of ``Server``.

Held by inheritance, for a server is one object to those who use it; python-socketio's API stands in ``server``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from realtime.access.environ import make_environ
from realtime.clients import guests
from realtime.clients.context import Socket
from realtime.clients.peer import Peer
from realtime.cluster.backplane import Backplane
from realtime.encoding.codecs import Dialect
from realtime.errors import AccessError
from realtime.journal.positions import Channel, Position
from realtime.metrics import Metrics
from realtime.recovery.missed import Missed
from realtime.recovery.returning import Returning
from realtime.recovery.since import Since, replay_since
from realtime.rooms.emitted import Emitted
from realtime.rooms.hub import Hub
from realtime.rooms.index import Target
from realtime.server.application import Application
from realtime.session.session import Core, Member


class Hosting:
    """Keeps the protocols ``Home``, ``House`` and those of ``guests``."""

    hub: Hub
    metrics: Metrics
    manager: Any
    eio: Any
    application: Application
    returning: Returning
    missed: Missed
    overrides: Mapping[Callable[..., Any], Callable[..., Any]]
    backplane: Backplane | None
    core: Core
    raw_dialect: Dialect
    emit: Any
    ask: Any
    dismiss: Any
    _initialize: Any

    @property
    def dependency_overrides(self) -> Mapping[Callable[..., Any], Callable[..., Any]]:
        """Those of the application that it is mounted on."""
        return self.overrides

    async def publish(
        self,
        namespace: str,
        event: str,
        args: tuple[Any, ...],
        to: Target = None,
        skip: Collection[str] = (),
        volatile: bool = False,
        key: str | None = None,
    ) -> Emitted:
        """``emit`` with its arguments as a tuple."""
        emitted: Emitted = await self.emit(
            event, args, to=to, skip_sid=list(skip), namespace=namespace, volatile=volatile, key=key
        )
        return emitted

    def sockets(self, namespace: str, target: Target = None) -> list[Socket]:
        """The clients of this instance in a namespace, or in some of its rooms."""
        return [self.socket_of(member) for member in self.hub.select(namespace, target)]

    def newest(self, namespace: str) -> str | None:
        """The newest offset of a namespace; None where it keeps nothing."""
        return self.returning.newest(namespace)

    async def disconnect_room(self, namespace: str, room: str, reason: str) -> None:
        await self.manager.disconnect_room(room, namespace, reason)

    def socket_of(self, member: Member) -> Socket:
        """The one Socket of a membership."""
        socket: Socket | None = member.socket
        if socket is None:
            socket = member.socket = Socket(member, self)
        return socket

    def environ_of(self, member: Member) -> dict[str, Any]:
        """What python-socketio's connect handlers are given; made when first asked for."""
        session = member.session
        if session.environ is None:
            session.environ = make_environ(session.scope, self.eio.origins.client_address(session.scope))
        return session.environ

    async def on_room(self, hook: str, socket: Socket, room: str) -> None:
        """Run ``may_join``, ``joined`` or ``left`` where the namespace has it."""
        typed = self.application.typed.get(socket.namespace)
        if typed is not None:
            await typed.on_room(hook, socket, room)

    def enter(self, member: Member, room: str) -> bool:
        """True when this was a change. Raises ValueError for the sid of somebody else."""
        return self.hub.join(member.sid, member.namespace, room)

    async def heard(self, namespace: str, *channels: Channel) -> bool:
        """Returns when what other instances say in these from now on is heard here, where the namespace keeps what it
        says. False where the bus is away: it is heard when that is back."""
        lane = self.backplane.lane(namespace) if self.backplane is not None else None
        return lane is None or await lane.heard(channels)

    def leave(self, member: Member, room: str) -> bool:
        """True when this was a change."""
        return self.hub.leave(member.sid, member.namespace, room)

    def rooms_of(self, member: Member) -> tuple[Any, ...]:
        """Its own sid first; while its disconnect hook runs, those that it was in."""
        return self.hub.rooms_of(member.sid, member.namespace)

    def raw(
        self,
        namespace: str,
        websocket: WebSocket,
        auth: Any = None,
        dialect: Dialect | None = None,
        enter: Iterable[str] = (),
        refusal: str | None = None,
        since: str | None = None,
    ) -> AbstractAsyncContextManager[Peer]:
        """A plain WebSocket as a client of a namespace (see ``Namespace.raw``)."""
        return guests.raw(self, namespace, websocket, auth, dialect, enter, refusal, since)

    def stream(self, namespace: str, request: HTTPConnection, *args: Any) -> Coroutine[Any, Any, Response]:
        """A Server-Sent-Events client of a namespace (see ``Namespace.stream``)."""
        return guests.stream(self, namespace, request, *args)

    async def look_back(self, namespace: str, offset: str, *channels: Channel) -> str | None:
        """Before ``since``, in the same turn: read what was said in these since an offset, where that lies elsewhere.
        Why that is not to be had, or None."""
        position = Position.parse(offset)
        return None if position is None else await self.missed.look_back(namespace, channels, position)

    def is_elsewhere(self, namespace: str) -> bool:
        """Is what was said in this namespace to be waited for?"""
        return self.missed.is_elsewhere(namespace)

    def is_at_hand(self, namespace: str, offset: str, *channels: Channel) -> bool:
        """Is what was said in these since an offset still there, after ``look_back``?"""
        position = Position.parse(offset)
        return position is not None and self.missed.entries(namespace, channels, position) is not None

    def since(self, member: Member, offset: str, rooms: Collection[str] | None = None) -> Since:
        """What was said since an offset leaves: in a room for somebody who has just entered it, or (None) in all that
        it is in for somebody who was just let in."""
        return replay_since(self.hub, self.missed, self.metrics, member, offset, rooms)

    async def kept(self, member: Member) -> None:
        """Returns when the rooms that it is in are known to other instances, should this one end suddenly."""
        if self.returning.store is not None:
            await self.returning.store.kept(member)

    @property
    def draining(self) -> bool:
        """Nobody new is let in any more."""
        return bool(self.eio.draining)

    def knows(self, namespace: str) -> bool:
        """May clients connect to this namespace?"""
        return self.application.knows(namespace)

    def new_session_id(self) -> str:
        """For a connection of any kind; the bus is listened to from the first one on."""
        self._initialize()
        return str(self.eio.generate_id())

    def check_origin(self, scope: Mapping[str, Any]) -> None:
        """The one Origin policy, for any route. Raises AccessError."""
        if not self.eio.allows_origin(scope):
            self.eio.note_refusal("origin", scope)
            raise AccessError("This origin may not connect", code="origin")
