"""Composition: ``Realtime(app)`` builds a server from the settings and mounts it on the author's FastAPI app.

It adds ``/socket.io/`` before the app's catch-alls and nothing else unless asked. Nothing is built in the
lifespan alone, so an app that is never started (``TestClient(app)`` without ``with``) works too.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from fastapi import FastAPI
from fastapi.params import Depends
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from realtime.clients.guests import TooManyHandshakes, deny
from realtime.cluster.pulse import BUS_HOOKS
from realtime.cluster.writers import open_writers
from realtime.docs.routes import add_docs
from realtime.errors import AccessError, CloseCode, OutsideError, UsageError
from realtime.eventloop.lag import watch
from realtime.metrics import Metrics
from realtime.names import Reason
from realtime.plug import find, find_bus, find_journal, find_sessions, find_signed_bus
from realtime.server.roster import BusManager
from realtime.server.server import Server
from realtime.session.drops import Dropped
from realtime.settings import Settings
from realtime.telemetry.descriptors import quieten_asyncio
from realtime.telemetry.redaction import hide_queries
from realtime.typed.namespace import Namespace

logger = logging.getLogger("realtime")

Check = Callable[[], Awaitable[None]]
Included = TypeVar("Included", bound=Namespace)
Hooked = TypeVar("Hooked", bound=Callable[[], Any])
CLIENT_FILE: Final = Path(__file__).parent / "static" / "socket.io.esm.min.js"
PUBLIC: Final = {"access-control-allow-origin": "*"}
"""A file that is the same for everybody; a page of another origin may import it as a module."""
DRAIN_BATCH: Final = 100
"""Connections closed in one loop turn while draining: their clients come back with delays of their own."""
READY_SECONDS: Final = 1.0
"""What a readiness check may take; probes ask every few seconds."""


class Realtime:
    """A realtime server on a FastAPI app.

    ``uvicorn main:app``, ``fastapi run``, ``TestClient`` and ``app.dependency_overrides`` keep working.
    ``on_drop`` is told what was dropped for a client (see ``Server``).
    Raises UsageError for settings that are unsafe in production, naming each.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        settings: Settings | None = None,
        server: Server | None = None,
        path: str = "/socket.io",
        metrics: bool = False,
        health: bool = False,
        docs: bool = False,
        on_drop: Callable[[Dropped], object] | None = None,
    ) -> None:
        if any(isinstance(route, SocketIORoute) and route.path == "/" + path.strip("/") for route in app.router.routes):
            raise UsageError(f"this app has a realtime server under {path} already: one Realtime(app) is enough")
        self.app = app
        self.settings = settings or (server.settings if server is not None else Settings())
        problems = self.settings.problems()
        if problems:
            raise UsageError("these settings are not safe in production: " + "; ".join(problems))
        if server is not None and on_drop is not None:
            raise UsageError("give on_drop to the server that you hand over")
        self.server = server or _build_server(self.settings, on_drop)
        self.server.overrides = app.dependency_overrides
        self.metrics: Metrics = self.server.metrics
        self.writers = None
        if server is None and not self._bus_is_on(self.settings.writers_channel):
            self.writers = open_writers(self.settings, self.server.hub, self.metrics)
        self.started = False
        self.draining = False
        self._checks: dict[str, Check] = {}
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._drained: asyncio.Task[None] | None = None
        bus = getattr(self.server.manager, "bus", None)
        if bus is not None:
            self.check("redis", bus.ping)
        if self.server.backplane is not None:
            self.check("bus", self.server.backplane.check)
        app.router.routes.insert(0, SocketIORoute(path, self.server))
        app.add_exception_handler(TooManyHandshakes, deny)  # type: ignore[arg-type]
        self._wrap_lifespan(app)
        if metrics:
            self._add_metrics(app)
        if health:
            self._add_health(app)
        if docs:
            add_docs(app, self.server.application.typed)

    # --- namespaces

    def namespace(self, path: str, *, dependencies: Sequence[Depends] = (), recovery: bool | None = None) -> Namespace:
        """A new namespace to register functions on: ``chat = Realtime(app).namespace("/chat")``.

        ``dependencies`` run before every event. ``recovery``: what is emitted is kept for a time, and a client that
        loses its connection goes on where it was. Raises UsageError for a bad path or one that is taken.
        """
        return self.include(Namespace(path, dependencies=dependencies, recovery=recovery))

    def include(self, namespace: Included) -> Included:
        """Serve a namespace class: ``realtime.include(Chat())``. Answers the namespace.

        Raises UsageError when its name is taken.
        """
        self.server.include(namespace)
        return namespace

    # --- operations

    def check(self, name: str, ping: Check) -> None:
        """Something outside that must answer for this instance to be ready: within a second, raising nothing."""
        self._checks[name] = ping

    def hook(self, name: str) -> Callable[[Hooked], Hooked]:
        """Register a function, async or not, that takes nothing: ``@realtime.hook("bus_lost")``. It is called when the
        bus has not answered for longer than ``bus_patience_seconds``, so that this instance goes on alone, and as
        ``bus_regained`` when it is back, whether namespaces have recovery or not. Raises UsageError for another name.
        """
        if name not in BUS_HOOKS:
            raise UsageError(f"a hook of the server is one of {', '.join(BUS_HOOKS)}; {name!r} came")

        def register(function: Hooked) -> Hooked:
            self.server.bus_hooks.hooks[name].append(function)
            return function

        return register

    def _bus_is_on(self, channel: str | None) -> bool:
        """Then it hears python-socketio's writers itself."""
        return isinstance(self.server.manager, BusManager) and self.server.manager.channel == channel

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Called at shutdown, after every client has gone; in reverse order."""
        self._closers.append(close)

    async def problems(self) -> dict[str, str]:
        """Why this instance is not ready; empty when it is."""
        if self.draining:
            return {"server": "draining"}
        found: dict[str, str] = {}
        for name, ping in self._checks.items():
            try:
                await asyncio.wait_for(ping(), READY_SECONDS)
            except Exception as error:
                if not isinstance(error, OutsideError | TimeoutError):
                    logger.exception("the readiness check of %s failed", name)
                details = getattr(error, "details", None)
                found[name] = details if isinstance(details, str) else "does not answer"
        return found

    async def drain(self) -> None:
        """Not ready any more; every client is told to come back after a spread delay; handlers finish.

        Repeats return at once.
        """
        if self.draining:
            return
        self.draining = self.server.eio.draining = True
        sessions = list(self.server.core.sessions.values())
        logger.info("draining %d connections", len(sessions))
        for number, session in enumerate(sessions, 1):
            delay = random.uniform(0, 1 + len(sessions) / 500)  # seconds: about 500 reconnections a second elsewhere
            session.close(CloseCode.DRAINING, f"retry in {delay:.1f} s", Reason.DRAINING)
            if number % DRAIN_BATCH == 0:
                await asyncio.sleep(0)
        await self.server.application.rest(self.settings.shutdown_seconds)

    async def close(self) -> None:
        """Drain, then let go of everything outside."""
        await self.drain()
        if self.writers is not None:
            await self.writers.stop()
        await self.server.shutdown()
        for close in reversed(self._closers):
            await close()

    # --- lifespan

    def _wrap_lifespan(self, app: FastAPI) -> None:
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(instance: Any) -> AsyncIterator[Any]:
            async with self._running(), inner(instance) as state:
                yield state

        app.router.lifespan_context = lifespan

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        self.draining = self.server.eio.draining = False
        hide_queries()
        quieten_asyncio()
        lag = asyncio.create_task(watch(self.metrics))
        restore = self._drain_on_signal()
        self.server._initialize()
        if self.writers is not None:
            self.writers.start()
        self.started = True
        try:
            yield
        finally:
            self.started = False
            restore()
            lag.cancel()
            with suppress(asyncio.CancelledError):
                await lag
            await self.close()
            # Nobody comes any more but those who need no start: TestClient(app) without ``with``.
            self.draining = self.server.eio.draining = False

    def _drain_on_signal(self) -> Callable[[], None]:
        """Servers wait for their clients to leave before they tell the application to stop, and a polling client
        never leaves by itself. So we hear the signal first, drain, and hand it on."""
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        loop = asyncio.get_running_loop()
        before: dict[int, Any] = {}

        def on_signal(number: int, frame: Any) -> None:
            def start() -> None:
                self._drained = asyncio.ensure_future(self.drain())

            restore()
            loop.call_soon_threadsafe(start)
            handler = before[number]
            if callable(handler):
                handler(number, frame)

        def restore() -> None:
            for number, handler in before.items():
                if signal.getsignal(number) is on_signal:
                    signal.signal(number, handler)

        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            if callable(handler):
                before[number] = handler
                signal.signal(number, on_signal)
        return restore

    # --- routes on request

    def _add_metrics(self, app: FastAPI) -> None:
        exporter = find("prometheus")(self.metrics)

        @app.get("/metrics", include_in_schema=False)
        def metrics_text() -> Response:
            body, kind = exporter.render()
            return Response(body, headers={"content-type": kind})

    def _add_health(self, app: FastAPI) -> None:
        @app.get("/health/live", tags=["operations"])
        async def live() -> dict[str, str]:
            """The process turns."""
            return {"status": "live"}

        @app.get(
            "/health/ready", tags=["operations"], responses={503: {"description": "Starting, draining, or cut off"}}
        )
        async def ready() -> JSONResponse:
            """This instance may be sent clients."""
            problems = await self.problems()
            if problems:
                return JSONResponse({"status": "not ready", "problems": problems}, 503)
            return JSONResponse({"status": "ready"})


class SocketIORoute(BaseRoute):
    """Everything under the Socket.IO path, for HTTP and WebSocket alike, whatever the app's other routes say."""

    def __init__(self, path: str, server: Server) -> None:
        self.path = "/" + path.strip("/")
        self.name = "socketio"
        self._server = server

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] not in ("http", "websocket"):
            return Match.NONE, {}
        path = _path_below(scope)
        if path == self.path or path.startswith(self.path + "/"):
            return Match.FULL, {"endpoint": self._server.handle_request}
        return Match.NONE, {}

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        rest = _path_below(scope).removeprefix(self.path).strip("/")
        if not rest:
            await self._server.handle_request(scope, receive, send)
        elif scope["type"] == "http" and rest == CLIENT_FILE.name:
            await FileResponse(CLIENT_FILE, media_type="text/javascript", headers=PUBLIC)(scope, receive, send)
        elif scope["type"] == "http":
            refusal = AccessError("No such file", code="not_found").as_dict()
            await JSONResponse(refusal, 404)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": CloseCode.POLICY, "reason": "no such path"})


