"""An ASGI server by hand: what the application is told is put into a queue, what it sends is kept in a list.

Behind the wires stands a real ``Server``, in ``House``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from realtime import Server
from tests.realtime.living import settings_for

SECONDS = 5
"""For anything that is expected to happen."""

CONNECT = {"type": "websocket.connect"}
DISCONNECT = {"type": "websocket.disconnect", "code": 1006}


class ByHand:
    """One request. ``receive`` and ``send`` are what an application is called with."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.broken: Exception | None = None
        """What ``send`` raises from now on, as servers do once the client is gone."""
        self.deaf: Exception | None = None
        """What ``receive`` raises once there is nothing left to tell."""
        self._told: asyncio.Queue[Any] = asyncio.Queue()
        self._news = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._read = 0

    # --- the application's side

    async def receive(self) -> Any:
        if self.deaf is not None and self._told.empty():
            raise self.deaf
        return await self._told.get()

    async def send(self, message: Any) -> None:
        if self.broken is not None:
            raise self.broken
        self.sent.append(message)
        self._news.set()
        await self._flowing.wait()

    # --- the client's side

    def tell(self, *messages: Any) -> None:
        for message in messages:
            self._told.put_nowait(message)

    def say(self, *frames: str | bytes) -> None:
        """The client of a WebSocket sends these."""
        for frame in frames:
            self.tell({"type": "websocket.receive", "text" if isinstance(frame, str) else "bytes": frame})

    def stop_reading(self) -> None:
        """From now on ``send`` takes a message and waits."""
        self._flowing.clear()

    def read_on(self) -> None:
        self._flowing.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Returns when this holds; it is looked at whenever something was sent, and at the beginning."""
        async with asyncio.timeout(SECONDS):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def next(self) -> Any:
        """The next message that was not asked for yet."""
        await self.until(lambda: len(self.sent) > self._read)
        self._read += 1
        return self.sent[self._read - 1]

    @property
    def frames(self) -> list[Any]:
        """What was sent to the client of a WebSocket."""
        return [
            message.get("text", message.get("bytes")) for message in self.sent if message["type"] == "websocket.send"
        ]

    @property
    def body(self) -> bytes:
        """Of the HTTP answer, as far as it was sent."""
        return b"".join(message["body"] for message in self.sent if message["type"] == "http.response.body")

    @property
    def status(self) -> int | None:
        """Of the HTTP answer, once it has begun."""
        return next((message["status"] for message in self.sent if message["type"] == "http.response.start"), None)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return next((dict(message["headers"]) for message in self.sent if message["type"] == "http.response.start"), {})


async def turn() -> None:
    """Returns at the end of a turn of the loop."""
    ended = asyncio.Event()
    asyncio.get_running_loop().call_soon(ended.set)
    await asyncio.wait_for(ended.wait(), SECONDS)


async def until(condition: Callable[[], Any]) -> None:
    """Returns when this holds; it is looked at after each turn of the loop."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await turn()


async def within(work: Coroutine[Any, Any, Any]) -> Any:
    """Its result; TimeoutError where it takes too long."""
    return await asyncio.wait_for(work, SECONDS)


class House:
    """A server with a few handlers."""

    def __init__(self, **settings: Any) -> None:
        self.server = Server(settings=settings_for(**settings))
        self.ends: list[str] = []
        self.gate: asyncio.Event | None = None
        self.began = 0

        @self.server.event
        async def connect(sid: str, environ: Any) -> None:
            return None

        @self.server.event
        async def echo(sid: str, data: Any) -> Any:
            self.began += 1
            if self.gate is not None:
                await self.gate.wait()
            return data

        @self.server.event
        async def disconnect(sid: str, reason: str) -> None:
            self.ends.append(reason)

    async def settle(self) -> None:
        assert await self.server.core.settle(5)

    @property
    def sessions(self) -> dict[str, Any]:
        return self.server.core.sessions
