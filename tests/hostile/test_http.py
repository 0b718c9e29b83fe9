"""Requests that no client of ours would make: over HTTP, and before a WebSocket is one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.hostile.ground import ground
from tests.serving import ServerProcess
from tests.wire.clients import Answer, PollingClient, enter, http_session, polling, request, within
from tests.wire.servers import SOCKETS, Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio]

POLL = "/socket.io/?EIO=4&transport=polling"
SOCKET = "/socket.io/?EIO=4&transport=websocket"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="


@pytest.fixture(params=SOCKETS, ids=str)
def wire(request: pytest.FixtureRequest) -> Wire:
    """Every server there is; polling is the same code on each."""
    found: Wire = request.param
    return found


@asynccontextmanager
async def line(server: ServerProcess) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A TCP connection, to write bytes that no HTTP client would."""
    reader, writer = await within(asyncio.open_connection("127.0.0.1", server.port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def say(server: ServerProcess, text: str, whole: bool = False) -> bytes:
    """The beginning of the answer, or all that comes; empty when the server hangs up."""
    async with line(server) as (reader, writer):
        writer.write(text.encode("latin-1"))
        try:
            return await within(reader.read(-1 if whole else 65_536))
        except ConnectionResetError:
            return b""


async def polled(server: ServerProcess, target: str, *headers: str) -> bytes:
    """The answer to a GET. A session that it opened is ended: that such a one ends by itself is shown once, below."""
    answer = await say(server, get(target, *headers, "Connection: close"), whole=True)
    if b'\r\n\r\n0{"sid":"' in answer:
        sid = answer.partition(b'"sid":"')[2].partition(b'"')[0].decode()
        async with http_session() as http:
            assert (await request(http, "POST", f"{server.url}{POLL}&sid={sid}", "1")).text == "ok"
    return answer


NOT_OURS = -1
"""Those of uvicorn have ways of their own with a request that breaks the rules (one leaves it unanswered): there it is
enough that nothing stays behind once the client is gone."""


async def upgrade_status(server: ServerProcess, wire: Wire, text: str) -> int:
    """Ask for a WebSocket: the status of the answer, or NOT_OURS without waiting for one."""
    if wire.name == "fast":
        return status(await say(server, text))
    async with line(server) as (_, writer):
        writer.write(text.encode("latin-1"))
        await within(writer.drain())
    return NOT_OURS


def get(target: str, *headers: str) -> str:
    return "\r\n".join((f"GET {target} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""))


def post(client: PollingClient, server: ServerProcess, header: str) -> str:
    """The head of a POST in this client's session."""
    return f"POST {client.url.removeprefix(server.url)} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\n\r\n"


def upgrade(*headers: str, key: str = KEY, version: str = "13") -> str:
    return get(SOCKET, "Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Version: {version}", key, *headers)


def status(answer: bytes) -> int:
    """0 where the server hung up without a word."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


@pytest.mark.hostile("C2")
@pytest.mark.parametrize(
    "key",
    ["X: y", "Sec-WebSocket-Key: short", "Sec-WebSocket-Key: ", f"{KEY}\r\n{KEY}", "Sec-WebSocket-Key: " + "A" * 9_000],
)
async def test_a_bad_websocket_key(server: ServerProcess, wire: Wire, key: str) -> None:
    async with ground(server):
        for _ in range(20):
            assert await upgrade_status(server, wire, upgrade(key=key)) in (NOT_OURS, 400)


@pytest.mark.hostile("C2")
@pytest.mark.parametrize("version", ["", "12", "99", "13, 12"])
async def test_a_bad_websocket_version(server: ServerProcess, wire: Wire, version: str) -> None:
    async with ground(server):
        assert await upgrade_status(server, wire, upgrade(version=version)) in (NOT_OURS, 400, 426)


@pytest.mark.hostile("C3", "C4", "C5", on="HTTP")
@pytest.mark.parametrize(
    "header",
    [
        "Sec-WebSocket-Protocol: " + "a" * 100_000,
        "Sec-WebSocket-Protocol: " + ", ".join(f"p{number}" for number in range(8_000)),
        "Sec-WebSocket-Protocol: \xff\xfe",
        "Sec-WebSocket-Protocol: a\x0bb",
        "X-Long: " + "a" * 70_000,
        "X-Odd: a\x0bb",
        "X-Odd: a\x0cb",
        "X-Odd: a\x85b",
        "X-Odd: a\x00b",
        "Cookie: " + "a=b; " * 5_000,
    ],
    ids=lambda header: str(header)[:30],
)
async def test_an_odd_header(server: ServerProcess, wire: Wire, header: str) -> None:
    """Refused or taken, and in neither case more than that."""
    async with ground(server):
        assert await upgrade_status(server, wire, upgrade(header)) in (NOT_OURS, 0, 101, 400, 431)
        assert status(await polled(server, POLL, header)) in (0, 200, 400, 431)


@pytest.mark.hostile("C4", on="HTTP")
async def test_two_hundred_headers(server: ServerProcess, wire: Wire) -> None:
    headers = [f"X-Header-{number}: {number}" for number in range(200)]
    async with ground(server):
        assert await upgrade_status(server, wire, upgrade(*headers)) in (NOT_OURS, 101, 400, 431)
        assert status(await polled(server, POLL, *headers)) in (200, 400, 431)


@pytest.mark.hostile("C6", on="HTTP")
@pytest.mark.parametrize(
    "text",
    [
        "G",
        "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        "POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n40",
        upgrade()[:-2],
    ],
)
async def test_half_a_request_held_open(server: ServerProcess, text: str) -> None:
    async with ground(server) as field, line(server) as (_, writer):
        writer.write(text.encode())
        await within(writer.drain())
        await field.bystander_is_served()
        assert await field.ran("message") == 1, "the bystander's"


@pytest.mark.hostile("A21", on="polling")
async def test_a_post_that_ends_half_way(server: ServerProcess) -> None:
    async with ground(server), polling(server.url) as client:
        await enter(client)
        text = post(client, server, "Content-Length: 1000") + '42["message"]'
        async with line(server) as (_, writer):
            writer.write(text.encode())
            await within(writer.drain())
        # Nothing of it was taken; the next one is a post like any other, once the server has seen the first one end.
        posted = await client.post("6")
        assert posted.status in (200, 400)


@pytest.mark.hostile("A21", on="polling")
async def test_a_post_that_announces_too_much_is_not_read(server: ServerProcess) -> None:
    async with ground(server), polling(server.url) as client:
        await enter(client)
        head = post(client, server, "Content-Length: 1000000000000")
        async with line(server) as (reader, writer):
            writer.write(head.encode() + b"4" * 1_100_000)
            answer = await within(reader.read(1_000))
        assert status(answer) == 413
        assert (await client.get()).status == 400


@pytest.mark.hostile("A21", on="polling")
async def test_a_body_in_chunks_is_counted_as_well(server: ServerProcess) -> None:
    async with ground(server), polling(server.url) as client:
        await enter(client)
        head = post(client, server, "Transfer-Encoding: chunked")
        async with line(server) as (reader, writer):
            writer.write(head.encode())
            for _ in range(11):
                writer.write(b"186a0\r\n" + b"4" * 100_000 + b"\r\n")
            answer = await within(reader.read(1_000))
        assert status(answer) == 413


@pytest.mark.hostile("C9", on="HTTP")
@pytest.mark.parametrize(
    "target",
    [
        "/socket.io/../../../../etc/passwd?EIO=4&transport=polling",
        "/socket.io/%2e%2e/%2e%2e/etc/passwd?EIO=4&transport=polling",
        "/strict/../../etc/passwd",
        "/strict/%2e%2e%2f%2e%2e%2fetc/passwd",
        "/strict/socket.io.esm.min.js/../../app.py",
        "/strict//etc/passwd",
    ],
)
async def test_a_path_that_climbs(server: ServerProcess, target: str) -> None:
    async with ground(server):
        assert b"root:" not in await polled(server, target)


@pytest.mark.hostile("C8", on="HTTP")
@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"])
async def test_other_methods(server: ServerProcess, method: str) -> None:
    async with ground(server), http_session() as http:
        answer: Answer = await request(http, method, server.url + POLL)
        assert answer.status == 400


@pytest.mark.hostile("C1", on="polling")
@pytest.mark.parametrize(
    "origin",
    ["null", "https://evil.example", "http://127.0.0.1.evil.example", "HTTP://EVIL.EXAMPLE", "x", "http://", "://"],
)
async def test_a_foreign_origin_even_where_a_proxy_header_repeats_it(server: ServerProcess, origin: str) -> None:
    forwarded = origin.rpartition("/")[2] or origin
    headers = (f"Origin: {origin}", f"X-Forwarded-Host: {forwarded}", f"Forwarded: host={forwarded}")
    async with ground(server):
        answer = await say(server, get(POLL.replace("/socket.io/", "/strict/"), *headers, "Connection: close"))
        assert status(answer) == 403
        answer = await say(server, upgrade(*headers).replace("/socket.io/", "/strict/"))
        assert status(answer) == 403


@pytest.mark.hostile("A23", on="polling")
async def test_many_refused_handshakes(server: ServerProcess) -> None:
    async with ground(server), http_session() as http:
        for _ in range(10):
            answers = await asyncio.gather(
                *(request(http, "GET", f"{server.url}{POLL}&sid={number}") for number in range(20))
            )
            assert {answer.status for answer in answers} == {400}


@pytest.mark.hostile("A18", on="polling")
async def test_handshakes_that_nobody_follows_up(server: ServerProcess) -> None:
    """They are gone after the connect timeout: 1 s in the application under test."""
    async with ground(server), http_session() as http:
        for _ in range(50):
            assert (await request(http, "GET", server.url + POLL)).status == 200


@pytest.mark.hostile("C8", on="HTTP")
@pytest.mark.parametrize("query", ["", "&" * 2_000, "&a=b" * 2_000, "&%ff%fe=%00", "&EIO=3", "&transport=websocket"])
async def test_an_odd_query(server: ServerProcess, query: str) -> None:
    """The first of a parameter that comes twice is the one that counts."""
    async with ground(server), http_session() as http:
        answer = await request(http, "GET", f"{server.url}{POLL}{query}")
        assert answer.status == 200
        sid = answer.text.split('"')[3]
        assert (await request(http, "POST", f"{server.url}{POLL}&sid={sid}", "1")).text == "ok"
