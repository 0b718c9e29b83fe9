"""The server's half of ASGI, played by a test: what a wire is given, and what it hands back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from realtime import Server, socketio
from realtime.encoding.codecs import Encoded
from realtime.ports import Wire
from tests.realtime.living import settings_for

SECONDS = 5.0
Header = tuple[bytes, bytes]


def make_server(**options: Any) -> Server:
    """A server made python-socketio's way with an event ``echo`` that acknowledges its arguments."""
    settings = settings_for(**options.pop("settings", {}))
    server = socketio.AsyncServer(settings=settings, **options)

    @server.on("echo")
    async def echo(sid: str, *args: Any) -> tuple[Any, ...]:
        return args

    return server


async def until(check: Any) -> None:
    """Lets the loop turn until the check is true."""
    async with asyncio.timeout(SECONDS):
        while not check():
            turned = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(turned.set_result, None)
            await turned


class Http:
    """One HTTP request and its answer."""

    def __init__(self, method: str, query: str, *parts: bytes, headers: Sequence[Header] = ()) -> None:
        self.scope: dict[str, Any] = {
            "type": "http", "method": method, "path": "/socket.io/", "query_string": query.encode(), "scheme": "http",
            "headers": list(headers), "client": ("192.0.2.1", 50_000), "server": ("test.example", 80),
        }  # fmt: skip
        self.inbound: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for number, part in enumerate(parts or (b"",), 1):
            self.inbound.put_nowait({"type": "http.request", "body": part, "more_body": number < len(parts or (b"",))})
        self.status = 0
        self.headers: list[Header] = []
        self.body = b""
        self.done = False

    async def receive(self) -> dict[str, Any]:
        return await self.inbound.get()

    async def send(self, message: dict[str, Any]) -> None:
        assert not self.done, "after the last body"
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
        else:
            self.body += message["body"]
            self.done = not message.get("more_body")

    def leave(self) -> None:
        """The client hangs up."""
        self.inbound.put_nowait({"type": "http.disconnect"})

    def header(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]

    def serve(self, wire: Any, door: Any) -> asyncio.Task[None]:
        return asyncio.ensure_future(wire(door, self.scope, self.receive, self.send))


class Socket:
    """One WebSocket. ``reading`` is cleared for a client that reads nothing; ``broken`` raises what a server raises."""

    def __init__(self, query: str = "EIO=4&transport=websocket", extensions: Sequence[str] = ()) -> None:
        self.scope: dict[str, Any] = {
            "type": "websocket", "path": "/socket.io/", "query_string": query.encode(), "scheme": "ws", "headers": [],
            "client": ("192.0.2.1", 50_000), "server": ("test.example", 80), "subprotocols": [],
            "extensions": {name: {} for name in extensions},
        }  # fmt: skip
        self.inbound: asyncio.Queue[dict[str, Any] | Exception] = asyncio.Queue()
        self.inbound.put_nowait({"type": "websocket.connect"})
        self.sent: list[dict[str, Any]] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self.broken: Exception | None = None
        self.taken = 0
        """Messages that the wire has read."""

    async def receive(self) -> Any:
        message = await self.inbound.get()
        if isinstance(message, Exception):
            raise message
        self.taken += 1
        return message

    async def send(self, message: Any) -> None:
        if not self.reading.is_set():
            await self.reading.wait()
        if self.broken is not None:
            raise self.broken
        self.sent.append(message)

    def say(self, *frames: str | bytes) -> None:
        for frame in frames:
            key = "text" if isinstance(frame, str) else "bytes"
            self.inbound.put_nowait({"type": "websocket.receive", key: frame})

    def leave(self) -> None:
        self.inbound.put_nowait({"type": "websocket.disconnect", "code": 1001})

    @property
    def frames(self) -> list[str | bytes]:
        """What was sent to the client, the accept and the close left out."""
        sends = [each for each in self.sent if each["type"] == "websocket.send"]
        return [each["text"] if "text" in each else each["bytes"] for each in sends]

    @property
    def closed(self) -> tuple[int, str] | None:
        for each in self.sent:
            if each["type"] == "websocket.close":
                return each["code"], each["reason"]
        return None

    def serve(self, wire: Any, door: Any) -> asyncio.Task[None]:
        return asyncio.ensure_future(wire(door, self.scope, self.receive, self.send))


class Backlog:
    """Keeps the port ``Link`` with a list of what waits, and remembers what it was told."""

    def __init__(self, *waiting: Encoded) -> None:
        self.waiting = list(waiting)
        self.heard: list[str | bytes] = []
        self.losses: list[str] = []
        self.held = 0
        self.wire: Wire | None = None
        self.closed = False

    def receive(self, frame: str | bytes) -> None:
        self.heard.append(frame)

    def take(self) -> Encoded | None:
        return self.waiting.pop(0) if self.waiting else None

    def put_back(self, encoded: Encoded) -> None:
        self.waiting.insert(0, encoded)

    def hold(self) -> None:
        self.held += 1

    def close(self, code: int, text: str, reason: str) -> None:
        self.closed = True

    def broken(self, code: int, reason: str, kind: str = "bad_frame") -> None:
        self.closed = True

    def lost(self, reason: str) -> None:
        self.losses.append(reason)


async def within(work: Coroutine[Any, Any, Any] | asyncio.Future[Any]) -> Any:
    return await asyncio.wait_for(work, SECONDS)
