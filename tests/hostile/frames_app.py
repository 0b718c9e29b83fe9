"""The application of the wire tests, and two more ways in: a raw route of a namespace, and FastAPI's own WebSocket."""

from __future__ import annotations

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from realtime import Namespace
from tests.wire.app import api, app, called, packed, sio, typed

raw: Namespace = typed.include(Namespace("/raw"))


@api.websocket("/raw")
async def raw_route(websocket: WebSocket) -> None:
    async with raw.raw(websocket) as peer:
        async for _ in peer:
            called["raw"] += 1


@api.websocket("/plain")
async def plain_route(websocket: WebSocket) -> None:
    """FastAPI that knows nothing of us."""
    await websocket.accept()
    try:
        while True:
            await websocket.receive_text()
            called["plain"] += 1
    except WebSocketDisconnect:
        pass


@api.get("/debug/bad-frames")
async def bad_frames() -> int:
    """How many clients broke the wire's own rules, on all servers together."""
    return int(sum(server.metrics.violations.value("bad_frame") for server in (sio, packed, typed.server)))


__all__ = ["app"]
