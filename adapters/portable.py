"""The portable wire: a WebSocket over plain ASGI, on any server.

One parked ``receive`` for each connection, and a writer task only while something is being written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from adapters.writing import Writer
from realtime.encoding.codecs import Encoded
from realtime.errors import CloseCode, HandshakeError
from realtime.names import Reason
from realtime.ports import DIRECT, Door, Link, Receive, Send

CLOSE_SECONDS: Final = 5.0
"""How long a client may take to answer our close frame, or to read what comes before it, until it is cut."""

REASON_BYTES: Final = 123
"""RFC 6455 section 5.5: what a close frame holds beside the code."""


class AsgiWire:
    """Keeps the ports ``Wire`` (outbound) and, for routes that pull, ``Inbound``. Belongs to one event loop."""

    link: Link

    def __init__(self, receive: Receive, send: Send, name: str) -> None:
        self.name = name
        self._receive = receive
        self._send = send
        self._writer = Writer(send, attrgetter("asgi"), self._take, self._lost)
        self._cutting: asyncio.TimerHandle | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._gone = False
        self._was_cut = False
        self._resumed: asyncio.Event | None = None

    # --- the port Wire

    def send(self, encoded: Encoded) -> bool:
        return self._writer.write(encoded)

    def _take(self) -> Encoded | None:
        return self.link.take()

    def close(self, code: int, reason: str) -> None:
        if self._gone or self._writer.ending:
            return
        words = reason.encode()[:REASON_BYTES].decode(errors="ignore")
        self._writer.say_farewell({"type": "websocket.close", "code": code, "reason": words})
        self._cutting = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._cut)
        self.resume()

    def pause(self) -> None:
        if self._resumed is None:
            self._resumed = asyncio.Event()

    def resume(self) -> None:
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    # --- serving

    async def accept(self, subprotocol: str | None = None, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": list(headers)})

    async def run(self) -> None:
        """Hand frames to the link until the client is gone."""
        while (frame := await self.read()) is not None:
            self.link.receive(frame)
            if self._resumed is not None:
                await self._resumed.wait()
        await self.finish()

    async def read(self) -> str | bytes | None:
        """The next frame; None when the client is gone, or did not answer our close in time."""
        if self._gone:
            return None
        self._reader = asyncio.current_task()
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if not self._was_cut:
                raise
            _uncancel()
            return None
        except Exception:  # some servers raise once the connection is lost
            message = {"type": "websocket.disconnect"}
        finally:
            self._reader = None
        if message["type"] == "websocket.receive":
            text: str | None = message.get("text")
            return text if text is not None else bytes(message["bytes"])
        self._lost()
        return None

    async def finish(self) -> None:
        """Returns when nothing is being written any more; a client that does not read is cut."""
        await self._writer.settle(CLOSE_SECONDS)

    def _lost(self) -> None:
        if not self._gone:
            self._gone = True
            if self._cutting is not None:
                self._cutting.cancel()
            self._writer.stop()
            self.link.lost(Reason.TRANSPORT_CLOSE)
            self.resume()

    def _cut(self) -> None:
        """The client took too long over our good-bye."""
        if not self._gone:
            self._gone = self._was_cut = True
            self._writer.stop()
            if self._reader is not None:
                self._reader.cancel()


class Portable:
    """Serves Engine.IO over WebSocket."""

    async def __call__(self, door: Door, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        message = await receive()
        if message["type"] != "websocket.connect":
            return
        try:
            sid = door.admit(scope)
        except HandshakeError as error:
            await _refuse(error, scope, send)
            return
        direct = scope.get("extensions", {}).get(DIRECT)
        if direct is not None:
            _serve_directly(direct, door, sid, scope)
            return
        wire = AsgiWire(receive, send, "websocket")
        await wire.accept(headers=door.answer_headers(scope))
        link = _link(door, sid, scope, wire)
        if link is None:
            # Accepted first: a browser cannot tell a refused WebSocket from a server that is down.
            await send({"type": "websocket.close", "code": CloseCode.POLICY, "reason": "session is taken"})
            return
        await wire.run()

    @staticmethod
    def raw(scope: Mapping[str, Any], receive: Receive, send: Send, link: Link) -> Any:
        """A wire for a route that pulls its frames itself."""
        direct = scope.get("extensions", {}).get(DIRECT)
        if direct is not None:
            return direct.raw(receive, send, link)
        wire = AsgiWire(receive, send, "raw")
        wire.link = link
        return wire


def _serve_directly(direct: Any, door: Door, sid: str | None, scope: Mapping[str, Any]) -> None:
    """The server beneath is ours: no queue, no task, and this call does not wait for the client to leave."""
    direct.accept_now(headers=door.answer_headers(scope))
    link = _link(door, sid, scope, direct)
    if link is None:
        direct.close(CloseCode.POLICY, "session is taken")
    else:
        direct.take_over(link)


def _link(door: Door, sid: str | None, scope: Mapping[str, Any], wire: Any) -> Link | None:
    try:
        return door.open(scope, wire) if sid is None else door.upgrade(sid, wire)
    except HandshakeError:  # it ended while we were accepting
        return None


async def _refuse(error: HandshakeError, scope: Mapping[str, Any], send: Send) -> None:
    """As an HTTP answer where the server can, else as it refuses WebSockets (403)."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": CloseCode.POLICY, "reason": error.message})
        return
    headers = [(b"content-type", b"application/json")]
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": error.body()})


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


__all__ = ["AsgiWire", "Portable"]
