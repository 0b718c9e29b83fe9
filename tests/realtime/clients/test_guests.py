"""Plain WebSockets and event streams on an author's own routes, over a real uvicorn."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from fastapi import FastAPI, Request, WebSocket
from starlette.exceptions import WebSocketException
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from realtime import AccessError, CloseCode, Namespace, Realtime, Socket
from realtime.names import Reason
from tests.end_to_end.clients import socket_io
from tests.realtime.living import SECONDS, living, settings_for, within


class Author:
    """An author's application with one plain route, one stream, and a log of who came and went."""

    def __init__(self, **settings: Any) -> None:
        self.app = FastAPI()
        self.realtime = Realtime(self.app, settings=settings_for(**settings))
        self.work = self.realtime.namespace("/work")
        self.log: list[Any] = []
        self.left = asyncio.Event()
        self.work.hook("authorize")(self.authorize)
        self.work.hook("may_join")(self.may_join)
        self.work.hook("disconnected")(self.disconnected)
        self.app.websocket("/ws/{room}")(self.route)
        self.app.get("/events/{room}")(self.events)

    async def authorize(self, socket: Socket, auth: dict[str, str] | None = None) -> str:
        name = (auth or {}).get("name") or "guest"
        if name == "nobody":
            raise AccessError("Who are you?", code="unknown")
        return name

    async def may_join(self, room: str) -> None:
        if room == "cellar":
            raise AccessError("Not the cellar")

    async def disconnected(self, socket: Socket, reason: str) -> None:
        self.log.append((socket.user, reason, socket.rooms))
        self.left.set()

    async def route(self, websocket: WebSocket, room: str, name: str = "guest", refusal: str | None = None) -> None:
        async with self.work.raw(websocket, room, auth={"name": name}, refusal=refusal) as peer:
            async for text in peer:
                if text == "break":
                    raise RuntimeError("the secret detail")
                if text == "forbid":
                    raise WebSocketException(4321, "as I said")
                if text == "leave":
                    return
                peer.say(f"Echo: {text}")
        self.log.append("after the block")

    async def events(self, request: Request, room: str) -> Response:
        return await self.work.stream(request, room, auth={"name": "listener"})

    def is_empty(self) -> bool:
        server = self.realtime.server
        return not (server.core.sessions or server.hub.namespaces or server.hub._leaving)


@asynccontextmanager
async def serving(author: Author, **options: Any) -> AsyncIterator[str]:
    async with living(author.app, **options) as url:
        yield url.replace("http", "ws", 1)


def plain(url: str, **options: Any) -> connect:
    return connect(url, open_timeout=SECONDS, close_timeout=SECONDS, ping_interval=None, **options)


async def closed(websocket: ClientConnection) -> tuple[int, str]:
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                await websocket.recv()
    except ConnectionClosed:
        pass
    return websocket.close_code or 0, websocket.close_reason or ""


@pytest.mark.parametrize("ws", ["websockets-sansio", "wsproto", "adapters.fast:FastProtocol"])
@pytest.mark.asyncio
async def test_a_plain_client_is_in_the_room_with_everybody_else(ws: str) -> None:
    if ws == "wsproto":
        pytest.importorskip("wsproto")
    author = Author()
    async with serving(author, ws=ws) as url:
        async with (
            plain(f"{url}/ws/lobby?name=ann") as websocket,
            socket_io(url.replace("ws", "http", 1), "/work") as io,
        ):
            await websocket.send("hello")
            assert await within(websocket.recv()) == "Echo: hello"
            assert await author.work.emit("told", {"n": 1}, to="lobby") == 1
            assert await author.work.emit("all", {"n": 2}) == 2
            assert await within(websocket.recv()) == '{"event":"told","data":{"n":1}}'
            assert await within(websocket.recv()) == '{"event":"all","data":{"n":2}}'
            assert await io.until("all") == {"n": 2}
        await within(author.left.wait())
        await within(author.realtime.server.application.rest(SECONDS))
        assert ("ann", Reason.TRANSPORT_CLOSE, ("lobby",)) in author.log
        assert "after the block" in author.log


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [("leave", CloseCode.DONE, ""), ("forbid", 4321, "as I said"), ("break", CloseCode.SERVER_ERROR, "server error")],
)
@pytest.mark.asyncio
async def test_how_the_route_ends_is_how_the_connection_ends(
    text: str, code: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    author = Author()
    with caplog.at_level(logging.ERROR):
        async with serving(author) as url, plain(f"{url}/ws/lobby") as websocket:
            await websocket.send(text)
            assert await closed(websocket) == (code, reason)
            await within(author.left.wait())
            assert author.log[0] == ("guest", Reason.SERVER, ("lobby",))
            await within(author.realtime.server.application.rest(SECONDS))
            assert author.is_empty()
    assert ("the secret detail" in caplog.text) is (text == "break")
    assert ("Traceback" in caplog.text) is (text == "break")


@pytest.mark.parametrize(
    "path",
    ["/ws/lobby?name=nobody", "/ws/cellar", "/ws/user:ann", "/ws/%40ann", "/ws/%0A"],
)
@pytest.mark.asyncio
async def test_whoever_is_refused_was_never_there(path: str) -> None:
    author = Author()
    async with serving(author) as url:
        with pytest.raises(InvalidStatus) as caught:
            async with plain(url + path):
                pass
        assert caught.value.response.status_code == 403
        await within(author.realtime.server.application.rest(SECONDS))
        assert author.is_empty()


@pytest.mark.asyncio
async def test_a_foreign_page_is_refused_and_no_page_at_all_is_not() -> None:
    author = Author()
    async with serving(author) as url:
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"},
        ):
            with pytest.raises(InvalidStatus):
                async with plain(f"{url}/ws/lobby", additional_headers=headers):
                    pass
        own = url.replace("ws", "http", 1)
        for headers in ({}, {"Origin": own}, {"Origin": "http://localhost:3000"}):
            async with plain(f"{url}/ws/lobby", additional_headers=headers) as websocket:
                await websocket.send("hello")
                assert await within(websocket.recv()) == "Echo: hello"
    assert author.realtime.metrics.handshakes_refused.value("origin") == 2


