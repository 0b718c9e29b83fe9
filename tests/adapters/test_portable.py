from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import adapters.portable
from adapters.portable import REASON_BYTES, AsgiWire, Portable
from realtime.encoding.codecs import Encoded, text
from realtime.errors import CloseCode
from realtime.names import Reason
from realtime.ports import DIRECT, Link
from realtime.testing import MemoryClient, MemoryWire
from tests.adapters.by_hand import CONNECT, DISCONNECT, ByHand, House, turn, until, within

pytestmark = pytest.mark.asyncio

DENIAL: dict[str, Any] = {"websocket.http.response": {}}


def scope(query: str = "EIO=4&transport=websocket", **more: Any) -> dict[str, Any]:
    return {
        "type": "websocket", "path": "/socket.io/", "query_string": query.encode(), "headers": [],
        "client": ("192.0.2.1", 50_000), "server": ("test", 80), "scheme": "ws", "extensions": {},
    } | more  # fmt: skip


@asynccontextmanager
async def visitor(house: House, asked: dict[str, Any] | None = None) -> AsyncIterator[ByHand]:
    """A WebSocket that the portable wire serves; afterwards its call has returned."""
    client = ByHand()
    client.tell(CONNECT)
    serving = asyncio.ensure_future(Portable()(house.server.eio, asked or scope(), client.receive, client.send))
    try:
        yield client
    finally:
        client.read_on()
        client.tell(DISCONNECT)
        await asyncio.wait_for(serving, 5)
        await house.settle()


async def entered(client: ByHand) -> str:
    """Its handshake, and the main namespace; the session id."""
    assert (await client.next())["type"] == "websocket.accept"
    handshake = json.loads((await client.next())["text"][1:])
    client.say("40")
    assert (await client.next())["text"].startswith("40{")
    return str(handshake["sid"])


# ── Engine.IO over WebSocket ─────────────────────────────────────────────────────────────────────


async def test_a_websocket_is_accepted_told_its_session_and_answered() -> None:
    house = House()
    async with visitor(house) as client:
        sid = await entered(client)
        assert list(house.sessions) == [sid]
        client.say('427["echo",1]', '451-8["echo",{"_placeholder":true,"num":0}]', b"\x00\xff")
        assert (await client.next())["text"] == "437[1]"
        assert (await client.next())["text"] == '461-8[{"_placeholder":true,"num":0}]'
        assert (await client.next())["bytes"] == b"\x00\xff"
    assert house.ends == ["transport close"]
    assert not house.sessions


async def test_a_client_that_left_before_it_was_looked_at_is_told_nothing() -> None:
    client = ByHand()
    client.tell(DISCONNECT)
    await within(Portable()(House().server.eio, scope(), client.receive, client.send))
    assert client.sent == []


async def test_a_refusal_is_an_http_answer_where_the_server_can() -> None:
    async with visitor(House(), scope("EIO=3&transport=websocket", extensions=DENIAL)) as client:
        start, body = await client.next(), await client.next()
    assert start == {
        "type": "websocket.http.response.start", "status": 400, "headers": [(b"content-type", b"application/json")],
    }  # fmt: skip
    assert json.loads(body["body"]) == {"code": 5, "message": "Unsupported protocol version"}
    assert len(client.sent) == 2


async def test_a_refusal_is_a_refused_websocket_elsewhere() -> None:
    house = House()
    async with visitor(house, scope("EIO=4&transport=websocket&sid=nobody")) as client:
        refusal = await client.next()
    assert refusal == {"type": "websocket.close", "code": 1008, "reason": "Session ID unknown"}
    assert len(client.sent) == 1
    assert not house.sessions


async def test_a_server_that_raises_once_its_client_is_gone_is_understood() -> None:
    house = House()
    async with visitor(house) as client:
        await entered(client)
        client.deaf = RuntimeError("Cannot call receive once a disconnect message has been received")
        client.say("3")
        await until(lambda: not house.sessions)
    assert house.ends == ["transport close"]


async def test_a_client_that_turns_out_to_be_gone_when_written_to_is_gone() -> None:
    house = House()
    async with visitor(house) as client:
        await entered(client)
        client.broken = OSError("gone")
        await house.server.emit("news", 1)
        await until(lambda: not house.sessions)
    assert house.ends == ["transport close"]


async def test_a_task_that_is_cancelled_from_outside_is_cancelled() -> None:
    house, client = House(), ByHand()
    client.tell(CONNECT)
    serving = asyncio.ensure_future(Portable()(house.server.eio, scope(), client.receive, client.send))
    await entered(client)
    serving.cancel()
    await asyncio.wait([serving], timeout=5)
    assert serving.cancelled()


async def test_while_the_inbox_is_full_nothing_is_read() -> None:
    house = House(inbox_limit_events=2)
    house.server.async_handlers = False
    house.gate = asyncio.Event()
    async with visitor(house) as client:
        await entered(client)
        for number in range(10):
            client.say(f'42{number}["echo",{number}]')
        await turn()
        await turn()
        assert client._told.qsize() == 10 - 3  # one is under way, two wait
        house.gate.set()
        for number in range(10):
            assert (await client.next())["text"] == f"43{number}[{number}]"


