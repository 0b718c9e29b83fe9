"""From polling to WebSocket: ``2probe``, ``3probe``, ``5``, and nothing is lost or said twice on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.serving import ServerProcess
from tests.wire.clients import (
    PollingClient,
    WebSocketClient,
    address,
    bare_websocket,
    enter,
    polling,
    still_there,
    within,
)
from tests.wire.servers import SOCKETS, Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio]


@pytest.fixture(params=SOCKETS, ids=str)
def wire(request: pytest.FixtureRequest) -> Wire:
    found: Wire = request.param
    return found


def other_way(server: ServerProcess, client: PollingClient) -> str:
    return address(server.ws_url, "websocket", query=f"&sid={client.handshake['sid']}")


async def probe(connection: ClientConnection) -> None:
    await connection.send("2probe")
    assert await within(connection.recv()) == "3probe"


async def closed(connection: ClientConnection) -> int:
    """The close code, when nothing else came before it."""
    with pytest.raises(ConnectionClosed):
        await within(connection.recv())
    assert connection.close_code is not None
    return connection.close_code


@asynccontextmanager
async def upgraded(server: ServerProcess) -> AsyncIterator[tuple[PollingClient, WebSocketClient]]:
    async with polling(server.url) as client:
        await enter(client)
        async with bare_websocket(other_way(server, client)) as connection:
            await probe(connection)
            assert (await client.get()).text == "6"
            await connection.send("5")
            yield client, WebSocketClient(connection, client.handshake)


async def test_an_upgrade(server: ServerProcess) -> None:
    async with upgraded(server) as (before, client):
        await still_there(client)
        assert (await before.get()).status == 400, "there is one way to it"


async def test_a_pending_poll_is_ended_with_a_noop(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        await enter(client)
        poll = asyncio.ensure_future(client.get())
        await client.post("6")
        async with bare_websocket(other_way(server, client)) as connection:
            await probe(connection)
            answer = await asyncio.wait_for(poll, 2)
            assert (answer.status, answer.text) == (200, "6")
            await connection.send("5")
            await still_there(WebSocketClient(connection, {}))


async def test_polling_works_until_the_upgrade_and_what_waited_follows(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        await enter(client)
        async with bare_websocket(other_way(server, client)) as connection:
            await still_there(client)
            await probe(connection)
            await client.post('42["message","between"]')
            await client.post('42["message","and"]')
            await connection.send("5")
            assert await within(connection.recv()) == '42["message-back","between"]'
            assert await within(connection.recv()) == '42["message-back","and"]'


async def test_http_after_the_upgrade_is_refused(server: ServerProcess) -> None:
    async with upgraded(server) as (client, through):
        await still_there(through)
        for answer in (await client.get(), await client.post('42["message"]')):
            assert (answer.status, answer.json) == (400, {"code": 3, "message": "Bad request"})
        await still_there(through)


async def test_a_second_websocket_is_accepted_and_closed(server: ServerProcess) -> None:
    async with upgraded(server) as (client, through), bare_websocket(other_way(server, client)) as second:
        assert await closed(second) == 1008
        await still_there(through)


async def test_two_upgrades_at_once_are_one(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        await enter(client)
        async with (
            bare_websocket(other_way(server, client)) as first,
            bare_websocket(other_way(server, client)) as second,
        ):
            assert await closed(second) == 1008
            await probe(first)
            await first.send("5")
            await still_there(WebSocketClient(first, {}))


@pytest.mark.parametrize("frame", ["5", "2", "probe", '42["message"]', "1", b"2probe", ""])
async def test_anything_but_a_probe_ends_the_attempt_alone(server: ServerProcess, frame: str | bytes) -> None:
    async with polling(server.url) as client:
        await enter(client)
        async with bare_websocket(other_way(server, client)) as connection:
            await connection.send(frame)
            assert await closed(connection) == 4501
        await still_there(client)


async def test_a_probe_that_never_comes_ends_the_attempt_alone(server: ServerProcess) -> None:
    """The upgrade timeout of the application under test is 1 s."""
    async with polling(server.url) as client:
        await enter(client)
        async with bare_websocket(other_way(server, client)) as connection:
            assert await closed(connection) == 4501
        await still_there(client)


async def test_a_probe_that_is_given_up_may_be_made_again(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        await enter(client)
        async with bare_websocket(other_way(server, client)) as connection:
            await probe(connection)
        async with bare_websocket(other_way(server, client)) as connection:
            await probe(connection)
            assert (await client.get()).text == "6"
            await connection.send("5")
            await still_there(WebSocketClient(connection, {}))


async def test_a_session_that_ends_takes_its_probe_along(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        await enter(client)
        async with bare_websocket(other_way(server, client)) as connection:
            await probe(connection)
            await client.post("1")
            assert await closed(connection) == 1000


async def test_an_upgrade_to_a_session_that_is_over_is_refused(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        await client.post("1")
        with pytest.raises(InvalidStatus) as caught:
            async with bare_websocket(other_way(server, client)):
                pass
        assert caught.value.response.status_code == 400


async def test_the_protocol_version_cannot_change_on_the_way(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        await enter(client)
        with pytest.raises(InvalidStatus):
            async with bare_websocket(other_way(server, client).replace("EIO=4", "EIO=3")):
                pass
        await still_there(client)


async def test_a_websocket_of_its_own_is_nobodys_upgrade(server: ServerProcess, wire: Wire) -> None:
    async with wire.client(server) as client:
        await enter(client)
        url = address(server.ws_url, "websocket", query=f"&sid={client.handshake['sid']}")
        async with bare_websocket(url) as second:
            assert await closed(second) == 1008
        await still_there(client)
