"""What a server is told about a connection, and who may make one."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.behaviour.stage import CONNECT, POLLING, WIRES, Wire, new_server, stage
from tests.wire.clients import address, bare_websocket, http_session, request

pytestmark = pytest.mark.asyncio

PAGE = "https://page.example"


async def test_the_query_of_the_connection_can_be_seen(wire: Wire) -> None:
    sio = new_server()
    async with stage(sio, wire) as here:
        guest = await here.guest(query="&key1=1&key2=2")
        environ = sio.get_environ(guest.sid)
        assert environ is not None
        query = parse_qs(environ["QUERY_STRING"])
        assert (query["key1"], query["key2"], query["EIO"]) == (["1"], ["2"], ["4"])


async def test_each_namespace_has_an_auth_of_its_own_and_the_query_of_its_connection(wire: Wire) -> None:
    sio, told = new_server(), []

    def come(sid: str, environ: dict[str, Any], auth: Any) -> None:
        told.append((auth, parse_qs(environ["QUERY_STRING"])))

    sio.on("connect", come)
    sio.on("connect", come, namespace="/connection2")
    async with stage(sio, wire) as here:
        guest = await here.guest()
        answer = await guest.connect("/connection2", auth={"key1": "aa", "key2": "&=bb"})
        assert answer.kind == CONNECT
        (first, query), (second, same) = told
        assert (first, second) == (None, {"key1": "aa", "key2": "&=bb"})
        assert query == same
        assert "key1" not in same


@pytest.mark.parametrize("let_in", [True, False])
async def test_a_function_of_the_application_decides_who_comes_in(let_in: bool) -> None:
    asked: list[str] = []

    def decide(origin: str, environ: dict[str, Any]) -> bool:
        asked.append(environ["PATH_INFO"])
        return let_in

    async with stage(new_server(cors_allowed_origins=decide), POLLING) as here, http_session() as http:
        answer = await request(http, "GET", address(here.url, "polling"), headers={"origin": PAGE})
        assert answer.status == (200 if let_in else 403)
        assert ("access-control-allow-origin" in answer.headers) is let_in
        assert asked


@pytest.mark.parametrize("wire", WIRES[:2], ids=str)
async def test_so_it_does_over_websocket(wire: Wire) -> None:
    def decide(origin: str) -> bool:
        return origin == PAGE

    async with stage(new_server(cors_allowed_origins=decide), wire) as here:
        url = address(here.url.replace("http", "ws", 1), "websocket")
        async with bare_websocket(url, {"origin": PAGE}) as websocket:
            assert str(await websocket.recv()).startswith("0{")
        with pytest.raises(Exception, match="HTTP 403"):
            async with bare_websocket(url, {"origin": "https://evil.example"}):
                raise AssertionError("let in")
