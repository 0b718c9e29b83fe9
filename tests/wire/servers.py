"""The server processes of these suites: the same application under every WebSocket implementation."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.serving import ServerProcess
from tests.wire import clients


@dataclass(frozen=True)
class Wire:
    """A way to a client. ``websocket_class`` is what uvicorn is told with ``--ws``."""

    name: str
    websocket_class: str
    polling: bool = False

    def client(self, server: ServerProcess, path: str = "/socket.io/", query: str = "") -> Any:
        """An async context manager of a raw client (``clients.Client``)."""
        if self.polling:
            return clients.polling(server.url, path, query)
        return clients.websocket(server.ws_url, path, query)

    def __str__(self) -> str:
        return self.name


WIRES = [
    Wire("websocket", "websockets-sansio"),
    Wire("wsproto", "wsproto"),
    Wire("fast", "adapters.fast:FastProtocol"),
    Wire("polling", "websockets-sansio", polling=True),
]
SOCKETS = [wire for wire in WIRES if not wire.polling]
"""Those with frames and close codes."""

QUICK = "0.3,0.2"
"""The ping times (interval, timeout; seconds) that the protocol's own suites ask for."""
USUAL = "25,20"
"""With these nothing is ended by a ping in time for a test: what ends, ends for its own reason."""


class Servers:
    """One process for each WebSocket class and ping times, started when first asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._running: dict[tuple[str, str], ServerProcess] = {}

    def get(self, wire: Wire, ping: str = USUAL) -> ServerProcess:
        key = (wire.websocket_class, ping)
        if key not in self._running:
            command = [
                *(sys.executable, "-m", "uvicorn", "tests.wire.app:app", "--host", "127.0.0.1", "--port", "{port}"),
                *("--ws", wire.websocket_class, "--ws-max-size", "1000000", "--ws-per-message-deflate", "false"),
                *("--no-access-log", "--log-level", "warning", "--timeout-graceful-shutdown", "1"),
            ]
            server = ServerProcess(self._folder, command=command, env={"WIRE_PING": ping}, ready="/debug/state")
            self._running[key] = self._stack.enter_context(server)
        return self._running[key]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(tmp_path_factory.mktemp("wire"), stack)


@pytest.fixture(params=WIRES, ids=str)
def wire(request: pytest.FixtureRequest) -> Wire:
    found: Wire = request.param
    return found


@pytest.fixture
def server(servers: Servers, wire: Wire) -> ServerProcess:
    return servers.get(wire)


@asynccontextmanager
async def connected(wire: Wire, server: ServerProcess, namespace: str = "/", query: str = "") -> Any:
    """A raw client that has been let in to a namespace."""
    async with wire.client(server, query=query) as client:
        await clients.enter(client, namespace)
        yield client
