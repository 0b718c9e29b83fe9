from __future__ import annotations

from typing import Any

import pytest

import realtime.testing.wire
from realtime import Namespace, Server
from realtime.encoding.codecs import Encoded, text
from realtime.ports import Wire
from realtime.session.outbox import Bounds, Outbox
from realtime.testing import MemoryClient, MemoryWire, Refused
from tests.realtime.living import settings_for

pytestmark = pytest.mark.asyncio


class Link:
    """Keeps the port ``Link``: an outbox, and what the wire told."""

    wire: Wire | None = None
    closed = False

    def __init__(self, wire: MemoryWire) -> None:
        self.outbox = Outbox(Bounds(), lambda reason: None)
        self.take, self.hold, self.put_back = self.outbox.take, self.outbox.hold, self.outbox.put_back
        self.heard: list[str | bytes] = []
        self.ends: list[str] = []
        wire.link = self
        self.outbox.attach(wire, free=True)

    def send(self, *words: str) -> None:
        for word in words:
            self.outbox.offer(text(word))

    def receive(self, frame: str | bytes) -> None:
        self.heard.append(frame)

    def close(self, code: int, text: str, reason: str) -> None: ...

    def broken(self, code: int, reason: str, kind: str = "bad_frame") -> None: ...

    def lost(self, reason: str) -> None:
        self.ends.append(reason)


def new_server() -> Server:
    server = Server(settings=settings_for())

    @server.event
    async def connect(sid: str, environ: Any, auth: Any) -> bool:
        return bool(auth != {"no": True})

    @server.event
    async def echo(sid: str, *data: Any) -> tuple[Any, ...]:
        return data

    @server.on("echo", namespace="/chat")
    async def in_chat(sid: str, data: Any) -> None:
        await server.emit("told", data, to=sid, namespace="/chat")

    return server


# ── the wire ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_wire_keeps_what_is_sent_in_order() -> None:
    wire = MemoryWire()
    link = Link(wire)
    link.send("a")
    link.outbox.offer(Encoded(((True, b"b"), (False, b"\xff"))))
    assert wire.frames == ["a", "b", b"\xff"]
    assert [await wire.next() for _ in range(3)] == ["a", "b", b"\xff"]


async def test_a_wire_is_full_at_its_capacity_until_the_client_reads() -> None:
    wire = MemoryWire(capacity=2)
    link = Link(wire)
    link.send("a", "b", "c", "d", "e")
    assert wire.frames == ["a", "b"]
    wire.read_on()
    assert wire.frames == ["a", "b", "c", "d", "e"]
    link.send("f", "g", "h")
    assert wire.frames[5:] == ["f", "g"]


async def test_a_close_lets_out_what_waited_and_only_the_first_counts() -> None:
    wire = MemoryWire(capacity=1)
    link = Link(wire)
    link.send("a", "b")
    wire.close(4501, "bad")
    wire.close(1000, "")
    assert wire.frames == ["a", "b"]
    assert wire.closed == (4501, "bad")


async def test_what_the_client_says_and_its_end_reach_the_link() -> None:
    wire = MemoryWire()
    link = Link(wire)
    wire.say("a", b"b")
    wire.cut()
    wire.cut("transport error")
    assert link.heard == ["a", b"b"]
    assert link.ends == ["transport close", "transport error"]


async def test_it_remembers_whether_it_is_read() -> None:
    wire = MemoryWire()
    before = wire.paused
    wire.pause()
    during = wire.paused
    wire.resume()
    assert (before, during, wire.paused) == (False, True, False)


async def test_who_waits_for_nothing_is_told_what_there_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime.testing.wire, "PATIENCE_SECONDS", 0.01)
    wire = MemoryWire()
    Link(wire).send("only this")
    await wire.next()
    with pytest.raises(AssertionError, match="only this"):
        await wire.next()


async def test_who_waits_at_a_closed_wire_is_told_so() -> None:
    wire = MemoryWire()
    Link(wire)
    wire.close(4408, "silent")
    with pytest.raises(AssertionError, match="4408"):
        await wire.next()


# ── the client ───────────────────────────────────────────────────────────────────────────────────


