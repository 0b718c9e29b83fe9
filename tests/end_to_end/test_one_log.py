"""Two servers on one Redis: one order for everybody, each once; and what emit says and does while Redis is away."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from realtime import Realtime, Settings, Socket
from tests.end_to_end.clients import SocketIOClient, Told, chatter, raw, socket_io, within
from tests.redis_server import RedisServer
from tests.serving import ServerProcess, fetch

pytestmark = pytest.mark.process

APP = """
from fastapi import FastAPI
from realtime import Namespace, Realtime, Socket

app = FastAPI()
realtime = Realtime(app, health=True, metrics=True)
board = realtime.namespace("/board", recovery=True)
told = []


@realtime.hook("bus_lost")
def lost():
    told.append("lost")


@realtime.hook("bus_regained")
async def regained():
    told.append("regained")


@board.event
async def join(socket: Socket, room: str) -> None:
    await socket.join(room)


@board.event
async def say(room: str, words: str, volatile: bool = False) -> dict:
    said = await board.emit("said", words, to=room, volatile=volatile)
    return {"reached": said, "offset": said.offset, "bus": said.bus, "durable": said.durable}


@board.event
async def put_out(other: str) -> None:
    await realtime.server.disconnect(other, namespace="/board")


@board.event
async def move(other: str, room: str) -> None:
    await realtime.server.enter_room(other, room, namespace="/board")


@board.event
async def close(room: str) -> None:
    await realtime.server.close_room(room, namespace="/board")


@board.event
async def hooks() -> list:
    return told
