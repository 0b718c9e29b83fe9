"""The application under test: a server made python-socketio's way, one in MessagePack, a typed namespace on FastAPI,
and an Engine.IO echo. The suites of the protocols, which others wrote, run against it too (tests/CONFORMANCE.md).

``WIRE_PING`` is ``interval,timeout`` in seconds. ``/debug/state`` tells what lives in this process right now.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI

from realtime import Fail, Namespace, Realtime, Server, Settings, Socket, event, socketio
from tests.wire.engine_echo import engine_server

INTERVAL, TIMEOUT = (float(part) for part in os.environ.get("WIRE_PING", "25,20").split(","))
SETTINGS = Settings(
    ping_interval_seconds=INTERVAL,
    ping_timeout_seconds=TIMEOUT,
    connect_timeout_seconds=1,
    upgrade_timeout_seconds=1,
    inbox_limit_events=16,
    namespaces_per_connection=20,
)
called: Counter[str] = Counter()
"""Handlers that ran, by name: what hostile input must leave as it was."""

# ── python-socketio's way ────────────────────────────────────────────────────────────────────────

sio = socketio.AsyncServer(
    async_mode="asgi", cors_allowed_origins="*", ping_interval=INTERVAL, ping_timeout=TIMEOUT, settings=SETTINGS
)
gate = asyncio.Event()
"""Shut while a test holds handlers back; ``open`` lets them all go."""


async def greet(sid: str, environ: dict[str, Any], auth: Any, namespace: str) -> None:
    called["connect"] += 1
    query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    await sio.emit("auth", auth or {}, to=sid, namespace=namespace)
    if "fail" in query and namespace == "/":
        raise socketio.exceptions.ConnectionRefusedError("not today", {"why": "because"})
    if "raise" in query and namespace == "/":
        raise TypeError("a secret of the server's")
    if "slow" in query and namespace == "/":
        await gate.wait()


@sio.event
async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
    await greet(sid, environ, auth, "/")


@sio.on("connect", namespace="/custom")
async def connect_custom(sid: str, environ: dict[str, Any], auth: Any) -> None:
    await greet(sid, environ, auth, "/custom")


@sio.on("connect", namespace="/no")
async def connect_no(sid: str, environ: dict[str, Any]) -> bool:
    called["connect"] += 1
    return False


@sio.event
async def disconnect(sid: str, reason: str) -> None:
    called["disconnect"] += 1
    called[f"disconnect: {reason}"] += 1


@sio.on("message")
@sio.on("message", namespace="/custom")
async def message(sid: str, *args: Any) -> None:
    called["message"] += 1
    namespace = "/" if sio.manager.is_connected(sid, "/") else "/custom"
    await sio.emit("message-back", args, to=sid, namespace=namespace)


@sio.on("message-with-ack")
async def message_with_ack(sid: str, *args: Any) -> tuple[Any, ...]:
    called["message-with-ack"] += 1
    return args


@sio.on("none")
async def none(sid: str) -> None:
    called["none"] += 1


@sio.on("null")
async def null(sid: str) -> tuple[None]:
    called["null"] += 1
    return (None,)


@sio.on("fails")
async def fails(sid: str) -> None:
    raise ValueError("a secret of the server's")


@sio.on("enter")
async def enter(sid: str, room: str) -> str:
    await sio.enter_room(sid, room)
    return room


@sio.on("shout")
async def shout(sid: str, room: str, what: Any) -> None:
    """To a room of this server, and to the same room of the MessagePack one."""
    for server in (sio, packed):
        await server.emit("shouted", what, room=room)


@sio.on("ask")
async def ask(sid: str, question: Any) -> Any:
    """Ask the client back; its answer becomes ours."""
    return await sio.call("question", question, to=sid, timeout=5)


@sio.on("ask-other")
async def ask_other(sid: str, other: str) -> Any:
    """Ask somebody else, with more patience than any test has."""
    return await sio.call("question", 1, to=other, timeout=60)


@sio.on("leave-me")
async def leave_me(sid: str) -> None:
    """Disconnected by the server."""
    await sio.disconnect(sid)


@sio.on("wait")
async def wait(sid: str) -> str:
    called["wait"] += 1
    await gate.wait()
    return "waited"


@sio.on("open")
async def open_gate(sid: str) -> None:
    gate.set()


@sio.on("shut")
async def shut_gate(sid: str) -> None:
    gate.clear()


@sio.on("nobody")
async def nobody(sid: str) -> None:
    await sio.emit("never", to=[])
    await sio.emit("never", to="")
    await sio.emit("ever", to=None)


class ByClass(socketio.AsyncNamespace):
    """Only ``on_`` methods are events; everything else that has a name must stay out of reach."""

    async def on_hello(self, sid: str) -> str:
        called["hello"] += 1
        return "hello"

    async def helper(self, sid: str, *args: Any) -> None:
        called["helper"] += 1


sio.register_namespace(ByClass("/class"))
for number in range(30):
    sio.on("connect", lambda sid, environ: None, namespace=f"/many{number}")


# ── MessagePack ──────────────────────────────────────────────────────────────────────────────────

packed = socketio.AsyncServer(
    async_mode="asgi", cors_allowed_origins="*", serializer="msgpack", settings=SETTINGS, ping_interval=INTERVAL
)


@packed.on("enter")
async def enter_packed(sid: str, room: str) -> str:
    await packed.enter_room(sid, room)
    return room


# ── Engine.IO alone ──────────────────────────────────────────────────────────────────────────────

echo = engine_server(ping_interval=INTERVAL, ping_timeout=TIMEOUT)


# ── typed, on FastAPI ────────────────────────────────────────────────────────────────────────────


class Typed(Namespace):
    path = "/typed"

    async def authorize(self, auth: dict[str, Any] | None = None) -> None:
        if auth and auth.get("refuse"):
            raise Fail("room_full", "No place", details={"max": 3})

    async def connected(self, socket: Socket) -> None:
        await socket.emit("hello", {"sid": socket.sid})

    @event
    async def echo(self, value: Any = None) -> Any:
        called["typed echo"] += 1
        return value

    @event
    async def size(self, data: bytes) -> int:
        return len(data)

    @event
    async def ask(self, socket: Socket) -> Any:
        """Ask the client back, with more patience than any test has."""
        return await socket.call("question", timeout=60)

    @event
    async def secret(self) -> None:
        raise RuntimeError("a secret of the server's")


api = FastAPI()
typed = Realtime(api, path="/strict", settings=SETTINGS)
typed.include(Typed())


def open_files() -> int:
    """File descriptors of this process, sockets included; 0 where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def together(counted: Iterable[Mapping[tuple[str, ...], float]]) -> dict[str, float]:
    """By reason, those of all servers added up."""
    found: Counter[str] = Counter()
    for values in counted:
        for labels, value in values.items():
            found[labels[0]] += int(value)
    return dict(found)


@api.get("/debug/state")
async def state() -> dict[str, Any]:
    """What lives in this process; the request that asks is not counted."""
    servers: list[Server] = [sio, packed, echo, typed.server]
    loop = asyncio.get_running_loop()
    workers = [pool(loop) for server in servers for pool in (server.core.workers, server.core.threshold)]
    return {
        "sessions": sum(len(server.core.sessions) for server in servers),
        "members": sum(len(rooms.everyone) for server in servers for rooms in server.hub.namespaces.values()),
        "rooms": sum(len(rooms) for server in servers for rooms in server.hub.namespaces.values()),
        "work": sum(len(each) for each in workers),
        "tasks": len(asyncio.all_tasks()) - sum(each.tasks for each in workers),
        "files": open_files(),
        "called": dict(called),
        "violations": together(server.metrics.violations.values for server in servers),
        "drops": together(server.metrics.drops.values for server in servers),
    }


beneath = socketio.ASGIApp(echo, api, socketio_path="engine.io")
app = socketio.ASGIApp(sio, socketio.ASGIApp(packed, beneath, socketio_path="packed"))
