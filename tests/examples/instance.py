"""A stand-in for one instance behind a proxy: `uvicorn tests.examples.instance:app` with REALTIME_NODE=a.

Socket.IO is python-socketio's own server, whose sessions live in this process alone and whose session ids
begin with the node's name, as ours do. Everything else answers with what arrived here.
"""

from __future__ import annotations

import json
import os
from typing import Any

import engineio
import socketio

NODE = os.environ["REALTIME_NODE"]

Scope = dict[str, Any]


class Engine(engineio.AsyncServer):
    def generate_id(self) -> str:
        return f"{NODE}.{super().generate_id()}"


class Server(socketio.AsyncServer):
    def _engineio_server_class(self) -> type[Engine]:
        return Engine


server = Server(async_mode="asgi", cors_allowed_origins="*")
streams = 0
"""Event streams open now."""


@server.event
async def where(sid: str, data: str) -> list[str]:
    return [NODE, data]


def seen(scope: Scope, body: bytes = b"") -> str:
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    return json.dumps(
        {
            "node": NODE,
            "path": scope["path"],
            "query": scope["query_string"].decode(),
            "headers": headers,
            "body_bytes": len(body),
            "streams": streams,
        }
    )


async def answer(scope: Scope, receive: Any, send: Any) -> None:
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": seen(scope, body).encode()})


async def stream(scope: Scope, receive: Any, send: Any) -> None:
    """One event, then silence for as long as the client stays."""
    global streams
    streams += 1
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": f"data: {seen(scope)}\n\n".encode(), "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    streams -= 1


async def echo(scope: Scope, receive: Any, send: Any) -> None:
    """What arrived with the handshake first, then every text back."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": seen(scope)})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def everything_else(scope: Scope, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await echo(scope, receive, send)
    elif scope["path"].endswith("/events"):
        await stream(scope, receive, send)
    elif scope["type"] == "http":
        await answer(scope, receive, send)


app = socketio.ASGIApp(server, other_asgi_app=everything_else)