"""
PATIENCE_SECONDS = 0.5


@dataclass
class Pair:
    a: ServerProcess
    b: ServerProcess
    redis: RedisServer


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(keep=True))
        yield start(stack, tmp_path, redis)


def start(stack: ExitStack, folder: Path, redis: RedisServer, **settings: str) -> Pair:
    (folder / "board.py").write_text(APP)
    env = {"REALTIME_BUS_PATIENCE_SECONDS": str(PATIENCE_SECONDS), **settings}
    a, b = (
        stack.enter_context(
            ServerProcess(folder, "board:app", "--redis", redis.url, env={**env, "REALTIME_NODE": name})
        )
        for name in "ab"
    )
    return Pair(a, b, redis)


@asynccontextmanager
async def members(pair: Pair, *rooms: str) -> AsyncIterator[tuple[SocketIOClient, SocketIOClient]]:
    async with socket_io(pair.a.url, "/board") as ann, socket_io(pair.b.url, "/board") as ben:
        for client in (ann, ben):
            for room in rooms:
                await client.call("join", room)
        yield ann, ben


def heard(client: Told) -> list[Any]:
    return [data for name, data in client.all if name == "said"]


async def until(client: Told, words: str, seconds: float = 8.0) -> None:
    """Which may have come already."""
    async with asyncio.timeout(seconds):
        while words not in heard(client):
            client._news.clear()
            await client._news.wait()


async def until_ready(*servers: ServerProcess, ready: bool = True) -> None:
    for server in servers:
        check = (lambda each: lambda: (fetch(each.url + "/health/ready")[0] == 200) is ready)(server)
        await asyncio.to_thread(server.until, check, 10)


@pytest.mark.asyncio
async def test_everybody_hears_everything_once_and_in_one_order(tmp_path: Path) -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        a, b = (stack.enter_context(ServerProcess(tmp_path, "--redis", redis.url)) for _ in "ab")
        async with AsyncExitStack() as clients:
            enter = clients.enter_async_context
            told: list[Told] = []
            for name, server in (("a", a), ("b", b)):
                told.append(await enter(chatter(server.url, f"web{name}", "hall", transports=["websocket"])))
                told.append(await enter(chatter(server.url, f"poll{name}", "hall", transports=["polling"])))
                told.append(await enter(raw(server.ws_url, f"/ws/chat/raw{name}?room=hall")))
            speakers = [client for client in told if isinstance(client, SocketIOClient)]

            async def speak(client: SocketIOClient, name: int) -> None:
                for number in range(20):
                    answer = await client.ask("message", {"room": "hall", "text": f"{name}:{number}"})
                    assert set(answer) == {"id", "timestamp"}, "it is durable"

            await asyncio.gather(*(speak(client, name) for name, client in enumerate(speakers)))
            for client in told:
                async with asyncio.timeout(8):
                    while client.count("message") < 80:
                        client._news.clear()
                        await client._news.wait()
            orders = {tuple(data["text"] for name, data in client.all if name == "message") for client in told}
            (order,) = orders
            assert len(set(order)) == 80
            for speaker in range(4):
                own = [text for text in order if text.startswith(f"{speaker}:")]
                assert own == [f"{speaker}:{number}" for number in range(20)]


@pytest.mark.asyncio
async def test_rooms_and_disconnects_across_instances(pair: Pair) -> None:
    async with members(pair) as (ann, ben):
        sid = ben.client.get_sid("/board")
        await ann.call("move", (sid, "den"))
        answer: Any = None
        async with asyncio.timeout(5):
            for number in itertools.count():
                answer = await ann.call("say", ("den", f"{number}"))
                if heard(ben):
                    break
        assert answer == {"reached": 0, "offset": answer["offset"], "bus": "up", "durable": True}
        await ann.call("say", (sid, "to you alone"))
        await until(ben, "to you alone")
        await ann.call("close", "den")
        await ann.call("put_out", sid)
        await within(ben.gone.wait())


@pytest.mark.asyncio
async def test_redis_killed_and_back_with_its_data(pair: Pair) -> None:
    async with members(pair, "den") as (ann, ben):
        before = await ann.call("say", ("den", "before"))
        assert (before["reached"], before["bus"], before["durable"]) == (1, "up", True)
        pair.redis.kill()
        said = [await ann.call("say", ("den", f"alone {number}")) for number in range(3)]
        assert [(each["reached"], each["offset"], each["bus"], each["durable"]) for each in said] == [
            (1, None, "away", False)
        ] * 3
        assert heard(ann) == ["before", "alone 0", "alone 1", "alone 2"]
        answer = await ann.call("say", ("den", "typing", True))
        assert (answer["reached"], answer["durable"]) == (1, None)
        await until_ready(pair.a, ready=False)
        assert await ann.call("hooks") == ["lost"]
        pair.redis.start()
        await until(ben, "alone 2")
        await until_ready(pair.a, pair.b)
        assert (await ann.call("say", ("den", "after")))["durable"] is True
        await until(ben, "after")
        assert heard(ben) == ["before", "alone 0", "alone 1", "alone 2", "after"]
        assert heard(ann) == ["before", "alone 0", "alone 1", "alone 2", "typing", "after"]
        assert await ann.call("hooks") == ["lost", "regained"]
        metrics = fetch(pair.a.url + "/metrics")[1].decode()
        assert 'realtime_emissions_alone_total{namespace="/board"} 3.0' in metrics
        assert "realtime_spool_messages 0.0" in metrics
        assert "realtime_bus_alone 0.0" in metrics


@pytest.mark.asyncio
async def test_redis_away_for_less_than_the_patience(tmp_path: Path) -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(keep=True))
        pair = start(stack, tmp_path, redis, REALTIME_BUS_PATIENCE_SECONDS="20")
        async with members(pair, "den") as (ann, ben):
            await ann.call("say", ("den", "before"))
            pair.redis.kill()
            saying = asyncio.ensure_future(ann.call("say", ("den", "meanwhile")))
            check = lambda: b"realtime_spool_messages 1.0" in fetch(pair.a.url + "/metrics")[1]  # noqa: E731
            await asyncio.to_thread(pair.a.until, check)
            pair.redis.start()
            answer = await saying
            assert (answer["reached"], answer["bus"], answer["durable"]) == (1, "up", True)
            await until(ben, "meanwhile")
            assert heard(ann) == heard(ben) == ["before", "meanwhile"]


@pytest.mark.asyncio
async def test_redis_frozen_and_thawed(pair: Pair) -> None:
    """What was on its way when it froze may have been kept: nobody hears it twice."""
    async with members(pair, "den") as (ann, ben):
        await ann.call("say", ("den", "before"))
        pair.redis.freeze()
        try:
            for number in range(3):
                assert (await ann.call("say", ("den", f"alone {number}")))["durable"] is False
            await until_ready(pair.a, ready=False)
        finally:
            pair.redis.thaw()
        await until(ben, "alone 2")
        await until_ready(pair.a, pair.b)
        assert (await ben.call("say", ("den", "after")))["durable"] is True
        for client in (ann, ben):
            await until(client, "after")
            assert heard(client) == ["before", "alone 0", "alone 1", "alone 2", "after"]


@pytest.mark.asyncio
async def test_redis_back_empty(tmp_path: Path) -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        pair = start(stack, tmp_path, redis)
        async with members(pair, "den") as (ann, ben):
            first = await ann.call("say", ("den", "before"))
            await until(ben, "before")
            pair.redis.kill()
            assert (await ann.call("say", ("den", "alone")))["durable"] is False
            pair.redis.start()
            await until(ben, "alone")
            await until_ready(pair.a, pair.b)
            last = await ben.call("say", ("den", "after"))
            assert last["durable"] is True
            assert last["offset"].split("-")[0] != first["offset"].split("-")[0], "it is another log"
            for client in (ann, ben):
                await until(client, "after")
                assert heard(client) == ["before", "alone", "after"]


@pytest.mark.asyncio
async def test_what_waits_is_bounded(tmp_path: Path) -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(keep=True))
        pair = start(stack, tmp_path, redis, REALTIME_SPOOL_LIMIT_MESSAGES="5")
        async with members(pair, "den") as (ann, ben):
            pair.redis.kill()
            for number in range(12):
                await ann.call("say", ("den", f"{number}"))
            assert heard(ann) == [f"{number}" for number in range(12)]
            metrics = fetch(pair.a.url + "/metrics")[1].decode()
            assert "realtime_spool_messages 5.0" in metrics
            assert 'realtime_drops_total{reason="spool"} 7.0' in metrics
            pair.redis.start()
            await until(ben, "11")
            first, *others = heard(ben)
            assert first in ("0", "7"), "the first one is kept where it was on its way when Redis went"
            assert others == ["8", "9", "10", "11"]


@pytest.mark.asyncio
async def test_a_subscription_that_is_cut_is_healed(pair: Pair) -> None:
    async with members(pair, "den", "nook") as (ann, ben):
        with pair.redis.admin() as admin:
            for number in range(60):
                if number % 20 == 10:
                    admin.client_kill_filter(_type="pubsub")
                await ann.call("say", ("den" if number % 2 else "nook", f"{number}"))
        for client in (ann, ben):
            await until(client, "59")
            assert heard(client) == [f"{number}" for number in range(60)]


def test_under_testclient_each_connection_brings_a_loop_of_its_own(tmp_path: Path) -> None:
    """Without ``with`` there is no lifespan either; the log in Redis is the same, and goes on."""
    with RedisServer() as redis:
        app = FastAPI()
        settings = Settings(_env_prefix="NOBODY_SETS_THESE_", redis_url=redis.url)
        realtime = Realtime(app, settings=settings)
        board = realtime.namespace("/board", recovery=True)

        @board.event
        async def say(socket: Socket, words: str) -> str | None:
            await socket.join("den")
            return (await board.emit("said", words, to="den")).offset

        offsets = [conversation(app, words) for words in ("one", "two", "three")]
        assert [int(offset.rpartition("-")[2]) for offset in offsets] == [1, 2, 3]
        assert len({offset.rpartition("-")[0] for offset in offsets}) == 1


def conversation(app: FastAPI, words: str) -> str:
    """Says this over one connection, hears it, and answers its offset."""
    with TestClient(app).websocket_connect("/socket.io/?EIO=4&transport=websocket") as websocket:
        assert websocket.receive_text().startswith("0")
        websocket.send_text("40/board,")
        assert websocket.receive_text().startswith("40/board,")
        websocket.send_text(f'42/board,1["say","{words}"]')
        frames = [websocket.receive_text() for _ in range(2)]
        (told,) = (frame for frame in frames if frame.startswith("42/board,"))
        (answer,) = (frame for frame in frames if frame.startswith("43/board,1"))
        (offset,) = json.loads(answer.removeprefix("43/board,1"))
        assert json.loads(told.removeprefix("42/board,")) == ["said", words, offset]
        return str(offset)
