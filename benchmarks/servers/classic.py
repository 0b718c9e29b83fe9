"""The benchmark's events in python-socketio's own style: the same functions for its server and for ours."""

from __future__ import annotations

import gc
from typing import Any


def add_events(sio: Any) -> None:
    """Register the events of benchmarks/README.md on an ``AsyncServer``."""

    async def join(sid: str, data: dict[str, Any]) -> int:
        for room in data["rooms"]:
            await sio.enter_room(sid, room)
        return len(data["rooms"])

    async def publish(sid: str, data: dict[str, Any]) -> None:
        for text in data["texts"]:
            await sio.emit("msg", text, to=data["room"])

    async def spread(sid: str, data: dict[str, Any]) -> None:
        for number in range(data["rooms"]):
            await sio.emit("msg", data["text"], to=f"{data['prefix']}{number}")

    async def echo(sid: str, text: str) -> str:
        return text

    async def count(sid: str) -> int:
        return sum(1 for _ in sio.manager.get_participants("/", None))

    async def collect(sid: str) -> int:
        return gc.collect()

    for handler in (join, publish, spread, echo, count, collect):
        sio.on(handler.__name__, handler)
