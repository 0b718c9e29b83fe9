"""The same app on servers that know nothing of it: the same events and rooms. What is not installed is skipped."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.clients import chatter, event_stream, publish, raw
from tests.serving import ServerProcess

pytestmark = pytest.mark.process

APP = "namespaces.app:app"
COMMANDS = {
    "uvicorn": ["uvicorn", APP, "--port", "{port}", "--log-level", "warning"],
    "wsproto": ["uvicorn", APP, "--port", "{port}", "--log-level", "warning", "--ws", "wsproto"],
    "hypercorn": ["hypercorn", APP, "--bind", "127.0.0.1:{port}"],
    "granian": ["granian", APP, "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}"],
}


@pytest.fixture(params=COMMANDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    name = str(request.param)
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed (pip install {name})")
    env = {"REALTIME_DATABASE_URL": f"sqlite+aiosqlite:///{(tmp_path / 'realtime.db').as_posix()}"}
    with ServerProcess(tmp_path, command=[sys.executable, "-m", *COMMANDS[name]], env=env) as found:
        yield found


@pytest.mark.asyncio
async def test_chat_and_notifications(server: ServerProcess) -> None:
    async with (
        chatter(server.url, "webber", transports=["websocket"]) as webber,
        chatter(server.url, "pollux", transports=["polling"]) as pollux,
        chatter(server.url, "upgrader") as upgrader,
        raw(server.ws_url, "/ws/chat/rawly") as rawly,
        event_stream(server.url, "orders") as stream,
    ):
        for client, name in ((webber, "webber"), (pollux, "pollux"), (upgrader, "upgrader")):
            await client.ask("message", {"room": "lobby", "text": f"hello from {name}"})
        await rawly.say("hello from rawly")
        for other in ("webber", "pollux", "upgrader", "rawly"):
            for listener in (webber, pollux, upgrader, rawly):
                if not listener.count("message", username=other):
                    await listener.until("message", username=other, text=f"hello from {other}")
        answer = await publish(server.url, "orders", "one")
        assert answer["sent"] == 1
        await stream.until("notification", id=answer["id"])
