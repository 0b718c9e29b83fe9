"""The load tool's long-polling client: Engine.IO over two kept connections, one that waits and one that posts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final, cast

from realtime.bench.client import Client
from realtime.bench.frames import TEXT

SEPARATOR: Final = b"\x1e"
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3})")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class PollingWire:
    """Keeps ``Wire``. Give ``get`` and ``post`` their connections, then ``start``."""

    def __init__(self, client: Client, host: str, resource: str) -> None:
        client.wire = self
        self._client = client
        self._host = host
        self._resource = resource
        self._outbound: list[bytes] = []
        self.get = HttpPipe(self._polled, self._failed)
        self.post = HttpPipe(self._posted, self._failed)

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
        self.get.cut()
        self.post.cut()

    # --- inside

    def _poll(self) -> None:
        self.get.request(f"GET {self._resource} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())

    def _flush(self) -> None:
        if self._outbound and not self.post.busy:
            body = SEPARATOR.join(self._outbound)
            self._outbound.clear()
            head = (
                f"POST {self._resource} HTTP/1.1\r\nHost: {self._host}\r\n"
                f"Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            self.post.request(head.encode() + body)

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


class HttpPipe(asyncio.Protocol):
    """One kept HTTP/1.1 connection with one request at a time; answers need a Content-Length."""

    def __init__(self, answered: Callable[[bytes], None], failed: Callable[[str], None]) -> None:
        self._answered = answered
        self._failed = failed
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._needed = 0
        self._body_from = 0
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def request(self, request: bytes) -> None:
        """Only while not ``busy``. After the end of the connection nothing is said any more."""
        if self._transport is not None and not self._transport.is_closing():
            self.busy = True
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._needed and b"\r\n\r\n" in self._buffer:
            head, _, _ = self._buffer.partition(b"\r\n\r\n")
            status, length = _STATUS.match(head), _LENGTH.search(head)
            if status is None or length is None or status[1] != b"200":
                self._failed(head.split(b"\r\n", 1)[0].decode("latin-1"))
                self.cut()
                return
            self._needed = len(head) + 4 + int(length[1])
            self._body_from = len(head) + 4
        if self._needed and len(self._buffer) >= self._needed:
            body, self._buffer = self._buffer[self._body_from : self._needed], self._buffer[self._needed :]
            self._needed = 0
            self.busy = False
            self._answered(body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._failed("connection lost")

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()
