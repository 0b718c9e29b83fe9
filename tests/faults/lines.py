"""Connections of one client, written by hand so that each packet is seen: WebSocket, polling, event stream.

Whatever ends one raises one of ``GONE``. ``cut`` is how a network ends it: at once, and without a word.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

OPEN_SECONDS = 10.0
GONE = (OSError, EOFError, TimeoutError, WebSocketException, aiohttp.ClientError, ValueError)
"""ValueError: a body that was cut off."""


class Refused(OSError):
    """Answered with an HTTP error."""


class Line:
    """``frames`` are the texts that come."""

    closed: str | None = None
    """What the server said at its end."""

    async def send(self, text: str) -> None:
        raise NotImplementedError

    def frames(self) -> AsyncIterator[str]:
        raise NotImplementedError

    def cut(self) -> None:
        """Repeats do nothing."""

    async def close(self) -> None:
        """In order."""
        self.cut()


class WebSocketLine(Line):
    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket

    @classmethod
    async def open(cls, url: str) -> WebSocketLine:
        return cls(
            await connect(
                url, compression=None, ping_interval=None, open_timeout=OPEN_SECONDS, close_timeout=1, max_queue=None
            )
        )

    async def send(self, text: str) -> None:
        await self._websocket.send(text)

    async def frames(self) -> AsyncIterator[str]:
        try:
            async for frame in self._websocket:
                yield str(frame)
        finally:
            self.closed = f"{self._websocket.close_code}"

    def cut(self) -> None:
        self._websocket.transport.abort()

    async def close(self) -> None:
        with suppress(*GONE):
            await self._websocket.close()


class PollingLine(Line):
    """Engine.IO's long polling."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = f"{url}&transport=polling"
        self._over = False
        self._polls: set[asyncio.Task[str]] = set()

    async def send(self, text: str) -> None:
        async with self._http.post(self._url, data=text) as response:
            if response.status != 200:
                raise Refused(await response.text())

    async def frames(self) -> AsyncIterator[str]:
        while True:
            poll = asyncio.ensure_future(self._poll())
            self._polls.add(poll)
            try:
                await asyncio.wait({poll})
                if self._over or poll.cancelled():
                    return
                body = poll.result()
            finally:
                poll.cancel()
                self._polls.discard(poll)
            for frame in body.split("\x1e"):
                if frame.startswith("0"):
                    self._url += f"&sid={json.loads(frame[1:])['sid']}"
                elif frame in ("1", "6"):
                    continue
                yield frame

    async def _poll(self) -> str:
        async with self._http.get(self._url) as response:
            if response.status != 200:
                raise Refused(await response.text())
            return await response.text()

    def cut(self) -> None:
        self._over = True
        for poll in self._polls:
            poll.cancel()


class StreamLine(Line):
    """Server-Sent Events: each frame is an event's fields as a JSON object."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    @classmethod
    async def open(cls, http: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> StreamLine:
        response = await asyncio.wait_for(http.get(url, headers=headers), OPEN_SECONDS)
        if response.status != 200:
            response.close()
            raise Refused(str(response.status))
        return cls(response)

    async def frames(self) -> AsyncIterator[str]:
        fields: dict[str, Any] = {}
        async for raw in self._response.content:
            line = raw.decode().rstrip("\n")
            if line:
                name, _, value = line.partition(": ")
                fields |= {name: value} if name in ("id", "event", "data") else {}
            elif fields:
                yield json.dumps(fields)
                fields = {}

    def cut(self) -> None:
        self._response.close()
