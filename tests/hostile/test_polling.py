"""What no polling client of ours would ask for; and handshakes after which nothing comes, on every wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import pytest

from tests.hostile.ground import ground
from tests.serving import ServerProcess
from tests.wire.clients import (
    SEPARATOR,
    Answer,
    PollingClient,
    address,
    ended,
    enter,
    http_session,
    join,
    polling,
    request,
    websocket,
)
from tests.wire.servers import SOCKETS, WIRES, Servers, Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio]


@pytest.fixture
def polled(servers: Servers) -> ServerProcess:
    return servers.get(WIRES[-1])


@asynccontextmanager
async def broken_session(server: ServerProcess) -> AsyncIterator[PollingClient]:
    """A session that ends inside the block, for its own fault."""
    async with ground(server), polling(server.url) as client:
        await enter(client)
        yield client
        assert (await ended(client)).code == 400


@pytest.mark.hostile("A22", on="polling")
async def test_a_second_poll_ends_the_session(polled: ServerProcess) -> None:
    async with broken_session(polled) as client:
        answers: list[Answer] = await asyncio.gather(*(client.get() for _ in range(5)))
        assert sorted(answer.status for answer in answers)[1:] == [400] * 4


@pytest.mark.hostile("A21", on="polling")
@pytest.mark.parametrize(
    "body", ["", SEPARATOR, "b!!!", "abc", "\x00", "4" * 1_000_001, SEPARATOR * 1_000, b"4\xff\xfe"]
)
async def test_a_body_that_is_none_ends_the_session(polled: ServerProcess, body: str | bytes) -> None:
    async with broken_session(polled) as client:
        answer = await client.post(body)
        assert (answer.status, bool(answer.body)) == ((413, False) if len(body) > 1_000_000 else (400, True))


@pytest.mark.hostile("A20", on="polling")
@pytest.mark.parametrize("count", [17, 1_000])
async def test_as_many_packets_as_fit_are_served(polled: ServerProcess, count: int) -> None:
    async with ground(polled, "message-with-ack"), polling(polled.url) as client:
        await enter(client)
        posted = asyncio.ensure_future(
            client.post(join(*(f'42{number}["message-with-ack",{number}]' for number in range(count))))
        )
        assert [await client.receive() for _ in range(count)] == [f"43{number}[{number}]" for number in range(count)]
        assert (await posted).status == 200


async def refused(http: Any, server: ServerProcess, method: str, query: str, body: str | None = None) -> bool:
    """400, and one of Engine.IO's reasons."""
    answer = await request(http, method, address(server.url, "polling", query=query), body)
    return answer.status == 400 and answer.json["code"] in (1, 2, 3) and set(answer.json) == {"code", "message"}


@pytest.mark.hostile("A23", on="polling")
async def test_a_session_that_is_not_ones_own_to_have(polled: ServerProcess) -> None:
    async with ground(polled), http_session() as http, websocket(polled.ws_url) as other:
        closed = PollingClient(http, address(polled.url, "polling"), {"sid": ""})
        async with polling(polled.url) as first:
            closed.url = first.url
        overtaken = await closed.get()
        assert (overtaken.status, overtaken.text) == (200, "6"), "its good-bye may have come before this"
        assert (await closed.get()).status == 400
        assert (await closed.post('42["message"]')).status == 400
        sid = other.handshake["sid"]
        for name in (sid, sid[:-1], sid.swapcase(), "__proto__", "", "a" * 5_000, "%00", "constructor", "../.."):
            assert await refused(http, polled, "GET", f"&sid={name}")
            assert await refused(http, polled, "POST", f"&sid={name}", '42["message"]')
        assert await refused(http, polled, "GET", "&j=0")
        assert await refused(http, polled, "POST", "")
        await other.send("40")
        assert str(await other.receive()).startswith("40{"), "the session of the WebSocket is not touched"


@pytest.mark.hostile("A18")
@pytest.mark.parametrize("words", [[], ["3"], ["40/unknown,"]], ids=["silent", "a pong", "refused"])
async def test_who_never_comes_in_is_sent_away(server: ServerProcess, wire: Wire, words: list[str]) -> None:
    """The connect timeout of the application under test is 1 s."""
    async with ground(server), wire.client(server) as client:
        await client.send(*words)
        assert (await ended(client)).code == (400 if wire.polling else 1008)


@pytest.mark.hostile("A24", on="fast, websocket, wsproto, polling, MessagePack")
@pytest.mark.parametrize("port", SOCKETS, ids=str)
async def test_a_binary_broadcast_among_hostile_and_mixed_company(servers: Servers, port: Wire) -> None:
    """Each has its own form, and one who breaks the protocol meanwhile takes nothing from the others."""
    server = servers.get(port)
    async with (
        ground(server),
        websocket(server.ws_url) as by_socket,
        polling(server.url) as by_polling,
        websocket(server.ws_url, "/packed/") as packed,
        websocket(server.ws_url) as broken,
    ):
        for client in (by_socket, by_polling, broken):
            await enter(client)
            await client.send('420["enter","mixed"]')
            assert await client.receive() == '430["mixed"]'
        await packed.send(msgpack.packb({"type": 0, "nsp": "/"}))
        await packed.receive()
        await packed.send(msgpack.packb({"type": 2, "nsp": "/", "id": 0, "data": ["enter", "mixed"]}))
        await packed.receive()
        await broken.send('451-["shout","mixed",{"_placeholder":true,"num":0}]', '42["message"]')
        assert (await ended(broken)).code == 4501
        await by_socket.send('451-["shout","mixed",{"what":{"_placeholder":true,"num":0}}]', b"\0\xff")
        for client in (by_socket, by_polling):
            assert await client.receive() == '451-["shouted",{"what":{"_placeholder":true,"num":0}}]'
            assert await client.receive() == b"\0\xff"
        told = await packed.receive()
        assert isinstance(told, bytes)
        assert msgpack.unpackb(told)["data"] == ["shouted", {"what": b"\0\xff"}]
