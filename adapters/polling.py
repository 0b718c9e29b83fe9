"""Engine.IO over HTTP long-polling: GET takes what waits for the client, POST brings what it says."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import ceil
from typing import Any, Final

from realtime.access.environ import header_of
from realtime.encoding.codecs import NOOP_FRAME, Encoded
from realtime.encoding.packets import CLOSE, SEPARATOR, split_payload
from realtime.errors import CloseCode, HandshakeError, ProtocolError
from realtime.names import Reason
from realtime.ports import Door, Link, Receive, Send

BATCH_PACKETS: Final = 16
"""python-socketio's own clients drop the connection over this many in one answer; an attachment is a packet, too."""
TURN: Final = 256
"""Packets of one POST in a row before others get their turn."""
BATCH_BYTES: Final = 1 << 20
"""One answer carries at most about this much; what is left waits for the next poll."""

PONG: Final = b"3"
LEAVE: Final = b"41"
"""A DISCONNECT of Socket.IO."""
LULL_SECONDS: Final = 0.1
"""JavaScript clients take in a refused POST a timer's turn later than the answer to a poll. The poll that is pending
when a body was too big ends after that, so that the client knows why: else it hears of an end without a reason."""

TEXT = (b"content-type", b"text/plain; charset=UTF-8")
JSON = (b"content-type", b"application/json")
NO_STORE = (b"cache-control", b"no-store")


class PollWire:
    """Keeps the port ``Wire``: free while a GET is pending, holding otherwise. Belongs to one event loop."""

    name = "polling"

    def __init__(self) -> None:
        self.link: Link
        self._loop = asyncio.get_running_loop()
        self._poll: asyncio.Future[list[Encoded]] | None = None
        self._batch: list[Encoded] = []
        self._size = 0
        self._packets = 0
        self._closed = False
        self._lull = False
        self._readable: asyncio.Event | None = None
        self._reading: asyncio.Timeout | None = None
        self.posting = False
        """Is a POST being read? Clients send one at a time; more would only be a way to make us hold their bodies."""

    def send(self, encoded: Encoded) -> bool:
        more = self._add(encoded)
        if len(self._batch) == 1:
            self._loop.call_soon(self._release)  # what else is said in this turn travels with it
        return more

    def _add(self, encoded: Encoded) -> bool:
        """False when the answer takes no more; what did not fit goes back to wait."""
        packets = len(encoded.frames)
        if self._batch and self._packets + packets > BATCH_PACKETS:
            self.link.put_back(encoded)
            return False
        self._batch.append(encoded)
        self._size += encoded.size
        self._packets += packets
        return self._size < BATCH_BYTES and self._packets < BATCH_PACKETS

    def close(self, code: int, reason: str) -> None:
        self._closed = True
        if self._poll is not None and self.link.closed:  # else it is an upgrade, which takes along what waits
            while (encoded := self.link.take()) is not None:
                self._batch.append(encoded)
        self._lull = code == CloseCode.TOO_BIG
        if self._lull:
            self._loop.call_later(LULL_SECONDS, self._release, True)
        else:
            self._release(final=True)
        self.resume()
        if self._reading is not None and self.link.closed:
            reading, self._reading = self._reading, None
            reading.reschedule(self._loop.time())

    def pause(self) -> None:
        if self._readable is None:
            self._readable = asyncio.Event()

    def resume(self) -> None:
        if self._readable is not None:
            self._readable.set()
            self._readable = None

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def polled(self) -> bool:
        return self._poll is not None

    async def readable(self) -> None:
        """Returns when the session wants more from this client."""
        while self._readable is not None and not self._closed:
            await self._readable.wait()

    async def body(self, receive: Receive, limit: int) -> bytes | None:
        """As ``_body``, as long as there is a session to read it for; raises HandshakeError once there is none."""
        try:
            async with asyncio.timeout(None) as self._reading:
                return await _body(receive, limit)
        except TimeoutError:
            raise HandshakeError(400, 3, "Bad request", reason="session_ended") from None
        finally:
            self._reading = None

    def poll(self) -> asyncio.Future[list[Encoded]]:
        """What waits for the client, or will; at least one packet. A closed wire answers with a NOOP."""
        self._poll = poll = self._loop.create_future()
        while not self._closed and (encoded := self.link.take()) is not None and self._add(encoded):
            continue
        self._release(final=self._closed)
        return poll

    def forget(self, poll: asyncio.Future[list[Encoded]]) -> None:
        """Its request is over, answered or not."""
        if self._poll is poll:
            self._poll = None

    def _release(self, final: bool = False) -> None:
        if self._poll is not None and (final or (self._batch and not self._lull)):
            poll, self._poll = self._poll, None
            poll.set_result(self.emptied())

    def emptied(self) -> list[Encoded]:
        """Everything that was sent since the last answer; the client has to come again for more."""
        if not self._closed:
            self.link.hold()
        batch, self._batch, self._size, self._packets = self._batch, [], 0, 0
        return batch or [NOOP_FRAME]


