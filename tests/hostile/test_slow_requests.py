"""Requests that never become whole, hundreds at a time: each is ended, and who asks for something meanwhile has it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.ground import ground
from tests.hostile.houses import APPLICATION, HOUSE_WIRES, QUICK, warm
from tests.hostile.test_crowds import watched
from tests.hostile.test_http import POLL, line, status, upgrade
from tests.serving import ServerProcess
from tests.wire.clients import within
from tests.wire.servers import Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio]

PORTS = [wire for wire in HOUSE_WIRES if not wire.polling]
BYTE_SECONDS = 0.1
"""Between two bytes: a tenth of the time that there is, as one second is of ten."""
GET = f"GET {POLL} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = "POST /notify/slow HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
HELD = {
    "nothing at all": ("", 0),
    "half a word": ("G", 408),
    "half a head": (GET + "X-Long: ", 408),
    "half an upgrade": (upgrade()[:-2] + "X-Long: ", 408),
    "half a body": (POST + "Content-Length: 1000\r\n\r\n", 0),
    "half a chunk": (POST + "Transfer-Encoding: chunked\r\n\r\n3e8\r\n", 0),
}
"""What was begun, and how it is answered; 0 where it is ended without a word."""


@pytest.fixture(params=PORTS, ids=str)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """As `realtime serve` has it, with a tenth of the time."""
    wire: Wire = request.param
    websockets = {"fast": "adapters.fast:FastProtocol", "websocket": "adapters.bounded:BoundedWebSockets"}[wire.name]
    command = [
        *(sys.executable, "-m", "uvicorn", APPLICATION, "--host", "127.0.0.1", "--port", "{port}"),
        *("--http", "tests.hostile.brisk:Brisk", "--ws", websockets, "--no-access-log", "--log-level", "warning"),
        *("--timeout-graceful-shutdown", "1"),
    ]
    with ServerProcess(tmp_path, command=command, env=QUICK) as running:
        warm(running)
        yield running
    assert "Traceback" not in running.output()


async def hold(server: ServerProcess, begun: str, byte: bytes) -> int:
    """Begins, and goes on byte by byte until the server ends it; the status of its answer."""
    async with line(server) as (reader, writer):
        writer.write(begun.encode())
        answer = asyncio.ensure_future(reader.read(1_000))
        try:
            for _ in range(100):
                done, _ = await asyncio.wait([answer], timeout=BYTE_SECONDS)
                if done:
                    return status(answer.result())
                writer.write(byte)
        except ConnectionError:
            return 0
        finally:
            answer.cancel()
    raise AssertionError("held for ten times as long as it may be")


@pytest.mark.hostile("C6", on="HTTP, fast, websocket")
@pytest.mark.parametrize("byte", [b"", b"x"], ids=["and nothing more", "byte by byte"])
async def test_hundreds_of_requests_that_never_become_whole(server: ServerProcess, byte: bytes) -> None:
    async with ground(server) as field:
        names = [name for name in HELD if len(HELD[name][0]) > 1 or not byte] * 50
        held = asyncio.gather(*(hold(server, HELD[name][0], byte) for name in names))
        found = await watched(field, within(held, 20))
        assert {(name, answer) for name, answer in zip(names, found, strict=True)} == {
            (name, HELD[name][1]) for name in names
        }
