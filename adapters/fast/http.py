"""uvicorn's HTTP class with an end to everything that a client can hold open or make long.

The parser keeps a request line, header or trailer until it is whole, and nothing in uvicorn asks how long that takes.
Here the bytes are counted before the parser sees them, and one timer for each connection looks now and then at what
the client owes: the rest of a head, the rest of a body, the reading of an answer. A client that owes nothing (an idle
long poll, an event stream) is left alone. With an upgrade to WebSocket all of this ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
from enum import IntEnum
from typing import Any, Final, NamedTuple

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from adapters.fast.upgrade import HEADER_FIELDS
from realtime.errors import LimitError
from realtime.eventloop.loops import PerLoop
from realtime.eventloop.pacing import HANDSHAKES, Gate
from realtime.metrics import HTTP_REFUSED
from realtime.telemetry.seldom import Seldom

logger = logging.getLogger("realtime")

HEAD_BYTES: Final = 32 << 10
"""Request line and headers, or what stands between the pieces of a chunked body: what nginx takes (4 buffers of 8 KiB).
A head that begins within a read of pipelined requests is counted from the next read on, so it may have twice that."""
PIPELINED: Final = 100
"""Requests that may wait for the answers before theirs. Browsers send none, load generators some 16; uvicorn reads on
after every answer, however many wait."""


class Due(IntEnum):
    """What a client has to send next."""

    HEAD = 0
    BODY = 1


_HEAD, _BODY = Due  # an enum's members cost a call each time in Python 3.11


class Refusal(NamedTuple):
    """The answer to a request that is not taken; nothing more is parsed after it."""

    status: int
    code: str
    message: str

    def response(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        body = json.dumps(LimitError(self.message, code=self.code).as_dict()).encode()
        own = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        lines = [b"%s: %s\r\n" % header for header in (*headers, *own)]
        return b"".join([STATUS_LINE[self.status], *lines, b"\r\n", body])


TOO_LONG: Final = Refusal(431, "head_too_big", f"The request head may have {HEAD_BYTES} bytes")
TOO_MANY: Final = Refusal(431, "head_too_big", f"The request head may have {HEADER_FIELDS} header fields")
TOO_SLOW: Final = Refusal(408, "request_timeout", "The request head did not come in time")


TOO_FAR_AHEAD: Final = Refusal(400, "pipelined", f"No more than {PIPELINED} requests may wait for their answers")
_seldom: Final = Seldom()  # of the process, as its counter is
_doors: Final = PerLoop(lambda loop: (Gate(loop, HANDSHAKES), Gate(loop, HANDSHAKES)))
"""For the first requests of new connections: those that want to be a WebSocket, and the others. Of thousands that come
together each would be parsed and handed to the application in one turn: half a second of everybody's."""


class Refused(Exception):
    """Raised in a callback, it stops the parser, which tells of it by an error of its own."""


