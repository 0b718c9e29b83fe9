"""Engine.IO without Socket.IO on top: every message goes back to who sent it.

The sessions, the door and the wires are the product's; only what a message means is another thing here.
"""

from __future__ import annotations

from typing import Any

from realtime import Server, Settings
from realtime.clients.connection import Connection
from realtime.encoding.codecs import Encoded, text
from realtime.ports import Wire

A_DAY_SECONDS = 86_400
"""An Engine.IO client never sends CONNECT: nothing waits for one."""


class Echo(Connection):
    """One Engine.IO session."""

    def greet(self, wire: Wire, upgrades: list[str]) -> None:
        super().greet(wire, upgrades)
        self.opened()

    def opened(self) -> None:
        """The handshake is on its way; what is said here follows it."""

    def said(self, message: str | bytes) -> None:
        """A message of the client."""
        self.say(message)

    def say(self, message: str | bytes) -> None:
        self.offer(text("4" + message) if isinstance(message, str) else Encoded(((False, message),)))

    def _message(self, data: str | bytes) -> None:
        self.said(data)


def engine_server(session: type[Echo] = Echo, **options: Any) -> Server:
    """A server whose sessions are of this kind; ``options`` are python-engineio's."""
    server = Server(
        async_mode="asgi",
        cors_allowed_origins="*",
        settings=Settings(connect_timeout_seconds=A_DAY_SECONDS, upgrade_timeout_seconds=1),
        **options,
    )
    engine = server.eio

    def open_session(id: str, scope: Any) -> Echo:
        return session(
            server.core,
            id,
            server.raw_dialect,
            scope,
            server._new_decoder(),
            ping_interval=engine.ping_interval,
            ping_timeout=engine.ping_timeout,
            message_limit=engine.message_limit,
        )

    engine.bind(server.core, engine.origins, open_session)
    return server