def _path_below(scope: Scope) -> str:
    """The path without the prefix under which the whole app is mounted."""
    path, root = scope["path"], scope.get("root_path", "")
    return str(path.removeprefix(root)) if root and path.startswith(root + "/") else str(path)


def _build_server(settings: Settings, on_drop: Callable[[Dropped], object] | None) -> Server:
    metrics = Metrics()
    if settings.redis_url is None:
        return Server(settings=settings, metrics=metrics, on_drop=on_drop)
    manager = _open_manager(settings.redis_url, settings, metrics)
    journal, sessions = find_journal(settings.redis_url), find_sessions(settings.redis_url)
    beside = metrics if journal is None else metrics.with_its_own_bus()
    return Server(
        manager,
        settings=settings,
        metrics=metrics,
        on_drop=on_drop,
        open_journal=None if journal is None else lambda node: journal(settings.redis_url, node, settings, beside),
        open_sessions=None if sessions is None else lambda node: sessions(settings.redis_url, node, settings, metrics),
    )


def _open_manager(url: str, settings: Settings, metrics: Metrics) -> BusManager:
    """Signed where the bus can; its channel is then no other's. Else python-socketio's own messages, as they are."""
    open_plain, open_signed = find_bus(url), find_signed_bus(url)
    if open_signed is None:
        return BusManager(open_plain(url, settings.redis_channel, metrics), metrics, settings.redis_channel)
    channel = f"{settings.redis_channel}:nodes"
    return BusManager(open_signed(url, channel, settings, metrics), metrics, channel)
