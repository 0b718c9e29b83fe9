"""The load tool's long-polling client: Engine.IO over two kept connections, one that waits and one that posts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final, cast

from realtime.bench.client import Client
from realtime.bench.frames import TEXT

SEPARATOR: Final = b"\x1e"
REOPEN_SECONDS: Final = 20.0
"""As long as a client may take to come in."""
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class PollingWire:
    """Keeps ``Wire``. Give ``get`` and ``post`` their connections, then ``start``.

    A server ends a connection on which nothing was posted for a while: ``reopen`` gives ``post`` another one.
    """

    def __init__(self, client: Client, host: str, resource: str, reopen: Callable[[], Awaitable[None]]) -> None:
        client.wire = self
        self._client = client
        self._host = host
        self._resource = resource
        self._outbound: list[bytes] = []
        self._reopen = reopen
        self._reopening: asyncio.Task[None] | None = None
        self._gone = False
        self.get = HttpPipe(self._polled, self._failed)
        self.post = HttpPipe(self._posted, self._failed, may_rest=True)

    def start(self) -> None:
        """The handshake: its answer reaches the client as the packet OPEN."""
        self._poll()

    def name(self, sid: str) -> None:
        """The session that the server opened."""
        self._resource += f"&sid={sid}"
        self._poll()

    # --- the port Wire

    def say(self, payload: bytes, opcode: int) -> None:
        self._outbound.append(payload)
        self._flush()

    def close(self) -> None:
        self.cut()

    def cut(self) -> None:
        self._gone = True
        if self._reopening is not None:
            self._reopening.cancel()
        self.get.cut()
        self.post.cut()

    # --- inside

    def _poll(self) -> None:
        self.get.request(f"GET {self._resource} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())

    def _flush(self) -> None:
        if not self._outbound or self.post.busy or self._reopening is not None or self._gone:
            return
        if self.post.ended:
            self._reopening = asyncio.ensure_future(self._post_again())
        else:
            body = SEPARATOR.join(self._outbound)
            self._outbound.clear()
            head = (
                f"POST {self._resource} HTTP/1.1\r\nHost: {self._host}\r\n"
                f"Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            self.post.request(head.encode() + body)

    async def _post_again(self) -> None:
        try:
            async with asyncio.timeout(REOPEN_SECONDS):
                await self._reopen()
        except OSError as error:
            self._failed(str(error) or "timeout")
            return
        finally:
            self._reopening = None
        self._flush()

    def _polled(self, body: bytes) -> None:
        speech = self._client.speech
        opening = "sid=" not in self._resource
        if not opening:
            self._poll()  # before the packets are looked at: the server can use the time
        self._client.take([speech.read(TEXT, packet) for packet in body.split(SEPARATOR)])

    def _posted(self, body: bytes) -> None:
        self._flush()

    def _failed(self, reason: str) -> None:
        self._client.lost(reason)


def read_answer(data: bytes) -> tuple[bytes | None, int]:
    """The body of a whole HTTP answer and the bytes of both; or None and how many bytes it takes to try again.

    Raises ConnectionError for any status but 200.
    """
    head, end, _ = data.partition(b"\r\n\r\n")
    if not end:
        return None, len(data) + 1
    if not head.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(f"the server answered {head.splitlines()[0].decode('latin-1')!r}")
    start = len(head) + 4
    length = _LENGTH.search(head)
    if length is None:
        return _read_chunks(data, start)
    whole = start + int(length[1])
    return (data[start:whole] if len(data) >= whole else None), whole


def _read_chunks(data: bytes, at: int) -> tuple[bytes | None, int]:
    """RFC 9112 section 7.1, without trailers."""
    parts: list[bytes] = []
    while (line := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:line].partition(b";")[0], 16)
        at = line + 2 + size + 2
        if len(data) < at:
            return None, at
        if size == 0:
            return b"".join(parts), at
        parts.append(data[line + 2 : at - 2])
    return None, len(data) + 1


class HttpPipe(asyncio.Protocol):
    """One kept HTTP/1.1 connection with one request at a time.

    ``may_rest``: its end between two requests is no failure; then it has ``ended``, until it is connected again.
    """

    def __init__(
        self, answered: Callable[[bytes], None], failed: Callable[[str], None], *, may_rest: bool = False
    ) -> None:
        self._answered = answered
        self._failed = failed
        self._may_rest = may_rest
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._needed = 0
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    @property
    def ended(self) -> bool:
        return self._transport is not None and self._transport.is_closing()

    def request(self, request: bytes) -> None:
        """Only while not ``busy``. After the end of the connection nothing is said any more."""
        if self._transport is not None and not self._transport.is_closing():
            self.busy = True
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) < self._needed:
            return
        try:
            answer, self._needed = read_answer(self._buffer)
        except ConnectionError as error:
            self._failed(str(error))
            self.cut()
            return
        if answer is not None:
            self._buffer, self._needed = self._buffer[self._needed :], 0
            self.busy = False
            self._answered(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy or not self._may_rest:
            self._failed("connection lost")

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()
