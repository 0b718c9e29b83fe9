"""SIGTERM with clients of every wire connected: a quick end, everybody told, nothing lost that was said."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic
from typing import Final

import aiohttp
import pytest

from adapters.sql import open_history
from realtime import Metrics
from tests.end_to_end.clients import RawClient, chatter, event_stream, get_json, polling, raw, within
from tests.serving import ROOT, ServerProcess

pytestmark = pytest.mark.process

STOP_SECONDS = 3.0
LINES = 60
DRAINING = 4440

STOCK: Final = [sys.executable, "-m", "uvicorn", "namespaces.app:app", "--port", "{port}"]
SERVERS: Final[Mapping[str, tuple[list[str] | None, list[str]]]] = {
    "realtime serve": (None, []),
    "realtime serve --wire portable": (None, ["--wire", "portable"]),
    "uvicorn": (STOCK, ["--log-level", "warning"]),
}


def started(name: str, folder: Path) -> ServerProcess:
    command, arguments = SERVERS[name]
    return ServerProcess(folder, *arguments, command=command, env={"REALTIME_DATABASE_URL": database(folder)})


def database(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{(folder / 'realtime.db').as_posix()}"


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.asyncio
async def test_everybody_is_told_and_nothing_said_is_lost(name: str, tmp_path: Path) -> None:
    with started(name, tmp_path) as server:
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            talker = await enter(raw(server.ws_url, "/ws/chat/talker?room=r"))
            stream = await enter(event_stream(server.url, "orders"))
            polled = await enter(polling(server.url, "/chat", {"username": "polled"}))
            await enter(polling(server.url, "/chat", {"username": "between two polls"}))
            engine = await enter(raw(server.ws_url, "/socket.io/?EIO=4&transport=websocket"))
            await engine.say('40/chat,{"username":"engine"}')
            stock = await enter(chatter(server.url, "stock", "r", transports=["websocket"]))
            stock_polling = await enter(chatter(server.url, "stock-polling", "r", transports=["polling"]))
            pending = asyncio.create_task(polled.get())
            for number in range(LINES // 2):
                await talker.say(f"line {number}")
                await stock.ask("message", {"room": "r", "text": f"stock line {number}"})
            await talker.until("message", text=f"line {LINES // 2 - 1}")
            assert not pending.done()

            begun = monotonic()
            server.process.terminate()
            code = await asyncio.to_thread(server.process.wait, STOP_SECONDS + 2)
            assert monotonic() - begun < STOP_SECONDS
            assert code in own_codes(name), server.output()
            for client in (talker, engine):
                await assert_told_when_to_return(client)
            assert await within(pending)
            await within(stream.ended.wait())
            await within(stock.gone.wait())
            await within(stock_polling.gone.wait())
        assert "Traceback" not in server.output(), server.output()
        assert "exceeded" not in server.output(), "nothing had to be cancelled"
    assert len(await stored(tmp_path, "r")) == LINES


def own_codes(name: str) -> tuple[int, ...]:
    """Stock uvicorn passes the signal on to itself after its orderly end."""
    return (0,) if name.startswith("realtime") else (0, -signal.SIGTERM)


async def assert_told_when_to_return(client: RawClient) -> None:
    code, reason = await within(client.closed)
    assert code == DRAINING
    assert re.fullmatch(r"retry in \d+\.\d s", reason)


async def stored(folder: Path, room: str) -> list[str]:
    history = open_history(database(folder), Metrics())
    try:
        return [message.text for message in (await history.page(room, limit=200)).messages]
    finally:
        await history.close()


@pytest.mark.asyncio
async def test_ctrl_c_ends_it_as_well(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        async with raw(server.ws_url, "/ws/chat/talker") as talker:
            await talker.say("here")
            await talker.until("message", text="here")  # who is only being let in may get uvicorn's own good-bye
            begun = monotonic()
            server.interrupt()
            code = await asyncio.to_thread(server.process.wait, STOP_SECONDS + 2)
            assert code in (0, 128 + signal.SIGINT), "zero, or what shells call it"
            assert monotonic() - begun < STOP_SECONDS
            await assert_told_when_to_return(talker)
        assert "Traceback" not in server.output()


@pytest.mark.parametrize("with_redis", [False, True])
def test_a_taken_port_is_told_and_ends_it(with_redis: bool, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """With Redis its first subscription is just being made: nothing that has begun may keep the process."""
    redis = ["--redis", request.getfixturevalue("redis_url")] if with_redis else []
    with socket.create_server(("127.0.0.1", 0)) as holder:
        command = [sys.executable, "-m", "realtime", "serve", "--port", str(holder.getsockname()[1]), *redis]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "REALTIME_DATABASE_URL": database(tmp_path)}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode not in (0, None)
    assert "address already in use" in done.stderr.lower()
    assert "Traceback" not in done.stderr


@pytest.mark.asyncio
async def test_restarted_it_remembers(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        async with chatter(server.url, "ada", "r") as ada:
            sent = await ada.ask("message", {"room": "r", "text": "remember me"})
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        _, page = await get_json(f"{server.url}/chat/r/history")
        assert [message["id"] for message in page["messages"]] == [sent["id"]]
        async with aiohttp.ClientSession() as session, session.get(f"{server.url}/health/ready") as response:
            assert response.status == 200
