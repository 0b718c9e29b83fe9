"""Plain clients: their session, their limits and the forms they are spoken to in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from realtime import AccessError, CloseCode, Namespace, Peer, PlainDialect, RawJson, Server, Socket
from realtime.clients.peer import PATIENCE_MESSAGES, RawSession
from realtime.names import Reason
from realtime.testing import MemoryWire
from tests.realtime.living import SECONDS, settings_for, within

SCOPE: dict[str, Any] = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b"", "client": ("::1", 1)}


class Inbound:
    """Frames that a client sends, as a route pulls them; None is that it left."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[str | bytes | None] = asyncio.Queue()

    async def read(self) -> str | bytes | None:
        return await within(self.frames.get())


class Guest:
    """A peer in ``/work`` over a wire in memory."""

    def __init__(self, server: Server, namespace: Namespace) -> None:
        self.server = server
        self.namespace = namespace
        self.wire = MemoryWire("raw")
        self.session = RawSession(server.core, "guest", RawJson(), SCOPE)
        self.inbound = Inbound()
        self.peer: Peer

    async def enter(self, auth: Any = None) -> Peer:
        member = await within(self.session.enter("sid", self.namespace.name, auth))
        assert self.session.attend(self.wire)
        self.peer = Peer(self.session, member, self.server.socket_of(member), self.inbound)
        return self.peer

    def says(self, *frames: str | bytes | None) -> None:
        for frame in frames:
            self.inbound.frames.put_nowait(frame)

    async def heard(self) -> list[str]:
        return [text async for text in self.peer]

    def told(self) -> list[Any]:
        return [json.loads(frame) for frame in self.wire.frames]


def guest(**changes: Any) -> Guest:
    server, namespace = Server(settings=settings_for(**changes)), Namespace("/work")
    server.include(namespace)
    return Guest(server, namespace)


# ── coming in ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_guest_is_a_member_like_any_other() -> None:
    found = guest()
    peer = await found.enter({"name": "ann"})
    assert peer.socket.wire == "raw"
    assert peer.socket.auth == {"name": "ann"}
    await peer.socket.join("lobby")
    assert await found.namespace.emit("told", {"n": 1}, to="lobby") == 1
    await peer.socket.emit("own", (1, 2))
    peer.say("as it is")
    peer.say({"as": "json"})
    assert found.wire.frames[2] == "as it is"
    found.wire.frames.pop(2)
    assert found.told() == [{"event": "told", "data": {"n": 1}}, {"event": "own", "data": [1, 2]}, {"as": "json"}]
    assert found.server.metrics.connections.value("raw") == 1
    found.wire.cut()
    assert peer.closed
    assert found.server.hub.namespaces == {}
    assert found.server.metrics.connections.value("raw") == 0


@pytest.mark.asyncio
async def test_a_refusal_is_raised_in_the_applications_words_and_leaves_no_trace() -> None:
    found = guest()

    @found.namespace.hook("authorize")
    async def authorize() -> None:
        raise AccessError("Members only", code="members_only", details={"fee": 5})

    with pytest.raises(AccessError) as caught:
        await found.enter()
    assert (caught.value.message, caught.value.code, caught.value.details) == (
        "Members only",
        "members_only",
        {"fee": 5},
    )
    assert found.server.core.sessions == {}
    assert found.server.hub.namespaces == {}
    assert found.session.alarm is None


@pytest.mark.asyncio
async def test_a_session_that_ends_while_it_is_let_in_is_not_let_in() -> None:
    found, begun, gate = guest(), asyncio.Event(), asyncio.Event()

    @found.namespace.hook("authorize")
    async def authorize() -> None:
        begun.set()
        await within(gate.wait())

    entering = asyncio.ensure_future(found.enter())
    await within(begun.wait())
    found.session.close(CloseCode.DRAINING, "retry", Reason.DRAINING)
    gate.set()
    with pytest.raises(AccessError, match="Ended while"):
        await within(entering)
    assert found.session.attend(found.wire) is False
    assert found.server.metrics.connections.value("raw") == 0


@pytest.mark.asyncio
async def test_a_session_whose_wire_never_comes_is_given_up() -> None:
    found = guest(connect_timeout_seconds=0.01)
    ended = asyncio.Event()

    @found.namespace.hook("disconnected")
    async def disconnected() -> None:
        ended.set()

    await within(found.session.enter("sid", "/work", None))
    found.session.expect_wire()
    await within(ended.wait())
    assert found.server.core.sessions == {}
    assert found.server.hub.namespaces == {}


@pytest.mark.asyncio
async def test_a_session_whose_wire_came_stays() -> None:
    found = guest(connect_timeout_seconds=0.01)
    await within(found.session.enter("sid", "/work", None))
    found.session.expect_wire()
    assert found.session.attend(found.wire)
    deadlines = found.server.core.deadlines(asyncio.get_running_loop())
    deadlines.run(asyncio.get_running_loop().time() + 3600)
    assert not found.session.closed


