"""Pure: no I/O, no clock, no task. The HTTP request that asks for a WebSocket, and the answers to it (RFC 6455 section 4)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

Headers = Iterable[tuple[bytes, bytes]]
GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FORBIDDEN: Final = (b"\r", b"\n", b"\0")


@dataclass(frozen=True, slots=True)
class Head:
    """A request's first line and its headers, names in lower case."""

    target: bytes
    headers: list[tuple[bytes, bytes]]

    @property
    def subprotocols(self) -> list[str]:
        offered = b",".join(value for name, value in self.headers if name == b"sec-websocket-protocol")
        return [part.strip() for part in offered.decode("latin-1").split(",") if part.strip()]

    def all(self, name: bytes) -> list[bytes]:
        return [value.strip() for key, value in self.headers if key == name]


def parse_head(data: bytes) -> Head:
    """A request head that an HTTP parser has accepted already."""
    lines = data.split(b"\r\n")
    target = lines[0].split(b" ", 2)[1]
    headers = []
    for line in lines[1:]:
        if line:
            name, _, value = line.partition(b":")
            headers.append((name.lower(), value.strip(b" \t")))
    return Head(target, headers)


def problem_with(head: Head) -> str | None:
    """Why this is no proper request for a WebSocket; None when it is one."""
    connection = b",".join(head.all(b"connection")).lower()
    if b"upgrade" not in [part.strip() for part in connection.split(b",")]:
        return "Connection must contain Upgrade"
    if [value.lower() for value in head.all(b"upgrade")] != [b"websocket"]:
        return "Upgrade must be websocket"
    if head.all(b"sec-websocket-version") != [b"13"]:
        return "Sec-WebSocket-Version must be 13"
    keys = head.all(b"sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        return "Sec-WebSocket-Key must be 16 bytes in base64"
    return None


def _is_key(key: bytes) -> bool:
    try:
        return len(key) == 24 and len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def accept_response(head: Head, subprotocol: str | None, extra: Headers) -> bytes:
    """101, after ``problem_with`` has found none."""
    digest = hashlib.sha1(head.all(b"sec-websocket-key")[0] + GUID, usedforsecurity=False).digest()
    headers = [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Accept", base64.b64encode(digest)),
    ]
    if subprotocol is not None:
        headers.append((b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")))
    return _response(101, [*headers, *extra])


def refusal_response(status: int, headers: Headers, body: bytes) -> bytes:
    """Any other answer; the connection ends with it."""
    kept = [(name, value) for name, value in headers if name.lower() not in (b"content-length", b"connection")]
    ours = [(b"Content-Length", str(len(body)).encode()), (b"Connection", b"close")]
    return _response(status, [*kept, *ours]) + body


def _response(status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {status} {phrase}".encode()]
    for name, value in headers:
        if any(bad in name or bad in value for bad in _FORBIDDEN):
            raise ValueError("a header may not contain CR, LF or NUL")
        lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n\r\n"
