"""``/secure``: nobody gets in without a token, and nobody stays longer than it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from namespaces.credentials import Credentials, Doorman
from realtime import Identity, Namespace, PayloadError, Socket, event, new_id, now_iso, problem_with_user, user_room


class Whisper(BaseModel):
    to: str | None = None
    text: str = Field(min_length=1)


class Renewal(BaseModel):
    token: str


class Secure(Namespace):
    """Each user has a room of its own, with all its connections in it.

    Server events: `message`, `token_expired`.
    """

    path: ClassVar[str] = "/secure"
    recovery = True

    def __init__(self, doorman: Doorman) -> None:
        super().__init__()
        self._doorman = doorman

    async def authorize(self, socket: Socket, auth: Credentials | None = None) -> Identity:
        """A token, here or in the handshake."""
        identity = self._doorman.require(socket.connection, (auth or Credentials()).token)
        socket.enter(user_room(identity.user_id))
        return identity

    @event
    async def whoami(self, socket: Socket) -> dict[str, Any]:
        """What the token says."""
        user: Identity = socket.user
        return {"user_id": user.user_id, "scopes": sorted(user.scopes), "expires_at": as_iso(user.expires_at)}

    @event
    async def message(self, socket: Socket, data: Whisper) -> dict[str, Any]:
        """To one user's connections, or to everyone here."""
        problem = problem_with_user(data.to) if data.to is not None else None
        if problem is not None:
            raise PayloadError(problem)
        told = {"from": socket.user.user_id, "text": data.text, "timestamp": now_iso()}
        await self.emit("message", told, to=None if data.to is None else user_room(data.to))
        return {"id": new_id()}

    @event
    async def refresh(self, socket: Socket, data: Renewal) -> dict[str, Any]:
        """A later token of the same user takes the place of the first."""
        socket.user = self._doorman.renew(socket.user, data.token)
        return {"expires_at": as_iso(socket.user.expires_at)}


def as_iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
