"""Engine.IO alone, without Socket.IO on top: what is said comes back."""

from __future__ import annotations

import asyncio

import pytest

from tests.serving import ServerProcess
from tests.wire.clients import Frame, address, bare_websocket, ended, join, polling, split, within
from tests.wire.servers import SOCKETS, WIRES, Servers, Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio]

PATH = "/engine.io/"


@pytest.mark.parametrize("frame", ["4", "4hello", "4ünï 😀", "440[]", b"", b"\0\1\xfe\xff"])
async def test_a_message_comes_back(server: ServerProcess, wire: Wire, frame: Frame) -> None:
    async with wire.client(server, PATH) as client:
        for _ in range(3):
            await client.send(frame)
            assert await client.receive() == frame


@pytest.mark.parametrize("frames", [["4a", "4b", "4c"], ["4a", b"\1\2\3\4", "4b"]], ids=["texts", "text and binary"])
async def test_what_one_post_brought_comes_back_in_one_poll(servers: Servers, frames: list[Frame]) -> None:
    async with polling(servers.get(WIRES[-1]).url, PATH) as client:
        answer = await client.post(join(*frames))
        assert (answer.status, answer.text) == (200, "ok")
        assert split((await client.get()).text) == frames


@pytest.mark.parametrize("frame", ["abc", "", "0", "2", "5", "7", "1 "])
async def test_a_frame_that_is_no_packet_ends_it(server: ServerProcess, wire: Wire, frame: str) -> None:
    async with wire.client(server, PATH) as client:
        await client.send(frame)
        assert (await ended(client)).code == (400 if wire.polling else 4501)


@pytest.mark.parametrize("wire", SOCKETS, ids=str)
async def test_a_goodbye_closes_a_websocket(server: ServerProcess, wire: Wire) -> None:
    async with wire.client(server, PATH) as client:
        await client.send("1")
        assert (await ended(client)).code == 1000


@pytest.mark.parametrize("wire", SOCKETS, ids=str)
async def test_after_the_upgrade_the_next_frame_is_the_next_message(server: ServerProcess, wire: Wire) -> None:
    """No packet of the change itself: the client has read its answer to the probe and wants messages from there on."""
    async with polling(server.url, PATH) as client:
        other = address(server.ws_url, "websocket", PATH, f"&sid={client.handshake['sid']}")
        async with bare_websocket(other) as connection:
            await connection.send("2probe")
            assert await within(connection.recv()) == "3probe"
            assert (await client.get()).text == "6"
            await connection.send("5")
            await connection.send("4hello")
            assert await within(connection.recv()) == "4hello"
            assert (await client.get()).status == 400
            async with bare_websocket(other) as second:
                await within(second.wait_closed())
            await connection.send(b"still")
            assert await within(connection.recv()) == b"still"


async def test_what_waits_for_a_poll_is_kept_in_order_through_an_upgrade(servers: Servers) -> None:
    for wire in SOCKETS:
        server = servers.get(wire)
        async with polling(server.url, PATH) as client:
            await client.post(join("4one", b"two"))
            other = address(server.ws_url, "websocket", PATH, f"&sid={client.handshake['sid']}")
            async with bare_websocket(other) as connection:
                await connection.send("2probe")
                assert await within(connection.recv()) == "3probe"
                await connection.send("5")
                await connection.send("4three")
                told = [await within(connection.recv()) for _ in range(3)]
                assert told == ["4one", b"two", "4three"]


async def test_both_ways_at_once(server: ServerProcess, wire: Wire) -> None:
    count = 50
    async with wire.client(server, PATH) as client:
        sending = asyncio.ensure_future(client.send(*(f"4{number}" for number in range(count))))
        assert [await client.receive() for _ in range(count)] == [f"4{number}" for number in range(count)]
        await within(sending)
