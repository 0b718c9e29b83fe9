"""A client that joins a room and then reads nothing until it is told to."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import Final

from realtime.bench.frames import CLOSE, TEXT, FrameReader, client_frame

STEP_SECONDS: Final = 30.0
"""No single step of it takes longer, whatever else the machine does."""


class NotLetIn(Exception):
    """The server closed the connection at once."""


class StuckReader:
    """Joins ``room`` over a socket of its own, and reads nothing until it is told to."""

    def __init__(self, port: int, room: str, kernel_bytes: int | None) -> None:
        self.socket = socket.socket()
        if kernel_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, kernel_bytes)
        self.socket.settimeout(STEP_SECONDS)
        self.socket.connect(("127.0.0.1", port))
        self._reader = FrameReader()
        request = (
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1",
            *("Host: 127.0.0.1", "Connection: Upgrade", "Upgrade: websocket"),
            *("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""),
        )
        self.socket.sendall("\r\n".join(request).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._some()
        self._early = self._reader.feed(answer.partition(b"\r\n\r\n")[2])
        join = json.dumps(["join", {"rooms": [room]}])
        self.socket.sendall(client_frame(b"40") + client_frame(f"420{join}".encode()))
        while not any(payload.startswith(b"430") for opcode, payload in self._early if opcode == TEXT):
            self._early += self._reader.feed(self._some())

    def _some(self) -> bytes:
        data = self.socket.recv(1 << 16)
        if not data:
            raise NotLetIn("the reader was not let in")
        return data

    def close_code(self) -> int | None:
        """Read on to the end; None where it came without a close frame."""
        with suppress(OSError):
            while data := self.socket.recv(1 << 20):
                for opcode, payload in self._reader.feed(data):
                    if opcode == CLOSE:
                        return int.from_bytes(payload[:2], "big")
        return None
