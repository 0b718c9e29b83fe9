"""Our server under test, typed: the whole application that comes with the package, and the benchmark's events beside.

Everything is on: payloads are validated, events of one client run in order, limits are checked, metrics are counted.
"""

from __future__ import annotations

import gc
import os
from typing import ClassVar

from fastapi import FastAPI
from pydantic import BaseModel

from namespaces.app import create_app
from realtime import Namespace, Realtime, Server, Socket, event


class Rooms(BaseModel):
    rooms: list[str]


class Publication(BaseModel):
    room: str
    texts: list[str]
    volatile: bool = False


class Spread(BaseModel):
    prefix: str
    rooms: int
    text: str


class Bench(Namespace):
    """The events of benchmarks/README.md."""

    path: ClassVar[str] = "/"

    @event
    async def join(self, socket: Socket, data: Rooms) -> int:
        for room in data.rooms:
            await socket.join(room)
        return len(data.rooms)

    @event
    async def publish(self, data: Publication) -> None:
        for text in data.texts:
            await self.emit("msg", text, to=data.room, volatile=data.volatile)

    @event
    async def spread(self, data: Spread) -> None:
        for number in range(data.rooms):
            await self.emit("msg", data.text, to=f"{data.prefix}{number}")

    @event
    async def echo(self, text: str) -> str:
        return text

    @event
    async def count(self) -> int:
        return sum(1 for _ in server.manager.get_participants("/", None))

    @event
    async def collect(self) -> None:
        gc.collect()


class Kept(Bench):
    """The same, and what is said is kept for those who come back."""

    path: ClassVar[str] = "/kept"
    recovery = True


def build() -> FastAPI:
    """The whole application; for MessagePack, which is a choice of the server, the benchmark's events alone."""
    if os.environ.get("BENCH_SERIALIZER") != "msgpack":
        return create_app()
    app = FastAPI()
    app.state.realtime = Realtime(app, server=Server(serializer="msgpack"), metrics=True, health=True)
    return app


app = build()
server = app.state.realtime.server
server.include(Bench())
server.include(Kept())
