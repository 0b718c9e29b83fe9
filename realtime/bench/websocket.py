"""The load tool's WebSocket: the handshake, frames in and out, nothing else (RFC 6455)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Final, cast

from realtime.bench.client import Client
from realtime.bench.frames import CLOSE, PING, PONG, BrokenFrame, FrameReader, client_frame
from realtime.bench.speech import Kind, Packet

NONCE: Final = base64.b64encode(b"realtime-benches")
"""Sixteen bytes. It protects nothing but proxies that do not speak WebSocket, so one for all clients will do."""
ACCEPT: Final = base64.b64encode(hashlib.sha1(NONCE + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())

MEMO_BYTES: Final = 2048
MEMO_ENTRIES: Final = 256
"""What a whole audience hears is the same bytes: read once, looked up for the rest. Beyond this size or number a
look-up is no cheaper than reading."""

HEAD_LIMIT: Final = 16_384

Memo = dict[bytes, tuple[Packet, ...]]


class WebSocketWire(asyncio.Protocol):
    """Keeps ``Wire``. ``opened`` is done when the server has agreed, or failed with ConnectionError.

    ``memo`` is shared by all clients that speak alike.
    """

    __slots__ = ("_client", "_head", "_memo", "_reader", "_request", "_transport", "opened")

    def __init__(self, client: Client, memo: Memo, host: str, resource: str) -> None:
        client.wire = self
        self._client = client
        self._memo = memo
        self._request = (
            f"GET {resource} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {NONCE.decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        self._head = b""
        self._reader: FrameReader | None = None
        self._transport: asyncio.Transport | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)
        self._request = b""

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            self._upgrade(data)
            return
        packets = self._memo.get(data) if reader.clean else None
        if packets is None:
            try:
                packets = self._read(reader, data)
            except BrokenFrame as error:
                self._client.lost(str(error))
                self.cut()
                return
        self._client.take(packets)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("the connection ended during the handshake"))
        self._client.lost("connection lost")

    # --- the port Wire

    def say(self, payload: bytes, opcode: int) -> None:
        if self._transport is not None:
            self._transport.write(client_frame(payload, opcode))

    def close(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self.say((1000).to_bytes(2, "big"), CLOSE)
            self._transport.close()

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- inside

    def _read(self, reader: FrameReader, data: bytes) -> tuple[Packet, ...]:
        whole = reader.clean and len(data) <= MEMO_BYTES
        packets = []
        for opcode, payload in reader.feed(data):
            if opcode == PING:
                self.say(payload, PONG)
                whole = False
            elif opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big") if payload else 1005
                self._client.lost(f"closed with {code}")
                packets.append(Packet(Kind.CLOSE))
            elif opcode < CLOSE:
                packets.append(self._client.speech.read(opcode, payload))
        found = tuple(packets)
        if whole and reader.clean:
            if len(self._memo) >= MEMO_ENTRIES:
                self._memo.clear()
            self._memo[data] = found
        return found

    def _upgrade(self, data: bytes) -> None:
        head, end, rest = (self._head + data).partition(b"\r\n\r\n")
        if not end:
            self._head = head
            if len(head) > HEAD_LIMIT:
                self._fail("the answer to the handshake has no end")
            return
        self._head = b""
        status = head.split(b"\r\n", 1)[0].decode("latin-1")
        if status.split(" ")[1:2] != ["101"]:
            self._fail(f"the server answered {status!r}")
        elif ACCEPT not in head:
            self._fail("the server's Sec-WebSocket-Accept is wrong")
        else:
            self._reader = FrameReader()
            if not self.opened.done():
                self.opened.set_result(None)
            if rest:
                self.data_received(rest)

    def _fail(self, sentence: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionRefusedError(sentence))
        self.cut()