# ── what it says ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_texts_are_read_until_the_client_leaves() -> None:
    found = guest()
    await found.enter()
    found.says("one", "", "drei ü \ud83d", None)
    assert await found.heard() == ["one", "", "drei ü \ud83d"]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"binary", CloseCode.UNSUPPORTED),
        ("a" * 1001, CloseCode.TOO_BIG),
        ("ü" * 501, CloseCode.TOO_BIG),
        ("\ud83d" * 334, CloseCode.TOO_BIG),
    ],
)
@pytest.mark.asyncio
async def test_what_is_not_a_text_of_the_right_size_ends_the_connection(frame: str | bytes, code: int) -> None:
    found = guest(message_limit_bytes=1000)
    await found.enter()
    found.says("ü" * 500, frame, "never read")
    assert await found.heard() == ["ü" * 500]
    assert found.wire.closed is not None
    assert found.wire.closed[0] == code
    reason = "too_big" if code is CloseCode.TOO_BIG else "bad_frame"
    assert found.server.metrics.violations.values == {(reason,): 1}
    assert found.server.metrics.disconnects.value("/work", Reason.PROTOCOL) == 1


@pytest.mark.asyncio
async def test_too_many_messages_are_answered_and_in_the_end_enough() -> None:
    found = guest(events_per_second=1)
    await found.enter()
    found.says(*["x"] * (PATIENCE_MESSAGES + 10))
    assert await found.heard() == ["x"]
    told = found.told()
    assert len(told) == PATIENCE_MESSAGES
    assert {each["code"] for each in told} == {"rate_limited"}
    assert all(each["type"] == "error" and each["retry_after"] > 0 for each in told)
    assert found.wire.closed == (CloseCode.TOO_FAST, "too many messages")
    assert found.server.metrics.disconnects.value("/work", Reason.LIMIT) == 1


@pytest.mark.asyncio
async def test_events_of_the_namespace_can_be_asked_for() -> None:
    found, reached = guest(), []

    @found.namespace.event
    async def add(socket: Socket, a: int) -> int:
        reached.append(socket.sid)
        return a + 1

    peer = await found.enter()
    await peer.handle("add", [1], "a")
    await peer.handle("add", [2])
    await peer.handle("add", ["x"], 7)
    await peer.handle("add", [])
    await peer.handle("unheard", [], 8)
    for name in ("connect", "disconnect", "*"):
        await peer.handle(name, [], name)
    told = found.told()
    assert told[0] == {"reply": "a", "data": 2}
    assert (told[1]["reply"], told[1]["error"]["code"]) == (7, "invalid_payload")
    assert (told[2]["event"], told[2]["data"]["error"]["code"]) == ("error", "invalid_payload")
    assert [(each["reply"], each["error"]["code"]) for each in told[3:]] == [
        (8, "unknown_event"),
        ("connect", "unknown_event"),
        ("disconnect", "unknown_event"),
        ("*", "unknown_event"),
    ]
    assert reached == ["sid", "sid"]


# ── how it ends ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("reason", "close"),
    [
        (Reason.SERVER, (CloseCode.DONE, "")),
        (Reason.EXPIRED, (CloseCode.POLICY, "Token expired")),
        (Reason.REPLACED, (CloseCode.REPLACED, "replaced by another connection")),
        (Reason.LIMIT, (CloseCode.TOO_FAST, "too many messages")),
    ],
)
@pytest.mark.asyncio
async def test_the_end_of_the_membership_is_the_end_of_the_connection(reason: Reason, close: tuple[int, str]) -> None:
    found, goodbyes = guest(), []

    @found.namespace.hook("disconnected")
    async def disconnected(reason: str) -> None:
        goodbyes.append(reason)

    peer = await found.enter()
    await peer.socket.disconnect(reason)
    assert found.wire.closed == close
    found.says("never read")
    assert await found.heard() == []
    await within(found.server.application.rest(SECONDS))
    assert goodbyes == [reason]


# ── forms ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("say", "args", "text"),
    [
        (lambda name, data: f"{name}: {data}", ["x"], "told: x"),
        (lambda name, data: {"type": name, "data": data}, [{"a": 1}], '{"type":"told","data":{"a":1}}'),
        (lambda name, data: {"data": data}, [], '{"data":null}'),
        (lambda name, data: "", ["x"], ""),
    ],
)
def test_a_plain_form(say: Callable[[str, Any], Any], args: list[Any], text: str) -> None:
    encoded = PlainDialect(say).event("/", "told", args)
    assert encoded is not None
    assert encoded.frames == ((True, text.encode()),)


def test_a_plain_form_may_be_silent_and_says_nothing_of_the_protocol() -> None:
    form = PlainDialect(lambda name, data: None)
    assert form.event("/", "told", []) is None
    assert form.connect("/", {}) is form.connect_error("/", {}) is form.disconnect("/") is form.ack("/", 1, []) is None
