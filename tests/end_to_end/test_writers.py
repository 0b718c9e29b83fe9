"""python-socketio's own writers, sync and async, on a real Redis: every wire of `realtime serve` hears them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any

import pytest
import socketio

from tests.end_to_end.clients import Told, chatter, event_stream, raw, socket_io
from tests.redis_server import RedisServer
from tests.serving import ServerProcess, fetch

pytestmark = pytest.mark.process

CHANNEL = "socketio"
"""python-socketio's own default; the instances have another one between themselves."""
Servers = tuple[ServerProcess, ServerProcess]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisServer) -> Iterator[Servers]:
    env = {"REALTIME_REDIS_CHANNEL": "instances", "REALTIME_WRITERS_CHANNEL": CHANNEL}
    folder = tmp_path_factory.mktemp("writers")
    with ExitStack() as stack:
        one, two = (stack.enter_context(ServerProcess(folder, "--redis", shared_redis.url, env=env)) for _ in range(2))
        with shared_redis.admin() as admin:
            one.until(lambda: dict(admin.pubsub_numsub(CHANNEL)) == {CHANNEL.encode(): 2})
        yield one, two


@asynccontextmanager
async def everybody(servers: Servers, room: str) -> AsyncIterator[tuple[list[Told], list[Told]]]:
    """In the room of the chat, and following the topic of this name: on each instance one client of every wire."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        chat: list[Told] = []
        topic: list[Told] = []
        for number, server in enumerate(servers):
            chat.append(await enter(chatter(server.url, f"web-{number}", room, transports=["websocket"])))
            chat.append(await enter(chatter(server.url, f"poll-{number}", room, transports=["polling"])))
            chat.append(await enter(raw(server.ws_url, f"/ws/chat/raw-{number}?room={room}")))
            chat.append(await enter(raw(server.ws_url, f"/ws/rooms/chat/{room}?username=general-{number}")))
            subscriber = await enter(socket_io(server.url, "/notify"))
            await subscriber.ask("subscribe", {"topic": room})
            topic.append(subscriber)
            topic.append(await enter(raw(server.ws_url, f"/ws/notify/{room}")))
            topic.append(await enter(event_stream(server.url, room)))
        yield chat, topic


def message(number: int, room: str) -> dict[str, Any]:
    words = f"tea {number} is ready"
    return {"id": f"w{number}", "room": room, "username": "cron", "text": words, "message": words, "timestamp": "now"}


def notice(number: int, room: str) -> dict[str, Any]:
    return {"id": f"n{number}", "topic": room, "level": "info", "title": "Tea", "message": "ready", "timestamp": "now"}


async def sync_writer(url: str, number: int, room: str) -> None:
    writer = socketio.RedisManager(url, write_only=True)

    def write() -> None:
        writer.emit("message", message(number, room), namespace="/chat", room=room)
        writer.emit("notification", notice(number, room), namespace="/notify", to=room)
        writer.redis.close()

    await asyncio.to_thread(write)


async def async_writer(url: str, number: int, room: str) -> None:
    writer = socketio.AsyncRedisManager(url, write_only=True)
    await writer.emit("message", message(number, room), namespace="/chat", room=room)
    await writer.emit("notification", notice(number, room), namespace="/notify", to=room)
    await writer.redis.aclose()


@pytest.mark.parametrize("write", [sync_writer, async_writer])
@pytest.mark.asyncio
async def test_stock_writers_reach_clients_of_every_wire(
    servers: Servers, shared_redis: RedisServer, write: Any
) -> None:
    room = write.__name__.replace("_", "-")
    async with everybody(servers, room) as (chat, topic), chatter(servers[0].url, "away", "elsewhere") as bystander:
        for number in range(3):
            await write(shared_redis.url, number, room)
        for client in chat:
            for number in range(3):
                await client.until("message", id=f"w{number}")
            assert client.count("message") == 3, "nothing is told twice"
        for client in topic:
            for number in range(3):
                await client.until("notification", id=f"n{number}")
            assert client.count("notification") == 3
        assert not bystander.count("message")


@pytest.mark.asyncio
async def test_attachments_of_a_writer_arrive_as_bytes(servers: Servers, shared_redis: RedisServer) -> None:
    async with chatter(servers[1].url, "bin", "binary") as client:
        writer = socketio.AsyncRedisManager(shared_redis.url, write_only=True)
        await writer.emit("message", {"id": "b", "file": b"\x00\xff"}, namespace="/chat", room="binary")
        assert (await client.until("message", id="b"))["file"] == b"\x00\xff"
        await writer.redis.aclose()


def refused(server: ServerProcess, reason: str) -> float:
    sign = f'realtime_bus_refused_total{{reason="{reason}"}} '
    lines = fetch(server.url + "/metrics")[1].decode().splitlines()
    return sum(float(line.removeprefix(sign)) for line in lines if line.startswith(sign))


PICKLES = [b"\x80%ccos\n_exit\n(I17\ntR." % protocol for protocol in (2, 3, 4, 5)]
"""Each ends the process that opens it, with code 17."""


@pytest.mark.asyncio
async def test_hostile_messages_are_refused_and_never_opened(servers: Servers, shared_redis: RedisServer) -> None:
    good = {"method": "emit", "event": "message", "data": [message(9, "den")], "namespace": "/chat", "room": "den"}
    hostile = {
        "pickle": PICKLES,
        "malformed": [b"", b"cos\n_exit\n(I17\ntR.", b"\xabR\x01junk", b"[" * 1_000_000, b'{"method": {}}', b"null"],
        "method": [
            json.dumps({"method": "disconnect", "sid": "x"}).encode(),
            b'{"method": "close_room", "room": "den"}',
        ],
        "event": [json.dumps(good | {"event": "disconnect"}).encode()],
        "room": [json.dumps(good | {"room": [{}]}).encode()],
        "data": [json.dumps(good | {"data": "x"}).encode(), json.dumps(good | {"binary": True}).encode()],
        "callback": [json.dumps(good | {"callback": ["den", "/chat", 1]}).encode()],
    }
    before = {(server, reason): refused(server, reason) for server in servers for reason in hostile}
    async with everybody(servers, "den") as (chat, _):
        with shared_redis.admin() as admin:
            for junk in hostile.values():
                for each in junk:
                    assert admin.publish(CHANNEL, each) == 2
            assert admin.publish(CHANNEL, json.dumps(good).encode()) == 2
        for client in chat:
            await client.until("message", id="w9")
            assert client.count("message") == 1
    for (server, reason), count in before.items():
        assert refused(server, reason) - count == len(hostile[reason]), reason
        assert fetch(server.url + "/health/ready")[0] == 200
