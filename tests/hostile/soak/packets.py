"""Hostile Socket.IO clients. Each attack is over within seconds, whatever the server does."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.hostile.test_packets import EARLY, VIOLATIONS
from tests.serving import ServerProcess
from tests.wire.clients import (
    Gone,
    PollingClient,
    WebSocketClient,
    address,
    bare_websocket,
    http_session,
    join,
    polling,
    request,
    websocket,
    within,
)

Client = WebSocketClient | PollingClient


@asynccontextmanager
async def client(server: ServerProcess, chance: random.Random) -> AsyncIterator[Client]:
    """On one wire or the other."""
    if chance.random() < 0.5:
        async with websocket(server.ws_url) as by_websocket:
            yield by_websocket
    else:
        async with polling(server.url) as by_polling:
            yield by_polling


async def answer(found: Client) -> str:
    """The next packet that is no ping."""
    while (frame := await found.receive()) == "2":
        await found.send("3")
    return str(frame)


async def come_in(found: Client, namespace: str = "/echo", auth: Any = None) -> None:
    await found.send(f"40{namespace},{'' if auth is None else json.dumps(auth)}")
    assert (await answer(found)).startswith(f"40{namespace},")


async def until_gone(found: Client, frames: int = 2_000) -> None:
    """Read on, for a while."""
    try:
        for _ in range(frames):
            await answer(found)
    except (Gone, TimeoutError):
        pass


async def malformed(server: ServerProcess, chance: random.Random) -> None:
    """One of the packets that break the protocol, before CONNECT or after it."""
    async with client(server, chance) as found:
        if chance.random() < 0.5:
            await come_in(found)
            _, frames = chance.choice(list(VIOLATIONS.values()))
        else:
            frames = chance.choice(list(EARLY.values()))
        await found.send(*frames)
        await until_gone(found)


async def noise(server: ServerProcess, chance: random.Random) -> None:
    """Packets of bytes that mean nothing, or nearly something."""
    async with client(server, chance) as found:
        await come_in(found)
        for _ in range(20):
            text = "".join(chance.choices('0123456789-,/[]{}":echon\\u\x00é🙈', k=chance.randrange(1, 200)))
            await found.send(chance.choice(("", "4", "42", "42/echo,", '42/echo,["echo",')) + text or "4")
        await until_gone(found)


async def flood(server: ServerProcess, chance: random.Random) -> None:
    """Events many times faster than anybody may send them."""
    async with client(server, chance) as found:
        await come_in(found)
        await found.send(*(f'42/echo,{number}["echo","{"x" * 100}"]' for number in range(600)))
        await until_gone(found)


async def acknowledgements(server: ServerProcess, chance: random.Random) -> None:
    """Answers that nobody asked for."""
    async with client(server, chance) as found:
        await come_in(found)
        await found.send(*(f"43/echo,{number}[]" for number in range(300)))
        await until_gone(found)


async def attachments_never_sent(server: ServerProcess, chance: random.Random) -> None:
    """Announced, perhaps begun; then silence until the server's patience ends, or a cut."""
    async with client(server, chance) as found:
        await come_in(found)
        await found.send('452-/echo,1["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
        if chance.random() < 0.5:
            await found.send(b"x" * chance.randrange(300_000))
        if chance.random() < 0.5:
            await until_gone(found)
        elif isinstance(found, WebSocketClient):
            await found.leave()


async def too_big(server: ServerProcess, chance: random.Random) -> None:
    async with client(server, chance) as found:
        await come_in(found)
        await found.send(f'42/echo,["echo","{"x" * 1_000_000}"]')
        await until_gone(found)


async def heavy(server: ServerProcess, chance: random.Random) -> None:
    """As deep, as many, as long as it goes, and a little more."""
    bodies = ("[" * 70 + "]" * 70, "[" + ",".join("1" * 60_000) + "]", "9" * 5_000, '"' + "\\u0000" * 100_000 + '"')
    async with client(server, chance) as found:
        await come_in(found)
        await found.send(f'42/echo,1["echo",{chance.choice(bodies)}]')
        await until_gone(found, 1)


async def namespaces(server: ServerProcess, chance: random.Random) -> None:
    """Unknown ones by the hundred, and the real ones over and over."""
    async with client(server, chance) as found:
        await found.send(*(f"40/unknown{number}," for number in range(200)))
        await found.send(*(["40/echo,", "41/echo,"] * 20))
        await until_gone(found, 150)


async def many_rooms(server: ServerProcess, chance: random.Random) -> None:
    """More rooms than one connection may be in, and names that nobody may have."""
    async with client(server, chance) as found:
        await come_in(found, "/notify")
        for number in range(300):
            topic = chance.choice(("", "x" * 129, "a\x00b", "@alice:bob", f"{chance.random()}"))
            await found.send(f'42/notify,{number}["subscribe",{json.dumps({"topic": topic})}]')
            await asyncio.wait_for(answer(found), 5)


async def bad_tokens(server: ServerProcess, chance: random.Random) -> None:
    async with client(server, chance) as found:
        for _ in range(10):
            token = "".join(chance.choices("abc.-_e30=", k=chance.randrange(300)))
            await found.send(f"40/secure,{json.dumps({'token': token})}")
            assert (await answer(found)).startswith("44/secure,")


async def storm(server: ServerProcess, chance: random.Random) -> None:
    """Dozens that come at once and are gone, some without a word."""

    async def come_and_go(goodbye: bool) -> None:
        async with websocket(server.ws_url) as found:
            await found.send('40/chat,{"username":"storm"}')
            if not goodbye:
                await found.leave()

    await asyncio.gather(*(come_and_go(chance.random() < 0.5) for _ in range(40)), return_exceptions=True)


async def nothing_follows(server: ServerProcess, chance: random.Random) -> None:
    """Handshakes over polling, and not a word after them."""
    async with http_session() as http:
        for _ in range(10):
            await request(http, "GET", address(server.url, "polling"))


async def half_an_upgrade(server: ServerProcess, chance: random.Random) -> None:
    """A probe that never comes, comes wrong, comes twice, or is not followed by the upgrade."""
    async with polling(server.url) as found:
        await come_in(found)
        place = address(server.ws_url, "websocket", query=f"&sid={found.handshake['sid']}")
        async with bare_websocket(place) as one, bare_websocket(place) as two:
            await one.send(chance.choice(("2probe", "2prob", "5", "40/chat,", "x")))
            await two.send("2probe")
            if chance.random() < 0.5:
                one.transport.abort()
            else:
                await within(one.wait_closed())


async def polling_tricks(server: ServerProcess, chance: random.Random) -> None:
    """Two polls at once, two posts at once, a body that is none, a session that is over."""
    async with polling(server.url) as found:
        await come_in(found)
        await chance.choice(
            (
                lambda: asyncio.gather(found.get(), found.get()),
                lambda: asyncio.gather(found.post("6"), found.post("6")),
                lambda: found.post(join(b"x").replace("b", "b!!")),
                lambda: found.post(b"\xff\xfe"),
                lambda: found.post("x" * 1_100_000),
                lambda: found.post("\x1e" * 1_000),
            )
        )()
        for _ in range(3):
            await found.post("42")


PACKETS = (
    malformed,
    noise,
    flood,
    acknowledgements,
    attachments_never_sent,
    too_big,
    heavy,
    namespaces,
    many_rooms,
    bad_tokens,
    storm,
    nothing_follows,
    half_an_upgrade,
    polling_tricks,
)
