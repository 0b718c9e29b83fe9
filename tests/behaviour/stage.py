"""A server with handlers of the test's own behind a real uvicorn, and clients that speak Socket.IO by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import pytest

from realtime import Server, socketio
from tests.realtime.living import living, settings_for
from tests.wire import clients
from tests.wire.clients import SECONDS, Client, Frame, head, within

__all__ = ["SECONDS", "WIRES", "Guest", "Packet", "Stage", "Wire", "new_server", "stage", "until", "within"]


@dataclass(frozen=True)
class Wire:
    """A way to a client; ``websocket_class`` is what uvicorn is told with ``--ws``."""

    name: str
    websocket_class: str
    polling: bool = False

    def __str__(self) -> str:
        return self.name


FAST = Wire("fast", "adapters.fast:FastProtocol")
PORTABLE = Wire("portable", "websockets-sansio")
POLLING = Wire("polling", "websockets-sansio", polling=True)
WIRES = [FAST, PORTABLE, POLLING]


@pytest.fixture(params=WIRES, ids=str)
def wire(request: pytest.FixtureRequest) -> Wire:
    found: Wire = request.param
    return found


def new_server(**options: Any) -> Server:
    """Made python-socketio's way; ``settings`` are changes to the defaults."""
    settings = settings_for(**options.pop("settings", {}))
    return socketio.AsyncServer(async_mode="asgi", settings=settings, **options)


async def until(check: Callable[[], Any]) -> None:
    """Lets the loop turn until the check is true: server and client live on it together."""
    async with asyncio.timeout(SECONDS):
        while not check():
            turned = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(turned.set_result, None)
            await turned


# ── packets ──────────────────────────────────────────────────────────────────────────────────────

CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR = range(5)


class Packet(NamedTuple):
    """One of Socket.IO's; attachments are in their places."""

    kind: int
    namespace: str
    id: int | None
    data: Any


def write(kind: int, namespace: str, data: Any, id: int | None = None) -> list[Frame]:
    """The frames of an event or acknowledgement."""
    attachments: list[bytes] = []

    def bare(value: Any) -> Any:
        if isinstance(value, bytes):
            attachments.append(value)
            return {"_placeholder": True, "num": len(attachments) - 1}
        if isinstance(value, dict):
            return {key: bare(each) for key, each in value.items()}
        return [bare(each) for each in value] if isinstance(value, list | tuple) else value

    text = json.dumps(bare(data))
    number = "" if id is None else str(id)
    start = f"4{kind + 3}{len(attachments)}-" if attachments else f"4{kind}"
    return [f"{start}{head(namespace)}{number}{text}", *attachments]


def filled(value: Any, attachments: list[bytes]) -> Any:
    if isinstance(value, dict):
        if value.get("_placeholder"):
            return attachments[value["num"]]
        return {key: filled(each, attachments) for key, each in value.items()}
    return [filled(each, attachments) for each in value] if isinstance(value, list) else value


def split_head(text: str) -> tuple[int, int, str, int | None, str]:
    """Kind, number of attachments, namespace, id, JSON."""
    kind, rest, awaited = int(text[1]), text[2:], 0
    if kind in (EVENT + 3, ACK + 3):
        number, _, rest = rest.partition("-")
        kind, awaited = kind - 3, int(number)
    namespace = "/"
    if rest.startswith("/"):
        namespace, _, rest = rest.partition(",")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return kind, awaited, namespace, int(rest[:digits]) if digits else None, rest[digits:]


# ── clients ──────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Guest:
    """One connection, in one namespace unless a test connects it to more."""

    client: Client
    namespace: str = "/"
    sid: str = ""
    _ids: Any = field(default_factory=count)

    async def connect(self, namespace: str | None = None, auth: Any = None) -> Packet:
        """Ask to be let in, and the answer."""
        await self.client.send(f"40{head(namespace or self.namespace)}{'' if auth is None else json.dumps(auth)}")
        return await self.packet()

    async def packet(self) -> Packet:
        """The next one. Raises ``clients.Gone``."""
        frame = await self.client.receive()
        assert isinstance(frame, str), frame
        assert frame.startswith("4"), frame
        kind, awaited, namespace, id, text = split_head(frame)
        attachments = [await self.client.receive() for _ in range(awaited)]
        assert all(isinstance(each, bytes) for each in attachments)
        return Packet(kind, namespace, id, filled(json.loads(text or "null"), attachments))  # type: ignore[arg-type]

    async def emit(self, *event: Any, id: int | None = None, namespace: str | None = None) -> None:
        await self.client.send(*write(EVENT, namespace or self.namespace, event, id))

    async def ask(self, *event: Any) -> list[Any]:
        """What the server acknowledges with; nothing may come before that."""
        id = next(self._ids)
        await self.emit(*event, id=id)
        packet = await self.packet()
        assert (packet.kind, packet.id) == (ACK, id), packet
        answer: list[Any] = packet.data
        return answer

    async def answer(self, packet: Packet, *args: Any) -> None:
        """Acknowledge what the server asked."""
        assert packet.id is not None
        await self.client.send(*write(ACK, packet.namespace, args, packet.id))

    async def event(self) -> list[Any]:
        """The next event: its name and its arguments."""
        packet = await self.packet()
        assert packet.kind == EVENT, packet
        found: list[Any] = packet.data
        return found

    async def until(self, name: str) -> list[list[Any]]:
        """The events that come before this one."""
        found = []
        while (event := await self.event())[0] != name:
            found.append(event)
        return found


class Stage:
    """A served server. ``server`` may be used directly: it lives on the event loop of the test."""

    def __init__(self, server: Server, url: str, wire: Wire, stack: AsyncExitStack) -> None:
        self.server = server
        self.url = url
        self.wire = wire
        self._stack = stack

    async def knock(self, namespace: str = "/", query: str = "") -> Guest:
        """A connection that has asked for no namespace yet."""
        way = clients.polling if self.wire.polling else clients.websocket
        address = self.url if self.wire.polling else self.url.replace("http", "ws", 1)
        return Guest(await self._stack.enter_async_context(way(address, query=query)), namespace)

    async def guest(self, namespace: str = "/", auth: Any = None, query: str = "") -> Guest:
        """A connection that has been let in."""
        guest = await self.knock(namespace, query)
        answer = await guest.connect(auth=auth)
        assert answer.kind == CONNECT, answer
        guest.sid = answer.data["sid"]
        return guest

    async def guests(self, number: int, namespace: str = "/") -> list[Guest]:
        return [await self.guest(namespace) for _ in range(number)]

    async def heard(self, *guests: Guest) -> list[list[list[Any]]]:
        """What each of them was told so far, which is all that was said to it before."""
        for guest in guests:
            await self.server.emit("fence", to=guest.sid, namespace=guest.namespace)
        return [await guest.until("fence") for guest in guests]


@asynccontextmanager
async def stage(server: Server, wire: Wire = FAST, app: Any = None) -> AsyncIterator[Stage]:
    """Serve it for the block; ``app`` is what it is mounted on, an ASGI application of its own by default."""
    async with (
        living(app or socketio.ASGIApp(server), ws=wire.websocket_class) as url,
        AsyncExitStack() as stack,
    ):
        yield Stage(server, url, wire, stack)
