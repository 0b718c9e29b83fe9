"""examples/python_client.py, node_client.mjs and raw_client.py against a real server."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.end_to_end.clients import chatter
from tests.examples.program import EXAMPLES, python, running
from tests.javascript import Node
from tests.serving import ServerProcess

pytestmark = pytest.mark.process


@pytest.mark.parametrize("transport", [None, "polling", "websocket"])
@pytest.mark.asyncio
async def test_python_client(app_server: ServerProcess, transport: str | None) -> None:
    room = f"python-{transport}"
    more = ["--transport", transport] if transport else []
    async with chatter(app_server.url, "ann", room) as ann:
        await ann.ask("message", {"room": room, "text": "anybody there?"})
        options = ["--url", app_server.url, "--user", "pia", "--room", room, "--say", "I am"]
        async with running(*python("python_client.py", *options, *more)) as client:
            await ann.until("joined", username="pia")
            await ann.until("message", username="pia", text="I am")
            await ann.until("left", username="pia", seconds=8)
            assert await client.end() == 0
        assert client.lines == [f"* in {room} with ann, pia", "ann: anybody there?", "pia: I am"]


@pytest.mark.asyncio
async def test_python_client_says_why_it_was_refused(app_server: ServerProcess) -> None:
    async with running(*python("python_client.py", "--url", app_server.url, "--room", "@a:b")) as client:
        assert await client.end() == 1
    assert client.lines == ["join: This room belongs to the system (system_room)"]
    async with running(*python("python_client.py", "--url", app_server.url, "--user", "SYSTEM")) as client:
        assert await client.end() == 1
    assert client.lines[0].startswith("not connected: ")


@pytest.mark.asyncio
async def test_node_client(app_server: ServerProcess, node: Node, tmp_path: Path) -> None:
    """In a folder where npm has installed socket.io-client."""
    (tmp_path / "node_modules").symlink_to(node.folder / "node_modules")
    script = tmp_path / "node_client.mjs"
    script.write_text((EXAMPLES / "node_client.mjs").read_text())
    command = [*node.command, str(script), "--url", app_server.url]
    async with chatter(app_server.url, "ann", "node-room") as ann:
        await ann.ask("message", {"room": "node-room", "text": "anybody there?"})
        async with running(*command, "--user", "nora", "--room", "node-room", "--say", "I am") as client:
            await ann.until("message", username="nora", text="I am")
            assert await client.end() == 0
        assert client.lines == ["* in node-room with ann, nora", "ann: anybody there?", "nora: I am"]
    async with running(*command, "--user", "SYSTEM") as client:
        assert await client.end() == 1
    assert client.lines[0].startswith("refused: ")


@pytest.mark.asyncio
async def test_raw_client_comes_back_after_a_restart(tmp_path: Path) -> None:
    """It waits no longer than 2 s at a time here, however slowly the server starts."""
    source = (EXAMPLES / "raw_client.py").read_text()
    patient = "LONGEST_SECONDS = 1.0, 30.0"
    assert patient in source
    (tmp_path / "raw_client.py").write_text(source.replace(patient, "LONGEST_SECONDS = 1.0, 2.0"))
    with ServerProcess(tmp_path) as server:
        options = ["--url", server.ws_url, "--user", "rob", "--room", "r", "--say", "here"]
        async with running(sys.executable, str(tmp_path / "raw_client.py"), *options) as client:
            await client.until("* connected")
            await client.until("rob: here")
            async with chatter(server.url, "ann", "r") as ann:
                await client.until("* ann joined the chat")
                await ann.ask("message", {"room": "r", "text": "hello"})
                await client.until("ann: hello")
            await asyncio.to_thread(server.stop)
            assert "lost (4440: retry in" in await client.until("back in")
            await asyncio.to_thread(server.start)
            await client.until("* connected")
            await client.until("rob: here")
            server.kill()
            assert "lost (no close code" in await client.until("back in")
            await asyncio.to_thread(server.start)
            await client.until("rob: here")
            client.interrupt()
            assert await client.end() == 0
        assert not [line for line in client.lines if "Traceback" in line]


@pytest.mark.asyncio
async def test_raw_client_stays_away_when_told_so(app_server: ServerProcess) -> None:
    async with running(*python("raw_client.py", "--url", app_server.ws_url, "--user", "SYSTEM")) as client:
        assert await client.end() == 1
    assert client.lines == ["refused: HTTP 403"]
