"""Clients of every wire, and what each of them was told: the outside view that the end-to-end tests take.

Each is an async context manager that connects on entry and leaves on exit. Nothing waits without an end.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import socketio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

SECONDS = 5.0
"""For anything that happens on the loopback address of a busy machine."""

Result = TypeVar("Result")


async def within(work: Awaitable[Result], seconds: float = SECONDS) -> Result:
    return await asyncio.wait_for(work, seconds)


class Told:
    """What one client was told, in order: pairs of an event's name and its data."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Any]] = []
        self._next = 0
        self._news = asyncio.Event()

    def add(self, name: str, data: Any) -> None:
        self.all.append((name, data))
        self._news.set()

    async def until(self, name: str, seconds: float = SECONDS, **fields: Any) -> Any:
        """The data of the next event of that name with these fields; those before it count as read."""

        async def wait() -> Any:
            while True:
                while self._next < len(self.all):
                    found, data = self.all[self._next]
                    self._next += 1
                    if found == name and all(data.get(key) == value for key, value in fields.items()):
                        return data
                self._news.clear()
                await self._news.wait()

        try:
            return await asyncio.wait_for(wait(), seconds)
        except TimeoutError:
            raise AssertionError(f"no {name} with {fields} within {seconds} s; told was {self.all}") from None

    def count(self, name: str, **fields: Any) -> int:
        """How often it came, read or not."""
        return sum(
            found == name and all(data.get(key) == value for key, value in fields.items()) for found, data in self.all
        )


class SocketIOClient(Told):
    """One namespace of a python-socketio client."""

    def __init__(self, namespace: str, http: aiohttp.ClientSession) -> None:
        super().__init__()
        self.namespace = namespace
        self.client = socketio.AsyncClient(reconnection=False, http_session=http)
        self.gone = asyncio.Event()
        self.client.on("*", self._heard, namespace=namespace)
        self.client.on("disconnect", self._left, namespace=namespace)

    async def _heard(self, name: str, data: Any = None) -> None:
        self.add(name, data)

    async def _left(self, *reason: Any) -> None:
        self.gone.set()

    async def ask(self, event: str, data: Any = None) -> Any:
        """The acknowledged value; an error object fails the test."""
        answer = await self.call(event, data)
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    async def call(self, event: str, data: Any = None) -> Any:
        """The acknowledgement as it comes."""
        return await self.client.call(event, data, namespace=self.namespace, timeout=SECONDS)

    async def emit(self, event: str, data: Any = None) -> None:
        await self.client.emit(event, data, namespace=self.namespace)


@asynccontextmanager
async def socket_io(
    url: str, namespace: str = "/chat", *, auth: Any = None, transports: list[str] | None = None
) -> AsyncIterator[SocketIOClient]:
    """``transports``: one alone, or both (the client begins with polling and upgrades)."""
    http = reading_session()
    found = SocketIOClient(namespace, http)
    try:
        await within(
            found.client.connect(url, namespaces=[namespace], auth=auth, transports=transports, wait_timeout=SECONDS)
        )
        yield found
    finally:
        writing = found.client.eio.write_loop_task if found.gone.is_set() else None
        await within(found.client.disconnect())
        if writing is not None:
            writing.cancel()  # after the server's good-bye a polling client waits 30 s for something to write
        if found.client.eio.read_loop_task is not None:
            await asyncio.wait([found.client.eio.read_loop_task], timeout=SECONDS)
        await http.close()


def reading_session() -> aiohttp.ClientSession:
    """For python-socketio's client: it leaves the answers to its POSTs unread, which aiohttp warns of in the end."""

    async def read(session: Any, context: Any, params: aiohttp.TraceRequestEndParams) -> None:
        if params.response.status != 101:
            await params.response.read()

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(read)
    return aiohttp.ClientSession(trace_configs=[trace])


@asynccontextmanager
async def chatter(
    url: str, user: str, room: str = "lobby", *, transports: list[str] | None = None
) -> AsyncIterator[SocketIOClient]:
    """A Socket.IO client in a chat room."""
    async with socket_io(url, "/chat", auth={"username": user}, transports=transports) as client:
        await client.ask("join", {"room": room})
        yield client


