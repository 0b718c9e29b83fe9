"""Too fast, too slow, too much: the client that does it pays, and nobody else."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.hostile.ground import ground
from tests.serving import ServerProcess
from tests.wire.clients import ended, enter, join, polling, websocket, within
from tests.wire.servers import SOCKETS, WIRES, Servers, Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio]

HANDSHAKE = (
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def text_frame(payload: str) -> bytes:
    """From a client, so masked; with zeros, which changes nothing."""
    assert len(payload) < 126
    return bytes((0x81, 0x80 | len(payload), 0, 0, 0, 0)) + payload.encode()


@pytest.mark.hostile("H1")
@pytest.mark.parametrize("wire", SOCKETS, ids=str)
async def test_a_reader_that_stops_reading_is_cut(server: ServerProcess, wire: Wire) -> None:
    """30 MB to its room, of which the kernel and the server keep a few."""
    async with ground(server, "none") as field:
        stuck = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        with stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            stuck.sendall(HANDSHAKE.encode())
            assert stuck.recv(12) == b"HTTP/1.1 101"
            stuck.sendall(text_frame("40") + text_frame('42["enter","stuck"]'))
            await field.until(lambda state: state["rooms"] == 1)
            async with websocket(server.ws_url) as loud:
                await enter(loud)
                message = f'42["shout","stuck","{"x" * 300_000}"]'
                for _ in range(100):
                    await loud.send(message)
                await field.until(lambda state: state["rooms"] == 0)
            assert await field.counted("drops", "slow")
            await field.bystander_is_served()


@pytest.mark.hostile("H1", on="polling")
async def test_a_polling_client_that_never_polls(servers: Servers) -> None:
    server = servers.get(WIRES[-1])
    async with ground(server, "none") as field:
        async with polling(server.url) as quiet, websocket(server.ws_url) as loud:
            await enter(quiet)
            await quiet.send('42["enter","quiet"]')
            await enter(loud)
            message = f'42["shout","quiet","{"x" * 300_000}"]'
            await loud.send(*(message for _ in range(5)), '421["none"]')
            assert await loud.receive() == "431[]"
            assert (await ended(quiet)).code == 400
        assert await field.counted("drops", "slow")


@pytest.mark.hostile("H1", on="polling")
@pytest.mark.parametrize("size", [1, 10_000])
async def test_a_backlog_is_also_bounded_by_its_number(servers: Servers, size: int) -> None:
    """1,000 messages or 1 MiB, whichever is first."""
    server = servers.get(WIRES[-1])
    async with ground(server, "none") as field:
        async with polling(server.url) as quiet, websocket(server.ws_url) as loud:
            await enter(quiet)
            await quiet.send('420["enter","quiet"]')
            assert await quiet.receive() == '430["quiet"]'
            await enter(loud)
            few = 1_000 if size == 1 else (1 << 20) // (size + 20)
            message = f'42["shout","quiet","{"x" * size}"]'
            await loud.send(*(message for _ in range(few)), '421["none"]')
            assert await loud.receive() == "431[]"
            assert not await field.counted("drops", "slow")
            await loud.send(*(message for _ in range(10)), '422["none"]')
            assert await loud.receive() == "432[]"
            assert (await ended(quiet)).code == 400
        assert await field.counted("drops", "slow")


@pytest.mark.hostile("H9")
async def test_events_faster_than_the_limit(server: ServerProcess, wire: Wire) -> None:
    """100 a second in typed namespaces: answered with an error, then ended when it goes on."""
    async with ground(server, "typed echo") as field:
        async with wire.client(server, "/strict/") as client:
            await enter(client, "/typed")
            sending = asyncio.create_task(
                client.send(*(f'42/typed,{number}["echo",{number}]' for number in range(600)))
            )
            answers = []
            try:
                while True:
                    answers.append(str(await client.receive()))
            except Exception as gone:
                assert getattr(gone, "code", None) == (400 if wire.polling else 4429)
            await within(sending)
        limited = [answer for answer in answers if '"code":"rate_limited"' in answer]
        assert 100 <= await field.ran("typed echo") < 200
        if not wire.polling:
            assert len(limited) == 200
            assert '"retry_after":' in limited[0]
        assert await field.counted("drops", "rate_limited")


@pytest.mark.hostile("A20", on="polling")
async def test_a_post_of_many_small_events(servers: Servers) -> None:
    """As many as fit into a body are one client's own work; others are served between them."""
    server = servers.get(WIRES[-1])
    async with ground(server, "none") as field, polling(server.url) as client:
        await enter(client)
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            posting = group.create_task(client.post(join(*('42["none"]' for _ in range(20_000)))))
            await field.until(lambda state: state["called"].get("none", 0) > field.start("none"))
            await field.bystander_is_served()
        assert posting.result().status == 200
        await field.until(lambda state: state["called"].get("none", 0) - field.start("none") == 20_000)


@pytest.mark.hostile("H9")
async def test_clients_that_come_and_go_by_the_dozen(server: ServerProcess, wire: Wire) -> None:
    async def come_and_go() -> None:
        async with wire.client(server) as client:
            await enter(client)

    async with ground(server) as field:
        for _ in range(5):
            await asyncio.gather(*(come_and_go() for _ in range(20)))
        assert await field.ran("connect") == 100
        await field.until(lambda state: state["called"]["disconnect"] - field.start("disconnect") == 100)
