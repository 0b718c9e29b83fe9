"""Who is let in, what the first packet says, and how the others are turned away."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.serving import ServerProcess
from tests.wire.clients import address, bare_websocket, http_session, polling, request, within
from tests.wire.servers import QUICK, SOCKETS, USUAL, WIRES, Servers, Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio]

UNKNOWN_TRANSPORT = {"code": 0, "message": "Transport unknown"}
UNKNOWN_SID = {"code": 1, "message": "Session ID unknown"}
BAD_METHOD = {"code": 2, "message": "Bad handshake method"}
BAD_REQUEST = {"code": 3, "message": "Bad request"}
UNSUPPORTED = {"code": 5, "message": "Unsupported protocol version"}


@pytest.mark.parametrize(("ping", "interval", "timeout"), [(QUICK, 300, 200), (USUAL, 25_000, 20_000)])
@pytest.mark.parametrize("wire", WIRES, ids=str)
async def test_the_handshake_says_exactly_this(
    servers: Servers, wire: Wire, ping: str, interval: int, timeout: int
) -> None:
    async with wire.client(servers.get(wire, ping)) as client:
        told = dict(client.handshake)
        assert len(told.pop("sid")) >= 20
        assert told == {
            "upgrades": ["websocket"] if wire.polling else [],
            "pingInterval": interval,
            "pingTimeout": timeout,
            "maxPayload": 1_000_000,
        }


async def test_a_polling_handshake_is_plain_text_that_nobody_stores(servers: Servers) -> None:
    async with http_session() as http:
        answer = await request(http, "GET", address(servers.get(WIRES[0]).url, "polling"))
        assert answer.status == 200
        assert answer.headers["content-type"].lower() == "text/plain; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.hostile("A23", on="polling")
@pytest.mark.parametrize(
    ("method", "query", "refusal"),
    [
        ("GET", "transport=polling", UNSUPPORTED),
        ("GET", "EIO=abc&transport=polling", UNSUPPORTED),
        ("GET", "EIO=3&transport=polling", UNSUPPORTED),
        ("GET", "EIO=5&transport=polling", UNSUPPORTED),
        ("GET", "EIO=4", UNKNOWN_TRANSPORT),
        ("GET", "EIO=4&transport=abc", UNKNOWN_TRANSPORT),
        ("GET", "EIO=4&transport=", UNKNOWN_TRANSPORT),
        ("GET", "EIO=4&transport=websocket", BAD_REQUEST),
        ("GET", "EIO=4&transport=polling&j=0", BAD_REQUEST),
        ("POST", "EIO=4&transport=polling", BAD_METHOD),
        ("PUT", "EIO=4&transport=polling", BAD_METHOD),
        ("DELETE", "EIO=4&transport=polling", BAD_METHOD),
        ("GET", "EIO=4&transport=polling&sid=abc", UNKNOWN_SID),
        ("POST", "EIO=4&transport=polling&sid=abc", UNKNOWN_SID),
        ("GET", "EIO=4&transport=polling&sid=", UNKNOWN_SID),
        ("GET", "EIO=4&transport=polling&sid=__proto__", UNKNOWN_SID),
        ("GET", "EIO=4&transport=polling&sid=" + "a" * 5_000, UNKNOWN_SID),
    ],
)
async def test_a_refusal_over_http_has_engine_ios_own_json(
    servers: Servers, method: str, query: str, refusal: dict[str, Any]
) -> None:
    async with http_session() as http:
        answer = await request(http, method, f"{servers.get(WIRES[0]).url}/socket.io/?{query}")
        assert (answer.status, answer.json) == (400, refusal)
        assert answer.headers["content-type"] == "application/json"


async def test_another_method_for_a_session_that_exists(servers: Servers) -> None:
    async with polling(servers.get(WIRES[0]).url) as client:
        answer = await request(client.http, "PUT", client.url)
        assert (answer.status, answer.json) == (400, BAD_METHOD)
        assert (await client.post("40")).status == 200, "the session is not touched"


@pytest.mark.parametrize(
    ("query", "refusal"),
    [
        ("transport=websocket", UNSUPPORTED),
        ("EIO=abc&transport=websocket", UNSUPPORTED),
        ("EIO=3&transport=websocket", UNSUPPORTED),
        ("EIO=4", UNKNOWN_TRANSPORT),
        ("EIO=4&transport=abc", UNKNOWN_TRANSPORT),
        ("EIO=4&transport=polling", BAD_REQUEST),
        ("EIO=4&transport=websocket&sid=abc", UNKNOWN_SID),
    ],
)
@pytest.mark.parametrize("wire", SOCKETS, ids=str)
async def test_a_websocket_is_refused_before_it_is_one(
    server: ServerProcess, wire: Wire, query: str, refusal: dict[str, Any]
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with bare_websocket(f"{server.ws_url}/socket.io/?{query}"):
            pass
    assert caught.value.response.status_code == 400
    assert json.loads(caught.value.response.body or b"") == refusal


@pytest.mark.parametrize("wire", WIRES, ids=str)
async def test_sids_differ(server: ServerProcess, wire: Wire) -> None:
    async with wire.client(server) as one, wire.client(server) as other:
        assert one.handshake["sid"] != other.handshake["sid"]


async def test_a_preflight_is_answered_with_the_cors_headers(servers: Servers) -> None:
    async with http_session() as http:
        asked = {
            "Origin": "https://page.example",
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "x-token",
        }
        answer = await request(http, "OPTIONS", address(servers.get(WIRES[0]).url, "polling"), headers=asked)
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["access-control-allow-origin"] in ("*", "https://page.example")
        assert "x-token" in answer.headers["access-control-allow-headers"]
        for method in ("GET", "POST"):
            assert method in answer.headers["access-control-allow-methods"]


async def test_every_answer_to_a_page_has_the_cors_header_once(servers: Servers) -> None:
    origin = {"Origin": "https://page.example"}
    async with polling(servers.get(WIRES[0]).url) as client:
        for method, url, body in [
            ("GET", address(servers.get(WIRES[0]).url, "polling"), None),
            ("POST", client.url, "40"),
            ("GET", client.url, None),
            ("GET", client.url.replace("sid=", "sid=not-"), None),
        ]:
            answer = await request(client.http, method, url, body, origin)
            assert answer.headers["access-control-allow-origin"] in ("*", "https://page.example")


@pytest.mark.hostile("C1", on="fast, websocket, wsproto, polling")
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"])
async def test_a_foreign_origin_is_refused_on_every_wire(servers: Servers, origin: str) -> None:
    server = servers.get(WIRES[0])
    async with http_session() as http:
        answer = await request(http, "GET", address(server.url, "polling", "/strict/"), headers={"Origin": origin})
        assert answer.status == 403
        assert answer.json["code"] == 4
        assert "access-control-allow-origin" not in answer.headers
    for wire in SOCKETS:
        with pytest.raises(InvalidStatus) as caught:
            async with bare_websocket(address(servers.get(wire).ws_url, "websocket", "/strict/"), {"Origin": origin}):
                pass
        assert caught.value.response.status_code == 403


@pytest.mark.parametrize("wire", SOCKETS, ids=str)
async def test_the_own_origin_is_let_in(server: ServerProcess, wire: Wire) -> None:
    async with bare_websocket(address(server.ws_url, "websocket", "/strict/"), {"Origin": server.url}) as connection:
        first = await within(connection.recv())
        assert str(first).startswith('0{"sid":')


@pytest.mark.hostile("A18")
@pytest.mark.parametrize("wire", WIRES, ids=str)
async def test_without_a_connect_packet_the_session_ends(server: ServerProcess, wire: Wire) -> None:
    """The connect timeout of the application under test is 1 s."""
    async with wire.client(server) as client:
        if wire.polling:
            answer = await client.get()
            assert (answer.status, answer.text) == (200, "1")
            assert (await client.get()).json == UNKNOWN_SID
        else:
            with pytest.raises(ConnectionClosed):
                await within(client.websocket.recv())
            assert client.websocket.close_code == 1008
