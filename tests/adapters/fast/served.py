"""uvicorn with the fast wire, in a thread of its own: the tests' side blocks, the server's side never does."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from itertools import count
from queue import Queue
from types import TracebackType
from typing import Any, Self, TypeVar

import uvicorn

from adapters.fast import FastProtocol
from tests.adapters.fast.wire_client import SECONDS, Header, WireClient, request
from tests.prompt_uvicorn import PromptUvicorn

App = Callable[[Any, Any, Any], Awaitable[None]]
Answer = TypeVar("Answer")


class _Server(PromptUvicorn):
    """Says when it listens, and on which loop."""

    loop: asyncio.AbstractEventLoop

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self.ended = threading.Condition()

    def changed(self) -> None:
        super().changed()
        with self.ended:
            self.ended.notify_all()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        self.ready.set()


class Served:
    """A running server; each test adds its application with ``route``. ``heard`` is for what applications tell tests.

    ``buffers``: bytes that the kernel keeps for each connection; few, and back-pressure shows soon.
    """

    def __init__(self, *, buffers: int | None = None, **config: Any) -> None:
        self.heard: Queue[Any] = Queue()
        self._routes: dict[str, App] = {}
        self._numbers = count()
        self._clients: list[WireClient] = []
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)  # as `realtime serve`'s
        self._socket.bind(("127.0.0.1", 0))
        if buffers is not None:
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self._socket.setsockopt(socket.SOL_SOCKET, option, buffers)
        self._socket.listen()
        self.port = int(self._socket.getsockname()[1])
        settings = {
            "ws": FastProtocol,
            "lifespan": "off",
            "interface": "asgi3",
            "log_config": None,
            "access_log": False,
            **config,
        }
        self.server = _Server(uvicorn.Config(self._app, **settings))
        self.state = self.server.server_state
        self._thread = threading.Thread(target=self.server.run, args=([self._socket],), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self.server.ready.wait(SECONDS), "the server did not start"
        self.resting_tasks = len(self.tasks())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self.hang_up()
        self.server.should_exit = True
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the server did not stop"

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        await self._routes[scope["path"]](scope, receive, send)

    def route(self, app: App, path: str | None = None) -> str:
        """Serve this application; its path."""
        path = path or f"/{next(self._numbers)}"
        self._routes[path] = app
        return path

    def client(self, app: App, *headers: Header, **options: Any) -> WireClient:
        """A client of this application, its upgrade request answered; the server's end closes its socket."""
        client = WireClient(self.port, request(self.route(app).encode(), *headers), **options)
        self._clients.append(client)
        return client

    def hang_up(self) -> None:
        """Close what the clients left open."""
        for client in self._clients:
            client.socket.close()
        self._clients.clear()

    def told(self) -> Any:
        """The next thing that an application told."""
        return self.heard.get(timeout=SECONDS)

    def call(self, function: Callable[..., Answer], *args: Any) -> Answer:
        """Call this on the server's loop."""

        async def run() -> Answer:
            return function(*args)

        return asyncio.run_coroutine_threadsafe(run(), self.server.loop).result(SECONDS)

    def tasks(self) -> set[asyncio.Task[Any]]:
        """Those of the server's loop, without the one that looks."""
        return self.call(_other_tasks)

    def until(self, check: Callable[[], bool]) -> None:
        """Returns when this is true of the server's connections and tasks."""
        with self.server.ended:
            done = self.server.ended.wait_for(check, SECONDS)
        assert done, (self.state.connections, self.state.tasks)

    def settle(self) -> None:
        """Returns when every connection and task has ended."""
        self.until(lambda: not self.state.connections and not self.state.tasks)
        assert len(self.tasks()) == self.resting_tasks, self.tasks()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An application that knows nothing of the direct channel."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def _other_tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
