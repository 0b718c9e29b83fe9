"""Handshakes without end from one address, a handler that holds the loop, descriptors that are used up."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.hostile.ground import ground
from tests.hostile.houses import APPLICATION, HOUSE_WIRES, QUICK, Houses, ask, come_in
from tests.hostile.test_crowds import watched
from tests.hostile.test_http import KEY, line, status, upgrade
from tests.serving import ServerProcess, fetch
from tests.wire.clients import address, bare_websocket, enter, http_session, request, still_there, websocket, within
from tests.wire.servers import SOCKETS, Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio]

PER_MINUTE = 20
LIMITED = {
    "REALTIME_HANDSHAKES_PER_MINUTE_PER_ADDRESS": str(PER_MINUTE),
    "REALTIME_TRUSTED_PROXIES": "127.0.0.1",
}
PORTS = [wire for wire in HOUSE_WIRES if not wire.polling]


@pytest.fixture(params=HOUSE_WIRES, ids=str)
def wire(request: pytest.FixtureRequest) -> Wire:
    found: Wire = request.param
    return found


async def knock(server: ServerProcess, wire: Wire, address_of: str | None) -> int:
    """The status of a handshake that a proxy says is from this address."""
    headers = {"X-Forwarded-For": address_of} if address_of else {}
    if wire.polling:
        async with http_session() as http:
            return (await request(http, "GET", address(server.url, "polling"), headers=headers)).status
    try:
        async with bare_websocket(address(server.ws_url, "websocket"), headers):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


@pytest.mark.hostile("C7")
async def test_a_thousand_handshakes_from_one_address(houses: Houses, wire: Wire) -> None:
    """This machine itself and other addresses come in meanwhile."""
    server = houses.get(wire, **LIMITED)
    one, other = {"fast": ("192.0.2.1", "192.0.2.2"), "websocket": ("192.0.2.3", "192.0.2.4")}.get(
        wire.name, ("192.0.2.5", "192.0.2.6")
    )
    async with ground(server):
        found: list[int] = []
        for _ in range(20):
            found += await asyncio.gather(*(knock(server, wire, one) for _ in range(50)))
        let_in = len(found) - found.count(429)
        assert set(found) == {429, 200 if wire.polling else 101}
        assert PER_MINUTE <= let_in < 2 * PER_MINUTE, "as many as a minute may have, and who waited for the next"
        assert await knock(server, wire, other) in (101, 200)
        assert await knock(server, wire, None) in (101, 200)


PLAIN = ["/ws/notify/orders", "/ws/rooms/notify/orders", "/ws/chat/ann"]
STREAM = "/notify/orders/events"


async def knock_plainly(server: ServerProcess, path: str, address_of: str | None) -> tuple[int, str]:
    """The status of a plain WebSocket or an event stream, and what ``retry-after`` says."""
    headers = {"X-Forwarded-For": address_of} if address_of else {}
    if path == STREAM:
        async with http_session() as http, http.get(server.url + path, headers=headers) as answer:
            return answer.status, answer.headers.get("retry-after", "")
    try:
        async with bare_websocket(server.ws_url + path, headers):
            return 101, ""
    except InvalidStatus as error:
        return error.response.status_code, error.response.headers.get("retry-after", "")


@pytest.mark.hostile("C7", on="plain, SSE")
@pytest.mark.parametrize("wire", PORTS, ids=str)
async def test_plain_routes_and_event_streams_count_with_all_others(houses: Houses, wire: Wire) -> None:
    """One count for an address, whatever it knocks with; a client of Socket.IO spends it as well."""
    server = houses.get(wire, **LIMITED)
    one, other = {"fast": ("192.0.2.7", "192.0.2.8")}.get(wire.name, ("192.0.2.9", "192.0.2.10"))
    paths = [*PLAIN, STREAM]
    async with ground(server) as field:
        assert await knock(server, wire, one) == 101
        found = [await knock_plainly(server, paths[number % 4], one) for number in range(PER_MINUTE - 1)]
        assert {status for status, _ in found} == {101, 200}
        for path in paths * 5:
            refused, wait = await knock_plainly(server, path, one)
            assert (refused, 0 < int(wait) <= 60) == (429, True)
        assert await knock(server, wire, one) == 429
        await field.bystander_is_served()
        for path in paths:
            assert (await knock_plainly(server, path, other))[0] in (101, 200)
            for _ in range(PER_MINUTE + 1):
                assert (await knock_plainly(server, path, None))[0] in (101, 200)
        metrics = (await asyncio.to_thread(fetch, server.url + "/metrics"))[1].decode()
        assert 'realtime_handshakes_refused_total{reason="address_limit"}' in metrics
    assert "Traceback" not in server.output()
    assert 0 < server.output().count("refused, address_limit: ") <= 4, "a line a minute at most"


@pytest.mark.hostile("H6")
async def test_a_handler_that_holds_the_loop_is_measured_and_told(house: ServerProcess, wire: Wire) -> None:
    async with ground(house, "block", "message", "/echo echo") as field, wire.client(house) as client:
        await come_in(client, "/echo")
        await client.send("40")
        while not str(await client.receive()).startswith("42["):
            pass
        told = house.output().count("the event loop stood still for")
        await client.send('42["block",2]')
        await still_there(field.bystander)
        await asyncio.to_thread(house.until, lambda: house.output().count("the event loop stood still for") > told)
        assert await ask(client, "/echo", "echo", "after it") == "after it"
        metrics = (await asyncio.to_thread(fetch, house.url + "/metrics"))[1].decode()
        assert "realtime_loop_lag_seconds" in metrics


SMALL = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
"""
ASYNCIO = Wire("websocket", "asyncio")
"""uvicorn as it comes, on the loop of the standard library: it has another way with descriptors that are used up."""
USED_UP = "no file descriptors are left"
BACK = "there are file descriptors again"


