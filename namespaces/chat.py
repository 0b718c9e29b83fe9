"""``/chat``: rooms with members, history, typing and direct messages (CONTRACT section 4)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Any, ClassVar, Final

from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection

from namespaces.credentials import Credentials, Doorman, by_name
from namespaces.once import once
from namespaces.presence import Attendance
from realtime import (
    AccessError,
    Answers,
    Emitted,
    History,
    Identity,
    NameHolders,
    Namespace,
    OutsideError,
    Page,
    PayloadError,
    Reason,
    Settings,
    Socket,
    StoredMessage,
    check_room,
    direct_room,
    event,
    is_system_room,
    json_bytes,
    name_key,
    new_id,
    now_iso,
    problem_with_user,
    user_room,
)

logger = logging.getLogger("realtime.chat")

NAME_CHECK_SECONDS: Final = 10.0
"""Between two questions about one guest's name. While nobody answers, each may take a second."""


GRACE_SECONDS: Final = 5.0
"""For a client that may come back: how long nobody is told that it left."""
OVERHEAD_BYTES = 400
"""What a message costs in an answer beside its text: id, time, and names of up to 128 characters."""


class InRoom(BaseModel):
    room: str


class Say(BaseModel):
    room: str
    text: str = Field(min_length=1)
    client_id: str | None = Field(None, min_length=1, max_length=128)


class Typing(BaseModel):
    room: str
    typing: bool = True


class Older(BaseModel):
    room: str
    before: str | None = Field(None, max_length=64)
    limit: int = Field(50, ge=1, le=200)


class Direct(BaseModel):
    to: str
    text: str = Field(min_length=1)


def guest_room(name: str) -> str:
    """The connections of an anonymous user. Never the room of a token user of that name."""
    return f"@guest:{name}"


def name_taken() -> AccessError:
    return AccessError("This name belongs to somebody with a token", code="name_taken")


def guests_like(name: str) -> str:
    """The connections of all guests whose names pass for this one: they go when a token holder comes."""
    return f"@guests:{name_key(name)}"


def as_event(message: StoredMessage) -> dict[str, Any]:
    """``message`` and ``text`` are the same: the tutorial's model has one name, its test reads the other."""
    return {**asdict(message), "message": message.text}


def receipt(message: StoredMessage, emitted: Emitted) -> dict[str, Any]:
    """What the sender is told. ``durable: false`` where this instance had to go on without its bus."""
    told: dict[str, Any] = {"id": message.id, "timestamp": message.timestamp}
    return told | ({"durable": False} if emitted.durable is False else {})


