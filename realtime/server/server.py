"""The server: python-socketio's ``AsyncServer`` by name and by inheritance, our sessions and fan-out inside."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import socketio

from realtime.clients.connection import Connection
from realtime.clients.context import dismiss, on_loop_of
from realtime.clients.engine import Engine
from realtime.cluster.backplane import Backplane, OpenJournal
from realtime.cluster.pulse import BusHooks
from realtime.encoding.codecs import Dialect
from realtime.encoding.serializers import codec
from realtime.errors import UsageError
from realtime.journal.said import OffsetRaw
from realtime.metrics import Metrics
from realtime.names import ROOT, Reason
from realtime.plug import find
from realtime.ports import Journal
from realtime.recovery.returning import Returning
from realtime.recovery.store import OpenSessions
from realtime.rooms.emitted import Emitted
from realtime.rooms.hub import Hub
from realtime.rooms.index import Target
from realtime.server.application import Application
from realtime.server.calls import Answer, ClientGone
from realtime.server.hosting import Hosting
from realtime.server.roster import adopt, args_of, is_alone, skipped
from realtime.session.drops import Dropped, Drops
from realtime.session.outbox import bounds_of
from realtime.session.session import Core, Member, State
from realtime.settings import Settings
from realtime.typed.namespace import Namespace, name_of

logger = logging.getLogger("realtime")


class Server(Hosting, socketio.AsyncServer):  # type: ignore[misc]
    """Every documented method of ``socketio.AsyncServer`` with its signature and meaning, plus typed namespaces,
    raw clients and bounds. ``to=None`` is everyone; ``to=[]`` and ``to=""`` are nobody. ``on_drop`` is told what was
    dropped for a client: a plain function, called at most ten times a second for each, that must not block.
    ``recovery``: what is emitted is kept for a time, and clients that lose their connection go on where they were.
    ``open_journal(node)``: where it is kept, for all instances; in the memory of this one without.
    ``open_sessions(node)``: where clients that come back are found by all of them."""

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
        on_drop: Callable[[Dropped], object] | None = None,
        recovery: bool = False,
        open_journal: OpenJournal | None = None,
        open_sessions: OpenSessions | None = None,
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
            logger=logger or logging.getLogger("realtime.server"),
            serializer=serializer,
            async_handlers=async_handlers,
            always_connect=always_connect,
            namespaces=namespaces,
            engineio_logger=engine_options.pop("engineio_logger", None) or logging.getLogger("realtime.engine"),
            **engine_options,
        )
        if json is not None:
            self.manager.json = json
        self._dialect, self._new_decoder = codec(serializer, json, self.settings, self.eio.max_http_buffer_size)
        self.raw_dialect: Dialect = OffsetRaw()
        self.recovery = recovery
        self.returning = Returning(self.hub, self.metrics, self.settings, self._dialect, getattr(json, "dumps", None))
        self.node, self.missed = self.returning.node, self.returning.missed
        self.bus_hooks = BusHooks()
        self.backplane: Backplane | None = None
        if open_journal is not None:
            self.backplane = self._join_others(open_journal, open_sessions, getattr(json, "dumps", None))
        self.application = Application(self)
        self.core = Core(
            settings=self.settings,
            metrics=self.metrics,
            drops=Drops(self.metrics.drops, on_drop),
            hub=self.hub,
            application=self.application,
            bounds=bounds_of(self.settings),
            new_sid=lambda: secrets.token_urlsafe(15),
        )
        self.eio.bind(self.core, self.eio.origin_policy(self.settings), self._new_connection)
        self.eio.wires = {name: find(name)() for name in ("websocket", "polling")}
        self.overrides: Mapping[Callable[..., Any], Callable[..., Any]] = {}

    def _join_others(self, open_journal: OpenJournal, open_sessions: OpenSessions | None, dumps: Any) -> Backplane:
        backplane = Backplane(open_journal, self.node, self.hub, self.settings, self.metrics, dumps, self.bus_hooks)
        self.returning.elsewhere = backplane.keep
        if open_sessions is not None:
            self.returning.open_store(open_sessions, backplane.newest)
        return backplane

    def _engineio_server_class(self) -> type[Engine]:
        return Engine

    def _new_connection(self, id: str, scope: Mapping[str, Any]) -> Connection:
        self._initialize()
        recovers = self.returning.is_for(scope, self._recoverable())
        return Connection(
            self.core,
            id,
            self.returning.dialect(recovers) if self.hub.keepers else self._dialect,
            scope,
            self._new_decoder(),
            ping_interval=self.eio.ping_interval,
            ping_timeout=self.eio.ping_timeout,
            message_limit=self.eio.message_limit,
            returning=self.returning if recovers else None,
        )

    def _recoverable(self) -> set[str]:
        """On request, where handlers are registered: with ``namespaces="*"`` clients choose names."""
        wanted = self.recovery and not self.always_connect
        return {*self.handlers, *self.namespace_handlers} - {"*"} if wanted else set()

    @property
    def journal(self) -> Journal | None:
        """Where positions come from, for all instances; None on one that is alone, and before anybody came."""
        return self.backplane.journal if self.backplane is not None else None

    def _initialize(self) -> None:
        if self.backplane is not None:
            self.backplane.begin()
        if self.returning.store is not None:
            self.returning.store.begin()
        if not self.manager_initialized:
            self.manager_initialized: bool = True
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
        key: str | None = None,
    ) -> Emitted:
        """As ``AsyncServer.emit``; answers how many clients of this instance were reached, with what offset, and how
        the bus was. ``volatile`` events are the first to be dropped for a slow client; of those with one ``key`` only
        the latest waits, where the setting ``backlog_policy`` is ``latest_per_key``. Never raises for trouble of the
        bus. Raises UsageError for what is not JSON, and for rooms that are no strings where other instances share them.
        """
        self._initialize()
        namespace, target = namespace or ROOT, room if to is None else to
        lane = self.backplane.lane(namespace) if self.backplane is not None else None
        if lane is not None and callback is None and not ignore_queue:
            args, skip = args_of(data), skipped(skip_sid)
            return await lane.emit(event, args, target, skip, volatile=volatile, key=key)
        options: dict[str, Any] = {"volatile": volatile, "key": key} if volatile or key is not None else {}
        options |= {"skip_sid": skip_sid, "callback": callback, "ignore_queue": ignore_queue}
        reached = await self.manager.emit(event, data, namespace, room=target, **options)
        return reached if isinstance(reached, Emitted) else Emitted(reached or 0)

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
        """As ``AsyncServer.call``; what cannot be answered any more raises at once, and is a TimeoutError too:
        ``ClientGone`` for a client that leaves, ``InboxFull`` for one that is not read from because its events wait for
        handlers. A room fails when none of its clients is left to answer. A client of another instance: the time-out.
        """
        target = to or sid
        if target is None:
            raise ValueError("Cannot use call() to broadcast.")
        if not self.async_handlers:
            raise RuntimeError("Cannot use call() when async_handlers is False.")
        return await self._call(namespace or ROOT, event, data, target, timeout, ignore_queue)

    async def ask(self, namespace: str, event: str, args: tuple[Any, ...], sid: str, timeout: float | None) -> Any:
        """``call`` for typed namespaces: their answers are read whatever ``async_handlers`` says."""
        return await self._call(namespace, event, args, sid, timeout)

    async def _call(
        self, namespace: str, event: str, data: Any, sid: str, timeout: float | None, ignore_queue: bool = False
    ) -> Any:
        answer = Answer()
        asked = await self.emit(event, data, to=sid, namespace=namespace, callback=answer, ignore_queue=ignore_queue)
        if not asked and is_alone(self.manager):
            raise ClientGone
        answer.of(asked)
        return await answer.wait(timeout)

    async def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        """As ``AsyncServer.disconnect``: the client is sent DISCONNECT and the disconnect handler runs.

        Returns when that has run, unless a handler of this client is running (perhaps it is who calls) or the client
        lives on another event loop. A client whose connect handler is still running is refused.
        """
        namespace = namespace or ROOT
        self.returning.forget(namespace, sid)
        here = (
            self.manager.is_connected(sid, namespace)
            if ignore_queue
            else await self.manager.can_disconnect(sid, namespace)
        )
        member = self.hub.find(sid, namespace)
        if member is None or not (here or member.state is State.PENDING):
            return
        waits = member.session.loop is asyncio.get_running_loop() and not member.busy
        self.dismiss(member, Reason.SERVER)
        if waits:
            await self.application.settled(member)

    def dismiss(self, member: Member, reason: str) -> None:
        """End one membership, from any thread; one that is being decided on is refused."""
        on_loop_of(member, dismiss, member, reason)

    async def get_session(self, sid: str, namespace: str | None = None) -> dict[str, Any]:
        """The dictionary of this client (``Socket.data`` is the same one). Raises KeyError for a client not here."""
        return self._member(sid, namespace).data

    async def save_session(self, sid: str, session: dict[str, Any], namespace: str | None = None) -> None:
        """Put another dictionary in its place. Raises KeyError for a client not here."""
        self._member(sid, namespace).data = session

    def transport(self, sid: str, namespace: str | None = None) -> str:
        """``polling`` or ``websocket`` (plain clients: ``raw`` or ``sse``). Raises KeyError for a client not here."""
        return str(self.eio.transport(self._member(sid, namespace).session.id))

    def get_environ(self, sid: str, namespace: str | None = None) -> dict[str, Any] | None:
        """The WSGI-style dictionary of the handshake; ``REMOTE_ADDR`` is the client. None for a client not here."""
        member = self.hub.find(sid, namespace or ROOT)
        return None if member is None else self.environ_of(member)

    def instrument(self, *args: Any, **kwargs: Any) -> Any:
        """Not there yet: raises UsageError."""
        raise UsageError("instrument() for the Socket.IO Admin UI is not there yet: /metrics has the numbers meanwhile")

    def on(self, event: str, handler: Any = None, namespace: str | None = None) -> Any:
        """As ``AsyncServer.on``. Raises UsageError for a typed namespace: its events are registered on itself."""
        self._check_untyped(namespace or ROOT)
        return super().on(event, handler, namespace)

    def register_namespace(self, namespace_handler: Any) -> None:
        """As ``AsyncServer.register_namespace``. Raises UsageError for the name of a typed namespace."""
        self._check_untyped(namespace_handler.namespace)
        super().register_namespace(namespace_handler)

    def _check_untyped(self, namespace: str) -> None:
        if namespace in self.application.typed:
            raise UsageError(f"{namespace} is a typed namespace: register its events on that object")

    def attach(self, app: Any, socketio_path: str = "socket.io") -> None:
        """Not for ASGI: raises UsageError."""
        raise UsageError(
            "attach() is for aiohttp, Sanic and Tornado: write Realtime(app), or socketio.ASGIApp(server, app)"
        )

    async def shutdown(self) -> None:
        """Close every connection, wait a moment for the disconnect handlers, stop listening to the bus."""
        await self.eio.shutdown()
        await self.application.rest(self.settings.shutdown_seconds)
        stop = getattr(self.manager, "stop", None)
        if stop is not None:
            await stop()
        if self.returning.store is not None:
            await self.returning.store.stop()
        if self.backplane is not None:
            await self.backplane.stop()

    async def handle_request(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI entry under the Socket.IO path."""
        await self.eio.handle_request(scope, receive, send)

    # --- typed namespaces and raw clients

    def include(self, namespace: Namespace) -> Namespace:
        """Serve a typed namespace. Raises UsageError when its name is taken."""
        name = name_of(namespace)
        if name in self.handlers or name in self.namespace_handlers or name in self.application.typed:
            raise UsageError(f"the namespace {name} has handlers already")
        namespace.move_in(self)
        self.application.typed[name] = namespace
        if namespace.recovery:
            self.returning.keep(name)
        return namespace

    def _member(self, sid: str, namespace: str | None) -> Member:
        member = self.hub.find(sid, namespace or ROOT)
        if member is None:
            raise KeyError(f"no client {sid!r} in {namespace or ROOT} on this instance")
        return member
