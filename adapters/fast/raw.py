"""A raw client on the fast wire: its route pulls through ASGI, what is said to it goes straight to the transport."""

from __future__ import annotations

from typing import Any, Protocol

from realtime.encoding.codecs import Encoded
from realtime.ports import Link, Receive, Send


class Line(Protocol):
    """The protocol, as this half sees it."""

    link: Link | None

    def send(self, encoded: Encoded) -> bool: ...

    def close(self, code: int, reason: str) -> None: ...


class RawSide:
    """Keeps the ports ``Wire`` (outbound) and ``Inbound``. Belongs to one event loop."""

    name = "raw"

    def __init__(self, line: Line, receive: Receive, send: Send, link: Link) -> None:
        self._line = line
        self._receive = receive
        self._send = send
        self.link = link

    def send(self, encoded: Encoded) -> bool:
        return self._line.send(encoded)

    def close(self, code: int, reason: str) -> None:
        self._line.close(code, reason)

    def pause(self) -> None:
        """The route pulls: what it does not take is not read."""

    def resume(self) -> None:
        """The route pulls: what it does not take is not read."""

    async def accept(self, subprotocol: str | None = None, headers: Any = ()) -> None:
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": list(headers)})
        self._line.link = self.link

    async def read(self) -> str | bytes | None:
        """The next frame; None when the client is gone or was closed."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            return None
        text: str | None = message.get("text")
        return text if text is not None else bytes(message["bytes"])

    async def finish(self) -> None:
        """Nothing is being written here: the transport has it all."""
