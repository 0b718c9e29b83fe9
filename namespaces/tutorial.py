"""The tutorial's plain WebSocket routes: clients without a library, in the same rooms (CONTRACT section 3)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, ClassVar

from fastapi import APIRouter, WebSocket, WebSocketException

from namespaces.chat import Chat
from namespaces.notify import RAW as RAW_NOTIFICATIONS
from namespaces.notify import RESUMING, Notify
from namespaces.plain import CHAT, CROWD, JSON_CHAT, SECURE, problem, read_object
from namespaces.secure import Secure
from realtime import (
    AccessError,
    CloseCode,
    LimitError,
    Namespace,
    OutsideError,
    PayloadError,
    Peer,
    Realtime,
    Reason,
    Settings,
    SlidingWindow,
    Socket,
    event,
    now_iso,
    problem_with_user,
)

logger = logging.getLogger("realtime.tutorial")


class Echo(Namespace):
    """Clients that talk to nobody but the server."""

    path: ClassVar[str] = "/echo"

    @event
    async def echo(self, data: Any) -> Any:
        return data


class Crowd(Namespace):
    """One room for everybody."""

    path: ClassVar[str] = "/broadcast"

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._announce_self = settings.raw_announce_self

    async def connected(self, socket: Socket) -> None:
        skip = () if self._announce_self and socket.wire == "raw" else socket.sid
        await self.emit("joined", {"total": len(self.sockets())}, skip=skip)

    async def disconnected(self, socket: Socket) -> None:
        await self.emit("left", {"remaining": len(self.sockets())})

    @event
    async def message(self, text: str) -> None:
        await self.emit("message", text)


def tutorial_routes(realtime: Realtime, chat: Chat, notify: Notify, secure: Secure) -> APIRouter:
    """The routes under ``/ws``."""
    router = APIRouter()
    echo: Echo = realtime.include(Echo())
    crowd: Crowd = realtime.include(Crowd(realtime.settings))
    _add_echoes(router, echo, crowd)
    _add_rooms(router, chat, notify, secure)
    _add_watched(router, echo, realtime.settings)
    return router


def _add_echoes(router: APIRouter, echo: Echo, crowd: Crowd) -> None:
    @router.websocket("/ws")
    async def say_back(websocket: WebSocket) -> None:
        """Any text comes back as `Echo: TEXT`."""
        async with echo.raw(websocket) as peer:
            async for text in peer:
                peer.say(f"Echo: {text}")

    @router.websocket("/ws/lifecycle")
    async def lifecycle(websocket: WebSocket) -> None:
        """Any text comes back as `Received: TEXT`; connect, message and disconnect are logged."""
        async with echo.raw(websocket) as peer:
            client = peer.socket.sid
            logger.info("client %s connected", client)
            try:
                async for text in peer:
                    logger.info("client %s sent a message of %d characters", client, len(text))
                    peer.say(f"Received: {text}")
            finally:
                logger.info("client %s disconnected", client)

    @router.websocket("/ws/broadcast")
    async def broadcast(websocket: WebSocket) -> None:
        """Any text goes to everyone as `Message: TEXT`; arrivals and departures are told with how many are here."""
        async with crowd.raw(websocket, dialect=CROWD) as peer:
            async for text in peer:
                await crowd.emit("message", text)


def _add_rooms(router: APIRouter, chat: Chat, notify: Notify, secure: Secure) -> None:
    @router.websocket("/ws/chat/{username}")
    async def plain_chat(websocket: WebSocket, username: str, room: str = "lobby") -> None:
        """Any text is a message in the room, shared with `/chat`; messages come as JSON, arrivals from `SYSTEM`."""
        async with chat.raw(websocket, room, auth={"username": username}, dialect=CHAT) as peer:
            async for text in peer:
                if text:
                    await _answered(peer, _chat(chat, peer, room, text))

    @router.websocket("/ws/json-chat/{username}")
    async def json_chat(websocket: WebSocket, username: str, room: str = "lobby") -> None:
        """JSON with a `type`: `chat` with `text`, `typing`, `ping`; shares its room with `/chat`."""
        async with chat.raw(websocket, room, auth={"username": username}, dialect=JSON_CHAT) as peer:
            async for text in peer:
                await _answered(peer, _json_chat(chat, peer, room, text))

    @router.websocket("/ws/notify/{topic}")
    async def notifications(websocket: WebSocket, topic: str, since: str | None = None) -> None:
        """Every notification of the topic, as JSON; whatever is sent keeps the connection alive.

        `since`, an offset (or nothing, the first time), resumes: what was missed comes first, then `resumed`; and each
        notification has its `offset`.
        """
        dialect = RAW_NOTIFICATIONS if since is None else RESUMING
        async with notify.raw(websocket, topic, dialect=dialect, since=since) as peer:
            async for _ in peer:
                continue  # whatever comes keeps the connection alive

    @router.websocket("/ws/secure")
    async def behind_a_token(websocket: WebSocket) -> None:
        """Needs `?token=`; any text is answered with the `user_id` and the text."""
        async with secure.raw(websocket, dialect=SECURE, refusal="Invalid token") as peer:
            async for text in peer:
                user = peer.socket.user.user_id
                peer.say({"type": "received", "user_id": user, "data": text, "timestamp": now_iso()})


def _add_watched(router: APIRouter, echo: Echo, settings: Settings) -> None:
    window = SlidingWindow(settings.user_rate_limit_messages, settings.user_rate_limit_seconds)

    @router.websocket("/ws/heartbeat")
    async def heartbeat(websocket: WebSocket) -> None:
        """A `ping` now and then, to be answered by `{"type": "pong"}`; objects with an `id` are acknowledged."""
        async with echo.raw(websocket) as peer:
            pulse = Pulse(peer, settings.heartbeat_interval_seconds)
            beating = asyncio.create_task(pulse.beat())
            try:
                async for text in peer:
                    _heartbeat(peer, pulse, text)
            finally:
                beating.cancel()
                with suppress(asyncio.CancelledError):
                    await beating

    @router.websocket("/ws/ratelimited/{user_id}")
    async def rate_limited(websocket: WebSocket, user_id: str) -> None:
        """Any text is received; over the limit of that user it is an error with `retry_after`."""
        words = problem_with_user(user_id)
        if words is not None:
            raise WebSocketException(CloseCode.POLICY, words)
        async with echo.raw(websocket) as peer:
            async for text in peer:
                wait = window.hit(user_id, time.monotonic())
                if wait is None:
                    peer.say({"type": "received", "data": text})
                else:
                    peer.say({"type": "error", **LimitError("Rate limit exceeded", retry_after=wait).as_dict()})


class Pulse:
    """Pings one client and ends the connection when two intervals have passed without an answer."""

    def __init__(self, peer: Peer, interval: float) -> None:
        self._peer = peer
        self._interval = interval
        self.answered = time.monotonic()

    async def beat(self) -> None:
        while not self._peer.closed:
            self._peer.say({"type": "ping", "timestamp": now_iso()})
            await asyncio.sleep(self._interval)
            if time.monotonic() - self.answered >= 2 * self._interval:
                self._peer.close(CloseCode.SILENT, "no answer to two pings", Reason.PING_TIMEOUT)


def _heartbeat(peer: Peer, pulse: Pulse, text: str) -> None:
    found = read_object(text)
    if isinstance(found, str):
        peer.say(problem("invalid_json", found))
    elif found.get("type") == "pong":
        pulse.answered = time.monotonic()
    elif "id" in found:
        peer.say({"type": "ack", "id": found["id"]})
    else:
        peer.say(problem("invalid_payload", "Send a pong, or an object with an id"))


async def _answered(peer: Peer, work: Awaitable[None]) -> None:
    """What a client is refused is said to it, and its connection lives."""
    try:
        await work
    except (AccessError, LimitError, OutsideError, PayloadError) as error:
        peer.say({"type": "error", **error.as_dict()})


async def _chat(chat: Chat, peer: Peer, room: str, text: str) -> None:
    await chat.check_name(peer.socket)
    await chat.spread(chat.keep(room, peer.socket.user.user_id, text))


async def _json_chat(chat: Chat, peer: Peer, room: str, text: str) -> None:
    """One message of the JSON chat; whatever is wrong with it is said to its sender, and the connection lives."""
    found = read_object(text)
    if isinstance(found, str):
        peer.say(problem("invalid_json", found))
    elif found.get("type") == "ping":
        peer.say({"type": "pong"})
    elif found.get("type") == "typing":
        told = {"room": room, "username": peer.socket.user.user_id, "typing": True}
        await chat.emit("typing", told, to=room, volatile=True)
    elif found.get("type") == "chat":
        words = found.get("text")
        if not isinstance(words, str) or not words:
            peer.say(problem("invalid_payload", "text must be a string that is not empty"))
            return
        await chat.check_name(peer.socket)
        message = chat.keep(room, peer.socket.user.user_id, words)
        peer.say({"type": "chat_received", "id": message.id})
        await chat.spread(message)
    else:
        peer.say(problem("unknown_type", "type must be chat, typing or ping"))