def with_few_descriptors(folder: Path, wire: Wire) -> ServerProcess:
    serve = ["realtime", "serve", APPLICATION, "--port", "{port}", "--wire", wire.websocket_class]
    if wire is ASYNCIO:
        serve = ["uvicorn", APPLICATION, "--port", "{port}", "--loop", "asyncio", "--ws", "websockets-sansio"]
    env = QUICK | {"REALTIME_CONNECT_TIMEOUT_SECONDS": "30"}
    return ServerProcess(folder, command=[sys.executable, "-c", SMALL, *serve], env=env)


def told(server: ServerProcess, what: str) -> int:
    return server.output().count(what)


@pytest.mark.hostile("H8")
@pytest.mark.parametrize("wire", [*PORTS, ASYNCIO], ids=["fast", "websocket", "asyncio"])
async def test_descriptors_that_are_used_up(tmp_path: Path, wire: Wire) -> None:
    """Who is connected is served; it is told once, whoever knocks; when some are free again, others come in again."""
    with with_few_descriptors(tmp_path, wire) as server:
        async with ground(server, "message") as field:
            with ExitStack() as many:
                for _ in range(200):
                    many.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))
                for _ in range(20):
                    await field.bystander_is_served()
                with pytest.raises((OSError, TimeoutError)):
                    await asyncio.to_thread(fetch, server.url + "/health/live", 1)
                await field.bystander_is_served()
                await asyncio.to_thread(server.until, lambda: told(server, USED_UP))
            await asyncio.to_thread(server.until, server.is_ready, 20)
            await asyncio.to_thread(server.until, lambda: told(server, BACK))
            async with websocket(server.ws_url) as another:
                await enter(another)
                await still_there(another)
            metrics = (await asyncio.to_thread(fetch, server.url + "/metrics"))[1].decode()
        assert re.search(r"^realtime_descriptors_used_up_total [1-9]", metrics, re.MULTILINE)
        assert (told(server, USED_UP), told(server, BACK)) == (1, 1)
        assert (told(server, "Traceback"), told(server, "out of system resource")) == (0, 0)


@pytest.mark.hostile("C2")
@pytest.mark.parametrize("wire", SOCKETS, ids=str)
async def test_ten_thousand_bad_keys(server: ServerProcess, wire: Wire) -> None:
    """wsproto takes any key that is there, so it gets none."""
    asked = upgrade(key="X: y" if wire.name == "wsproto" else KEY[:-3]).encode()

    async def knock_often(times: int) -> None:
        for _ in range(times):
            async with line(server) as (reader, writer):
                writer.write(asked)
                assert status(await within(reader.read(1_000))) == 400

    async with ground(server) as field:
        await watched(field, asyncio.gather(*(knock_often(500) for _ in range(20))))
