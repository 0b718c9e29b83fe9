"""For Autobahn's fuzzing client (port 9001): an echo of what comes, at /direct without ASGI where the server can."""

from __future__ import annotations

from typing import Any

from realtime.encoding.encoded import Encoded
from realtime.ports import DIRECT


class Echo:
    """Keeps the port ``Link``: what a session is to its wire."""

    def __init__(self, wire: Any) -> None:
        self._wire = wire

    def receive(self, frame: str | bytes) -> None:
        self._wire.send(Encoded.text(frame) if isinstance(frame, str) else Encoded(((False, frame),)))

    def take(self) -> Encoded | None:
        return None

    def put_back(self, encoded: Encoded) -> None:
        """Nothing waits."""

    def hold(self) -> None:
        """Nothing waits."""

    def broken(self, code: int, reason: str, kind: str = "bad_frame") -> None:
        self._wire.close(code, reason)

    def lost(self, reason: str) -> None:
        """Nobody is to be told."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "websocket"
    await receive()
    direct = scope["extensions"].get(DIRECT)
    if scope["path"] == "/direct" and direct is not None:
        direct.accept_now()
        direct.take_over(Echo(direct))
        return
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
