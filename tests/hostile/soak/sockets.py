"""Hostile bytes: broken frames, requests that never end, readers that do not read, cuts in the middle."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.adapters.fast.wire_client import CONTINUATION, TEXT, close, frame, text
from tests.adapters.fast.wire_client import request as upgrade
from tests.end_to_end.clients import publish, raw
from tests.hostile.test_frames_fast import BROKEN
from tests.serving import ServerProcess
from tests.wire.clients import http_session, request, within

PATHS = (
    b"/socket.io/?EIO=4&transport=websocket",
    b"/ws",
    b"/ws/chat/hostile?room=hostile",
    b"/ws/json-chat/hostile",
    b"/ws/heartbeat",
    b"/ws/broadcast",
    b"/ws/rooms/echo/hostile",
)


@asynccontextmanager
async def line(
    server: ServerProcess, window: int | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A TCP connection that is cut at the end; ``window`` bytes are taken while nobody reads, or a few more."""
    sock = socket.socket()
    sock.setblocking(False)
    if window is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    try:
        await within(asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port)))
        reader, writer = await asyncio.open_connection(sock=sock, limit=window or 65_536)
    except BaseException:
        sock.close()
        raise
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read_on(reader: asyncio.StreamReader, seconds: float = 3.0) -> None:
    """Until the server hangs up, for a while."""
    try:
        async with asyncio.timeout(seconds):
            while await reader.read(65_536):
                pass
    except (TimeoutError, ConnectionError):
        pass


async def broken_frame(server: ServerProcess, chance: random.Random) -> None:
    _, sent = chance.choice(list(BROKEN.values()))
    async with line(server) as (reader, writer):
        writer.write(upgrade(chance.choice(PATHS)))
        await within(reader.readuntil(b"\r\n\r\n"))
        writer.write(sent)
        writer.write(text("and more") * 3 + close(1000))
        await read_on(reader)


async def random_bytes(server: ServerProcess, chance: random.Random) -> None:
    """After the upgrade, or in the place of a request."""
    async with line(server) as (reader, writer):
        if chance.random() < 0.5:
            writer.write(upgrade(chance.choice(PATHS)))
            await within(reader.readuntil(b"\r\n\r\n"))
        for _ in range(20):
            writer.write(chance.randbytes(chance.randrange(1, 3_000)))
        await read_on(reader)


async def never_finished(server: ServerProcess, chance: random.Random) -> None:
    """A message in fragments that is cut off at half a megabyte."""
    async with line(server) as (reader, writer):
        writer.write(upgrade(chance.choice(PATHS)))
        await within(reader.readuntil(b"\r\n\r\n"))
        writer.write(frame(TEXT, b"4" * 250_000, fin=False))
        for _ in range(250):
            writer.write(frame(CONTINUATION, b"x" * 1_000, fin=False))
        await read_on(reader, chance.random() * 2)


async def cut_in_a_frame(server: ServerProcess, chance: random.Random) -> None:
    whole = text('42/echo,["echo","something"]')
    async with line(server) as (reader, writer):
        writer.write(upgrade(PATHS[0]))
        await within(reader.readuntil(b"\r\n\r\n"))
        writer.write(text("40/echo,") + whole + whole[: chance.randrange(len(whole))])
        await within(reader.read(1_000))


async def half_a_request(server: ServerProcess, chance: random.Random) -> None:
    """Held open for a while, with a byte now and then."""
    whole = chance.choice(
        (
            upgrade(PATHS[0]),
            b"POST /notify/hostile HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
            b"GET / HTTP/1.1\r\nHost: x\r\n",
        )
    )
    async with line(server) as (reader, writer):
        begun = chance.randrange(len(whole))
        writer.write(whole[:begun])
        for place in range(begun, min(begun + 3, len(whole) - 1)):
            await read_on(reader, 0.5)
            writer.write(whole[place : place + 1])


async def odd_requests(server: ServerProcess, chance: random.Random) -> None:
    """Over HTTP: wrong methods, paths that climb, names that nobody may have, bodies too big, histories of nowhere."""
    async with http_session() as http:
        for _ in range(10):
            method, path, body = chance.choice(
                (
                    ("PROPFIND", "/", None),
                    ("DELETE", "/socket.io/?EIO=4&transport=polling", None),
                    ("GET", "/static/%2e%2e/%2e%2e/etc/passwd", None),
                    ("GET", "/socket.io/?EIO=3&transport=polling", None),
                    ("GET", "/socket.io/?EIO=4&transport=polling&sid=__proto__", None),
                    ("GET", "/chat/%00/history", None),
                    ("GET", "/chat/x/history?limit=-1", None),
                    ("GET", f"/chat/x/history?before={'9' * 64}", None),
                    ("POST", "/notify/%0a", '{"title":"x","message":"y"}'),
                    ("POST", "/notify/x", '{"title":5,"message":["y"]}'),
                    ("POST", "/notify/x", "{" * 1_000),
                    ("POST", "/notify/x", "x" * 1_100_000),
                )
            )
            await request(http, method, server.url + path, body, {"Content-Type": "application/json"})


async def a_key_again(server: ServerProcess, chance: random.Random) -> None:
    """The same idempotency key with another body."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": f"key {chance.randrange(50)}"}
    async with http_session() as http:
        for _ in range(10):
            body = json.dumps({"title": f"{chance.random()}", "message": "x"})
            await request(http, "POST", f"{server.url}/notify/hostile", body, headers)


async def slow_websocket(server: ServerProcess, chance: random.Random) -> None:
    """In a room to which 8 MB are said, twice what the kernel takes, and reads none of them."""
    async with line(server, window=4_096) as (reader, writer):
        writer.write(upgrade(chance.choice((b"/ws/broadcast", PATHS[0]))) + text("40/broadcast,"))
        await within(reader.readuntil(b"\r\n\r\n"))
        async with raw(server.ws_url, "/ws/broadcast") as loud:
            for number in range(80):
                await loud.say(f"{number} " + "x" * 100_000)  # the close frame comes behind them


async def slow_stream(server: ServerProcess, chance: random.Random) -> None:
    """A follower of a topic that does not read, and one that goes in the middle."""
    name = f"slow-{chance.random()}"
    asks = f"GET /notify/{name}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    async with line(server, window=4_096) as (_, writer), line(server) as (_, leaving):
        writer.write(asks)
        leaving.write(asks)
        for number in range(90):
            await publish(server.url, name, f"{number}", message="x" * 90_000)
            if number == 3:
                leaving.transport.abort()


async def silent_heart(server: ServerProcess, chance: random.Random) -> None:
    """A plain client that sends JSON of every kind to routes that want another, and goes without a word."""
    path = chance.choice(("/ws/heartbeat", "/ws/json-chat/odd", "/ws/rooms/echo/x", "/ws/rooms/chat/x?username=odd"))
    async with raw(server.ws_url, path) as client:
        for _ in range(150):
            await client.say(chance.choice(("{", "[]", '{"type":5}', '{"event":"connect"}', '{"id":{}}', "null", "")))


SOCKETS = (
    broken_frame,
    random_bytes,
    never_finished,
    cut_in_a_frame,
    half_a_request,
    odd_requests,
    a_key_again,
    slow_websocket,
    slow_stream,
    silent_heart,
)
