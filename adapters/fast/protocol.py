"""One WebSocket under uvicorn, from the upgrade request to the last byte.

It is an ASGI server's half for every route that knows nothing of it, and a wire by plain calls for whoever finds
it in ``scope["extensions"]["realtime.direct"]``: no queue, no task, no dictionary for each message, and the ASGI
call may return while the connection lives on.

Rules of the end: whoever says good-bye first, nothing is sent after it; a client that then neither answers nor
reads is cut; the link is told ``lost`` once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected, get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from adapters.fast.asgi import AsgiSide, State, make_scope
from adapters.fast.frames import (
    SHORT_BYTES,
    Close,
    FrameError,
    FrameReader,
    Opcode,
    Ping,
    Pong,
    Received,
    ends_with_close,
    short_message,
    write_close,
    write_frame,
)
from adapters.fast.keepalive import Keepalive
from adapters.fast.raw import RawSide
from adapters.fast.turns import Speaker
from adapters.fast.upgrade import Head, Headers, accept_response, parse_head, problem_with, refusal_response
from realtime.encoding.codecs import Encoded
from realtime.errors import CloseCode
from realtime.names import Reason
from realtime.ports import DIRECT, Link, Receive, Send

logger = logging.getLogger("uvicorn.error")

CLOSE_SECONDS: Final = 5.0
"""How long a client may take to read what is left and to answer our close frame, until it is cut."""
BULK_BYTES: Final = 1 << 16
"""After a read of this size everybody else has a turn: libuv would read a busy socket 32 times on end, 8 MiB."""
GOING_DOWN: Final = 1012  # the registry of RFC 6455: service restart; what uvicorn says, too
_PLAIN: Final = [(b"content-type", b"text/plain; charset=utf-8")]
_ASKED, _OPEN, _CLOSING, _CLOSED = State  # an enum's members cost a call each time in Python 3.11


class FastProtocol(Speaker, asyncio.Protocol):
    """Keeps uvicorn's contract for a WebSocket class, and the port ``Wire`` once it is taken directly."""

    __slots__ = (
        "_asgi", "_config", "_deaf", "_head", "_held", "_keepalive", "_loop", "_pong", "_reader", "_server_state",
        "_short", "_timer", "app_state", "full", "link", "name", "reading_paused", "state",
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
        super().__init__(self._loop)
        self.state = State.ASKED
        self._head: Head | None = None
        self._asgi: AsgiSide | None = None
        self._short = min(SHORT_BYTES, 6 + config.ws_max_size)
        self._reader: FrameReader | None = None
        self.full = False
        self.reading_paused = False
        self._held: deque[str | bytes | Close] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pong: bytes | None = None
        self._keepalive: Keepalive | None = None
        self._deaf = False
        self.link: Link | None = None
        self.name = "websocket"

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._server_state.connections.add(self)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        if self.state is _ASKED:
            self._ask(data)
        elif self._deaf:
            self._hear_the_rest(data)
        elif self._reader is None and len(data) <= self._short and (message := short_message(data)) is not None:
            if self.reading_paused:
                self._deliver(message)
            else:
                self._hand_over(message)
        else:
            self._read(data)
            if len(data) >= BULK_BYTES and not self.reading_paused:
                self._transport.pause_reading()
                self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self.reading_paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> None:
        """The client has said its last byte without a good-bye; the transport closes once what waits is written."""
        if self.state < _CLOSING:
            self.state = _CLOSING
            self._cut_later()
            self._gone(Reason.TRANSPORT_CLOSE, 1006, "")

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self.state is not _OPEN:
            return
        pong, self._pong = self._pong, None
        if pong is not None:
            self._put(write_frame(Opcode.PONG, pong))
        link = self.link
        if link is not None:
            while not self.full and (encoded := link.take()) is not None:
                self._put(encoded.wire)
        if self._asgi is not None:
            self._asgi.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server_state.connections.discard(self)
        self.state = _CLOSED
        self._stop_timers()
        self._gone(Reason.TRANSPORT_CLOSE if exc is None else Reason.TRANSPORT_ERROR, 1006, "")
        self._reader = self._held = self._asgi = self._head = self._late = None

    # --- inbound

    def _read(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            reader = self._reader = FrameReader(self._config.ws_max_size)
        try:
            for received in reader.feed(data):
                if isinstance(received, Close):
                    self._deaf = True  # what comes after a good-bye is not looked at
                    self._reader = None
                    self._deliver(received)
                    return
                self._deliver(received)
        except FrameError as error:
            self._fail(error)
            return
        if reader.idle:
            self._reader = None

    def _deliver(self, received: Received) -> None:
        if isinstance(received, Ping):
            self._answer(received.payload)
        elif isinstance(received, Pong):
            if self._keepalive is not None:
                self._keepalive.heard()
        elif self.reading_paused:
            if self._held is None:
                self._held = deque()  # at most what one read of the socket brought
            self._held.append(received)
        elif isinstance(received, Close):
            self._said_close(received)
        else:
            self._hand_over(received)

    def _hand_over(self, message: str | bytes) -> None:
        if self.state is _OPEN:
            if self._asgi is not None:
                self._asgi.put(message)
            elif self.link is not None:
                self.link.receive(message)

    def _answer(self, ping: bytes) -> None:
        """Of many pings while the client does not read, the latest is answered (RFC 6455 section 5.5.3)."""
        if self.full:
            self._pong = ping
        elif self.state is _OPEN:
            self._say(write_frame(Opcode.PONG, ping))

    def _said_close(self, close: Close) -> None:
        if self.state is _OPEN:
            self._leave(write_close(close.code, ""))
            self._gone(Reason.TRANSPORT_CLOSE, close.code, close.reason)
        self._transport.close()

    def _fail(self, error: FrameError) -> None:
        """The client broke the protocol: it is told how, and nothing more is understood of what it sends."""
        self._reader = self._held = None
        self._deaf = True
        if self._asgi is None:
            self._expel(error)
        else:  # an application that was woken by a message before this one answers it first
            self._loop.call_soon(self._expel, error)

    def _expel(self, error: FrameError) -> None:
        if self.state is not _OPEN:
            self._transport.close()
            return
        if self.link is not None:
            self.link.broken(error.code, error.reason)
        self.close(error.code, error.reason)
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _hear_the_rest(self, data: bytes) -> None:
        """Taken and dropped: a socket closed with unread bytes is reset, and the reset overtakes our close frame.

        It ends with the client's own end, with what looks like its close frame, or when it is cut.
        """
        if ends_with_close(data):
            self._transport.close()

    def _gone(self, reason: str, code: int, words: str) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.lost(reason)
        if self._asgi is not None:
            self._asgi.gone(code, words)

    # --- the port Wire

    def send(self, encoded: Encoded) -> bool:
        if self.state is _OPEN:
            self._say(encoded.wire)
        return not self.full

    def close(self, code: int, reason: str) -> None:
        """Raises ValueError for a code that may not be sent; the connection is as it was then."""
        farewell = write_close(code, reason)
        if self.state is not _OPEN:
            return
        self._leave(farewell)
        self.resume()
        if self._asgi is not None:
            self._asgi.gone(code, reason)

    def pause(self) -> None:
        if not self.reading_paused:
            self.reading_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self.reading_paused:
            return
        self.reading_paused = False
        held, self._held = self._held, None
        while held:
            self._deliver(held.popleft())
            if self.reading_paused:
                self._held = held or None
                return
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # --- the direct channel

    def accept_now(self, subprotocol: str | None = None, headers: Headers = ()) -> None:
        """101. Raises ClientDisconnected when the client has gone meanwhile, ValueError for what no header can hold."""
        if self.state is not _ASKED or self._transport.is_closing():
            raise ClientDisconnected
        assert self._head is not None
        answer = accept_response(self._head, subprotocol, [*self._server_state.default_headers, *headers])
        self.state = _OPEN
        self._head = None
        self._open_turn(answer)

    def take_over(self, link: Link) -> None:
        """Frames go to the link from now on, by plain call; the ASGI call may return."""
        if self.state is _CLOSED:  # the caller waited between accepting and this
            link.lost(Reason.TRANSPORT_CLOSE)
            return
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
            self.refuse(problem.status, [*_PLAIN, *problem.headers], problem.message.encode())
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
            await self._config.loaded_app(scope, asgi.receive, asgi.send)
        except ClientDisconnected:
            pass
        except Exception:
            logger.exception("Exception in ASGI application\n")
            self._give_up(CloseCode.SERVER_ERROR)
            return
        except BaseException:  # cancelled: nobody is left to serve it
            self._give_up(CloseCode.SERVER_ERROR)
            raise
        if self.state is _ASKED:
            logger.error("ASGI callable returned without completing handshake.")
        if self._asgi is not None:  # nobody took it over, so the call's end is the connection's
            self._give_up(CloseCode.DONE)

    def _give_up(self, code: int) -> None:
        if self.state is _ASKED:
            self.refuse(500, _PLAIN, b"Internal Server Error")
        else:
            self.close(code, "")

    def refuse(self, status: int, headers: Headers, body: bytes) -> None:
        """An HTTP answer instead of a WebSocket; the connection ends with it. ValueError for what HTTP cannot say."""
        answer = refusal_response(status, [*self._server_state.default_headers, *headers], body)
        self.state = _CLOSED
        self._cut_later()
        self._put(answer)
        self._transport.close()
        if self._asgi is not None:
            self._asgi.gone(1006, "")

    def opened(self) -> None:
        """The ASGI application accepted: read, and see to it that a dead client is noticed."""
        self.resume()
        interval, timeout = self._config.ws_ping_interval, self._config.ws_ping_timeout
        if interval:
            self._keepalive = Keepalive(self, self._loop, interval, timeout)

    def write(self, frame: bytes) -> bool:
        """False: the connection is lost, and will say so in the next turn of the loop."""
        if self._transport.is_closing():
            return False
        self._put(frame)
        return True

    # --- the end

    def _leave(self, farewell: bytes) -> None:
        """OPEN to CLOSING: nothing is sent after this frame, and time runs."""
        self.state = _CLOSING
        self._put(farewell)
        self._cut_later()

    def _cut_later(self) -> None:
        self._stop_timers()
        self._timer = self._loop.call_later(CLOSE_SECONDS, self._transport.abort)

    def _stop_timers(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        keepalive, self._keepalive = self._keepalive, None
        if keepalive is not None:
            keepalive.stop()

    # --- uvicorn

    def shutdown(self) -> None:
        """The server stops: whoever has not been told yet is told now."""
        if self.state is _OPEN:
            self._leave(write_close(GOING_DOWN, ""))
            self._gone(Reason.DRAINING, GOING_DOWN, "")
        elif self.state is _ASKED:
            self.refuse(503, [], b"")
        self._transport.close()
