"""For engine.io-client's own suite (port 3000): an echo that greets, a limit of 100 bytes, cookies, and ``deny``."""

from __future__ import annotations

import json
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs

from realtime import socketio
from tests.wire.engine_echo import Echo, engine_server

LIMIT_BYTES = 100
headers: ContextVar[dict[str, str]] = ContextVar("headers")
"""Of the request under way."""


class Greeting(Echo):
    def opened(self) -> None:
        self.say("hi")

    def said(self, message: str | bytes) -> None:
        if message == "give binary":
            self.say(bytes(range(5)))
        elif message == "give utf8":
            self.say("пойду спать всем спокойной ночи")
        elif message == "sendHeaders":
            self.say(json.dumps(headers.get()))
        else:
            self.say(message)


server = engine_server(Greeting, ping_interval=0.5, max_http_buffer_size=LIMIT_BYTES)
engine_io = socketio.ASGIApp(server, socketio_path="engine.io")


def cookies() -> list[tuple[bytes, bytes]]:
    """One that lasts, one for this place alone, and two that are over as they come."""
    now = format_datetime(datetime.now(UTC), usegmt=True)
    found = ["1=1; Max-Age=86400", "2=2; Path=/; HttpOnly; Secure; SameSite=Strict", "3=3; Max-Age=0"]
    return [(b"set-cookie", each.encode()) for each in (*found, f"4=4; Expires={now}")]


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await engine_io(scope, receive, send)
        return
    query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
    if "deny" in query:
        await refuse(scope, receive, send)
        return

    async def send_with_cookies(message: Any) -> None:
        if message["type"] == "http.response.start" and "sid" not in query:
            message = message | {"headers": [*message["headers"], *cookies()]}
        await send(message)

    headers.set({name.decode(): value.decode() for name, value in scope["headers"]})
    await engine_io(scope, receive, send_with_cookies)


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
