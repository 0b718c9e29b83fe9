"""One WebSocket under uvicorn, from the upgrade request to the last byte.

It is an ASGI server's half for every route that knows nothing of it, and a wire by plain calls for whoever finds
it in ``scope["extensions"]["realtime.direct"]``: no queue, no task, no dictionary for each message, and the ASGI
call may return while the connection lives on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from enum import IntEnum
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected, get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from adapters.fast.asgi import AsgiSide, make_scope
from adapters.fast.frames import (
    Close,
    FrameError,
    FrameReader,
    Opcode,
    Ping,
    Pong,
    Received,
    apply_mask,
    write_close,
    write_frame,
)
from adapters.fast.raw import RawSide
from adapters.fast.upgrade import Head, Headers, accept_response, parse_head, problem_with, refusal_response
from realtime.codecs import Encoded
from realtime.errors import CloseCode
from realtime.names import Reason
from realtime.ports import DIRECT, Link, Receive, Send

logger = logging.getLogger("uvicorn.error")

CLOSE_SECONDS: Final = 5.0
"""How long a client may take to read what is left and to answer our close frame, until it is cut."""


class State(IntEnum):
    """ASKED: the application decides. CLOSING: our close frame is sent, the client's is awaited."""

    ASKED = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


class FastProtocol(asyncio.Protocol):
    """Keeps uvicorn's contract for a WebSocket class, and the port ``Wire`` once it is taken directly."""

    __slots__ = (
        "_asgi", "_config", "_deaf", "_full", "_head", "_held", "_loop", "_paused", "_pong_due", "_reader",
        "_server_state", "_state", "_timer", "_transport", "app_state", "link", "name",
    )  # fmt: skip

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._config = config
        self._server_state = server_state
        self.app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._state = State.ASKED
        self._head: Head | None = None
        self._asgi: AsgiSide | None = None
        self._reader: FrameReader | None = None
        self._full = False
        self._paused = False
        self._held: deque[Received] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pong_due = False
        self._deaf = False
        self.link: Link | None = None
        self.name = "websocket"

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._server_state.connections.add(self)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        if self._state is State.ASKED:
            self._ask(data)
            return
        if self._deaf:
            self._transport.close()  # its answer to our close frame, or more of what broke the protocol
            return
        if self._reader is None and len(data) < 132:
            # One short frame and nothing else is nearly all there ever is; everything it can break is looked at here.
            first, second = data[0], data[1] if len(data) > 1 else 0
            if (first == 0x81 or first == 0x82) and 128 <= second and len(data) == second - 122:
                payload = apply_mask(data[6:], data[2:6]) if second > 128 else b""
                if first == 0x82:
                    self._deliver(payload)
                    return
                try:
                    text = str(payload, "utf-8")
                except UnicodeDecodeError:
                    self._fail(FrameError(CloseCode.BAD_TEXT, "a text must be UTF-8"))
                    return
                self._deliver(text)
                return
        self._read(data)

    def eof_received(self) -> None:
        """The client has said its last byte; the transport closes."""

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        link = self.link
        if link is not None:
            while not self._full and (encoded := link.take()) is not None:
                self._transport.write(encoded.wire)
        if self._asgi is not None:
            self._asgi.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server_state.connections.discard(self)  # type: ignore[arg-type]
        self._state = State.CLOSED
        self._stop_timer()
        self._gone(Reason.TRANSPORT_CLOSE if exc is None else Reason.TRANSPORT_ERROR, 1006, "")
        self._reader = self._held = None

    # --- inbound

    def _read(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            reader = self._reader = FrameReader(self._config.ws_max_size)
        try:
            for received in reader.feed(data):
                self._deliver(received)
                if self._state is State.CLOSED:
                    return
        except FrameError as error:
            self._fail(error)
            return
        if reader.idle:
            self._reader = None

    def _deliver(self, received: Received) -> None:
        if self._paused and not isinstance(received, Close):
            if self._held is None:
                self._held = deque()  # at most what one read of the socket brought
            self._held.append(received)
        elif isinstance(received, str | bytes):
            if self._state is State.OPEN:
                if self._asgi is not None:
                    self._asgi.put(received)
                elif self.link is not None:
                    self.link.receive(received)
        elif isinstance(received, Ping):
            if self._state is State.OPEN:
                self._transport.write(write_frame(Opcode.PONG, received.payload))
        elif isinstance(received, Pong):
            self._pong_due = False
        else:
            self._said_close(received)

    def _said_close(self, close: Close) -> None:
        if self._state is State.OPEN:
            self._state = State.CLOSING
            self._gone(Reason.TRANSPORT_CLOSE, close.code, close.reason)
            self._transport.write(write_close(close.code, ""))
        self._transport.close()

    def _fail(self, error: FrameError) -> None:
        """The client broke the protocol: it is told how, and nothing more is read from it."""
        self._reader = self._held = None
        if self._state is State.CLOSING:
            self._transport.abort()
            return
        self._deaf = True
        if self.link is not None:
            self.link.broken(error.code, error.reason)
        self.close(error.code, error.reason)

    def _gone(self, reason: str, code: int, words: str) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.lost(reason)
        if self._asgi is not None:
            self._asgi.gone(code, words)

    # --- the port Wire

    def send(self, encoded: Encoded) -> bool:
        self._transport.write(encoded.wire)
        return not self._full

    def close(self, code: int, reason: str) -> None:
        if self._state is not State.OPEN:
            return
        self._state = State.CLOSING
        self._transport.write(write_close(code, reason))
        self._stop_timer()
        self._timer = self._loop.call_later(CLOSE_SECONDS, self._transport.abort)
        self.resume()
        if self._asgi is not None:
            self._asgi.gone(code, reason)

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self._paused:
            return
        self._paused = False
        held, self._held = self._held, None
        while held:
            self._deliver(held.popleft())
            if self._paused:
                held.extend(self._held or ())
                self._held = held
                return
        if self._state < State.CLOSED:
            self._transport.resume_reading()

    # --- the direct channel

    def accept_now(self, subprotocol: str | None = None, headers: Headers = ()) -> None:
        """101. Raises ClientDisconnected when the client has gone meanwhile."""
        if self._state is not State.ASKED or self._transport.is_closing():
            raise ClientDisconnected
        assert self._head is not None
        self._state = State.OPEN
        self._transport.write(accept_response(self._head, subprotocol, [*self._server_state.default_headers, *headers]))
        self._head = None

    def take_over(self, link: Link) -> None:
        """Frames go to the link from now on, by plain call; the ASGI call may return."""
        self._asgi = None
        self.link = link
        self.resume()

    def raw(self, receive: Receive, send: Send, link: Link) -> RawSide:
        """For a route that pulls its frames itself."""
        self.name = "raw"
        return RawSide(self, receive, send, link)

    # --- the ASGI half

    def _ask(self, data: bytes) -> None:
        """The upgrade request, as uvicorn's HTTP parser hands it on."""
        if self._head is not None:
            self._transport.abort()  # frames before our answer: reading is paused, so this is no client of ours
            return
        head = self._head = parse_head(data)
        problem = problem_with(head)
        if problem is not None:
            self.refuse(400, [(b"content-type", b"text/plain; charset=utf-8")], problem.encode())
            return
        self.pause()
        transport = self._transport
        scope = make_scope(
            head, self._config, self.app_state, get_local_addr(transport), get_remote_addr(transport), is_ssl(transport)
        )
        scope["extensions"][DIRECT] = self
        self._asgi = AsgiSide(self)
        task = self._loop.create_task(self._run(scope, self._asgi))
        task.add_done_callback(self._server_state.tasks.discard)
        self._server_state.tasks.add(task)

    async def _run(self, scope: dict[str, Any], asgi: AsgiSide) -> None:
        try:
            await self._config.loaded_app(scope, asgi.receive, asgi.send)  # type: ignore[arg-type]
        except ClientDisconnected:
            pass
        except Exception:
            logger.exception("Exception in ASGI application\n")
            self._give_up(CloseCode.SERVER_ERROR, 500)
            return
        if self._asgi is not None:  # nobody took it over, so the call's end is the connection's
            self._give_up(CloseCode.DONE, 500)

    def _give_up(self, code: int, status: int) -> None:
        if self._state is State.ASKED:
            self.refuse(status, [(b"content-type", b"text/plain; charset=utf-8")], b"Internal Server Error")
        else:
            self.close(code, "")

    def refuse(self, status: int, headers: Headers, body: bytes) -> None:
        """An HTTP answer instead of a WebSocket; the connection ends with it."""
        if self._state is not State.ASKED:
            return
        self._state = State.CLOSED
        self._transport.write(refusal_response(status, [*self._server_state.default_headers, *headers], body))
        self._transport.close()
        if self._asgi is not None:
            self._asgi.gone(1006, "")

    def opened(self) -> None:
        """The ASGI application accepted: read, and see to it that a dead client is noticed."""
        self.resume()
        if self._config.ws_ping_interval:
            self._timer = self._loop.call_later(self._config.ws_ping_interval, self._ping)

    @property
    def state(self) -> State:
        return self._state

    @property
    def full(self) -> bool:
        return self._full

    def write(self, frame: bytes) -> None:
        self._transport.write(frame)

    def _ping(self) -> None:
        """WebSocket's own ping, for connections that Engine.IO does not ping."""
        if self._pong_due:
            self.close(CloseCode.SERVER_ERROR, "keepalive ping timeout")
            return
        self._pong_due = self._config.ws_ping_timeout is not None
        self._transport.write(write_frame(Opcode.PING))
        wait = self._config.ws_ping_timeout or self._config.ws_ping_interval or CLOSE_SECONDS
        self._timer = self._loop.call_later(wait, self._ping)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    # --- uvicorn

    def shutdown(self) -> None:
        """The server stops: whoever has not been told yet is told now."""
        if self._state is State.OPEN:
            self._state = State.CLOSING
            self._gone(Reason.DRAINING, 1012, "")
            self._transport.write(write_close(1012, ""))
        elif self._state is State.ASKED:
            self.refuse(503, [], b"")
        self._transport.close()


__all__ = ["FastProtocol", "State"]
