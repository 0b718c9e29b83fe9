"""The server: python-socketio's ``AsyncServer`` by name and by inheritance, our sessions and fan-out inside."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import socketio
from socketio.exceptions import TimeoutError as StockTimeout
from starlette.exceptions import WebSocketException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketState

from realtime.application import Application
from realtime.codecs import Dialect, RawJson, SocketIOMsgPack, SocketIOText
from realtime.connection import Connection
from realtime.context import Socket
from realtime.engine import Engine
from realtime.environ import make_environ
from realtime.errors import AccessError, CloseCode, RealtimeError, UsageError
from realtime.hub import Hub
from realtime.identity import SUBPROTOCOL
from realtime.metrics import Metrics
from realtime.names import ROOT, Reason
from realtime.namespace import Namespace
from realtime.origins import OriginPolicy
from realtime.outbox import Bounds
from realtime.packets import Decoder, MsgPackDecoder, PacketLimits
from realtime.peer import Peer, RawSession
from realtime.plug import find
from realtime.rooms import Target
from realtime.roster import adopt
from realtime.session import Core, Member
from realtime.settings import Settings

logger = logging.getLogger("realtime")


class ClientGone(StockTimeout):  # type: ignore[misc]
    """The client left before it answered; python-socketio's TimeoutError, only at once."""