class RawClient(Told):
    """A plain WebSocket; JSON objects are told under their ``type`` (``message`` without one), texts as ``text``."""

    def __init__(self, websocket: ClientConnection) -> None:
        super().__init__()
        self._websocket = websocket
        self.closed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    async def read(self) -> None:
        try:
            async for frame in self._websocket:
                self._heard(str(frame))
        except ConnectionClosed:
            pass
        self.closed.set_result((self._websocket.close_code or 1006, self._websocket.close_reason or ""))

    def _heard(self, frame: str) -> None:
        try:
            found = json.loads(frame)
        except ValueError:
            self.add("text", {"text": frame})
            return
        if "event" in found:
            self.add(found["event"], found.get("data"))
        else:
            self.add("system" if found.get("is_system") else found.get("type", "message"), found)

    async def say(self, message: Any) -> None:
        await within(self._websocket.send(message if isinstance(message, str) else json.dumps(message)))


@asynccontextmanager
async def raw(ws_url: str, path: str, **options: Any) -> AsyncIterator[RawClient]:
    async with connect(
        ws_url + path, open_timeout=SECONDS, close_timeout=SECONDS, ping_interval=None, **options
    ) as websocket:
        client = RawClient(websocket)
        reading = asyncio.create_task(client.read())
        try:
            yield client
        finally:
            await websocket.close()
            await within(reading)


class EventStream(Told):
    """Server-Sent Events; ``ended`` is set when the body is over."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        super().__init__()
        self._response = response
        self.ended = asyncio.Event()

    async def read(self) -> None:
        name, data = "message", ""
        try:
            async for line in self._response.content:
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    data += value
                elif not field and data:
                    self.add(name, json.loads(data))
                    name, data = "message", ""
        except aiohttp.ClientError:
            pass
        self.ended.set()


@asynccontextmanager
async def event_stream(url: str, topic: str) -> AsyncIterator[EventStream]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/notify/{topic}/events") as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        stream = EventStream(response)
        reading = asyncio.create_task(stream.read())
        try:
            yield stream
        finally:
            reading.cancel()
            await asyncio.wait([reading], timeout=SECONDS)


class PollingClient:
    """Engine.IO by hand: each GET and POST is one request that the test sees."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = f"{url}/socket.io/?EIO=4&transport=polling"
        self.sid = ""

    async def open(self) -> dict[str, Any]:
        [packet] = await self.get()
        found: dict[str, Any] = json.loads(packet[1:])
        self.sid = found["sid"]
        self._url += f"&sid={self.sid}"
        return found

    async def get(self) -> list[str]:
        """The packets of one answer."""
        async with self._session.get(self._url) as response:
            assert response.status == 200, await response.text()
            return (await response.text()).split("\x1e")

    async def post(self, *packets: str) -> None:
        async with self._session.post(self._url, data="\x1e".join(packets)) as response:
            assert (response.status, await response.text()) == (200, "ok")

    async def get_until(self, start: str) -> str:
        """Poll until a packet begins with these words."""

        async def wait() -> str:
            while True:
                for packet in await self.get():
                    if packet.startswith(start):
                        return packet
                    if packet == "2":
                        await self.post("3")

        return await within(wait())


@asynccontextmanager
async def polling(url: str, namespace: str = "/chat", auth: Any = None) -> AsyncIterator[PollingClient]:
    """Connected to one namespace."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(SECONDS)) as session:
        client = PollingClient(session, url)
        await client.open()
        await client.post(f"40{namespace},{json.dumps(auth) if auth is not None else ''}")
        await client.get_until(f"40{namespace},")
        yield client


async def publish(url: str, topic: str, title: str, **more: Any) -> dict[str, Any]:
    """HTTP publish; the answer."""
    body = {"title": title, "message": f"about {title}", **more}
    async with aiohttp.ClientSession() as session, session.post(f"{url}/notify/{topic}", json=body) as response:
        answer: dict[str, Any] = await within(response.json())
        assert response.status == 200, answer
        return answer


async def get_json(url: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await within(response.json())
