"""Many: messages to who does not read, rooms, presence, clients that come back at once, the dead among the living."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.hostile.ground import Ground, ground
from tests.hostile.houses import HOUSE_WIRES, Houses, ask, code_of, come_in
from tests.hostile.test_load import HANDSHAKE, text_frame
from tests.serving import ServerProcess
from tests.wire.clients import enter, polling, websocket
from tests.wire.servers import WIRES, Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio]

FAST = HOUSE_WIRES[0]
MESSAGES = 100_000
ROOMS = 100_000
SERVED_SECONDS = 5.0
"""For the bystander's round trip while thousands arrive: the server is busy, and never for long at a time."""


@pytest.fixture
def wire() -> Wire:
    return FAST


async def watched(field: Ground, work: Any) -> Any:
    """The bystander is served again and again while this goes on."""
    running = asyncio.ensure_future(work)
    while not running.done():
        await asyncio.wait_for(field.bystander_is_served(), SERVED_SECONDS)
        await asyncio.wait([running], timeout=0.05)
    return running.result()


@asynccontextmanager
async def who_stops_reading(server: ServerProcess, wire: Wire) -> AsyncIterator[None]:
    """Enters the room and takes nothing of what is said in it."""
    if wire.polling:
        async with polling(server.url) as quiet:
            await enter(quiet)
            await quiet.send('42["enter","stuck"]')
            yield
        return
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stuck.sendall(HANDSHAKE.encode())
        assert stuck.recv(12) == b"HTTP/1.1 101"
        stuck.sendall(text_frame("40") + text_frame('42["enter","stuck"]'))
        yield


@pytest.mark.hostile("H1")
@pytest.mark.parametrize("wire", WIRES, ids=str)
async def test_a_hundred_thousand_messages_to_a_reader_that_stopped(server: ServerProcess, wire: Wire) -> None:
    """Cut at some 1,000 of them or 1 MiB beyond what the kernel takes; then the others cost nothing."""
    async with ground(server, "null") as field, who_stops_reading(server, wire):
        await field.until(lambda state: state["rooms"] == 1)
        async with websocket(server.ws_url) as loud:
            await enter(loud)

            async def shout() -> None:
                message = f'42["shout","stuck","{"x" * 100}"]'
                for _ in range(MESSAGES // 1_000):
                    await loud.send(*(message for _ in range(1_000)), '421["null"]')
                    assert await loud.receive() == "431[null]"

            field_null = field.start("null")
            await watched(field, shout())
            await field.until(lambda state: state["rooms"] == 0)
            assert await field.counted("drops", "slow")
            assert (await field.state())["called"]["null"] - field_null == MESSAGES // 1_000


@pytest.mark.hostile("H2")
@pytest.mark.parametrize("wire", HOUSE_WIRES, ids=str)
async def test_one_client_joins_a_hundred_thousand_rooms(houses: Houses, wire: Wire) -> None:
    server = houses.get(wire)
    async with ground(server, "/notify subscribe") as field, wire.client(server) as client:
        await come_in(client, "/notify")

        async def join_all() -> None:
            for first in range(0, ROOMS, 100):
                asks = [json.dumps(["subscribe", {"topic": str(number)}]) for number in range(first, first + 99)]
                await client.send(*(f"42/notify,{asked}" for asked in asks))
                answer = await ask(client, "/notify", "subscribe", {"topic": str(first + 99)})
                assert code_of(answer) == ("" if first == 0 else "too_many_rooms")

        await watched(field, join_all())
        assert (await field.state())["rooms"] == 100
