"""Upgrades that are never finished, begun twice, or begun where there is nothing: polling goes on."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.hostile.ground import ground
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

pytestmark = [pytest.mark.process, pytest.mark.asyncio, pytest.mark.hostile("A19")]


@pytest.fixture(params=SOCKETS, ids=str)
def wire(request: pytest.FixtureRequest) -> Wire:
    found: Wire = request.param
    return found


def way_up(server: ServerProcess, client: PollingClient) -> str:
    return address(server.ws_url, "websocket", query=f"&sid={client.handshake['sid']}")


async def closed(connection: ClientConnection) -> bool:
    """It ends, whatever comes before."""
    try:
        while True:
            await within(connection.recv())
    except ConnectionClosed:
        return True


@pytest.mark.parametrize(
    "frames",
    [[], ["2probe"], ["5"], ["2"], ["probe"], ['42["message"]'], ["1"], [b"2probe"], ["2probe", '42["message"]']],
)
async def test_an_upgrade_that_is_not_finished_ends_alone(
    server: ServerProcess, wire: Wire, frames: list[str | bytes]
) -> None:
    """The upgrade timeout of the application under test is 1 s; meanwhile and afterwards polling works."""
    async with ground(server, "message"), polling(server.url) as client:
        await enter(client)
        async with bare_websocket(way_up(server, client)) as connection:
            for frame in frames:
                await connection.send(frame)
            assert await closed(connection)
        await client.post('42["message","still there?"]')
        answer = await client.receive()
        assert answer == '42["message-back","still there?"]' or answer == "6", "a noop that let go of a poll"
        if answer == "6":
            assert await client.receive() == '42["message-back","still there?"]'


async def test_of_many_upgrades_at_once_one_succeeds(server: ServerProcess, wire: Wire) -> None:
    async with ground(server, "message"), polling(server.url) as client:
        await enter(client)

        async def attempt() -> bool:
            async with bare_websocket(way_up(server, client)) as connection:
                try:
                    await connection.send("2probe")
                    assert await within(connection.recv()) == "3probe"
                except ConnectionClosed:
                    return False
                assert (await client.get()).text == "6"
                await connection.send("5")
                await still_there(WebSocketClient(connection, {}))
                return True

        assert sum(await asyncio.gather(*(attempt() for _ in range(10)))) == 1


@pytest.mark.parametrize("change", ["over", "EIO=3", "nobody"])
async def test_an_upgrade_to_what_is_not_there_is_refused(server: ServerProcess, wire: Wire, change: str) -> None:
    async with ground(server, "message"), polling(server.url) as client:
        await enter(client)
        url = way_up(server, client)
        if change == "over":
            await client.post("1")
        url = url.replace("EIO=4", "EIO=3") if change == "EIO=3" else url
        url = url[:-1] if change == "nobody" else url
        with pytest.raises(InvalidStatus) as caught:
            async with bare_websocket(url):
                pass
        assert caught.value.response.status_code == 400
        if change != "over":
            await still_there(client)


async def test_a_client_that_is_cut_between_probe_and_upgrade(server: ServerProcess, wire: Wire) -> None:
    async with ground(server, "message"), polling(server.url) as client:
        await enter(client)
        for _ in range(20):
            async with bare_websocket(way_up(server, client)) as connection:
                await connection.send("2probe")
                assert await within(connection.recv()) in ("3probe", "6")
                connection.transport.abort()
        await client.post('42["message","still there?"]')
        while (answer := await client.receive()) == "6":
            pass
        assert answer == '42["message-back","still there?"]'
