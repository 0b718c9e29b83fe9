"""``from realtime import socketio``: an application written for python-socketio changes one import."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import socketio as stock

from realtime import Server, UsageError, socketio
from tests.realtime.living import SECONDS, SocketIOClient, living, socket_io, within


def test_every_name_of_python_socketio_is_there() -> None:
    for name in stock.__all__:
        assert hasattr(socketio, name), name
    assert set(stock.__all__) <= set(socketio.__all__)
    assert socketio.AsyncServer is Server
    assert socketio.ASGIApp is stock.ASGIApp
    assert socketio.AsyncNamespace is stock.AsyncNamespace
    assert socketio.exceptions is stock.exceptions
    assert issubclass(socketio.AsyncServer, stock.AsyncServer)
    assert issubclass(socketio.AsyncRedisManager, stock.AsyncManager)


@pytest.mark.asyncio
async def test_an_application_beside_another_asgi_application() -> None:
    async def other(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"other"})

    sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*", logger=False, engineio_logger=False)
    sio.on("echo", lambda sid, data: data)
    async with living(socketio.ASGIApp(sio, other, socketio_path="/ws/socket.io"), lifespan="off") as url:
        client = stock.AsyncSimpleClient()
        await within(client.connect(url, socketio_path="ws/socket.io", transports=["websocket"]))
        assert await within(client.call("echo", "hello")) == "hello"
        await within(client.disconnect())
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            assert (await reader.read()).endswith(b"other")
            writer.close()


@pytest.mark.parametrize("options", [{"async_mode": "aiohttp"}, {"async_mode": "tornado"}])
def test_another_kind_of_server_is_refused_with_a_sentence(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="async_mode must be 'asgi'"):
        socketio.AsyncServer(**options)


def test_redis_options_are_refused_with_a_sentence() -> None:
    with pytest.raises(UsageError, match="write them into the URL"):
        socketio.AsyncRedisManager("redis://localhost", redis_options={"socket_timeout": 3})


@pytest.mark.parametrize("url", ["localhost:6379", "localhost"])
def test_a_url_without_a_scheme_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(UsageError, match=f"a Redis URL is written redis://HOST:PORT/DATABASE, not '{url}'"):
        socketio.AsyncRedisManager(url)


@asynccontextmanager
async def two(url: str) -> AsyncIterator[tuple[list[Any], list[SocketIOClient], str]]:
    """Two servers on one Redis, a client at each, and the channel."""
    channel = f"test-{uuid.uuid4().hex}"
    async with AsyncExitStack() as stack:
        servers, clients = [], []
        for _ in range(2):
            sio = socketio.AsyncServer(client_manager=socketio.AsyncRedisManager(url, channel=channel))
            address = await stack.enter_async_context(living(socketio.ASGIApp(sio)))
            stack.push_async_callback(sio.manager.stop)
            servers.append(sio)
            clients.append(await stack.enter_async_context(socket_io(address, "/")))
        for sio, client in zip(servers, reversed(clients), strict=True):
            await probe(sio, client)
        yield servers, clients, channel


async def probe(sio: Any, client: SocketIOClient) -> None:
    """Returns when a client of the other server hears this one: the only way to know that its subscription stands."""
    async with asyncio.timeout(SECONDS):
        while True:
            await sio.emit("probe")
            try:
                await client.until("probe", 0.1)
                return
            except AssertionError:
                continue


@pytest.mark.asyncio
async def test_two_servers_on_one_redis(redis_url: str) -> None:
    async with two(redis_url) as ((one, _), (ann, bob), _):
        assert one.manager.metrics is one.metrics
        await one.emit("told", {"n": 1})
        for client in (ann, bob):
            assert await client.until("told") == {"n": 1}
        bob_sid = bob.client.get_sid()
        await one.enter_room(bob_sid, "lobby")
        await one.emit("told", {"n": 2, "file": b"\x00\xff"}, to="lobby")
        assert await bob.until("told") == {"n": 2, "file": b"\x00\xff"}
        bob.client.on("question", lambda number: number + 1)
        assert await one.call("question", 41, to=bob_sid, timeout=SECONDS) == 42
        await one.disconnect(bob_sid)
        await within(bob.gone.wait())
        assert ann.count("told") == 1


@pytest.mark.asyncio
async def test_a_process_that_only_writes(redis_url: str) -> None:
    async with two(redis_url) as (_, clients, channel):
        writer = socketio.AsyncRedisManager(redis_url, channel=channel, write_only=True)
        await writer.emit("told", {"by": "ours"})
        await writer.emit("told", {"by": "nobody hears this"}, room="nobody")
        await writer.stop()
        theirs = stock.AsyncRedisManager(redis_url, channel=channel, write_only=True)
        await theirs.emit("told", {"by": "theirs"})
        await theirs.redis.aclose()
        blocking = stock.RedisManager(redis_url, channel=channel, write_only=True)
        await asyncio.to_thread(blocking.emit, "told", {"by": "a blocking one"})
        await asyncio.to_thread(blocking.redis.close)
        for client in clients:
            for name in ("ours", "theirs", "a blocking one"):
                assert await client.until("told") == {"by": name}
