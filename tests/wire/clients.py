"""Raw clients: Engine.IO frames as they are, over WebSocket and over polling, with nothing done behind one's back.

Both speak the same words, so that one test runs on every wire. Nothing waits without an end.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

SECONDS = 5.0
"""For anything that happens on the loopback address of a busy machine."""
SEPARATOR = "\x1e"

Frame = str | bytes
Result = TypeVar("Result")


async def within(work: Awaitable[Result], seconds: float = SECONDS) -> Result:
    return await asyncio.wait_for(work, seconds)


class Gone(Exception):
    """The server has ended the connection: with a close code on a WebSocket, an HTTP status on polling."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Client(Protocol):
    """One Engine.IO session."""

    handshake: dict[str, Any]

    async def send(self, *frames: Frame) -> None:
        """Say this; a refusal shows in what comes next."""

    async def receive(self) -> Frame:
        """The next frame. Raises Gone."""

    async def leave(self) -> None:
        """Go without a word."""


class WebSocketClient:
    def __init__(self, websocket: ClientConnection, handshake: dict[str, Any]) -> None:
        self.websocket = websocket
        self.handshake = handshake

    async def send(self, *frames: Frame) -> None:
        try:
            for frame in frames:
                await within(self.websocket.send(frame))
        except ConnectionClosed:
            pass

    async def receive(self) -> Frame:
        try:
            return await within(self.websocket.recv())
        except ConnectionClosed:
            raise Gone(self.websocket.close_code or 1006, self.websocket.close_reason or "") from None

    async def leave(self) -> None:
        self.websocket.transport.abort()
        await within(self.websocket.wait_closed())


@dataclass
class Answer:
    """An HTTP answer, read whole. Names of headers are in lower case; what came twice is joined with a comma."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class PollingClient:
    def __init__(self, http: aiohttp.ClientSession, url: str, handshake: dict[str, Any]) -> None:
        self.http = http
        self.url = f"{url}&sid={handshake['sid']}"
        self.handshake = handshake
        self._frames: deque[Frame] = deque()

    async def get(self) -> Answer:
        return await request(self.http, "GET", self.url)

    async def post(self, body: str | bytes) -> Answer:
        return await request(self.http, "POST", self.url, body)

    async def send(self, *frames: Frame) -> None:
        await self.post(join(*frames))

    async def receive(self) -> Frame:
        if not self._frames:
            answer = await self.get()
            if answer.status != 200:
                raise Gone(answer.status, answer.text)
            self._frames.extend(split(answer.text))
        return self._frames.popleft()

    async def leave(self) -> None:
        """Polling has no other way to be gone at once than to give up a pending poll."""
        poll = asyncio.ensure_future(self.http.get(self.url))
        await within(self._reached_server())
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)

    async def _reached_server(self) -> None:
        """What is sent after the poll has been answered after it: both go to one process over the loopback."""
        await self.post("6")
        await self.post("6")


def join(*frames: Frame) -> str:
    return SEPARATOR.join(
        frame if isinstance(frame, str) else "b" + base64.b64encode(frame).decode() for frame in frames
    )


def split(body: str) -> list[Frame]:
    return [base64.b64decode(part[1:]) if part.startswith("b") else part for part in body.split(SEPARATOR)]


async def request(
    http: aiohttp.ClientSession,
    method: str,
    url: str,
    body: str | bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    data = None if body is None else io.BytesIO(body.encode() if isinstance(body, str) else body)

    async def ask() -> Answer:
        async with http.request(method, url, data=data, headers=headers, allow_redirects=False) as response:
            found: dict[str, str] = {}
            for name, value in response.headers.items():
                name = name.lower()
                found[name] = f"{found[name]}, {value}" if name in found else value
            return Answer(response.status, await response.read(), found)

    return await within(ask())


@asynccontextmanager
async def http_session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=True) as http:
        yield http


def address(base: str, transport: str, path: str = "/socket.io/", query: str = "") -> str:
    return f"{base}{path}?EIO=4&transport={transport}{query}"


@asynccontextmanager
async def websocket(ws_url: str, path: str = "/socket.io/", query: str = "") -> AsyncIterator[WebSocketClient]:
    """``ws_url`` is the server's: ``ws://127.0.0.1:port``."""
    async with bare_websocket(address(ws_url, "websocket", path, query)) as connection:
        first = await within(connection.recv())
        assert isinstance(first, str)
        assert first[0] == "0", first
        yield WebSocketClient(connection, json.loads(first[1:]))


@asynccontextmanager
async def bare_websocket(url: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[ClientConnection]:
    async with connect(
        url,
        ping_interval=None,
        max_size=None,
        compression=None,
        proxy=None,
        close_timeout=SECONDS,
        open_timeout=SECONDS,
        additional_headers=headers,
    ) as connection:
        yield connection


@asynccontextmanager
async def polling(url: str, path: str = "/socket.io/", query: str = "") -> AsyncIterator[PollingClient]:
    async with http_session() as http:
        place = address(url, "polling", path, query)
        opened = await request(http, "GET", place)
        assert opened.status == 200, opened
        assert opened.text[0] == "0", opened.text
        client = PollingClient(http, place, json.loads(opened.text[1:]))
        try:
            yield client
        finally:
            await client.post("1")  # who only stops asking is there until the ping timeout


# ── Socket.IO on top ─────────────────────────────────────────────────────────────────────────────


def head(namespace: str) -> str:
    return "" if namespace == "/" else f"{namespace},"


async def enter(client: Client, namespace: str = "/", auth: Any = None) -> str:
    """CONNECT, and the sid of the answer; the greeting that follows it is read too where there is one."""
    await client.send(f"40{head(namespace)}{'' if auth is None else json.dumps(auth)}")
    answer = await client.receive()
    assert isinstance(answer, str)
    assert answer.startswith(f"40{head(namespace)}{{"), answer
    greeting = await client.receive()
    assert str(greeting).startswith(f"42{head(namespace)}["), greeting
    return str(json.loads(answer[2 + len(head(namespace)) :])["sid"])


async def ended(client: Client) -> Gone:
    """Reads on until the connection has ended; AssertionError when it has not in time."""
    try:
        while True:
            await client.receive()
    except Gone as gone:
        return gone
    except TimeoutError:
        raise AssertionError("the connection is still there") from None


async def still_there(client: Client) -> None:
    """The session is alive and served: an event is answered with its echo, and nothing came before it."""
    await client.send('42["message","still there?"]')
    assert await client.receive() == '42["message-back","still there?"]'
