"""Many clients at once: where they connect, from which addresses, and how they enter."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from realtime.bench.client import Client, Refused
from realtime.bench.polling import PollingWire
from realtime.bench.speech import Kind, MsgPack, Raw, SocketIO, Speech, filled
from realtime.bench.websocket import Memo, WebSocketWire
from realtime.errors import UsageError

if sys.platform != "win32":  # which has no such limit
    import resource

WIRES: Final = ("socketio", "msgpack", "polling", "raw")
SOURCES: Final = 4
"""Addresses 127.0.0.1 to 127.0.0.4 to connect from: one has about 28,000 ports, some of them resting."""
BIND_ADDRESS_NO_PORT: Final = 24  # IP_BIND_ADDRESS_NO_PORT of Linux: the port is chosen when the peer is known
STEP_SECONDS: Final = 20.0
"""What one client may take to come in. A server that is slower than that has failed it."""
CLOSING_BATCH: Final = 500

Progress = Callable[[str, int, int], None]


def silent(word: str, done: int, total: int) -> None:
    """No progress line."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server. ``resource`` is the path with its query, for raw clients with ``$client`` and ``$room`` in it."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    resource: str

    @classmethod
    def of(cls, url: str, wire: str, default_route: str) -> Target:
        """Raises UsageError for what is not an address. Without a path Socket.IO is at ``/socket.io/``."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
            raise UsageError(f"a URL begins with http://, https://, ws:// or wss:// and has a host; {url!r} came")
        secure = parts.scheme in ("https", "wss")
        path = parts.path if parts.path not in ("", "/") else default_route
        query = [parts.query] if parts.query else []
        if wire != "raw":
            query += ["EIO=4", f"transport={'polling' if wire == 'polling' else 'websocket'}"]
            path = path.rstrip("/") + "/"
        found = path + ("&" if "?" in path else "?") * bool(query) + "&".join(query)
        context = ssl.create_default_context() if secure else None
        return cls(parts.hostname, parts.port or (443 if secure else 80), context, found)

    @property
    def name(self) -> str:
        """For the header Host."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Entry:
    """How a client comes in: its namespace, what it sends with CONNECT, the events it sends one after the other.

    Strings may contain ``$client`` (its number) and ``$room``.
    """

    namespace: str = "/"
    auth: Any = None
    events: tuple[list[Any], ...] = ()
    room: str = "bench"

    def values(self, number: int) -> dict[str, str]:
        return {"client": str(number), "room": self.room}


def raise_file_limit() -> int:
    """As many open files as this process may have; how many that is."""
    if sys.platform == "win32":
        return sys.maxsize
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def speech_of(wire: str) -> Speech:
    """Raises UsageError for an unknown wire, or where MessagePack is not installed."""
    if wire not in WIRES:
        raise UsageError(f"the wire is one of {', '.join(WIRES)}; {wire!r} came")
    return MsgPack() if wire == "msgpack" else Raw() if wire == "raw" else SocketIO()


@dataclass(slots=True)
class Crowd:
    """Clients of one server on one wire. Belongs to one event loop.

    ``refused`` counts those that did not come in, by reason; ``entries`` are the seconds each one took.
    """

    target: Target
    wire: str = "socketio"
    entry: Entry = field(default_factory=Entry)
    progress: Progress = silent
    clients: list[Client] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    entries: list[float] = field(default_factory=list)
    _memo: Memo = field(default_factory=dict)

    async def open(self, count: int, at_once: int = 100) -> list[Client]:
        """Let ``count`` more clients in, ``at_once`` of them under way at a time; those that came in are returned.

        Bounded: a client that is not in after ``STEP_SECONDS`` has failed.
        """
        before = len(self.clients)
        numbers = iter(range(before, before + count))
        await asyncio.gather(*(self._usher(numbers, before + count) for _ in range(min(at_once, count))))
        return self.clients[before:]

    async def _usher(self, numbers: Iterator[int], total: int) -> None:
        for number in numbers:
            started = perf_counter()
            try:
                async with asyncio.timeout(STEP_SECONDS):
                    client = await self.enter(number)
            except (OSError, Refused, TimeoutError) as error:
                self._refuse(_words(error))
                continue
            self.entries.append(perf_counter() - started)
            self.clients.append(client)
            self.progress("connected", len(self.clients), total)

    def _refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    async def enter(self, number: int) -> Client:
        """One client, in its namespace and rooms. Raises OSError or Refused; cancelled, it leaves no connection."""
        speech = speech_of(self.wire)
        client = Client(speech, self.entry.namespace)
        values = self.entry.values(number)
        try:
            if speech.engine:
                await self._open_engine(client, number)
                await client.connect(filled(self.entry.auth, values))
            else:
                await self._open_websocket(client, number, filled(self.target.resource, values))
            for event in self.entry.events:
                await client.call(filled(event, values))
        except BaseException:
            client.cut()
            raise
        return client

    async def _open_engine(self, client: Client, number: int) -> None:
        opening = client.expect()
        if self.wire == "polling":
            wire = PollingWire(
                client, self.target.name, self.target.resource, lambda: self._connect(lambda: wire.post, number)
            )
            await self._connect(lambda: wire.get, number)
            await self._connect(lambda: wire.post, number)
            wire.start()
            packet = await opening
            wire.name(orjson.loads(packet.body)["sid"])
        else:
            await self._open_websocket(client, number, self.target.resource)
            packet = await opening
        if packet.kind is not Kind.OPEN:
            raise Refused("no Engine.IO handshake")

    async def _open_websocket(self, client: Client, number: int, where: str) -> None:
        wire = WebSocketWire(client, self._memo, self.target.name, where)
        await self._connect(lambda: wire, number)
        await wire.opened

    async def _connect(self, protocol: Callable[[], asyncio.Protocol], number: int) -> None:
        source = _source(self.target.host, number)
        loop = asyncio.get_running_loop()
        if source is None:
            await loop.create_connection(protocol, self.target.host, self.target.port, ssl=self.target.tls)
            return
        sock = socket.socket()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
            await loop.sock_connect(sock, (self.target.host, self.target.port))
        except BaseException:
            sock.close()
            raise
        named = self.target.host if self.target.tls else None
        await loop.create_connection(protocol, sock=sock, ssl=self.target.tls, server_hostname=named)

    # --- afterwards

    @property
    def lost(self) -> int:
        """Clients that came in and are gone, though we did not close them."""
        return sum(client.gone is not None for client in self.clients)

    async def close(self) -> None:
        """Everybody leaves."""
        for number, client in enumerate(self.clients, 1):
            client.close()
            if number % CLOSING_BATCH == 0:
                await asyncio.sleep(0)
        self.clients.clear()

    def cut(self) -> None:
        """Everybody is gone at once, without a word."""
        for client in self.clients:
            client.cut()
        self.clients.clear()


def _source(host: str, number: int) -> str | None:
    if host != "127.0.0.1" or sys.platform != "linux":
        return None
    return f"127.0.0.{1 + number % SOURCES}"


def _words(error: Exception) -> str:
    if isinstance(error, Refused):
        return error.code
    return "timeout" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
