"""The wire of an event stream, between a real session and an ASGI server that the test plays."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from adapters import sse
from adapters.sse import EventStream
from realtime import CloseCode, Namespace, PlainDialect, Server
from realtime.clients.peer import RawSession
from realtime.names import Reason
from tests.realtime.living import SECONDS, settings_for, within

SCOPE: dict[str, Any] = {"type": "http", "path": "/events", "headers": [], "query_string": b"", "client": ("::1", 1)}
FORM = PlainDialect(lambda name, data: f"event: {name}\ndata: {data}\n\n")


class Stream:
    """One client listening to ``/work``, and the server below it."""

    def __init__(self, **changes: Any) -> None:
        self.namespace = Namespace("/work")
        self.goodbyes: list[str] = []
        self.namespace.hook("disconnected")(self._disconnected)
        self.server = Server(settings=settings_for(**changes))
        self.server.include(self.namespace)
        self.session = RawSession(self.server.core, "listener", FORM, SCOPE)
        self.sent: asyncio.Queue[Any] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()
        self.fails = False
        self.serving: asyncio.Task[None]

    async def _disconnected(self, reason: str) -> None:
        self.goodbyes.append(reason)

    async def begin(self) -> None:
        await within(self.session.enter("sid", "/work", None))
        self.serving = asyncio.ensure_future(EventStream(self.session)(SCOPE, self._receive, self._send))

    async def _receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.free.wait()
        if self.fails:
            raise OSError("gone")
        self.sent.put_nowait(message)

    async def next(self) -> Any:
        return await within(self.sent.get())

    async def body(self) -> bytes:
        message = await self.next()
        assert message["more_body"] is True
        data: bytes = message["body"]
        return data

    async def ended(self) -> None:
        await asyncio.wait([self.serving], timeout=SECONDS)
        assert self.serving.done()
        await within(self.server.application.rest(SECONDS))
        assert self.server.core.sessions == {}
        assert self.server.hub.namespaces == {}
        assert self.server.metrics.connections.value("sse") == 0


@pytest.mark.asyncio
async def test_events_leave_in_order_until_the_client_goes() -> None:
    stream = Stream()
    await stream.begin()
    start = await stream.next()
    assert start["status"] == 200
    headers = dict(start["headers"])
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-accel-buffering"] == b"no"
    assert await stream.body() == b"retry: 2000\n\n"
    for number in range(5):
        assert await stream.namespace.emit("told", number) == 1
    for number in range(5):
        assert await stream.body() == f"event: told\ndata: {number}\n\n".encode()
    assert stream.server.metrics.connections.value("sse") == 1
    stream.gone.set()
    await stream.ended()
    assert stream.goodbyes == [Reason.TRANSPORT_CLOSE]


@pytest.mark.asyncio
async def test_what_is_said_before_the_answer_begins_is_not_lost() -> None:
    stream = Stream()
    stream.free.clear()
    await stream.begin()
    await stream.namespace.emit("early", 1)
    stream.free.set()
    await stream.next()
    assert await stream.body() == b"retry: 2000\n\n"
    assert await stream.body() == b"event: early\ndata: 1\n\n"
    stream.gone.set()
    await stream.ended()


@pytest.mark.asyncio
async def test_our_end_is_the_end_of_the_body() -> None:
    stream = Stream()
    await stream.begin()
    await stream.next()
    await stream.body()
    await stream.namespace.emit("told", 1)
    stream.session.close(CloseCode.DRAINING, "retry", Reason.DRAINING)
    assert await stream.body() == b"event: told\ndata: 1\n\n"
    assert await stream.next() == {"type": "http.response.body", "body": b""}
    await stream.ended()
    assert stream.goodbyes == [Reason.DRAINING]


@pytest.mark.asyncio
async def test_silence_is_broken_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_SECONDS", 0.01)
    stream = Stream()
    await stream.begin()
    await stream.next()
    await stream.body()
    for _ in range(3):
        assert await stream.body() == b": keep-alive\n\n"
    stream.gone.set()
    await stream.ended()


@pytest.mark.asyncio
async def test_a_client_that_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "CLOSE_SECONDS", 0.01)
    stream = Stream(backlog_limit_messages=5)
    await stream.begin()
    await stream.next()
    await stream.body()
    stream.free.clear()
    for number in range(20):
        await stream.namespace.emit("told", number)
    await stream.ended()
    assert stream.goodbyes == [Reason.SLOW]
    assert stream.server.metrics.drops.value("slow") == 1


@pytest.mark.parametrize("when", ["at once", "later"])
@pytest.mark.asyncio
async def test_a_send_that_fails_is_a_client_that_is_gone(when: str) -> None:
    stream = Stream()
    stream.fails = when == "at once"
    await stream.begin()
    if when == "at once":
        with pytest.raises(OSError, match="gone"):
            await within(stream.serving)
    else:
        await stream.next()
        await stream.body()
        stream.fails = True
        await stream.namespace.emit("told", 1)
    await stream.ended()
    assert stream.goodbyes == [Reason.TRANSPORT_CLOSE]


@pytest.mark.asyncio
async def test_a_server_that_gives_up_the_request_ends_the_session() -> None:
    stream = Stream()
    await stream.begin()
    await stream.next()
    await stream.body()
    stream.serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(stream.serving)
    await stream.ended()


@pytest.mark.asyncio
async def test_a_session_that_ended_before_its_answer_ends_it_at_once() -> None:
    stream = Stream()
    stream.free.clear()
    await stream.begin()
    stream.session.close(CloseCode.DRAINING, "retry", Reason.DRAINING)
    stream.free.set()
    await stream.next()
    assert await stream.body() == b"retry: 2000\n\n"
    assert await stream.next() == {"type": "http.response.body", "body": b""}
    await stream.ended()