async def test_a_client_that_is_gone_while_nothing_is_read_holds_up_nobody() -> None:
    house = House(inbox_limit_events=1)
    house.server.async_handlers = False
    house.gate = asyncio.Event()
    client = ByHand()
    client.tell(CONNECT)
    serving = asyncio.ensure_future(Portable()(house.server.eio, scope(), client.receive, client.send))
    await entered(client)
    client.say('42["echo",1]', '42["echo",2]')
    await turn()
    client.broken = OSError("gone")
    await house.server.emit("news", 1)
    await asyncio.wait_for(serving, 5)  # although its handler still waits
    assert house.began == 1
    house.gate.set()
    await house.settle()
    assert house.ends == ["transport close"]


# ── an upgrade ───────────────────────────────────────────────────────────────────────────────────


async def test_an_upgrade_is_served_on_the_session_that_polled() -> None:
    house = House()
    polling = MemoryClient(house.server, MemoryWire("polling"))
    sid = next(iter(house.sessions))
    await polling.connect()
    async with visitor(house, scope(f"EIO=4&transport=websocket&sid={sid}")) as client:
        assert (await client.next())["type"] == "websocket.accept"
        client.say("2probe")
        assert (await client.next())["text"] == "3probe"
        client.say("5", '421["echo","over here"]')
        assert (await client.next())["text"] == '431["over here"]'
        assert polling.wire.closed is not None
    assert house.ends == ["transport close"]


async def test_a_session_that_has_its_websocket_is_accepted_and_closed() -> None:
    """Accepted first: a browser cannot tell a refused WebSocket from a server that is down."""
    house = House()
    async with visitor(house) as first:
        sid = await entered(first)
        async with visitor(house, scope(f"EIO=4&transport=websocket&sid={sid}")) as second:
            assert (await second.next())["type"] == "websocket.accept"
            assert await second.next() == {"type": "websocket.close", "code": 1008, "reason": "session is taken"}
        first.say('421["echo","still here"]')
        assert (await first.next())["text"] == '431["still here"]'


async def test_a_session_that_ends_while_its_upgrade_is_accepted_is_taken_by_nobody() -> None:
    house = House()
    MemoryClient(house.server, MemoryWire("polling"))
    [(sid, session)] = house.sessions.items()
    client = ByHand()
    client.tell(CONNECT)
    client.stop_reading()
    asked = scope(f"EIO=4&transport=websocket&sid={sid}")
    serving = asyncio.ensure_future(Portable()(house.server.eio, asked, client.receive, client.send))
    assert (await client.next())["type"] == "websocket.accept"
    session.lost(Reason.TRANSPORT_CLOSE)
    client.read_on()
    await asyncio.wait_for(serving, 5)
    assert client.sent[-1] == {"type": "websocket.close", "code": 1008, "reason": "session is taken"}


# ── our good-bye ─────────────────────────────────────────────────────────────────────────────────


async def test_a_close_leaves_after_what_waited_and_the_call_ends_with_the_clients_answer() -> None:
    house = House()
    async with visitor(house) as client:
        sid = await entered(client)
        client.stop_reading()
        for number in range(3):
            await house.server.emit("news", number)
        house.sessions[sid].close(CloseCode.REVOKED, "x" * 200, Reason.SERVER)
        house.server.core.sessions.clear()
        client.read_on()
        await client.until(lambda: client.sent[-1]["type"] == "websocket.close")
        assert client.frames[2:] == ['42["news",0]', '42["news",1]', '42["news",2]', "41"]
        assert client.sent[-1] == {"type": "websocket.close", "code": 4503, "reason": "x" * REASON_BYTES}
        client.say('42["echo","too late"]')
    assert house.began == 0
    assert house.ends == ["server disconnect"]


