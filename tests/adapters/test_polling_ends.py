"""Beside test_polling.py: how polls and their sessions end, and what is on its way then."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from adapters.polling import BATCH_PACKETS, Polling, PollWire
from realtime.encoding.codecs import Encoded, text
from realtime.ports import Wire
from realtime.session.outbox import Bounds, Outbox
from realtime.testing import MemoryWire
from tests.adapters.by_hand import ByHand, House, turn, within

pytestmark = pytest.mark.asyncio

GONE = {"type": "http.disconnect"}
SEPARATOR = "\x1e"


# ── the wire ─────────────────────────────────────────────────────────────────────────────────────


class Client:
    """Keeps the port ``Link``, with an outbox of its own, and remembers what the wire tells."""

    def __init__(self) -> None:
        self.closed = False
        self.outbox = Outbox(Bounds(), lambda reason: None)
        self.wire: Wire | None = None
        self.polling = PollWire()
        self.polling.link = self
        self.outbox.attach(self.polling, free=True)
        self.take, self.hold, self.put_back = self.outbox.take, self.outbox.hold, self.outbox.put_back

    def send(self, *words: str) -> None:
        for word in words:
            self.outbox.offer(text(word))

    def receive(self, frame: str | bytes) -> None: ...

    def close(self, code: int, text: str, reason: str) -> None: ...

    def broken(self, code: int, reason: str, kind: str = "bad_frame") -> None: ...

    def lost(self, reason: str) -> None: ...

    async def poll(self) -> list[str]:
        answer: list[Encoded] = await asyncio.wait_for(self.polling.poll(), 5)
        return [encoded.payload for encoded in answer]


def polled() -> tuple[Client, PollWire]:
    """A client that has had its handshake."""
    client = Client()
    client.polling.emptied()
    return client, client.polling


async def test_an_emission_with_attachments_is_not_torn_apart() -> None:
    client, wire = polled()
    big = Encoded(((True, b"head"), *((False, b"x") for _ in range(10))))
    for _ in range(3):
        client.outbox.offer(big)
    answers = [await asyncio.wait_for(wire.poll(), 5) for _ in range(3)]
    assert answers == [[big], [big], [big]]
    huge = Encoded(((True, b"head"), *((False, b"x") for _ in range(20))))
    poll = wire.poll()
    client.send("before")
    client.outbox.offer(huge)
    client.send("after")
    assert [encoded.size for encoded in await asyncio.wait_for(poll, 5)] == [len("before")]
    assert await asyncio.wait_for(wire.poll(), 5) == [huge]
    assert await client.poll() == ["after"]


async def test_a_close_ends_the_pending_poll_with_what_still_waits() -> None:
    client, wire = polled()
    client.send(*map(str, range(BATCH_PACKETS + 5)))
    poll = wire.poll()
    client.send("last words")
    client.closed = True
    wire.close(4501, "bad")
    wire.close(4501, "again")
    answered = [encoded.payload for encoded in await asyncio.wait_for(poll, 5)]
    assert answered == [*map(str, range(BATCH_PACKETS))]  # it was on its way already
    assert wire.closed

    client, wire = polled()
    poll = wire.poll()
    client.send(*map(str, range(BATCH_PACKETS + 5)), "last words")
    client.closed = True
    wire.close(4501, "bad")
    answered = [encoded.payload for encoded in await asyncio.wait_for(poll, 5)]
    assert answered == [*map(str, range(BATCH_PACKETS + 5)), "last words"]


async def test_a_wire_that_closes_for_an_upgrade_leaves_what_waits_to_the_next() -> None:
    client, wire = polled()
    poll = wire.poll()
    client.outbox.detach()
    client.send("for the WebSocket")
    wire.close(1000, "")
    assert [encoded.payload for encoded in await asyncio.wait_for(poll, 5)] == ["6"]
    assert len(client.outbox) == 1
    assert await client.poll() == ["6"]


async def test_reading_stops_until_it_goes_on_or_there_is_an_end() -> None:
    _, wire = polled()
    await within(wire.readable())
    wire.pause()
    wire.pause()
    waiting = asyncio.ensure_future(wire.readable())
    await turn()
    assert not waiting.done()
    wire.resume()
    wire.resume()
    await asyncio.wait_for(waiting, 5)
    wire.pause()
    waiting = asyncio.ensure_future(wire.readable())
    await turn()
    wire.close(1000, "")
    await asyncio.wait_for(waiting, 5)


async def test_who_is_stopped_again_at_once_still_waits() -> None:
    _, wire = polled()
    wire.pause()
    waiting = asyncio.ensure_future(wire.readable())
    await turn()
    wire.resume()
    wire.pause()
    await turn()
    await turn()
    assert not waiting.done()
    wire.resume()
    await asyncio.wait_for(waiting, 5)


# ── the requests ─────────────────────────────────────────────────────────────────────────────────


def scope(method: str = "GET", query: str = "EIO=4&transport=polling", *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {
        "type": "http", "method": method, "path": "/socket.io/", "query_string": query.encode(),
        "headers": list(headers), "client": ("192.0.2.1", 50_000), "server": ("test", 80), "scheme": "http",
    }  # fmt: skip


class Pollster:
    """A polling client whose requests are made by hand."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.query = "EIO=4&transport=polling"

    def ask(
        self, method: str, *messages: Any, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> tuple[ByHand, asyncio.Task[None]]:
        """A request under way, which has been told so much."""
        request = ByHand()
        request.tell(*messages)
        asked = scope(method, self.query, *headers)
        call = Polling()(self.house.server.eio, asked, request.receive, request.send)
        return request, asyncio.ensure_future(call)

    async def get(self, *headers: tuple[bytes, bytes]) -> ByHand:
        request, done = self.ask("GET", {"type": "http.request", "body": b""}, headers=headers)
        await asyncio.wait_for(done, 5)
        return request

    async def post(self, *bodies: bytes) -> ByHand:
        parts = [{"type": "http.request", "body": body, "more_body": True} for body in bodies]
        request, done = self.ask("POST", *parts, {"type": "http.request"})
        await asyncio.wait_for(done, 5)
        return request

    async def enter(self) -> str:
        """The handshake, and the main namespace; the session id."""
        opened = await self.get()
        sid = str(json.loads(opened.body[1:])["sid"])
        self.query += f"&sid={sid}"
        assert (await self.post(b"40")).body == b"ok"
        assert (await self.get()).body.startswith(b"40{")
        return sid


def told(request: ByHand) -> tuple[int | None, Any]:
    """Status and Engine.IO's own JSON of a refusal."""
    return request.status, json.loads(request.body)


@pytest.mark.parametrize("body", [b"", b"\x1e", b"3\x1e", b"\xff", b"b!!!", b'42["x"', b"hello"])
async def test_a_malformed_body_ends_the_session(body: bytes) -> None:
    house = House()
    pollster = Pollster(house)
    await pollster.enter()
    pending, done = pollster.ask("GET")
    await turn()
    assert told(await pollster.post(body)) == (400, {"code": 3, "message": "Bad request"})
    await asyncio.wait_for(done, 5)
    assert pending.body.decode().split(SEPARATOR) == ["41", "1"]
    assert not house.sessions
    await house.settle()


async def test_goodbye_is_answered_and_ends_the_pending_poll() -> None:
    house = House()
    pollster = Pollster(house)
    await pollster.enter()
    pending, done = pollster.ask("GET")
    await turn()
    posted = await pollster.post(b"1")
    assert (posted.status, posted.body) == (200, b"ok")
    await asyncio.wait_for(done, 5)
    assert (pending.status, pending.body) == (200, b"6")
    assert told(await pollster.get()) == (400, {"code": 1, "message": "Session ID unknown"}), "it has its answer"
    await house.settle()
    assert house.ends == ["transport close"]


async def test_a_poll_that_its_good_bye_has_overtaken_is_answered_once() -> None:
    """They leave a browser on two connections; the session is over when the poll comes in."""
    house = House()
    pollster = Pollster(house)
    await pollster.enter()
    assert (await pollster.post(b"1")).status == 200
    poll = await pollster.get()
    assert (poll.status, poll.body) == (200, b"6")
    assert told(await pollster.get()) == (400, {"code": 1, "message": "Session ID unknown"})
    await house.settle()


@pytest.mark.parametrize("code", [1000, 1001, 4429, 4430, 4440])
async def test_who_is_ended_between_two_polls_is_told_once_with_what_waited(code: int) -> None:
    house = House()
    pollster = Pollster(house)
    sid = await pollster.enter()
    await house.server.emit("news", 1)
    house.sessions[sid].close(code, "", "server disconnect")
    for harmless in (b"1", b"3", b"41", b"41/chat,\x1e1"):
        assert ((await pollster.post(harmless)).status, harmless) == (200, harmless)
    assert told(await pollster.post(b'42["said"]')) == (400, {"code": 1, "message": "Session ID unknown"})
    poll = await pollster.get()
    words = ["1"] if code == 4430 else ['42["news",1]', "1"]
    assert (poll.status, poll.body.decode().split(SEPARATOR)) == (200, words)
    assert told(await pollster.get()) == (400, {"code": 1, "message": "Session ID unknown"})
    await house.settle()


@pytest.mark.parametrize("code", [4408, 1008])
async def test_who_was_silent_for_too_long_is_unknown_at_once(code: int) -> None:
    house = House()
    pollster = Pollster(house)
    sid = await pollster.enter()
    house.sessions[sid].close(code, "", "ping timeout")
    assert told(await pollster.get()) == (400, {"code": 1, "message": "Session ID unknown"})
    await house.settle()


async def test_a_server_that_raises_once_the_client_of_a_poll_is_gone_is_understood() -> None:
    house = House()
    pollster = Pollster(house)
    await pollster.enter()
    request, done = pollster.ask("GET")
    request.deaf = RuntimeError("gone")
    await asyncio.wait_for(done, 5)
    await house.settle()
    assert house.ends == ["transport close"]


async def test_an_answer_that_could_not_be_given_ends_the_session() -> None:
    """What it carried is lost: a session that went on would have a hole in it."""
    house = House()
    pollster = Pollster(house)
    await pollster.enter()
    request, done = pollster.ask("GET")
    await turn()
    request.broken = OSError("gone")
    await house.server.emit("news", 1)
    await asyncio.wait([done], timeout=5)
    assert isinstance(done.exception(), OSError)
    assert not house.sessions
    await house.settle()


async def test_a_poll_that_is_cancelled_from_outside_ends_the_session() -> None:
    house = House()
    pollster = Pollster(house)
    await pollster.enter()
    _, done = pollster.ask("GET")
    await turn()
    done.cancel()
    await asyncio.wait([done], timeout=5)
    assert done.cancelled()
    assert not house.sessions
    await house.settle()


async def test_after_an_upgrade_http_is_refused() -> None:
    house = House()
    pollster = Pollster(house)
    sid = await pollster.enter()
    session, websocket = house.sessions[sid], MemoryWire()
    session.switch(websocket)
    for answer in (await pollster.get(), await pollster.post(b"3")):
        assert told(answer) == (400, {"code": 3, "message": "Bad request"})
    assert websocket.closed is None
