# An application of one's own, whole: `uvicorn own_app:app`, or `realtime serve own_app:app`.
from fastapi import Depends, FastAPI, WebSocket
from pydantic import BaseModel, Field

from realtime import Realtime, Socket, now_iso

app = FastAPI()
board = Realtime(app).namespace("/board")


class Note(BaseModel):
    text: str = Field(min_length=1, max_length=500)


@board.event
async def note(socket: Socket, data: Note, at: str = Depends(now_iso)) -> int:
    await socket.join("wall")
    return await board.emit("note", {"text": data.text, "at": at}, to="wall")


@app.websocket("/wall")
async def wall(websocket: WebSocket) -> None:
    async with board.raw(websocket, "wall") as peer:
        async for text in peer:
            await peer.handle("note", [{"text": text}])