@pytest.mark.asyncio
async def test_nobody_new_comes_in_while_draining() -> None:
    author = Author()
    async with serving(author) as url:
        async with plain(f"{url}/ws/lobby") as websocket:
            await within(author.realtime.drain())
            code, reason = await closed(websocket)
            assert (code, reason.startswith("retry in ")) == (CloseCode.DRAINING, True)
        with pytest.raises(InvalidStatus):
            async with plain(f"{url}/ws/lobby"):
                pass
        async with (
            aiohttp.ClientSession() as http,
            http.get(url.replace("ws", "http", 1) + "/events/lobby") as response,
        ):
            assert response.status == 500, "the author has no handler for our errors"
        assert author.is_empty()


LIMITED: Any = {"handshakes_per_minute_per_address": 1, "trusted_proxies": ["127.0.0.1"]}


@pytest.mark.parametrize("ws", ["websockets-sansio", "adapters.fast:FastProtocol"])
@pytest.mark.asyncio
async def test_too_many_handshakes_are_answered_in_http(ws: str, caplog: pytest.LogCaptureFixture) -> None:
    author = Author(**LIMITED)
    headers = {"X-Forwarded-For": "192.0.2.1"}
    async with serving(author, ws=ws, proxy_headers=False) as url, aiohttp.ClientSession() as http:
        async with plain(f"{url}/ws/lobby", additional_headers=headers) as websocket:
            with pytest.raises(InvalidStatus) as caught:
                async with plain(f"{url}/ws/lobby", additional_headers=headers):
                    pass
            answer = caught.value.response
            assert (answer.status_code, 0 < int(answer.headers["retry-after"]) <= 60) == (429, True)
            async with http.get(url.replace("ws", "http", 1) + "/events/lobby", headers=headers) as response:
                assert (response.status, 0 < int(response.headers["retry-after"]) <= 60) == (429, True)
                assert (await response.json())["code"] == "address_limit"
            await websocket.send("leave")
            await closed(websocket)
        await within(author.realtime.server.application.rest(SECONDS))
        assert author.is_empty()
    assert author.realtime.metrics.handshakes_refused.value("address_limit") == 2
    assert "Traceback" not in caplog.text


def test_too_many_handshakes_where_the_server_has_no_http_for_it() -> None:
    """Closed as others are, and with the route's own words."""
    author = Author(**LIMITED)
    client = TestClient(author.app, client=("192.0.2.1", 5))

    @author.app.websocket("/accepted")
    async def accepted(websocket: WebSocket) -> None:
        await websocket.accept()
        async with author.work.raw(websocket):
            pytest.fail("it was to be refused")

    async def without_extensions(scope: Any, receive: Any, send: Any) -> None:
        await author.app({**scope, "extensions": {}}, receive, send)

    with client.websocket_connect("/ws/lobby"):
        pass
    for path, words in (("/accepted", "Too many handshakes"), ("/ws/lobby?refusal=No", "No")):
        app = author.app if path == "/accepted" else without_extensions
        with pytest.raises(WebSocketDisconnect) as caught:  # noqa: SIM117
            with TestClient(app, client=("192.0.2.1", 5)).websocket_connect(path) as websocket:
                websocket.receive_text()
        assert (caught.value.code, caught.value.reason) == (CloseCode.POLICY, words)


