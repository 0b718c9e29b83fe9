"""A client that writes its frames by hand on a real socket, so that it can also write them wrongly."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

SECONDS: Final = 15.0
"""For anything that happens at all on the loopback address of a busy machine: no measurement. With fifteen processes
to two cores a server took more than 5 s to read a million fragments."""
KEY: Final = base64.b64encode(bytes(range(16)))
GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

Header = tuple[bytes, bytes]


def masked(payload: bytes, mask: bytes) -> bytes:
    """RFC 6455 section 5.3, over one big number instead of byte by byte."""
    size = len(payload)
    stream = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def length_field(size: int) -> tuple[int, bytes]:
    """Seven bits, and the bytes after them."""
    if size < 126:
        return size, b""
    return (126, size.to_bytes(2, "big")) if size < 65536 else (127, size.to_bytes(8, "big"))


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = b"\x37\xfa\x21\x3d"
) -> bytes:
    """One frame from a client; ``mask`` None leaves it out."""
    seven, more = length_field(len(payload))
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if mask is None:
        return bytes((first, seven)) + more + payload
    return bytes((first, 0x80 | seven)) + more + mask + masked(payload, mask)


def text(content: str) -> bytes:
    return frame(TEXT, content.encode())


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


def request(
    path: bytes = b"/",
    *extra: Header,
    method: bytes = b"GET",
    without: Sequence[bytes] = (),
) -> bytes:
    """An upgrade request. ``extra`` headers replace ours of the same name; ``without`` leaves some of ours out."""
    ours = [
        (b"host", b"localhost"),
        (b"upgrade", b"websocket"),
        (b"connection", b"keep-alive, Upgrade"),
        (b"sec-websocket-key", KEY),
        (b"sec-websocket-version", b"13"),
    ]
    replaced = {name.lower() for name, _ in extra}
    kept = [(name, value) for name, value in ours if name not in replaced and name not in without]
    lines = [method + b" " + path + b" HTTP/1.1", *(name + b": " + value for name, value in [*kept, *extra])]
    return b"\r\n".join(lines) + b"\r\n\r\n"


class WireClient:
    """Connects and sends the request; the answer's head is read already. Blocks for a bounded time everywhere."""

    def __init__(
        self,
        port: int,
        asks: bytes | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        buffers: int | None = None,
    ) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(SECONDS)
        if buffers is not None:  # before connect(): it decides the window
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self.socket.setsockopt(socket.SOL_SOCKET, option, buffers)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self._unread = b""
        self.send(request() if asks is None else asks)
        self.status, self.headers = self._head()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def header(self, name: bytes) -> bytes | None:
        """The first of this name."""
        return next((value for key, value in self.headers if key == name), None)

    # --- out

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def say(self, content: str) -> None:
        self.send(text(content))

    def flood(self, data: bytes, patience: float = 0.5) -> tuple[int, bytes]:
        """Send this again and again until nothing was taken for ``patience`` seconds.

        How often it was begun, and what is left of the last.
        """
        self.socket.settimeout(patience)
        begun, left = 0, b""
        try:
            while True:
                if not left:
                    begun, left = begun + 1, data
                left = left[self.socket.send(left) :]
        except TimeoutError:
            return begun, left
        finally:
            self.socket.settimeout(SECONDS)

    def vanish(self) -> None:
        """Reset the connection, as a process that is killed would with unread data."""
        linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()

    # --- in

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self._unread += data

    def _head(self) -> tuple[int, list[Header]]:
        while b"\r\n\r\n" not in self._unread:
            self._more()
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        return int(first.split()[1]), headers

    def take(self, size: int) -> bytes:
        while len(self._unread) < size:
            self._more()
        taken, self._unread = self._unread[:size], self._unread[size:]
        return taken

    def frame(self) -> tuple[int, bytes]:
        """First byte and payload of the next frame; EOFError where there is none any more."""
        first, second = self.take(2)
        size = second if second < 126 else int.from_bytes(self.take(2 if second == 126 else 8), "big")
        return first, self.take(size)

    def hear(self) -> str:
        """The next frame, which has to be a whole text."""
        first, payload = self.frame()
        assert first == 0x80 | TEXT, (first, payload[:100])
        return payload.decode()

    def goodbye(self) -> tuple[int, str]:
        """Code and reason of the next frame, which has to be a close frame; 1005 where it has no code."""
        first, payload = self.frame()
        assert first == 0x80 | CLOSE, (first, payload[:100])
        return (int.from_bytes(payload[:2], "big"), payload[2:].decode()) if payload else (1005, "")

    def rest(self) -> bytes:
        """Everything up to the end of the connection, which has to come."""
        try:
            while True:
                self._more()
        except (EOFError, ConnectionResetError):
            taken, self._unread = self._unread, b""
            return taken


class Unanswered(WireClient):
    """Reads the answer's head when it is told to."""

    def _head(self) -> tuple[int, list[Header]]:
        return 0, []

    def answer(self) -> tuple[int, list[Header]]:
        return super()._head()


def expected_accept(key: bytes = KEY) -> bytes:
    return base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