class BoundedHttp(HttpToolsProtocol):
    """Keeps uvicorn's contract for an HTTP class. Times are in seconds and hold to within one tick."""

    __slots__ = (  # a dictionary of more than 30 names, with uvicorn's 28, would cost each connection a microsecond
        "_deaf", "_due", "_heard", "_held", "_is_new", "_refusal", "_room", "_running", "_since", "_taken", "_timer",
        "_unread", "_unread_since",
    )  # fmt: skip

    TICK_SECONDS = 2.0
    HEAD_SECONDS = 10.0
    """From the connection, or from the first byte of a later request; an idle connection ends with uvicorn's own 5 s.
    Heads come in one piece; Socket.IO has as long for its CONNECT. Apache gives 20 to 40 s, Node 60 s."""
    PAUSE_SECONDS = 10.0
    """A body that makes no progress: a phone that changes its cell is back by then."""
    BODY_SECONDS = 60.0
    BODY_BYTES_PER_SECOND = 16 << 10
    """A whole body: 60 s, which is this rate for a message of 1 MB; a longer upload goes on as long as it keeps it."""
    UNREAD_SECONDS = 30.0
    UNREAD_BYTES = 8 << 10
    """While an answer waits the client reads at least so much in that time (IIS and Kestrel: 240 bytes a second)."""
    LINGER_SECONDS = 2.0
    """After a refusal what the client still sends is taken and dropped: closing on it would reset the connection, and
    the reset overtakes the answer."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._due: Due = _HEAD
        self._since: float | None = None
        """When that became due; None while nothing has been begun after an answered request."""
        self._heard = 0.0
        self._taken = 0
        """Bytes of the body that have come, about."""
        self._room = HEAD_BYTES
        """Bytes that may come until the parser has something whole."""
        self._running: RequestResponseCycle | None = None
        """The request that is being answered; uvicorn's ``cycle`` is the latest, which may have to wait for it."""
        self._refusal: Refusal | None = None
        self._is_new = True
        """Nothing has come yet."""
        self._held: bytes | None = None
        """What came first, until it is its turn."""
        self._deaf = False
        self._unread = 0
        self._unread_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self._timer = self.loop.call_later(self.TICK_SECONDS, self._tick)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        running, self._running = self._running, None
        if running is not None and not running.response_complete:  # uvicorn tells the latest alone
            running.disconnected = True
            running.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        self._unread = 0  # the client has read what waited
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._heard = self.loop.time()
        if self._since is None:
            self._since = self._heard
        if self._is_new:
            self._is_new = False
            if not _doors(self.loop)[b"websocket" not in data.lower()].ask(self._come_in):
                self._held = data
                self.transport.pause_reading()
                return
        elif self._held is not None:  # TLS hands on what it has read already
            self._held += data
            return
        self._take(data)

    def _come_in(self) -> bool:
        held, self._held = self._held, None
        if held is None or self._timer is None or self.transport.is_closing():
            return False
        self.transport.resume_reading()
        self._take(held)
        return True

    def _take(self, data: bytes) -> None:
        self._taken += len(data)
        if len(data) < self._room:
            self._room -= len(data)
            super().data_received(data)
        else:
            self._take_in_pieces(data)

    def _take_in_pieces(self, data: bytes) -> None:
        """Never more at once than there is room for; every piece that completes something makes new room."""
        start = 0
        while start < len(data) and self._listening:
            piece = data[start : start + self._room]
            start += len(piece)
            self._room -= len(piece)
            super().data_received(piece)
            if self._room <= 0 and self._listening:
                self._refuse(TOO_LONG)

    @property
    def _listening(self) -> bool:
        """Neither refused, nor closed, nor handed on to a WebSocket."""
        return not self._deaf and self._timer is not None and not self.transport.is_closing()

    def handle_websocket_upgrade(self) -> None:
        self._stop_timer()
        super().handle_websocket_upgrade()
        del self.parser  # it holds on to us; else both would lie here until the garbage collector comes round

    # --- the parser's calls

    def on_message_begin(self) -> None:
        if self._since is None:
            self._since = self._heard
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if len(self.headers) > HEADER_FIELDS:
            self._refusal = TOO_MANY
            raise Refused
        if len(self.pipeline) >= PIPELINED:
            self._refusal = TOO_FAR_AHEAD
            raise Refused
        super().on_headers_complete()
        if not self.parser.should_upgrade():
            self.headers = []  # trailers come here, too, and are no headers (RFC 9110 section 6.5.1)
        self._due = _BODY
        self._since = self._heard
        self._taken = 0
        self._room = HEAD_BYTES

    def on_body(self, body: bytes) -> None:
        self._room = HEAD_BYTES
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._due = _HEAD
        self._since = None
        self._room = HEAD_BYTES

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    # --- the end

    def send_400_response(self, msg: str) -> None:
        """uvicorn calls this for everything that the parser does not take."""
        self._refuse(self._refusal or Refusal(400, "bad_request", msg))

    def _note(self, reason: str) -> None:
        """Counted each time; told once a minute: everybody can connect, and a line each would be a flood of its own."""
        HTTP_REFUSED.add(reason)
        more = _seldom.left_out(reason, self.loop.time())
        if more is not None:
            logger.info("an HTTP request was ended, %s (and %d more since the last such line)", reason, more)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer and end. Among the answers of earlier requests, or after its own, there is no place for this one."""
        self._note(refusal.code)
        self._deaf = True
        self._since = self.loop.time()
        if self._due is _BODY or self._answering:
            self.transport.close()
            return
        self.transport.write(refusal.response(self.server_state.default_headers))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    @property
    def _answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    @property
    def _wants_no_more(self) -> bool:
        """Is it we who keep the client waiting?"""
        asked_first = self._due is _BODY and bool(self.cycle) and self.cycle.waiting_for_100_continue
        return self.flow.read_paused or asked_first or self._held is not None

    def _tick(self) -> None:
        self._timer = self.loop.call_later(self.TICK_SECONDS, self._tick)
        now = self.loop.time()
        if self._does_not_read(now):
            self._note("unread")
            self.transport.abort()
        elif self.transport.is_closing():
            if self._deaf and self._since is not None and now - self._since > 2 * self.LINGER_SECONDS:
                self.transport.abort()  # TLS takes what its client still says for half a minute
        elif self._wants_no_more:
            self._heard = now
            self._since = now if self._since is not None else None
        elif self._since is not None:
            self._look_at_debts(now, now - self._since)

    def _look_at_debts(self, now: float, age: float) -> None:
        if self._deaf:
            if age > self.LINGER_SECONDS:
                self.transport.close()
        elif self._due is _BODY:
            whole = max(self.BODY_SECONDS, self._taken / self.BODY_BYTES_PER_SECOND)
            if now - self._heard > self.PAUSE_SECONDS or age > whole:
                self._note("body_timeout")
                self.transport.close()
        elif age > self.HEAD_SECONDS:
            if self._room < HEAD_BYTES:
                self._refuse(TOO_SLOW)
            else:
                self._note("silent")
                self.transport.close()

    def _does_not_read(self, now: float) -> bool:
        """What waits grows only while the transport wants more, so it is compared only while it does not."""
        waiting = self.transport.get_write_buffer_size()
        stuck = self.flow.write_paused or self.transport.is_closing()
        if not waiting or not stuck or not self._unread or waiting <= self._unread - self.UNREAD_BYTES:
            self._unread = waiting if stuck else 0
            self._unread_since = now
        return now - self._unread_since > self.UNREAD_SECONDS

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
