"""``/ws/rooms/{namespace}/{room}``: any namespace, any room, for clients without a library."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, WebSocket

from namespaces.plain import problem, read_object
from realtime import NAME_LIMIT, Peer, Realtime


def general_route(realtime: Realtime) -> APIRouter:
    """``{"event", "data", "id"?}`` in; ``{"event", "data"}`` and ``{"reply": id, "data" or "error"}`` out.

    The namespace ``/`` is spelt ``root``; its authorise step and join rule apply.
    """
    router = APIRouter()

    @router.websocket("/ws/rooms/{namespace:path}/{room}")
    async def rooms(
        websocket: WebSocket, namespace: str, room: str, username: str | None = None, since: str | None = None
    ) -> None:
        """`{"event", "data", "id"?}` in; `{"event", "data", "offset"}` and `{"reply": id, "data" or "error"}` out.

        The namespace `/` is spelt `root`; an `id` is a number or a short string. `since`, an offset, resumes: what was
        missed comes first, then `resumed` with `{"recovered"}`.
        """
        name = "/" if namespace == "root" else f"/{namespace}"
        async with realtime.server.raw(name, websocket, {"username": username}, None, (room,), None, since) as peer:
            async for text in peer:
                await _handle(peer, text, realtime.settings.event_name_limit_characters)

    return router


async def _handle(peer: Peer, text: str, limit: int) -> None:
    found = read_object(text)
    if isinstance(found, str):
        peer.say(problem("invalid_json", found))
        return
    name, id = found.get("event"), found.get("id")
    if not isinstance(name, str) or not 0 < len(name) <= limit:
        peer.say(problem("invalid_payload", f"event must be a name of at most {limit} characters"))
    elif not _is_id(id):
        peer.say(problem("invalid_payload", "id must be a number or a short string"))
    else:
        await peer.handle(name, [found["data"]] if "data" in found else [], id)


def _is_id(id: Any) -> bool:
    if isinstance(id, str):
        return len(id) <= NAME_LIMIT
    return id is None or (isinstance(id, int) and not isinstance(id, bool))
