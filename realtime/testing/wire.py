"""A wire without a network: what a session sends is kept in a list, what the client says is a plain call.

    server = Server()
    client = MemoryClient(server)
    sid = await client.connect("/chat", {"username": "alice"})
    assert await client.call("/chat", "join", {"room": "lobby"}) == {...}

Everything happens on the running event loop, through the same session, fan-out and handlers as over a network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from realtime.encoding.codecs import Encoded, json_text
from realtime.encoding.json_text import read_json
from realtime.ports import Link
from realtime.server.server import Server

PATIENCE_SECONDS: Final = 5.0
"""For anything that is expected to happen."""


class MemoryWire:
    """Keeps the port ``Wire``. ``capacity`` is how many emissions it takes before it is full; None is any number."""

    link: Link

    def __init__(self, name: str = "websocket", capacity: int | None = None) -> None:
        self.name = name
        self.capacity = capacity
        self.frames: list[str | bytes] = []
        """Everything that was sent to the client, in order."""
        self.closed: tuple[int, str] | None = None
        """Code and reason of the good-bye, once it was said."""
        self.paused = False
        self._taken = 0
        self._read = 0
        self._news = asyncio.Event()

    # --- the port Wire

    def send(self, encoded: Encoded) -> bool:
        """Keep it; False when that filled the capacity."""
        self.frames += [data.decode() if is_text else data for is_text, data in encoded.frames]
        self._taken += 1
        self._news.set()
        return self.capacity is None or self._taken < self.capacity

    def close(self, code: int, reason: str) -> None:
        """Remember the first good-bye; what still waited is read before it."""
        if self.closed is None:
            self.read_on()
            self.closed = (code, reason)
            self._news.set()

    def pause(self) -> None:
        """The session wants nothing more for now."""
        self.paused = True

    def resume(self) -> None:
        """The session reads on."""
        self.paused = False

    # --- the client's side

    def say(self, *frames: str | bytes) -> None:
        """The client sends these."""
        for frame in frames:
            self.link.receive(frame)

    def read_on(self) -> None:
        """The client reads everything that waits; then the wire is empty again."""
        self._taken = 0
        while (encoded := self.link.take()) is not None:
            self.send(encoded)
        self._taken = 0

    def cut(self, reason: str = "transport close") -> None:
        """The client is gone without a word."""
        self.link.lost(reason)

    async def next(self) -> str | bytes:
        """The next frame that was not asked for yet. Raises AssertionError after PATIENCE_SECONDS, or when closed."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while self._read == len(self.frames):
                    assert self.closed is None, f"the wire was closed with {self.closed}"
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"nothing more came; so far {self.frames}") from None
        self._read += 1
        return self.frames[self._read - 1]


class MemoryClient:
    """A Socket.IO client over a MemoryWire, in text and without attachments. Opens its connection when it is made."""

    def __init__(self, server: Server, wire: MemoryWire | None = None, *, query: str = "", headers: Any = ()) -> None:
        self.wire = wire or MemoryWire()
        kind = "http" if self.wire.name == "polling" else "websocket"
        scope: Mapping[str, Any] = {
            "type": kind, "path": "/socket.io/", "query_string": f"EIO=4&transport={self.wire.name}&{query}".encode(),
            "headers": list(headers), "client": ("192.0.2.1", 50_000), "server": ("test", 80), "scheme": kind[:4],
        }  # fmt: skip
        self.wire.link = self.link = server.eio.open(scope, self.wire)
        self.events: list[tuple[str, list[Any]]] = []
        """(namespace, [name, *arguments]) of every event that was read so far, whoever waited for what."""
        self.pids: dict[str, str] = {}
        """By namespace, where it may come back: show it as ``pid`` in ``auth``, and the last offset as ``offset``."""
        self.offsets: dict[str, str] = {}
        self._ids = 0
        self._given: dict[int, Any] = {}
        """Of ``events``, by identity, those that ``event`` has answered with."""

    async def connect(self, namespace: str = "/", auth: Any = None) -> str:
        """Ask to be let in; answers the sid. Raises Refused with what CONNECT_ERROR carried."""
        before = len(self.events)
        self.send("0", namespace, None, "" if auth is None else json_text(auth))
        kind, data = await self._until(namespace, "0", "4")
        if kind == "4":
            raise Refused(data)
        if "pid" in data:
            self.pids[namespace] = data["pid"]
            for where, missed in self.events[before:]:  # what is told again comes before CONNECT
                self._note_offset(where, missed)
        sid: str = data["sid"]
        return sid

    def emit(self, namespace: str, name: str, *args: Any, id: int | None = None) -> None:
        """Send an event; with an ``id`` it asks for an acknowledgement."""
        self.send("2", namespace, id, json_text([name, *args]))

    async def call(self, namespace: str, name: str, *args: Any) -> Any:
        """Send an event and wait for its acknowledgement: its one argument, None, or a list of several."""
        self._ids += 1
        self.emit(namespace, name, *args, id=self._ids)
        _, data = await self._until(namespace, f"3{self._ids}")
        return data[0] if len(data) == 1 else data or None

    async def event(self, namespace: str, name: str) -> Any:
        """The argument of the next event of this name (None, or a list, where there is not one), without its offset.

        Each event is answered once, in order of arrival: first those that came while something else was waited for.
        """
        while (found := self._waiting(namespace, name)) is None:
            await self._until(namespace, "2")
        self._given[id(found)] = found
        args = found[1][1 : -1 if namespace in self.pids else None]
        return args[0] if len(args) == 1 else args or None

    def disconnect(self, namespace: str = "/") -> None:
        """Leave this namespace; the connection stays."""
        self.send("1", namespace, None, "")

    def send(self, kind: str, namespace: str, id: int | None, payload: str) -> None:
        """One packet, as it is."""
        self.wire.say(f"4{kind}{'' if namespace == '/' else namespace + ','}{'' if id is None else id}{payload}")

    def _waiting(self, namespace: str, name: str) -> tuple[str, list[Any]] | None:
        for each in self.events:
            if each[0] == namespace and each[1][0] == name and id(each) not in self._given:
                return each
        return None

    def _note_offset(self, namespace: str, data: list[Any]) -> None:
        if namespace in self.pids:
            self.offsets[namespace] = data[-1]

    async def _until(self, namespace: str, *kinds: str) -> tuple[str, Any]:
        """The next packet of one of these kinds; pings are answered, events are kept, others passed over."""
        while True:
            frame = await self.wire.next()
            if frame == "2":
                self.wire.say("3")
                continue
            if not isinstance(frame, str) or frame[:1] != "4":
                continue
            kind, where, id, data = read_packet(frame)
            if kind == "2":
                self.events.append((where, data))
                self._note_offset(where, data)
            if where == namespace and (kind in kinds or f"{kind}{id}" in kinds):
                return kind, data


class Refused(Exception):
    """The server answered CONNECT with CONNECT_ERROR; ``data`` is what that carried."""

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        self.data = data


def read_packet(frame: str) -> tuple[str, str, str, Any]:
    """Kind, namespace, acknowledgement id (as text) and data of a Socket.IO packet with its Engine.IO digit.

    A packet with attachments has the kind of one without, and placeholders in its data.
    """
    kind, rest, namespace = frame[1], frame[2:], "/"
    if kind in "56":
        kind, rest = str(int(kind) - 3), rest.partition("-")[2]
    if rest.startswith("/"):
        namespace, _, rest = rest.partition(",")
    payload = rest.lstrip("0123456789")
    id = rest[: len(rest) - len(payload)]
    return kind, namespace, id, read_json(payload) if payload else None
