"""``/notify``: topics that anybody may follow and, in production, only token holders may publish to."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection
from starlette.responses import Response

from namespaces.credentials import Credentials, Doorman
from namespaces.once import once
from namespaces.plain import told_error
from realtime import (
    AccessError,
    Answers,
    Identity,
    Namespace,
    PlainDialect,
    Settings,
    Since,
    Socket,
    check_room,
    event,
    new_id,
    now_iso,
    stream_opening,
    stream_text,
)


class Topic(BaseModel):
    topic: str


class Subscription(Topic):
    since: str | None = Field(None, max_length=64)


class Notice(BaseModel):
    """What is published."""

    title: str = Field(min_length=1, max_length=500)
    message: str = Field(min_length=1, max_length=100_000)
    level: Literal["info", "warning", "error", "success"] = "info"
    data: dict[str, Any] | None = None


class TopicNotice(Notice):
    topic: str


def plain_notification(name: str, data: Any, offset: str | None = None) -> dict[str, Any] | None:
    """How a raw client is told; what is no notification is not passed on (see ``plain.Told``)."""
    if not isinstance(data, dict):
        return None
    place = {} if offset is None else {"offset": offset}
    return {**data, "type": "notification", **place} if name == "notification" else told_error(name, data)


def plain_opening(since: Since | None, offset: str | None) -> dict[str, Any] | None:
    """After what a raw client missed: whether that was all."""
    return None if since is None else {"type": "resumed", **since.as_dict(), "offset": offset}


def stream_notification(name: str, data: Any, offset: str | None = None) -> str | None:
    """How an event stream is told; what is no notification is not passed on."""
    return stream_text(name, data, offset) if name == "notification" and isinstance(data, dict) else None


RAW = PlainDialect(plain_notification)
RESUMING = PlainDialect(plain_notification, offsets=True, opening=plain_opening)
"""For who asked with ``since``: each notification carries its offset."""
STREAM = PlainDialect(stream_notification, offsets=True, opening=stream_opening)


class Notify(Namespace):
    """Each topic is a room of its name.

    Server event: `notification`.
    """

    path: ClassVar[str] = "/notify"
    recovery = True

    def __init__(self, doorman: Doorman, answers: Answers, settings: Settings) -> None:
        super().__init__()
        self._doorman = doorman
        self._settings = settings
        self._answers = answers

    async def authorize(self, socket: Socket, auth: Credentials | None = None) -> Identity | None:
        """A token is optional, and without one a client is nobody; a bad one is refused all the same."""
        return self._doorman.by_token(socket.connection, (auth or Credentials()).token)

    @event
    async def subscribe(self, socket: Socket, data: Subscription) -> dict[str, Any]:
        """Hear of a topic from now on; with ``since``, an offset, what was said in it after that comes first."""
        told = await socket.join(data.topic, since=data.since)
        answer = {"topic": data.topic, "offset": self.offset}
        return answer if told is None else answer | told.as_dict()

    @event
    async def unsubscribe(self, socket: Socket, data: Topic) -> dict[str, Any]:
        """Hear of it no longer."""
        await socket.leave(data.topic)
        return {"topic": data.topic}

    @event
    async def publish(self, socket: Socket, data: TopicNotice) -> dict[str, Any]:
        """Needs the scope ``notify:publish:TOPIC`` in a token, whatever the environment."""
        check_room(data.topic, self._settings.room_name_limit_characters, "topic")
        check_scope(socket.user, data.topic)
        return await self.send(data.topic, data)

    async def send(self, topic: str, notice: Notice) -> dict[str, Any]:
        """Tell every subscriber on every instance and wire; ``sent`` counts those of this instance."""
        told: dict[str, Any] = {
            "id": new_id(),
            "topic": topic,
            "level": notice.level,
            "title": notice.title,
            "message": notice.message,
            "timestamp": now_iso(),
        }
        if notice.data is not None:
            told["data"] = notice.data
        return {"sent": await self.emit("notification", told, to=topic), "id": told["id"]}

    async def send_over_http(
        self, request: HTTPConnection, topic: str, notice: Notice, idempotency_key: str | None
    ) -> dict[str, Any]:
        """Publish once for each key: a repeated request gets the first answer, a different body 409."""
        check_room(topic, self._settings.room_name_limit_characters, "topic")
        identity = self._doorman.by_token(request)
        if self._settings.production:
            check_scope(identity, topic)
        if idempotency_key is None:
            return await self.send(topic, notice)
        key = ("notify", identity.user_id if identity else None, topic, idempotency_key)
        return await once(self._answers, key, notice.model_dump(), lambda: self.send(topic, notice))

    def follow(self, request: HTTPConnection, topic: str) -> Awaitable[Response]:
        """A topic as Server-Sent Events; ``Last-Event-ID`` resumes."""
        return self.stream(request, topic, dialect=STREAM)


def check_scope(identity: Identity | None, topic: str) -> None:
    if identity is None:
        raise AccessError("Publishing needs a token", code="unauthorized")
    if not identity.allows(f"notify:publish:{topic}"):
        raise AccessError(f"Your token has no scope notify:publish:{topic}", code="forbidden")