class Server(socketio.AsyncServer):  # type: ignore[misc]
    """Every documented method of ``socketio.AsyncServer`` with its signature and meaning, plus typed namespaces,
    raw clients and bounds. ``to=None`` is everyone; ``to=[]`` and ``to=""`` are nobody."""

    def __init__(
        self,
        client_manager: Any = None,
        logger: Any = False,
        serializer: Any = "default",
        json: Any = None,
        async_handlers: bool = True,
        always_connect: bool = False,
        namespaces: Any = None,
        *,
        settings: Settings | None = None,
        metrics: Metrics | None = None,
        **engine_options: Any,
    ) -> None:
        if serializer not in ("default", "msgpack"):
            raise UsageError(f"serializer must be 'default' or 'msgpack', not {serializer!r}")
        self.settings = settings or Settings()
        self.metrics = metrics or Metrics()
        self.hub = Hub(self.metrics)
        engine_options.setdefault("ping_interval", self.settings.ping_interval_seconds)
        engine_options.setdefault("ping_timeout", self.settings.ping_timeout_seconds)
        engine_options.setdefault("max_http_buffer_size", self.settings.message_limit_bytes)
        super().__init__(
            client_manager=adopt(client_manager, self.hub),
            logger=logger if logger else logging.getLogger("realtime.server"),
            serializer=serializer,
            async_handlers=async_handlers,
            always_connect=always_connect,
            namespaces=namespaces,
            engineio_logger=engine_options.pop("engineio_logger", None) or logging.getLogger("realtime.engine"),
            **engine_options,
        )
        if json is not None:
            self.manager.json = json
        self._dialect, self._new_decoder = _codec(serializer, json, self.settings, self.eio.max_http_buffer_size)
        self.raw_dialect: Dialect = RawJson()
        self.application = Application(self)
        self.core = Core(
            settings=self.settings,
            metrics=self.metrics,
            hub=self.hub,
            application=self.application,
            bounds=Bounds(self.settings.backlog_limit_messages, self.settings.backlog_limit_bytes),
            new_sid=lambda: secrets.token_urlsafe(15),
        )
        self.eio.bind(self.core, self._origin_policy(), self._new_connection)
        self.overrides: Mapping[Callable[..., Any], Callable[..., Any]] = {}

    def _engineio_server_class(self) -> type[Engine]:
        return Engine

    def _origin_policy(self) -> OriginPolicy:
        """python-engineio's option where it says something, the settings else. Its ``[]`` ("the application sends
        the CORS headers itself") is no reason to let every page of the world in."""
        allowed = self.eio.cors_allowed_origins
        return OriginPolicy(
            self.settings.allowed_origins if not allowed or callable(allowed) else allowed,
            development=not self.settings.production,
            trusted_proxies=self.settings.trusted_proxies,
            credentials=self.eio.cors_credentials,
        )

    def _new_connection(self, id: str, scope: Mapping[str, Any]) -> Connection:
        self._initialize()
        return Connection(
            self.core,
            id,
            self._dialect,
            scope,
            self._new_decoder(),
            ping_interval=self.eio.ping_interval,
            ping_timeout=self.eio.ping_timeout,
            message_limit=self.eio.message_limit,
        )

    def _initialize(self) -> None:
        if not self.manager_initialized:
            self.manager_initialized = True
            self.manager.initialize()

    # --- python-socketio's API

    async def emit(
        self,
        event: str,
        data: Any = None,
        to: Target = None,
        room: Target = None,
        skip_sid: Any = None,
        namespace: str | None = None,
        callback: Callable[..., Any] | None = None,
        ignore_queue: bool = False,
        *,
        volatile: bool = False,
    ) -> int:
        """As ``AsyncServer.emit``; answers how many clients of this instance were reached.

        ``volatile`` events are the first to be dropped for a slow client. Raises UsageError for what is not JSON.
        """
        self._initialize()
        options = {"volatile": True} if volatile else {}
        reached = await self.manager.emit(
            event,
            data,
            namespace or ROOT,
            room=room if to is None else to,
            skip_sid=skip_sid,
            callback=callback,
            ignore_queue=ignore_queue,
            **options,
        )
        return reached or 0

    async def call(
        self,
        event: str,
        data: Any = None,
        to: str | None = None,
        sid: str | None = None,
        namespace: str | None = None,
        timeout: float | None = 60,
        ignore_queue: bool = False,
    ) -> Any:
        """As ``AsyncServer.call``; a client that leaves meanwhile raises ``ClientGone`` (a TimeoutError) at once."""
        target = to or sid
        if target is None:
            raise ValueError("Cannot use call() to broadcast.")
        if not self.async_handlers:
            raise RuntimeError("Cannot use call() when async_handlers is False.")
        answer = _Answer()
        await self.emit(event, data, to=target, namespace=namespace, callback=answer, ignore_queue=ignore_queue)
        try:
            args = await asyncio.wait_for(answer.future, timeout)
        except asyncio.TimeoutError:
            raise StockTimeout from None
        return args[0] if len(args) == 1 else args or None

    async def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        """As ``AsyncServer.disconnect``: the client is sent DISCONNECT and the disconnect handler runs."""
        namespace = namespace or ROOT
        here = (
            self.manager.is_connected(sid, namespace)
            if ignore_queue
            else await self.manager.can_disconnect(sid, namespace)
        )
        member = self.hub.find(sid, namespace) if here else None
        if member is not None:
            own_handler_runs = member.busy  # perhaps it is this very task: waiting for it would never end
            member.session.dismiss(namespace, Reason.SERVER)
            if not own_handler_runs:
                await self.application.settled(member)

    async def get_session(self, sid: str, namespace: str | None = None) -> dict[str, Any]:
        """The dictionary of this client (``Socket.data`` is the same one). Raises KeyError for a client not here."""
        return self._member(sid, namespace).data

    async def save_session(self, sid: str, session: dict[str, Any], namespace: str | None = None) -> None:
        self._member(sid, namespace).data = session

    def transport(self, sid: str, namespace: str | None = None) -> str:
        return str(self.eio.transport(self._member(sid, namespace).session.id))

    def get_environ(self, sid: str, namespace: str | None = None) -> dict[str, Any] | None:
        """The WSGI-style dictionary of the handshake; ``REMOTE_ADDR`` is the client. None for a client not here."""
        member = self.hub.find(sid, namespace or ROOT)
        return None if member is None else self.environ_of(member)

    def instrument(self, *args: Any, **kwargs: Any) -> Any:
        raise UsageError("instrument() for the Socket.IO Admin UI is not there yet: /metrics has the numbers meanwhile")

    async def shutdown(self) -> None:
        """Close every connection, wait a moment for the disconnect handlers, stop listening to the bus."""
        await self.eio.shutdown()
        await self.application.rest(self.settings.shutdown_seconds)
        stop = getattr(self.manager, "stop", None)
        if stop is not None:
            await stop()

    async def handle_request(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI entry under the Socket.IO path."""
        await self.eio.handle_request(scope, receive, send)

    # --- typed namespaces and raw clients

    def include(self, namespace: Namespace) -> Namespace:
        """Serve a typed namespace. Raises UsageError when its name is taken."""
        taken = namespace.name in self.handlers or namespace.name in self.namespace_handlers
        if taken or namespace.name in self.application.typed:
            raise UsageError(f"the namespace {namespace.name} has handlers already")
        namespace.move_in(self)
        self.application.typed[namespace.name] = namespace
        return namespace

    @property
    def dependency_overrides(self) -> Mapping[Callable[..., Any], Callable[..., Any]]:
        return self.overrides

    async def publish(
        self,
        namespace: str,
        event: str,
        args: tuple[Any, ...],
        to: Target = None,
        skip: Collection[str] = (),
        volatile: bool = False,
    ) -> int:
        return await self.emit(event, args, to=to, skip_sid=list(skip), namespace=namespace, volatile=volatile)

    def sockets(self, namespace: str, target: Target = None) -> list[Socket]:
        return [self.socket_of(member) for member in self.hub.select(namespace, target)]

    def socket_of(self, member: Member) -> Socket:
        socket: Socket | None = member.socket
        if socket is None:
            socket = member.socket = Socket(member, self)
        return socket

    def environ_of(self, member: Member) -> dict[str, Any]:
        session = member.session
        if session.environ is None:
            session.environ = make_environ(session.scope, self.eio.origins.client_address(session.scope))
        return session.environ

    async def on_room(self, hook: str, socket: Socket, room: str) -> None:
        typed = self.application.typed.get(socket.namespace)
        if typed is not None:
            await typed.on_room(hook, socket, room)

    def enter(self, member: Member, room: str) -> None:
        self.hub.join(member.sid, member.namespace, room)

    def leave(self, member: Member, room: str) -> bool:
        return self.hub.leave(member.sid, member.namespace, room)

    def rooms_of(self, member: Member) -> tuple[Any, ...]:
        return self.hub.rooms_of(member.sid, member.namespace)

    @asynccontextmanager
    async def raw(
        self,
        namespace: str,
        websocket: WebSocket,
        auth: Any = None,
        dialect: Dialect | None = None,
        enter: Iterable[str] = (),
        refusal: str | None = None,
    ) -> AsyncIterator[Peer]:
        """A plain WebSocket as a client of a namespace (see ``Namespace.raw``)."""
        scope = websocket.scope
        if websocket.client_state is WebSocketState.CONNECTING:
            await websocket.receive()
        try:
            session, member = await self._knock(namespace, scope, auth, dialect, enter)
        except RealtimeError as error:
            raise WebSocketException(CloseCode.POLICY, refusal or error.message) from None
        wire = find("websocket").raw(scope, websocket.receive, websocket.send, session)
        await wire.accept(SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", ()) else None)
        session.attach_wire(wire, free=True)
        try:
            yield Peer(session, member, self.socket_of(member), wire)
        except BaseException:
            session.close(CloseCode.SERVER_ERROR, "server error", Reason.SERVER)
            raise
        finally:
            session.close(CloseCode.DONE, "", Reason.TRANSPORT_CLOSE)
            await wire.finish()

    async def stream(
        self,
        namespace: str,
        request: HTTPConnection,
        auth: Any = None,
        dialect: Dialect | None = None,
        enter: Iterable[str] = (),
    ) -> Response:
        """A Server-Sent-Events client of a namespace (see ``Namespace.stream``)."""
        session, _ = await self._knock(namespace, request.scope, auth, dialect, enter)
        response: Response = find("sse")(session)
        return response

    async def _knock(
        self, namespace: str, scope: Mapping[str, Any], auth: Any, dialect: Dialect | None, enter: Iterable[str]
    ) -> tuple[RawSession, Member]:
        """Origin, authorise step and join rule, before anything is accepted; what refuses is raised."""
        self.check_origin(scope)
        if not self.application.knows(namespace):
            raise AccessError("Invalid namespace", code="unknown_namespace")
        self._initialize()
        session = RawSession(self.core, self.eio.generate_id(), dialect or self.raw_dialect, scope)
        try:
            member = await session.enter(self.core.new_sid(), namespace, auth)
            for room in enter:
                await self.socket_of(member).join(room)
        except BaseException:
            session.lost(Reason.SERVER)
            raise
        return session, member

    def check_origin(self, scope: Mapping[str, Any]) -> None:
        """The one Origin policy, for any route. Raises AccessError."""
        if not self.eio.allows_origin(scope):
            self.metrics.handshakes_refused.add("origin")
            raise AccessError("This origin may not connect", code="origin")

    def _member(self, sid: str, namespace: str | None) -> Member:
        member = self.hub.find(sid, namespace or ROOT)
        if member is None:
            raise KeyError(f"no client {sid!r} in {namespace or ROOT} on this instance")
        return member


class _Answer:
    """The callback of ``call``: the client's answer, or that none will come."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[tuple[Any, ...]] = self._loop.create_future()

    def __call__(self, *args: Any) -> None:
        self._loop.call_soon_threadsafe(self._set, args, None)

    def abandoned(self) -> None:
        self._loop.call_soon_threadsafe(self._set, (), ClientGone())

    def _set(self, args: tuple[Any, ...], error: Exception | None) -> None:
        if not self.future.done():
            if error is None:
                self.future.set_result(args)
            else:
                self.future.set_exception(error)


def _codec(
    serializer: str, json: Any, settings: Settings, message_limit: int
) -> tuple[Dialect, Callable[[], Decoder | MsgPackDecoder]]:
    limits = PacketLimits(settings.attachment_limit, settings.json_depth_limit, message_bytes=message_limit)
    if serializer == "msgpack":
        return SocketIOMsgPack(), lambda: MsgPackDecoder(limits)
    if json is not None:
        return SocketIOText(json.dumps), lambda: Decoder(limits, json.loads)
    return SocketIOText(), lambda: Decoder(limits)
