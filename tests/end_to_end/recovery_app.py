"""What the recovery tests serve: the application, and beside it a board with binary notes and a volatile one."""

from __future__ import annotations

from typing import Any

from namespaces.app import create_app
from realtime import Namespace, Socket

app = create_app()
board: Namespace = app.state.realtime.include(Namespace("/board", recovery=True))


@board.event
async def join(socket: Socket, room: str) -> list[str]:
    socket.data["joined"] = [*socket.data.get("joined", []), room]
    await socket.join(room)
    return list(socket.data["joined"])


@board.event
async def whoami(socket: Socket) -> dict[str, Any]:
    return {"recovered": socket.recovered, "data": socket.data, "rooms": sorted(socket.rooms), "sid": socket.sid}


@app.post("/board/{room}")
async def tell(room: str, text: str, kind: str = "note", volatile: bool = False) -> int:
    data = {"text": text, "bytes": text.encode()} if kind == "binary" else text
    return await board.emit(kind, data, to=room, volatile=volatile)
