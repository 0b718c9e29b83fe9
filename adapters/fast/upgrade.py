"""Pure: no I/O, no clock, no task. The HTTP request that asks for a WebSocket, and the answers (RFC 6455 section 4)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, NamedTuple

Headers = Iterable[tuple[bytes, bytes]]
GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
HEAD_BYTES: Final = 16 << 10
"""A request head may be this long: Node's own limit, which users of Socket.IO live with."""
HEADER_FIELDS: Final = 100
"""Apache's default; browsers send about 20, proxies add a few."""
_FORBIDDEN: Final = (b"\r", b"\n", b"\0")
_BLANK: Final = b" \t"
"""What HTTP calls white space. ``strip()`` alone would also take vertical tabs and form feeds."""
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class Problem(NamedTuple):
    """The answer to a request that is none for a WebSocket."""

    status: int
    message: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Head:
    """A request's first line and its headers, names in lower case. ``size``: bytes of all of it."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    size: int

    @property
    def subprotocols(self) -> list[str]:
        return [name.decode("latin-1") for name in self.offered]

    @property
    def offered(self) -> list[bytes]:
        return self.listed(b"sec-websocket-protocol")

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]

    def listed(self, name: bytes) -> list[bytes]:
        """A header that is a list, in one line or several; empty elements count for nothing."""
        return [part for part in (part.strip(_BLANK) for part in b",".join(self.all(name)).split(b",")) if part]

    @property
    def path_and_query(self) -> tuple[bytes, bytes]:
        """Of a target that is a path or a whole URL (RFC 9112 section 3.2); the path is empty for any other."""
        path, _, query = self.target.partition(b"?")
        scheme, separator, rest = path.partition(b"://")
        if separator and scheme.isalpha():
            path = b"/" + rest.partition(b"/")[2]
        return (path if path.startswith(b"/") else b""), query


_USUAL: Final = {
    name: name
    for name in (
        b"host", b"connection", b"upgrade", b"origin", b"user-agent", b"pragma", b"cache-control", b"accept-encoding",
        b"accept-language", b"cookie", b"authorization", b"sec-websocket-version", b"sec-websocket-key",
        b"sec-websocket-extensions", b"sec-websocket-protocol", b"x-forwarded-for", b"x-forwarded-proto",
    )
}  # fmt: skip
"""Each connection keeps its headers: their names are kept once."""


def parse_head(data: bytes) -> Head:
    """A request head that an HTTP parser has accepted already."""
    lines = data.split(b"\r\n")
    method, target = lines[0].split(b" ", 2)[:2]
    headers = []
    for line in lines[1:]:
        if line:
            name, _, value = line.partition(b":")
            name = name.lower()
            headers.append((_USUAL.get(name, name), value.strip(_BLANK)))
    return Head(method, target, headers, len(data))


def problem_with(head: Head) -> Problem | None:
    """Why this is no proper request for a WebSocket; None when it is one."""
    if head.size > HEAD_BYTES or len(head.headers) > HEADER_FIELDS:
        return Problem(431, f"The request head may have {HEAD_BYTES} bytes and {HEADER_FIELDS} fields")
    problem = _problem_with_http(head) or _problem_with_websocket(head)
    if problem is not None:
        return Problem(400, problem)
    if head.all(b"sec-websocket-version") != [b"13"]:
        return Problem(
            426, "Sec-WebSocket-Version must be 13", ((b"Sec-WebSocket-Version", b"13"), (b"Upgrade", b"websocket"))
        )
    return None


def _problem_with_http(head: Head) -> str | None:
    if head.method != b"GET":
        return "The method must be GET"
    if head.all(b"content-length") not in ([], [b"0"]) or head.all(b"transfer-encoding"):
        return "The request must have no body"  # it would be read as frames
    if len(head.all(b"host")) != 1:
        return "Host must be there, once"
    if not head.path_and_query[0]:
        return "The target must be a path"
    return None


def _problem_with_websocket(head: Head) -> str | None:
    if b"upgrade" not in [option.lower() for option in head.listed(b"connection")]:
        return "Connection must contain Upgrade"
    if [value.lower() for value in head.all(b"upgrade")] != [b"websocket"]:
        return "Upgrade must be websocket"
    if len(head.all(b"sec-websocket-version")) != 1:
        return "Sec-WebSocket-Version must be there, once"
    keys = head.all(b"sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        return "Sec-WebSocket-Key must be 16 bytes in base64"
    if not all(_TOKEN.fullmatch(name) for name in head.offered):
        return "Sec-WebSocket-Protocol must be a list of tokens"
    return None


def _is_key(key: bytes) -> bool:
    try:
        return len(key) == 24 and len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def accept_response(head: Head, subprotocol: str | None, extra: Headers) -> bytes:
    """101, after ``problem_with`` has found none. Raises ValueError for what no header can hold."""
    digest = hashlib.sha1(head.all(b"sec-websocket-key")[0] + GUID, usedforsecurity=False).digest()
    headers = [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Accept", base64.b64encode(digest)),
    ]
    if subprotocol:
        headers.append((b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")))
    return _response(101, [*headers, *extra])


def refusal_response(status: int, headers: Headers, body: bytes) -> bytes:
    """Any other answer; the connection ends with it. Raises ValueError for a status or header that cannot be sent."""
    if not 200 <= status < 600:
        raise ValueError(f"{status!r} is not the status of an HTTP answer: 200 to 599")
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
