"""Pings every 300 ms and 200 ms to answer them, which is what the protocol's own suites ask for."""

from __future__ import annotations

import asyncio

import pytest

from tests.wire.clients import ended, polling, still_there
from tests.wire.servers import QUICK, SOCKETS, WIRES, Servers, Wire, connected

pytestmark = [pytest.mark.process, pytest.mark.asyncio]

INTERVAL_SECONDS = 0.3
LIFE_SECONDS = 0.5
"""Of a client that answers no ping."""
SLACK_SECONDS = 0.4
"""What a busy machine may add."""


@pytest.mark.parametrize("wire", WIRES, ids=str)
async def test_a_ping_comes_each_interval_after_the_pong(servers: Servers, wire: Wire) -> None:
    clock = asyncio.get_running_loop().time
    async with connected(wire, servers.get(wire, QUICK)) as client:
        for _ in range(3):
            started = clock()
            assert await client.receive() == "2"
            assert clock() - started > INTERVAL_SECONDS / 2
            await client.send("3")
        await still_there(client)


@pytest.mark.parametrize("wire", SOCKETS, ids=str)
async def test_a_silent_websocket_is_closed_in_time(servers: Servers, wire: Wire) -> None:
    clock = asyncio.get_running_loop().time
    async with connected(wire, servers.get(wire, QUICK)) as client:
        started = clock()
        assert (await ended(client)).code == 4408
        assert LIFE_SECONDS - 0.1 < clock() - started < LIFE_SECONDS + SLACK_SECONDS


async def test_a_silent_polling_client_is_gone_in_time(servers: Servers) -> None:
    wire = WIRES[-1]
    clock = asyncio.get_running_loop().time
    async with wire.client(servers.get(wire, QUICK)) as client:
        started = clock()
        assert await client.receive() == "2"
        assert await client.receive() == "1", "the poll that is pending then is told"
        assert clock() - started < LIFE_SECONDS + SLACK_SECONDS
        assert (await client.get()).status == 400


async def test_a_client_that_never_polls_is_gone_in_time(servers: Servers) -> None:
    """A WebSocket that came after it and is as silent tells when: no poll was pending that could."""
    server = servers.get(WIRES[0], QUICK)
    async with polling(server.url) as client, WIRES[0].client(server) as clock:
        assert (await ended(clock)).code == 4408
        answer = await client.get()
        assert (answer.status, answer.json) == (400, {"code": 1, "message": "Session ID unknown"})


@pytest.mark.parametrize("wire", WIRES, ids=str)
async def test_a_pong_that_nobody_asked_for_changes_nothing(servers: Servers, wire: Wire) -> None:
    async with connected(wire, servers.get(wire)) as client:
        await client.send("3", "3", "3", '421["message-with-ack","after"]')
        assert await client.receive() == '431["after"]'