async def test_a_reason_is_cut_between_two_characters() -> None:
    client = ByHand()
    wire = AsgiWire(client.receive, client.send, "raw")
    wire.link = house_link()
    wire.close(1000, "é" * 100)
    wire.close(1011, "again")
    client.tell(DISCONNECT)
    assert await within(wire.read()) is None
    await within(wire.finish())
    assert [message["reason"] for message in client.sent] == ["é" * (REASON_BYTES // 2)]


def house_link() -> Link:
    """The session of a raw client that nobody serves."""
    house = House()
    MemoryClient(house.server)
    return next(iter(house.sessions.values()))  # type: ignore[no-any-return]


async def test_who_does_not_answer_our_close_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters.portable, "CLOSE_SECONDS", 0.01)
    house, client = House(), ByHand()
    client.tell(CONNECT)
    serving = asyncio.ensure_future(Portable()(house.server.eio, scope(), client.receive, client.send))
    sid = await entered(client)
    house.sessions[sid].close(CloseCode.DONE, "", Reason.SERVER)
    await asyncio.wait_for(serving, 5)
    assert client.sent[-1]["type"] == "websocket.close"
    assert serving.result() is None
    await house.settle()


async def test_who_does_not_read_our_close_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters.portable, "CLOSE_SECONDS", 0.01)
    house, client = House(), ByHand()
    client.tell(CONNECT)
    serving = asyncio.ensure_future(Portable()(house.server.eio, scope(), client.receive, client.send))
    sid = await entered(client)
    client.stop_reading()
    await house.server.emit("news", 1)
    house.sessions[sid].close(CloseCode.DONE, "", Reason.SERVER)
    await asyncio.wait_for(serving, 5)
    assert client.frames[-1] == '42["news",1]'
    await house.settle()
    client.read_on()
    await turn()
    assert client.frames[-1] == '42["news",1]'
    assert client.sent[-1]["type"] == "websocket.send"  # the good-bye waited behind it


# ── a server of ours beneath ─────────────────────────────────────────────────────────────────────


class DirectWire(MemoryWire):
    """Keeps the port ``Direct`` as well: what a server of ours puts into the scope."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: list[list[tuple[bytes, bytes]]] = []
        self.taken: Link | None = None

    def accept_now(self, subprotocol: str | None = None, headers: Any = ()) -> None:
        self.accepted.append(list(headers))

    def take_over(self, link: Link) -> None:
        self.taken = link

    def raw(self, receive: Any, send: Any, link: Link) -> Any:
        self.taken = link
        return self


async def test_a_direct_server_takes_the_connection_over_and_the_call_returns() -> None:
    house, client, direct = House(allowed_origins=["https://chat.example"]), ByHand(), DirectWire()
    client.tell(CONNECT)
    asked = scope(extensions={DIRECT: direct}, headers=[(b"origin", b"https://chat.example")])
    await within(Portable()(house.server.eio, asked, client.receive, client.send))
    [session] = house.sessions.values()
    assert direct.taken is session
    assert [dict(headers)[b"access-control-allow-origin"] for headers in direct.accepted] == [b"https://chat.example"]
    assert str(direct.frames[0]).startswith("0{")
    assert client.sent == []


async def test_a_direct_server_is_told_that_a_session_is_taken() -> None:
    house, client, direct = House(), ByHand(), DirectWire()
    MemoryClient(house.server)
    client.tell(CONNECT)
    asked = scope(f"EIO=4&transport=websocket&sid={next(iter(house.sessions))}", extensions={DIRECT: direct})
    direct.link = house_link()
    await within(Portable()(house.server.eio, asked, client.receive, client.send))
    assert direct.closed == (1008, "session is taken")
    assert direct.taken is None


# ── routes that pull ─────────────────────────────────────────────────────────────────────────────


async def test_a_route_pulls_its_frames_and_sends_by_plain_calls() -> None:
    client, link = ByHand(), house_link()
    wire = Portable.raw(scope(), client.receive, client.send, link)
    assert (wire.name, wire.link) == ("raw", link)
    await wire.accept("realtime.v1", [(b"x", b"y")])
    assert await client.next() == {
        "type": "websocket.accept", "subprotocol": "realtime.v1", "headers": [(b"x", b"y")],
    }  # fmt: skip
    client.say("text", b"bytes")
    client.tell({"type": "websocket.receive", "text": None, "bytes": b"both keys"}, DISCONNECT)
    assert [await within(wire.read()) for _ in range(5)] == ["text", b"bytes", b"both keys", None, None]
    assert link.closed
    wire.send(text("late"))
    wire.close(1000, "")
    await within(wire.finish())
    assert client.sent[1:] == []


async def test_a_route_that_is_busy_while_its_client_is_cut_finds_it_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters.portable, "CLOSE_SECONDS", 0.01)
    client, link = ByHand(), house_link()
    wire = Portable.raw(scope(), client.receive, client.send, link)
    client.stop_reading()
    wire.close(1000, "")
    await client.until(lambda: client.sent)
    await within(wire.finish())
    client.say("not read any more")
    await until(lambda: wire._gone)
    assert await within(wire.read()) is None
    wire.pause()
    wire.pause()
    wire.resume()
    wire.resume()
    wire.close(1000, "again")
    assert len(client.sent) == 1


async def test_a_route_over_a_direct_server_is_given_its_wire() -> None:
    direct, client, link = DirectWire(), ByHand(), house_link()
    assert Portable.raw(scope(extensions={DIRECT: direct}), client.receive, client.send, link) is direct
    assert direct.taken is link


async def test_several_messages_of_one_emission_stay_together() -> None:
    client, link = ByHand(), house_link()
    wire = Portable.raw(scope(), client.receive, client.send, link)
    wire.send(Encoded(((True, b"head"), (False, b"\x00"))))
    await within(wire.finish())
    assert client.frames == ["head", b"\x00"]