def test_the_refusal_has_the_routes_own_words_under_a_plain_test_client() -> None:
    """No lifespan runs here, and each connection has a thread and an event loop of its own."""
    author = Author()
    client = TestClient(author.app)
    with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect("/ws/lobby?name=nobody"):
        pass
    assert (caught.value.code, caught.value.reason) == (CloseCode.POLICY, "Who are you?")
    with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect("/ws/lobby?name=nobody&refusal=No"):
        pass
    assert (caught.value.code, caught.value.reason) == (CloseCode.POLICY, "No")
    with client.websocket_connect("/ws/lobby") as websocket:
        websocket.send_text("hello")
        assert websocket.receive_text() == "Echo: hello"


def test_clients_on_different_loops_hear_each_other() -> None:
    author = Author()
    client = TestClient(author.app)

    @author.app.websocket("/all")
    async def everybody(websocket: WebSocket) -> None:
        async with author.work.raw(websocket) as peer:
            async for text in peer:
                await author.work.emit("said", text)

    with client.websocket_connect("/all") as one, client.websocket_connect("/all") as other:
        one.send_text("hello")
        for each in (one, other):
            assert each.receive_text() == '{"event":"said","data":"hello"}'


@pytest.mark.asyncio
async def test_an_event_stream_is_in_the_room_and_ends_with_its_client() -> None:
    author = Author()
    async with living(author.app) as url:
        async with aiohttp.ClientSession() as http:
            response = await http.get(f"{url}/events/lobby")
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            assert response.headers["cache-control"] == "no-store"
            assert await within(response.content.readline()) == b"retry: 2000\n"
            assert await author.work.emit("told", {"n": "two\nlines"}, to="lobby") == 1
            assert await author.work.emit("a\nretry: 1", to="lobby") == 1
            lines = [await within(response.content.readline()) for _ in range(7)]
            assert lines[1:] == [
                b"event: told\n", b'data: {"n":"two\\nlines"}\n', b"\n", b"event: a\\x0aretry: 1\n", b"data: null\n", b"\n"  # noqa: E501
            ]  # fmt: skip
            response.close()
        await within(author.left.wait())
        await within(author.realtime.server.application.rest(SECONDS))
        assert author.log == [("listener", Reason.TRANSPORT_CLOSE, ("lobby",))]
        assert author.is_empty()


@pytest.mark.asyncio
async def test_an_event_stream_of_a_namespace_that_keeps_what_it_says_goes_on_where_it_was() -> None:
    app = FastAPI()
    board = Realtime(app).include(Namespace("/board", recovery=True))

    @app.get("/board")
    async def stream(request: Request) -> Response:
        return await board.stream(request, "todo")

    async with living(app) as url, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(SECONDS)) as http:
        async with http.get(f"{url}/board") as response:
            assert await line_of(response, b"id: ")
            await board.emit("moved", 1, to="todo")
            last = await line_of(response, b"id: ")
            assert await line_of(response, b"data: ") == b"data: 1"
        await board.emit("moved", 2, to="todo")
        await board.emit("moved", 3, to="elsewhere")
        shown = {"Last-Event-ID": last.removeprefix(b"id: ").decode()}
        async with http.get(f"{url}/board", headers=shown) as response:
            assert await line_of(response, b"event: ") == b"event: moved"
            assert await line_of(response, b"data: ") == b"data: 2"
            assert await line_of(response, b"event: ") == b"event: resumed"
            assert await line_of(response, b"data: ") == b'data: {"recovered":true}'
        async with http.get(f"{url}/board", headers={"Last-Event-ID": "long-gone"}) as response:
            assert await line_of(response, b"data: ") == b'data: {"recovered":false,"reason":"offset"}'


async def line_of(response: aiohttp.ClientResponse, start: bytes) -> bytes:
    """The next line of a stream that begins like this."""
    async with asyncio.timeout(SECONDS):
        while not (line := await response.content.readline()).startswith(start):
            assert line, "the stream has ended"
    return line.rstrip(b"\n")


@pytest.mark.asyncio
async def test_why_a_plain_client_was_refused_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    author = Author()
    caplog.set_level(logging.INFO, "realtime")
    async with serving(author) as url:
        with pytest.raises(InvalidStatus):
            async with plain(f"{url}/ws/lobby?name=nobody&token=hidden"):
                pass
    [told] = [line for line in caplog.messages if line.startswith("refused")]
    assert told == "refused a plain client of /work: unknown, Who are you?"
