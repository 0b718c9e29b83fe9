"""The ASGI half of the fast wire: receive and send for applications that know nothing of the direct channel."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import IntEnum
from typing import Any, Final, Protocol
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected

from adapters.fast.frames import Opcode, write_frame
from adapters.fast.upgrade import Head, Headers

MAILBOX_MESSAGES: Final = 16
"""Messages kept for an application that is busy; then reading stops until it has taken half of them."""
MAILBOX_CHARACTERS: Final = 64 << 10
"""The same in characters or bytes, so that sixteen of the largest messages do not lie there: asyncio's own mark."""


class State(IntEnum):
    """ASKED: the application decides. CLOSING: good-bye was said by one side. There is no way back."""

    ASKED = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


_ASKED, _OPEN = State.ASKED, State.OPEN  # an enum's members cost a call each time in Python 3.11


class Line(Protocol):
    """The protocol, as this half sees it."""

    @property
    def state(self) -> State: ...

    @property
    def full(self) -> bool: ...

    def accept_now(self, subprotocol: str | None = None, headers: Headers = ()) -> None: ...

    def opened(self) -> None: ...

    def refuse(self, status: int, headers: Headers, body: bytes) -> None: ...

    def write(self, frame: bytes) -> bool: ...

    def close(self, code: int, reason: str) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class _Waiters:
    """Tasks that look again when something has happened, in the order in which they came."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        try:
            await future
        finally:
            self._futures.remove(future)

    def wake(self) -> None:
        for future in self._futures:
            if not future.done():
                future.set_result(None)


class AsgiSide:
    """Belongs to one connection and one event loop. Several tasks may receive and send at once."""

    __slots__ = ("_asked", "_end", "_line", "_mail", "_news", "_paused", "_response", "_room", "_said_end", "_size")

    def __init__(self, line: Line) -> None:
        self._line = line
        self._mail: deque[str | bytes] = deque()
        self._size = 0
        self._asked = False
        self._paused = False
        self._end: dict[str, Any] | None = None
        self._said_end = False
        self._news = _Waiters()
        self._room = _Waiters()
        self._response: tuple[int, Headers, list[bytes]] | None = None

    # --- from the line

    def put(self, message: str | bytes) -> None:
        self._mail.append(message)
        self._size += len(message)
        if not self._paused and (len(self._mail) >= MAILBOX_MESSAGES or self._size >= MAILBOX_CHARACTERS):
            self._paused = True
            self._line.pause()
        self._news.wake()

    def gone(self, code: int, reason: str) -> None:
        """The connection ends; what lies in the mailbox is read first. Repeats do nothing."""
        if self._end is None:
            self._end = {"type": "websocket.disconnect", "code": code, "reason": reason}
            self._news.wake()
            self._room.wake()

    def drained(self) -> None:
        self._room.wake()

    # --- to the application

    async def receive(self) -> dict[str, Any]:
        """Cancelled, it has taken nothing. Of two callers at once each gets its own message, both the end."""
        if not self._asked:
            self._asked = True
            return {"type": "websocket.connect"}
        while not self._mail and self._end is None:
            await self._news.wait()
        if not self._mail:
            assert self._end is not None
            return self._end
        return self._take()

    def _take(self) -> dict[str, Any]:
        message = self._mail.popleft()
        self._size -= len(message)
        if self._paused and len(self._mail) <= MAILBOX_MESSAGES // 2 and self._size <= MAILBOX_CHARACTERS // 2:
            self._paused = False
            self._line.resume()
        return {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}

    async def send(self, message: Any) -> None:
        """Raises ClientDisconnected once the client is gone, RuntimeError or ValueError for what cannot be sent."""
        kind = message["type"]
        if kind == "websocket.send" and self._line.state is _OPEN:
            await self._send(message)
        elif self._said_end:
            raise RuntimeError(f"Unexpected ASGI message {kind!r} after the end was sent")
        elif self._end is not None:
            if kind != "websocket.close":
                raise ClientDisconnected
        elif kind == "websocket.close":
            self._close(message)
        elif self._line.state is not _ASKED:
            raise RuntimeError(f"Unexpected ASGI message {kind!r} on an open WebSocket")
        elif kind == "websocket.accept" and self._response is None:
            self._line.accept_now(message.get("subprotocol"), message.get("headers") or ())
            self._line.opened()
        elif kind == "websocket.http.response.start" and self._response is None:
            self._response = (message["status"], message.get("headers") or [], [])
        elif kind == "websocket.http.response.body" and self._response is not None:
            self._respond(message, *self._response)
        else:
            raise RuntimeError(f"Unexpected ASGI message {kind!r} before the WebSocket is accepted")

    async def _send(self, message: Any) -> None:
        while self._line.full and self._end is None:
            await self._room.wait()
        if self._line.state is not _OPEN:
            raise ClientDisconnected
        data = message.get("bytes")
        if data is not None:
            frame = write_frame(Opcode.BINARY, data)
        else:
            frame = write_frame(Opcode.TEXT, (message.get("text") or "").encode("utf-8", "replace"))
        if not self._line.write(frame):
            raise ClientDisconnected

    def _close(self, message: Any) -> None:
        if self._line.state is _ASKED:
            self._line.refuse(403, [(b"content-type", b"text/plain; charset=utf-8")], b"")
        else:
            self._line.close(message.get("code", 1000), message.get("reason") or "")
        self._said_end = True

    def _respond(self, message: Any, status: int, headers: Headers, parts: list[bytes]) -> None:
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            self._line.refuse(status, headers, b"".join(parts))
            self._said_end = True


def make_scope(
    head: Head,
    config: Config,
    app_state: dict[str, Any],
    server: tuple[str, int | None] | None,
    client: tuple[str, int] | None,
    secure: bool,
) -> dict[str, Any]:
    """The ASGI connection scope of a WebSocket."""
    path, query = head.path_and_query
    root = config.root_path
    return {
        "type": "websocket",
        "asgi": {"version": config.asgi_version, "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "wss" if secure else "ws",
        "server": server,
        "client": client,
        "root_path": root,
        "path": root + unquote(path.decode("ascii", "replace")),
        "raw_path": root.encode("ascii") + path,
        "query_string": query,
        "headers": head.headers,
        "subprotocols": head.subprotocols,
        "state": app_state.copy(),
        "extensions": {"websocket.http.response": {}},
    }
