"""What the fault run serves: the application, and two namespaces whose emissions are written down before anything is
answered, in a file that outlives the process (``history.read_ledger`` reads it).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from time import monotonic
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from namespaces.app import create_app
from realtime import Namespace, Socket

SPACES = ("/board", "/news")
app = create_app()
_ledger = os.open(Path(os.environ["FAULTS_FOLDER"], f"{os.getpid()}.jsonl"), os.O_CREAT | os.O_APPEND | os.O_WRONLY)


def note(*what: Any) -> None:
    """One write: what is in the system's hands survives ``kill -9``."""
    os.write(_ledger, json.dumps(what).encode() + b"\n")


async def say(space: Namespace, room: str, id: str, publisher: str, volatile: bool) -> dict[str, Any]:
    """Emit it, and what came of it."""
    note("begin", id, publisher, f"{space.name}#{room}", volatile, monotonic())
    try:
        result = await space.emit("note", {"id": id}, to=room, volatile=volatile)
    except Exception as error:
        note("raised", id, monotonic(), f"{type(error).__name__}: {error}")
        raise
    place = result.offset
    note("done", id, monotonic(), place, int(result), str(result.bus))
    return {"id": id, "place": place, "kept": place is not None}


def open_space(name: str) -> Namespace:
    space: Namespace = app.state.realtime.include(Namespace(name, recovery=True))

    @space.event
    async def join(socket: Socket, room: str) -> str:
        await socket.join(room)
        return room

    @space.event
    async def tell(socket: Socket, what: dict[str, Any]) -> dict[str, Any]:
        return await say(space, what["room"], what["id"], what["publisher"], what["volatile"])

    @space.event
    async def rooms(socket: Socket) -> list[str]:
        return sorted(socket.rooms)

    return space


spaces = {name: open_space(name) for name in SPACES}
if app.state.realtime.server.backplane is not None:
    app.state.realtime.server.backplane.hooks["bus_regained"].append(lambda: note("regained", monotonic()))


@app.post("/say/{name}/{room}")
async def say_over_http(name: str, room: str, id: str, publisher: str) -> dict[str, Any]:
    return await say(spaces[f"/{name}"], room, id, publisher, False)


@app.get("/events/{name}/{room}")
async def events(request: Request, name: str, room: str) -> Response:
    return await spaces[f"/{name}"].stream(request, room)