class Polling:
    """Serves the HTTP half of Engine.IO."""

    async def __call__(self, door: Door, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        answer = Answer(door, scope, send)
        if scope["method"] == "OPTIONS":
            await answer.send(204, b"")
            return
        try:
            sid = door.admit(scope)
            if sid is None:
                await self._handshake(door, scope, answer)
            elif scope["method"] == "GET":
                await self._get(door, sid, receive, answer)
            elif scope["method"] == "POST":
                if door.has_ended(sid):
                    await self._post_too_late(door, sid, receive, answer)
                else:
                    await self._post(door, door.find(sid), receive, answer)
            else:
                raise HandshakeError(400, 2, "Bad handshake method", reason="bad_method")
        except HandshakeError as error:
            if error.retry_after is not None:
                answer.add([(b"retry-after", b"%d" % ceil(error.retry_after))])
            await answer.send(error.status, error.body(), JSON)

    async def _handshake(self, door: Door, scope: Mapping[str, Any], answer: Answer) -> None:
        wire = PollWire()
        link = door.open(scope, wire)
        answer.add(door.opening_headers(link))
        await answer.packets(wire.emptied())

    async def _get(self, door: Door, sid: str, receive: Receive, answer: Answer) -> None:
        last_words = door.farewell(sid)
        if last_words is not None:
            await answer.packets(last_words)
            return
        link = door.find(sid)
        wire = _poll_wire(link)
        if wire.polled:
            link.broken(CloseCode.PROTOCOL, "two polls at once", "two_polls")
            raise HandshakeError(400, 3, "Bad request", reason="two_polls")
        poll = wire.poll()
        gone = asyncio.ensure_future(_disconnected(receive))
        answered = False
        try:
            await asyncio.wait((poll, gone), return_when=asyncio.FIRST_COMPLETED)
            if not gone.done():
                await answer.packets(poll.result())
                answered = True
        finally:
            wire.forget(poll)
            gone.cancel()
            if not answered:  # what the answer carried is lost, and the session must not believe that it arrived
                link.lost(Reason.TRANSPORT_CLOSE)
                wire.close(CloseCode.DONE, "")

    async def _post(self, door: Door, link: Link, receive: Receive, answer: Answer) -> None:
        wire = _poll_wire(link)
        if wire.posting:
            link.broken(CloseCode.PROTOCOL, "two posts at once", "two_posts")
            raise HandshakeError(400, 3, "Bad request", reason="two_posts")
        wire.posting = True
        try:
            body = await wire.body(receive, door.message_limit)
            if body is None:
                link.broken(CloseCode.TOO_BIG, "message too big", "too_big")
                await answer.send(413, b"")
                return
            await self._take_in(wire, body)
        finally:
            wire.posting = False
        await answer.send(200, b"ok", (b"content-type", b"text/html"))

    async def _post_too_late(self, door: Door, sid: str, receive: Receive, answer: Answer) -> None:
        """A stock client that reads that it is sent away says good-bye, or it was just answering a ping, and a browser
        would show an error for it."""
        body = await _body(receive, door.message_limit)
        if body is None or not all(map(_says_nothing, body.split(SEPARATOR.encode()))):
            door.find(sid)  # it is not here any more: what else it said was not taken
        await answer.send(200, b"ok", (b"content-type", b"text/html"))

    async def _take_in(self, wire: PollWire, body: bytes) -> None:
        """The packets of one POST, as fast as the session wants them. Raises HandshakeError."""
        try:
            frames = split_payload(body.decode("utf-8"))
        except (ProtocolError, UnicodeDecodeError):
            wire.link.broken(CloseCode.BAD_PROTOCOL, "malformed payload", "bad_payload")
            raise HandshakeError(400, 3, "Bad request", reason="bad_payload") from None
        for number, frame in enumerate(frames, 1):
            await wire.readable()
            wire.link.receive(frame)
            if number % TURN == 0:
                await asyncio.sleep(0)  # half a million packets fit into one POST
        if wire.link.closed and CLOSE not in frames:
            raise HandshakeError(400, 3, "Bad request", reason="bad_payload")


class Answer:
    """An HTTP answer with the headers that the door wants on it."""

    def __init__(self, door: Door, scope: Mapping[str, Any], send: Send) -> None:
        self._headers = door.answer_headers(scope)
        self._send = send
        self._compress_from = door.compress_from_bytes if _takes_gzip(header_of(scope, b"accept-encoding")) else None

    def add(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._headers += headers

    async def packets(self, batch: Sequence[Encoded]) -> None:
        body = SEPARATOR.join(encoded.payload for encoded in batch).encode("utf-8", "surrogatepass")
        if self._compress_from is not None and len(body) >= self._compress_from:
            self._headers.append((b"content-encoding", b"gzip"))
            body = gzip.compress(body, 1)
        await self.send(200, body, TEXT)

    async def send(self, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        length = [] if status == 204 else [(b"content-length", str(len(body)).encode())]
        found = [*headers, NO_STORE, *length, *self._headers]
        await self._send({"type": "http.response.start", "status": status, "headers": found})
        await self._send({"type": "http.response.body", "body": body})


def _takes_gzip(accepted: str | None) -> bool:
    """RFC 9110 section 12.5.3, as far as clients use it: ``gzip``, and not with a weight of zero."""
    for part in (accepted or "").lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() == "gzip":
            return not weight or weight.partition("=")[2].strip(" 0.") != ""
    return False


def _says_nothing(frame: bytes) -> bool:
    """Good-bye to everything or to a namespace, and the answer to a ping: nothing is lost with them."""
    return frame in (CLOSE.encode(), PONG) or frame.startswith(LEAVE)


def _poll_wire(link: Link) -> PollWire:
    if not isinstance(link.wire, PollWire):
        raise HandshakeError(400, 3, "Bad request", reason="upgraded")
    return link.wire


async def _body(receive: Receive, limit: int) -> bytes | None:
    """The whole body; None when it is over the limit, of which no more than the limit is kept."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise HandshakeError(400, 3, "Bad request", reason="cut_off")
        size += len(message.get("body", b""))
        if size > limit:
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _disconnected(receive: Receive) -> None:
    """Returns when the client of a pending GET has gone away."""
    with suppress(Exception):  # some servers raise once the connection is lost
        while (await receive())["type"] != "http.disconnect":
            pass
