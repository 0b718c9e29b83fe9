"""Broken WebSocket frames where another server's WebSockets carry ours: what it lets through, and what it answers.

Which close code is sent, if any, is that server's. Ours is that the sender is gone, nothing of it stays, and nobody
else notices.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from tests.adapters.fast.wire_client import CONTINUATION, PING, TEXT, WireClient, close, frame, text
from tests.adapters.fast.wire_client import request as upgrade
from tests.hostile.ground import attacked
from tests.hostile.houses import HOUSE_WIRES, Houses
from tests.hostile.rows import SERVED
from tests.hostile.test_frames_fast import (
    BROKEN,
    LIMIT,
    MEGABYTE,
    PATHS,
    arrive,
    deflated_bomb,
    marked,
    memory,
    send_without_end,
)
from tests.serving import ServerProcess
from tests.wire.servers import SOCKETS, Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio]

PORTABLE = [wire for wire in SOCKETS if wire.name != "fast"]
HOUSE = next(wire for wire in HOUSE_WIRES if wire.name == "websocket")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Wire], ServerProcess]]:
    servers: dict[str, ServerProcess] = {}

    def get(wire: Wire) -> ServerProcess:
        if wire.name not in servers:
            command = [
                *(sys.executable, "-m", "uvicorn", "tests.hostile.frames_app:app", "--port", "{port}"),
                *("--ws", wire.websocket_class, "--ws-max-size", str(LIMIT), "--no-access-log"),
                *("--log-level", "warning", "--timeout-graceful-shutdown", "1", "--ws-per-message-deflate", "true"),
            ]
            folder = tmp_path_factory.mktemp("portable")
            servers[wire.name] = ServerProcess(folder, command=command, ready="/debug/state")
            servers[wire.name].start()
        return servers[wire.name]

    yield get
    for server in servers.values():
        server.stop()


@pytest.fixture(params=PORTABLE, ids=str)
def wire(request: pytest.FixtureRequest) -> Wire:
    found: Wire = request.param
    return found


@pytest.fixture
def server(running: Callable[[Wire], ServerProcess], wire: Wire) -> ServerProcess:
    return running(wire)


@pytest.fixture(params=("socket.io", "raw"))
def path(request: pytest.FixtureRequest) -> bytes:
    return PATHS[request.param]


@pytest.mark.parametrize("name", marked("plain"))
async def test_a_broken_frame_ends_its_sender_and_nobody_else(server: ServerProcess, path: bytes, name: str) -> None:
    _, sent = BROKEN[name]
    ends = []

    def attack() -> None:
        with arrive(server, path) as client:
            try:
                client.send(sent + close())
                if not name.startswith("length"):  # a server may wait for the rest of those
                    client.rest()
                ends.append("over")
            except OSError:
                ends.append("cut while it spoke")

    async with attacked(server, attack):
        assert len(ends) == 1, "its sender was neither ended nor cut"


@pytest.mark.hostile("B10", on="plain")
async def test_data_after_close(server: ServerProcess, path: bytes) -> None:
    def attack() -> None:
        with arrive(server, path) as client:
            client.send(close(4000) + text('42["message"]') * 1000 + frame(3))
            ends.append(client.rest())

    ends: list[bytes] = []
    async with attacked(server, attack):
        assert len(ends) == 1, "it was not ended"


@pytest.mark.hostile("B1", "B2", on="plain")
@pytest.mark.parametrize("content", [b"x", b""], ids=["one byte", "empty"])
async def test_fragments_without_end(server: ServerProcess, path: bytes, content: bytes) -> None:
    """Each costs that server some 100 µs, and keeps its loop for as long as one read has of them."""
    grown = 0

    def attack() -> None:
        nonlocal grown
        with arrive(server, path) as client:
            before = memory(server)
            client.send(frame(TEXT, fin=False))
            for _ in range(100):
                client.send(frame(CONTINUATION, content, fin=False) * 200)
                grown = max(grown, memory(server) - before)
            client.vanish()

    async with attacked(server, attack):
        assert grown < 16 * MEGABYTE


@pytest.mark.hostile("B11", on="plain")
async def test_a_compression_bomb_where_compression_was_agreed(server: ServerProcess, wire: Wire, path: bytes) -> None:
    """100 MB of zeros in 100 kB: the limit is for what comes out."""
    grown = 0

    def attack() -> None:
        nonlocal grown
        asked = upgrade(path, (b"sec-websocket-extensions", b"permessage-deflate"))
        with WireClient(server.port, asked) as client:
            assert client.header(b"sec-websocket-extensions"), "compression was agreed"
            before = memory(server)
            client.send(frame(TEXT, deflated_bomb(), rsv=4))
            client.rest()
            grown = memory(server) - before

    async with attacked(server, attack):
        assert grown < 24 * MEGABYTE or wire.name not in SERVED


@pytest.mark.hostile("B13")
async def test_a_broken_client_that_goes_on_sending_is_cut(server: ServerProcess, path: bytes) -> None:
    cut = []

    def attack() -> None:
        with arrive(server, path) as client:
            client.send(frame(3))
            with pytest.raises(OSError):
                send_without_end(client)
            cut.append(client)

    async with attacked(server, attack):
        assert len(cut) == 1


@pytest.mark.hostile("B13", on="websocket, plain")
@pytest.mark.parametrize("place", [PATHS["socket.io"], b"/ws"])
async def test_pings_without_end_from_a_client_that_does_not_read(houses: Houses, place: bytes) -> None:
    """With `realtime serve`. uvicorn's classes as they come answer each ping themselves, whoever reads the answers."""
    server = houses.get(HOUSE)
    many = frame(PING, bytes(125)) * 1000
    grown = 0

    def attack() -> None:
        nonlocal grown
        with WireClient(server.port, upgrade(place)) as client:
            client.say("40")
            before = memory(server)
            for _ in range(200):
                client.send(many)
                grown = max(grown, memory(server) - before)

    async with attacked(server, attack):
        assert grown < 8 * MEGABYTE, "of 26 MB"
