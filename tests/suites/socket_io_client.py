"""For socket.io-client's own suite (port 3210), in python-socketio's way, with recovery: what its tests talk to."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from realtime import socketio

HANDSHAKE_DELAY_SECONDS = 0.01
"""The suite wants to see its client's own connect timeout."""
EIGHT_BYTES = b"asdfasdf"
TEXTS = ("てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string")

sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*", ping_interval=2, recovery=True)
Refused = socketio.exceptions.ConnectionRefusedError
seen: defaultdict[str, set[str]] = defaultdict(set)
"""Events of which the order matters, by sid."""


def handshake_of(sid: str, auth: Any, namespace: str) -> dict[str, Any]:
    environ = sio.get_environ(sid, namespace) or {}
    return {"query": dict(parse_qsl(environ["QUERY_STRING"])), "auth": auth or {}}


@sio.event
async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
    if dict(parse_qsl(environ["QUERY_STRING"])).get("fail"):
        raise Refused("Auth failed (main namespace)")
    await sio.save_session(sid, handshake_of(sid, auth, "/"))


@sio.event
async def disconnect(sid: str, reason: str) -> None:
    seen.pop(sid, None)


@sio.on("connect", namespace="/no")
async def connect_no(sid: str, environ: dict[str, Any], auth: Any) -> None:
    raise Refused("Auth failed (custom namespace)")


@sio.on("connect", namespace="/abc")
async def connect_abc(sid: str, environ: dict[str, Any], auth: Any) -> None:
    await sio.emit("handshake", handshake_of(sid, auth, "/abc"), to=sid, namespace="/abc")


async def accept(sid: str, environ: dict[str, Any], auth: Any) -> None:
    """Nothing else happens in these."""


for name in ("/foo", "/timeout_socket", "/valid", "/asd"):
    sio.on("connect", accept, namespace=name)


@sio.on("getId")
@sio.on("getId", namespace="/foo")
async def get_id(sid: str) -> str:
    return sid


@sio.on("hi")
async def hi(sid: str) -> None:
    await sio.emit("hi", to=sid)


@sio.on("echo")
async def echo(sid: str, value: Any) -> tuple[Any]:
    return (value,)


@sio.on("ack")
async def ack(sid: str, *args: Any) -> Any:
    async def answered(*args: Any) -> None:
        if args == (5, {"test": True}):
            await sio.emit("got it", to=sid)

    await sio.emit("ack", to=sid, callback=answered)
    return sio.not_handled


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@sio.on("getAckDate")
async def get_ack_date(sid: str, data: Any) -> str:
    return now()


@sio.on("getDate")
async def get_date(sid: str) -> None:
    await sio.emit("takeDate", now(), to=sid)


@sio.on("getDateObj")
async def get_date_object(sid: str) -> None:
    await sio.emit("takeDateObj", {"date": now()}, to=sid)


@sio.on("getUtf8")
async def get_utf8(sid: str) -> None:
    for each in TEXTS:
        await sio.emit("takeUtf8", each, to=sid)


@sio.on("false")
async def false(sid: str) -> None:
    await sio.emit("false", False, to=sid)


@sio.on("doge")
async def doge(sid: str) -> None:
    await sio.emit("doge", EIGHT_BYTES, to=sid)


@sio.on("getbin")
async def get_binary(sid: str) -> None:
    await sio.emit("takebin", EIGHT_BYTES, to=sid)


@sio.on("getHandshake")
async def get_handshake(sid: str) -> Any:
    return await sio.get_session(sid)


def after(sid: str, name: str, *before: str) -> None:
    """This came; what ought to have come before it had."""
    assert seen[sid].issuperset(before), f"{name} before {before}"
    seen[sid].add(name)


@sio.on("buffa")
async def buffer(sid: str, data: Any) -> None:
    assert isinstance(data, bytes)
    await sio.emit("buffack", to=sid)


@sio.on("jsonbuff")
async def buffer_in_json(sid: str, data: Any) -> None:
    assert (data["hello"], data["goodbye"], type(data["message"])) == ("lol", "gotcha", bytes)
    await sio.emit("jsonbuff-ack", to=sid)


@sio.on("abuff1")
async def first_buffer(sid: str, data: Any) -> None:
    assert isinstance(data, bytes)
    after(sid, "abuff1")


@sio.on("abuff2")
async def second_buffer(sid: str, data: Any) -> None:
    after(sid, "abuff2", "abuff1")
    await sio.emit("abuff2-ack", to=sid)


@sio.on("blob")
async def blob(sid: str, data: Any) -> None:
    assert isinstance(data, bytes)
    await sio.emit("back", to=sid)


@sio.on("jsonblob")
async def blob_in_json(sid: str, data: Any) -> None:
    assert (data["hello"], data["goodbye"], type(data["message"])) == ("lol", "gotcha", bytes)
    await sio.emit("jsonblob-ack", to=sid)


@sio.on("blob1")
async def first_blob(sid: str, data: Any) -> None:
    assert isinstance(data, bytes)
    after(sid, "blob1")


@sio.on("blob2")
async def second_blob(sid: str, data: Any) -> None:
    assert data == "second"
    after(sid, "blob2", "blob1")


@sio.on("blob3")
async def third_blob(sid: str, data: Any) -> None:
    assert isinstance(data, bytes)
    after(sid, "blob3", "blob1", "blob2")
    await sio.emit("blob3-ack", to=sid)


socket_io = socketio.ASGIApp(sio)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if b"sid=" not in scope.get("query_string", b"sid="):
        waited = asyncio.Event()
        asyncio.get_running_loop().call_later(HANDSHAKE_DELAY_SECONDS, waited.set)
        await waited.wait()
    await socket_io(scope, receive, send)
