"""Server-Sent Events: a client that only listens, in the same rooms as everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from starlette.responses import Response

from adapters.writing import Message, Writer
from realtime.encoding.codecs import Encoded, text
from realtime.errors import CloseCode
from realtime.names import Reason
from realtime.ports import Link, Receive, Send

KEEP_ALIVE_SECONDS: Final = 15.0
"""A comment now and then: proxies close what is silent for 60 s, and a dead client is noticed."""
RETRY_MILLISECONDS: Final = 2000
CLOSE_SECONDS: Final = 5.0
COMMENT: Final = text(": keep-alive\n\n")
HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


class SseWire:
    """Keeps the port ``Wire`` for one response body. Belongs to one event loop."""

    name = "sse"

    def __init__(self, link: Link, send: Send) -> None:
        self.link = link
        self._writer = Writer(send, _body, link.take, self._lost)
        self.done = asyncio.Event()

    def send(self, encoded: Encoded) -> bool:
        return self._writer.write(encoded)

    def close(self, code: int, reason: str) -> None:
        """An event stream has no close code: the body ends, and the browser comes back."""
        self._writer.say_farewell({"type": "http.response.body", "body": b""})
        self.done.set()

    def pause(self) -> None:
        """Nothing is read from an event stream's client."""

    def resume(self) -> None:
        """Nothing is read from an event stream's client."""

    async def finish(self) -> None:
        await self._writer.settle(CLOSE_SECONDS)

    def _lost(self) -> None:
        self._writer.stop()
        self.done.set()
        self.link.lost(Reason.TRANSPORT_CLOSE)


class EventStream(Response):
    """The response that carries one client's events until it goes away or is closed."""

    def __init__(self, session: Any) -> None:
        """``session`` is in its namespace and rooms already; it ends with this response, however that ends."""
        super().__init__(status_code=200)
        self._session = session

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
            first = f"retry: {RETRY_MILLISECONDS}\n\n".encode()
            await send({"type": "http.response.body", "body": first, "more_body": True})
            await self._tell(receive, SseWire(self._session, send))
        finally:
            self._session.lost(Reason.TRANSPORT_CLOSE)

    async def _tell(self, receive: Receive, wire: SseWire) -> None:
        if not self._session.attend(wire):
            wire.close(CloseCode.GOING_AWAY, "")
        gone = asyncio.ensure_future(_disconnected(receive))
        done = asyncio.ensure_future(wire.done.wait())
        try:
            while not (gone.done() or done.done()):
                await asyncio.wait((gone, done), timeout=KEEP_ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                self._session.offer(COMMENT, True)
        finally:
            if gone.done():
                self._session.lost(Reason.TRANSPORT_CLOSE)
            gone.cancel()
            done.cancel()
            await wire.finish()


def _body(encoded: Encoded) -> Iterable[Message]:
    for _, data in encoded.frames:
        yield {"type": "http.response.body", "body": data, "more_body": True}


async def _disconnected(receive: Receive) -> None:
    with suppress(Exception):  # some servers raise once the connection is lost
        while (await receive())["type"] != "http.disconnect":
            pass