class Chat(Namespace):
    """Everybody in a room sees the same messages, whatever wire they are on.

    Server events: `message`, `joined`, `left`, `typing`.
    """

    path: ClassVar[str] = "/chat"
    recovery = True

    def __init__(
        self, doorman: Doorman, history: History, holders: NameHolders, answers: Answers, settings: Settings
    ) -> None:
        super().__init__()
        self._doorman = doorman
        self._history = history
        self._holders = holders
        self._settings = settings
        self._attendance = Attendance()
        self._answers = answers
        self._later: set[asyncio.Future[None]] = set()
        self._leaving: dict[str, tuple[asyncio.TimerHandle, list[str]]] = {}

    # --- who

    async def authorize(self, socket: Socket, auth: Credentials | None = None) -> Identity:
        """A token names its user; a name is free as long as no token holder has it."""
        auth = auth or Credentials()
        identity = self._doorman.by_token(socket.connection, auth.token)
        if identity is not None:
            socket.enter(user_room(identity.user_id))
            return identity
        guest = by_name(auth.username or socket.connection.query_params.get("username"))
        socket.enter(guest_room(guest.user_id))
        socket.enter(guests_like(guest.user_id))  # before asking: whoever takes the name meanwhile finds us here
        if await self._is_taken(socket, guest.user_id):
            raise name_taken()
        return guest

    async def connected(self, socket: Socket) -> None:
        """Where a token holder comes, guests of that name go. Who was cut off and is back has never left."""
        if socket.recovered:
            await self._stay(socket)
        if not socket.user.anonymous:
            socket.data["holds"] = True
            try:
                await self._holders.hold(name_key(socket.user.user_id))
            except OutsideError:
                logger.warning("a name could not be reserved on the other instances")
            await self._send_guests_away(socket.user.user_id)

    async def disconnected(self, socket: Socket) -> None:
        if socket.data.pop("holds", False):
            self._release_later(name_key(socket.user.user_id))
        rooms = [room for room in socket.rooms if not is_system_room(room)]
        if socket.may_return and rooms:
            self._leave_later(socket, rooms)
            return
        for room in rooms:
            await self._depart(socket, room)

    def _leave_later(self, socket: Socket, rooms: list[str]) -> None:
        """It may come back in a moment, and nobody need know that it was gone."""

        def leave() -> None:
            self._leaving.pop(socket.sid, None)
            for room in rooms:
                self._do_later(self._depart(socket, room))

        grace = min(GRACE_SECONDS, self._settings.recovery_window_seconds)
        self._leaving[socket.sid] = (asyncio.get_running_loop().call_later(grace, leave), rooms)

    async def _stay(self, socket: Socket) -> None:
        """It is back: in time, and only its rooms may be others now; or later, and then it comes anew."""
        timer, before = self._leaving.pop(socket.sid, (None, []))
        if timer is not None:
            timer.cancel()
        rooms = [room for room in socket.rooms if not is_system_room(room)]
        for room in before:
            if room not in rooms:
                await self._depart(socket, room)
        for room in rooms:
            if room not in before:
                await self.joined(socket, room)

    def _do_later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def _release_later(self, key: str) -> None:
        """A guest who waits for a broken connection must not be the one who is written to a moment later."""
        release = self._holders.release

        def let_go() -> None:
            self._do_later(release(key))

        asyncio.get_running_loop().call_later(self._settings.name_hold_seconds, let_go)

    async def _send_guests_away(self, name: str) -> None:
        """On every instance: they are told, and leave the namespace."""
        guests = guests_like(name)
        await self.emit("error", {"error": name_taken().as_dict()}, to=guests)
        await self.disconnect(guests, Reason.REPLACED)

    async def _is_taken(self, socket: Socket, name: str) -> bool:
        """Where that cannot be known this instance goes on alone, and asks again when the guest says something."""
        socket.data["name_checked_at"] = time.monotonic()
        try:
            return await self._holders.held(name_key(name))
        except OutsideError:
            return False

    async def check_name(self, socket: Socket) -> None:
        """Before somebody says something: a guest's name may be taken by now, on an instance that could not tell us."""
        checked_at = socket.data.get("name_checked_at")  # a token holder's never was
        if checked_at is None or time.monotonic() < checked_at + NAME_CHECK_SECONDS:
            return
        name = socket.user.user_id
        if await self._is_taken(socket, name):
            await self._send_guests_away(name)
            raise name_taken()

    # --- rooms

    async def joined(self, socket: Socket, room: str) -> None:
        now = now_iso()
        user = socket.user.user_id
        if self._attendance.arrive(room, user, now):
            skip = () if self._settings.raw_announce_self and socket.wire == "raw" else socket.sid
            await self.emit("joined", {"room": room, "username": user, "timestamp": now}, to=room, skip=skip)

    async def left(self, socket: Socket, room: str) -> None:
        await self._depart(socket, room)

    async def _depart(self, socket: Socket, room: str) -> None:
        user = socket.user.user_id
        if self._attendance.depart(room, user):
            await self.emit("left", {"room": room, "username": user, "timestamp": now_iso()}, to=room, skip=socket.sid)

    @event
    async def join(self, socket: Socket, data: InRoom) -> dict[str, Any]:
        """Enter a room; answers who is there and what was said last."""
        await self.check_name(socket)
        await socket.join(data.room)
        try:
            page = await self._history.page(data.room, limit=self._settings.history_on_join or 1)
            messages = self._that_fit(page)[0] if self._settings.history_on_join else []
        except OutsideError:
            messages = []  # the room works without its past
        return {"room": data.room, "members": self._names(data.room), "history": messages, "offset": self.offset}

    @event
    async def leave(self, socket: Socket, data: InRoom) -> dict[str, Any]:
        """Go out of a room; from one that one is not in as well."""
        await socket.leave(data.room)
        return {"room": data.room}

    @event
    async def members(self, data: InRoom) -> dict[str, Any]:
        """Who is in a room, with how many connections, since when."""
        self.check_readable(data.room)
        found = self._attendance.users(data.room)
        return {
            "members": [
                {"username": user, "connections": stay.connections, "since": stay.since} for user, stay in found
            ]
        }

    def _names(self, room: str) -> list[str]:
        return [user for user, _ in self._attendance.users(room)]

    # --- messages

    @event
    async def message(self, socket: Socket, data: Say) -> dict[str, Any]:
        """Say something in a room one is in; the same ``client_id`` twice is one message."""
        self.check_present(socket, data.room)
        await self.check_name(socket)

        async def say() -> dict[str, Any]:
            message = self.keep(data.room, socket.user.user_id, data.text)
            return receipt(message, await self.spread(message))

        if data.client_id is None:
            return await say()
        key = ("chat", socket.user.user_id, socket.user.anonymous, data.room, data.client_id)
        return await once(self._answers, key, None, say)

    def keep(self, room: str, username: str, text: str) -> StoredMessage:
        """Store a message. Raises PayloadError for too long a text, LimitError when the database cannot keep up; then
        nobody was told anything."""
        if len(text) > self._settings.chat_text_limit_characters:
            raise PayloadError(f"A text is limited to {self._settings.chat_text_limit_characters} characters")
        message = StoredMessage(new_id(), room, username, text, now_iso())
        self._history.append(message)
        return message

    async def spread(self, message: StoredMessage) -> Emitted:
        return await self.emit("message", as_event(message), to=message.room)

    @event
    async def typing(self, socket: Socket, data: Typing) -> None:
        """Never stored, the first thing to be dropped for a slow reader."""
        self.check_present(socket, data.room)
        told = {"room": data.room, "username": socket.user.user_id, "typing": data.typing}
        await self.emit("typing", told, to=data.room, skip=socket.sid, volatile=True)

    @event
    async def direct(self, socket: Socket, data: Direct) -> dict[str, Any]:
        """A message to one user: in every connection of both."""
        problem = problem_with_user(data.to)
        if problem is not None:
            raise PayloadError(problem)
        await self.check_name(socket)
        sender = socket.user.user_id
        message = self.keep(direct_room(sender, data.to), sender, data.text)
        own = guest_room(sender) if socket.user.anonymous else user_room(sender)
        emitted = await self.emit("message", as_event(message), to=[own, *await self._rooms_of(data.to)])
        return receipt(message, emitted)

    async def _rooms_of(self, user: str) -> list[str]:
        """A token holder's room always; a guest's only while it is certain that nobody holds the name."""
        try:
            held = await self._holders.held(name_key(user))
        except OutsideError:
            held = True
        return [user_room(user)] if held else [user_room(user), guest_room(user)]

    @event
    async def history(self, data: Older) -> dict[str, Any]:
        """What was said in a room before a message, newest last."""
        return await self.page(data)

    async def page(self, wanted: Older) -> dict[str, Any]:
        """Stored messages of a room, newest last."""
        self.check_readable(wanted.room)
        page = await self._history.page(wanted.room, before=wanted.before, limit=wanted.limit)
        messages, more = self._that_fit(page)
        return {"messages": messages, "more": more}

    def _that_fit(self, page: Page) -> tuple[list[dict[str, Any]], bool]:
        """The newest of a page that make an answer of at most half a message (a text is in it twice), one at least;
        and whether there are older ones."""
        room = self._settings.message_limit_bytes // 2
        fit: list[StoredMessage] = []
        for message in reversed(page.messages):
            room -= 2 * len(json_bytes(message.text)) + OVERHEAD_BYTES
            if room < 0 and fit:
                break
            fit.append(message)
        return [as_event(message) for message in reversed(fit)], page.more or len(fit) < len(page.messages)

    async def page_over_http(self, request: HTTPConnection, wanted: Older) -> dict[str, Any]:
        """A page needs no name, for any guest may join any room; a token that comes along must be good."""
        self._doorman.by_token(request)
        return await self.page(wanted)

    # --- doors

    def check_readable(self, room: str) -> None:
        check_room(room, self._settings.room_name_limit_characters)

    @staticmethod
    def check_present(socket: Socket, room: str) -> None:
        if room not in socket.rooms or is_system_room(room):
            raise AccessError("Join the room first", code="not_in_room")
