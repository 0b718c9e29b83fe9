"""`realtime serve` with the whole application, on each of its wires: for what the wire tests' small one has not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from tests.serving import ServerProcess, fetch
from tests.wire.clients import Client
from tests.wire.servers import Wire

HOUSE_WIRES = [
    Wire("fast", "fast"),
    Wire("websocket", "portable"),
    Wire("polling", "fast", polling=True),
]
"""``websocket_class`` is what `realtime serve` is told with ``--wire``."""
APPLICATION = "tests.hostile.application:app"
QUICK = {
    "REALTIME_CONNECT_TIMEOUT_SECONDS": "1",
    "REALTIME_UPGRADE_TIMEOUT_SECONDS": "1",
    "REALTIME_EVENTS_PER_SECOND": "1000000",
    "REALTIME_PING_INTERVAL_SECONDS": "300",
}
"""What is tested with these is no question of the rate, and no ping comes in between."""


class Houses:
    """One process for each wire and settings, started when first asked for."""

    def __init__(self, factory: pytest.TempPathFactory, stack: ExitStack) -> None:
        self._factory = factory
        self._stack = stack
        self._running: dict[str, ServerProcess] = {}

    def get(self, wire: Wire, **settings: str) -> ServerProcess:
        key = json.dumps([wire.websocket_class, settings])
        if key not in self._running:
            folder = self._factory.mktemp("house")
            arguments = (APPLICATION, "--wire", wire.websocket_class)
            server = self._stack.enter_context(ServerProcess(folder, *arguments, env=QUICK | settings))
            warm(server)
            self._running[key] = server
        return self._running[key]


def warm(server: ServerProcess) -> None:
    """As many questions to the database at once as it has connections, which it then keeps."""
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(fetch, [f"{server.url}/chat/nowhere/history"] * 60))
    assert {status for status, _ in answers} == {200}


@pytest.fixture(scope="session")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Houses]:
    with ExitStack() as stack:
        yield Houses(tmp_path_factory, stack)


@pytest.fixture
def house(houses: Houses, wire: Wire) -> ServerProcess:
    return houses.get(wire)


async def come_in(client: Client, namespace: str, auth: Any = None) -> Any:
    """CONNECT: the answer's data, of CONNECT_ERROR too."""
    await client.send(f"40{namespace},{'' if auth is None else json.dumps(auth)}")
    answer = str(await client.receive())
    assert answer[:2] in ("40", "44"), answer
    return json.loads(answer.partition(",")[2])


async def ask(client: Client, namespace: str, event: str, data: Any) -> Any:
    """The acknowledgement; what else is said to the client before it is passed over."""
    await client.send(f"42{namespace},7{json.dumps([event, data])}")
    begins = f"43{namespace},7["
    while not (answer := str(await client.receive())).startswith(begins):
        pass
    return json.loads(answer[len(begins) - 1 :])[0]


def code_of(answer: Any) -> str:
    """The code of an error in an acknowledgement; empty where it is none."""
    error = answer.get("error") if isinstance(answer, dict) else None
    return str(error["code"]) if isinstance(error, dict) else ""