async def test_a_client_connects_calls_and_leaves() -> None:
    server = new_server()
    client = MemoryClient(server)
    sid = await client.connect()
    assert server.manager.is_connected(sid, "/")
    assert await client.call("/", "echo") is None
    assert await client.call("/", "echo", "one") == "one"
    assert await client.call("/", "echo", "one", {"two": 2}) == ["one", {"two": 2}]
    client.disconnect()
    assert not server.manager.is_connected(sid, "/")


async def test_a_client_has_one_sid_for_each_namespace() -> None:
    client = MemoryClient(new_server())
    assert await client.connect("/chat") != await client.connect()


async def test_a_refusal_carries_what_connect_error_did() -> None:
    client = MemoryClient(new_server())
    with pytest.raises(Refused) as caught:
        await client.connect("/", {"no": True})
    assert caught.value.data == {"message": "Connection rejected by server"}
    with pytest.raises(Refused, match="Invalid namespace"):
        await client.connect("/nobody")


async def test_events_are_found_among_others_and_remembered() -> None:
    client = MemoryClient(new_server())
    await client.connect("/chat")
    client.emit("/chat", "echo", 1)
    client.emit("/chat", "echo", [2, 3])
    assert await client.event("/chat", "told") == 1
    assert await client.event("/chat", "told") == [2, 3]
    assert client.events == [("/chat", ["told", 1]), ("/chat", ["told", [2, 3]])]


async def test_what_came_while_something_else_was_waited_for_is_found_first() -> None:
    server = new_server()
    client = MemoryClient(server)
    await client.connect("/chat")
    assert await client.call("/chat", "echo", 1) is None
    assert client.events == [("/chat", ["told", 1])], "it came before the acknowledgement"
    await server.emit("other", "a", namespace="/chat")
    client.emit("/chat", "echo", 2)
    assert [await client.event("/chat", "told") for _ in range(2)] == [1, 2]
    assert await client.event("/chat", "other") == "a"
    assert len(client.events) == 3, "all of them are remembered"


async def test_what_was_read_beside_an_answer_counts_for_coming_back() -> None:
    server = Server(settings=settings_for())
    board = server.include(Namespace("/board", recovery=True))

    @board.event
    async def note(text: str) -> None:
        await board.emit("note", text)

    client = MemoryClient(server)
    await client.connect("/board")
    for text_ in ("one", "two"):
        await client.call("/board", "note", text_)
    assert client.offsets["/board"] == client.events[1][1][-1]
    assert await client.event("/board", "note") == "one"
    assert client.offsets["/board"] == client.events[1][1][-1], "it never goes back"
    client.wire.cut()
    again = MemoryClient(server)
    await again.connect("/board", {"pid": client.pids["/board"], "offset": client.offsets["/board"]})
    assert again.events == []


async def test_pings_are_answered_on_the_way() -> None:
    server = new_server()
    client = MemoryClient(server)
    await client.connect()
    [session] = server.core.sessions.values()
    for seconds in range(0, 100, 20):
        server.core.deadlines(session.loop).run(session.loop.time() + seconds)
        assert await client.call("/", "echo", seconds) == seconds
    assert client.wire.closed is None
    assert "2" in client.wire.frames


async def test_a_client_may_be_one_that_polls_and_tell_of_itself() -> None:
    server = new_server()
    told: list[Any] = []

    @server.event
    async def connect(sid: str, environ: Any) -> None:
        told.append((environ["QUERY_STRING"], environ["HTTP_X_NAME"]))

    client = MemoryClient(server, MemoryWire("polling"), query="room=a", headers=[(b"x-name", b"b")])
    sid = await client.connect()
    assert server.transport(sid) == "polling"
    assert told == [("EIO=4&transport=polling&room=a", "b")]


@pytest.mark.asyncio
async def test_a_client_that_may_come_back_is_given_arguments_without_their_offset() -> None:
    server = Server()
    board = server.include(Namespace("/board", recovery=True))
    client = MemoryClient(server)
    sid = await client.connect("/board")
    await board.emit("note", {"text": "one"})
    await board.emit("nothing")
    assert await client.event("/board", "note") == {"text": "one"}
    assert await client.event("/board", "nothing") is None
    client.wire.cut()
    await board.emit("note", "missed")
    again = MemoryClient(server)
    assert await again.connect("/board", {"pid": client.pids["/board"], "offset": client.offsets["/board"]}) == sid
    assert [data[1] for _, data in again.events] == ["missed"]
