"""examples/own_app.py on `realtime serve` and on stock uvicorn: Socket.IO and plain clients on one wall."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.clients import raw, socket_io
from tests.examples.program import EXAMPLES
from tests.serving import ServerProcess

pytestmark = pytest.mark.process

SERVERS = {
    "realtime": ["realtime", "serve", "own_app:app", "--port", "{port}"],
    "uvicorn": ["uvicorn", "own_app:app", "--port", "{port}", "--log-level", "warning"],
}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_app.py").write_text((EXAMPLES / "own_app.py").read_text())
    with ServerProcess(folder, command=[sys.executable, "-m", *SERVERS[request.param]], ready="/openapi.json") as found:
        yield found


@pytest.mark.asyncio
async def test_notes_of_every_wire_stand_on_one_wall(server: ServerProcess) -> None:
    async with (
        socket_io(server.url, "/board", transports=["websocket"]) as ann,
        socket_io(server.url, "/board", transports=["polling"]) as bea,
        raw(server.ws_url, "/wall") as cyd,
    ):
        assert await ann.ask("note", {"text": "milk"}) == 2
        await cyd.until("note", text="milk")
        assert await bea.ask("note", {"text": "eggs"}) == 3
        await cyd.say("bread")
        for client in (ann, bea, cyd):
            assert (await client.until("note", text="bread"))["at"].endswith("Z")
        assert ann.count("note") == 3
        assert bea.count("note") == 2, "whoever writes sees what comes from then on"


@pytest.mark.asyncio
async def test_a_bad_note_is_answered_and_reaches_nobody(server: ServerProcess) -> None:
    async with socket_io(server.url, "/board") as ann, raw(server.ws_url, "/wall") as cyd:
        for bad in ({"text": ""}, {"text": "x" * 501}, {}, "text", None):
            answer = await ann.call("note", bad)
            assert answer["error"]["code"] == "invalid_payload", answer
        assert (await ann.call("burn", {}))["error"]["code"] == "unknown_event"
        await cyd.say("x" * 501)
        assert (await cyd.until("error"))["error"]["code"] == "invalid_payload"
        assert not cyd.count("note")


def test_it_is_short(tmp_path: Path) -> None:
    lines = (EXAMPLES / "own_app.py").read_text().splitlines()
    assert len(lines) <= 25
