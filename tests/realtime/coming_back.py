"""A namespace that keeps what it says, and clients of it over wires in memory that come, are cut off and come back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from realtime import Namespace, Server, Socket
from realtime.errors import AccessError
from realtime.testing import MemoryClient, MemoryWire
from tests.realtime.living import SECONDS, settings_for


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Place:
    """A server with ``/chat``; ``seen`` is what its hooks were called with."""

    def __init__(self, make: Callable[..., Server] = Server, **settings: Any) -> None:
        self.server = make(settings=settings_for(**settings), namespaces=["/plain"])
        self.chat = self.server.include(Namespace("/chat", recovery=True))
        self.seen: list[tuple[Any, ...]] = []
        self.closed_rooms: set[str] = set()
        self.on_asked: Callable[[str], Awaitable[None]] | None = None
        """What happens while the rule of a room is asked."""
        self.gate = asyncio.Event()
        """The authorise step waits for it."""
        self.gate.set()
        self.clock = self.server.returning.absence.clock = Clock()
        self._add_hooks()

    def _add_hooks(self) -> None:
        chat = self.chat

        @chat.hook("authorize")
        async def authorize(socket: Socket, auth: Any = None) -> Any:
            self.seen.append(("authorize", socket.recovered, dict(socket.data), auth))
            await asyncio.wait_for(self.gate.wait(), SECONDS)
            user = (auth or {}).get("user")
            if user == "banned":
                raise AccessError("You are not let in")
            socket.enter(f"user:{user}")
            return user

        @chat.hook("connected")
        async def connected(socket: Socket) -> None:
            self.seen.append(("connected", socket.recovered, socket.unrecovered, sorted(socket.rooms)))

        @chat.hook("disconnected")
        async def disconnected(socket: Socket, reason: str) -> None:
            self.seen.append(("disconnected", reason, socket.may_return))

        @chat.hook("expired")
        async def expired(socket: Socket) -> None:
            self.seen.append(("expired", socket.user, dict(socket.data)))

        @chat.hook("may_join")
        async def may_join(socket: Socket, room: str) -> None:
            if self.on_asked is not None:
                await self.on_asked(room)
            if room in self.closed_rooms:
                raise AccessError("This room is closed")

        @chat.event
        async def join(socket: Socket, room: str, since: str | None = None) -> Any:
            told = await socket.join(room, since=since)
            return None if told is None else told.as_dict()

        @chat.event
        async def leave(socket: Socket, room: str) -> None:
            await socket.leave(room)

        @chat.event
        async def remember(socket: Socket, key: str, value: Any) -> None:
            socket.data[key] = value

    async def guest(self, **options: Any) -> Guest:
        guest = Guest(self.server, **options)
        await guest.come()
        return guest

    def hooks(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.seen if call[0] == name]


class Guest:
    """A client that does what the stock JavaScript client does with pid and offset."""

    def __init__(self, server: Server, namespace: str = "/chat", user: str | None = None, query: str = "") -> None:
        self.server, self.namespace, self.query = server, namespace, query
        self.auth: dict[str, Any] = {} if user is None else {"user": user}
        self.pid: str | None = None
        self.sid = ""
        self.offset: str | None = None
        self.data: dict[str, Any] = {}
        self.events: list[list[Any]] = []
        self.before_connect = 0
        """Events that came before CONNECT."""
        self.client: MemoryClient

    async def come(self, wire: MemoryWire | None = None, **auth: Any) -> dict[str, Any]:
        """Connect (again); answers the data of CONNECT or of CONNECT_ERROR."""
        self.client = MemoryClient(self.server, wire, query=self.query)
        return await self.knock(**auth)

    async def knock(self, **auth: Any) -> dict[str, Any]:
        shown = {"pid": self.pid, **({} if self.offset is None else {"offset": self.offset})} if self.pid else {}
        shown = {**shown, **self.auth, **auth}
        self.client.send("0", self.namespace, None, json.dumps(shown) if shown else "")
        kind, self.data = await self.client._until(self.namespace, "0", "4")
        self.before_connect = len(self.client.events)
        self.read()
        if kind == "0":
            self.sid, self.pid = self.data["sid"], self.data.get("pid")
        return self.data

    async def say(self, name: str, *args: Any) -> Any:
        answer = await self.client.call(self.namespace, name, *args)
        self.read()
        return answer

    def read(self) -> None:
        """Take what came, and the last offset."""
        for namespace, data in self.client.events:
            if namespace == self.namespace:
                self.events.append(data)
                if self.pid is not None and isinstance(data[-1], str):
                    self.offset = data[-1]
        self.client.events.clear()

    async def catch_up(self) -> list[Any]:
        """The first arguments of all events so far; what was emitted before has come when this returns."""
        await self.say("remember", "here", True)
        return self.told

    @property
    def told(self) -> list[Any]:
        return [data[1] for data in self.events]

    def cut(self, reason: str = "transport close") -> None:
        """The connection ends without a word."""
        self.client.wire.cut(reason)
