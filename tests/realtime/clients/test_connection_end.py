"""The other half of test_connection.py: what time does to a connection, and how it ends."""

from __future__ import annotations

import asyncio
import gc
from time import monotonic
from typing import Any

import pytest

from realtime import Namespace, Server, Socket
from realtime.clients.connection import Connection
from realtime.encoding.codecs import text
from realtime.errors import CloseCode
from realtime.names import Reason
from realtime.session.leaving import Leaving
from realtime.session.session import Member
from realtime.testing import MemoryClient, MemoryWire
from tests.realtime.living import settings_for
from tests.realtime.scene import PATIENCE_SECONDS, PING_INTERVAL, PING_TIMEOUT, Scene

pytestmark = pytest.mark.asyncio


class Probe:
    """What the engine leaves at a session while an upgrade is under way: is told when that ends."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def lost(self, reason: str) -> None:
        self.told.append(reason)


class Between(MemoryWire):
    """Between two polls: there is no answer that a good-bye could travel with."""

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


async def test_who_connects_to_no_namespace_is_closed_in_time() -> None:
    scene = Scene()
    scene.connection()
    scene.wait_until(9)
    assert scene.code() is None
    scene.wait_until(10)
    assert scene.wire.closed == (1008, "no namespace was connected in time")
    assert (scene.violations(), scene.metrics.ended.values) == ({"connect_late": 1}, {("limit",): 1})
    assert scene.is_empty()


async def test_who_is_connected_or_about_to_be_has_no_connect_timeout() -> None:
    scene, door = Scene(), asyncio.Event()

    async def wait(member: Member) -> None:
        await door.wait()

    scene.steps.step = wait
    scene.connection()
    scene.wire.say("40")
    await scene.steps.began(1)
    scene.wait_until(24)
    assert scene.code() is None
    door.set()
    await scene.settle()


async def test_who_is_refused_everywhere_has_a_connect_timeout_again() -> None:
    scene = Scene()
    scene.steps.step = scene.steps.refuse
    scene.connection()
    scene.wire.say("40", "40/chat,")
    await scene.settle()
    scene.wait_until(10)
    assert scene.code() == 1008


async def test_who_is_refused_in_one_namespace_and_is_in_another_may_stay() -> None:
    scene = Scene()

    async def choose(member: Member) -> None:
        if member.namespace == "/":
            await scene.steps.accept(member)
        else:
            await scene.steps.refuse(member)

    scene.steps.step = choose
    await scene.joined("/", "/chat")
    scene.wait_until(20)
    assert scene.code() is None


async def test_a_ping_comes_after_the_interval_and_again_after_its_pong() -> None:
    scene = Scene()
    await scene.joined()
    scene.wait_until(PING_INTERVAL - 1)
    assert scene.news() == []
    scene.wait_until(PING_INTERVAL)
    assert scene.news() == ["2"]
    scene.wait_until(PING_INTERVAL + 1)
    assert scene.news() == []
    scene.wire.say("3")
    scene.wait_until(2 * PING_INTERVAL + 2)
    assert scene.news() == ["2"]


async def test_who_does_not_answer_a_ping_is_closed_as_silent_and_may_come_back() -> None:
    scene = Scene()
    await scene.joined("/", "/chat")
    scene.wait_until(PING_INTERVAL)
    scene.wait_until(PING_INTERVAL + PING_TIMEOUT - 1)
    assert scene.code() is None
    scene.news()
    scene.wait_until(PING_INTERVAL + PING_TIMEOUT + 1)
    assert scene.wire.closed == (4408, "no answer to a ping")
    assert scene.news() == []  # no DISCONNECT: a stock client comes back with its own delay
    await scene.settle()
    assert sorted(scene.steps.ends) == [("/", "ping timeout"), ("/chat", "ping timeout")]
    assert scene.is_empty()


async def test_events_are_no_answer_to_a_ping() -> None:
    scene = Scene()
    await scene.joined()
    scene.wait_until(PING_INTERVAL)
    scene.wire.say('42["x"]')
    scene.wait_until(PING_INTERVAL + PING_TIMEOUT + 1)
    assert scene.code() is not None
    await scene.settle()


async def test_while_we_do_not_read_the_ping_timeout_stands_still() -> None:
    scene = Scene(inbox_limit_events=2)
    await scene.joined()
    scene.steps.gate = asyncio.Event()
    scene.wait_until(PING_INTERVAL)
    for _ in range(3):
        scene.wire.say('42["x"]')
    assert scene.wire.paused
    for seconds in range(PING_INTERVAL, 10 * PING_INTERVAL, 5):
        scene.wait_until(seconds)
    assert scene.code() is None
    assert scene.news() == ["2"]
    scene.steps.gate.set()
    await scene.settle()
    scene.wait_until(11 * PING_INTERVAL)
    assert scene.code() is not None  # now it counts again


async def test_attachments_that_do_not_come_end_the_connection() -> None:
    scene = Scene()
    await scene.joined()
    scene.wire.say('452-["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
    scene.wait_until(9)
    assert scene.code() is None
    scene.wait_until(11)
    assert scene.code() == 4501
    assert scene.violations() == {"attachments_late": 1}
    assert not scene.session.decoder.pending
    assert scene.session.decoder.pending_bytes == 0


async def test_attachments_that_came_have_no_timeout() -> None:
    scene = Scene()
    await scene.joined()
    scene.wire.say('451-["x",{"_placeholder":true,"num":0}]', b"x")
    await scene.settle()
    scene.wait_until(20)
    assert scene.code() is None
    assert scene.steps.heard == [("/", ["x", b"x"], None)]


async def test_a_token_that_ends_is_told_to_the_application_once() -> None:
    scene = Scene()
    session = await scene.joined("/", "/chat")
    scene.member("/chat").expires_at = scene.start + 3
    session.wake_at(scene.start + 3)
    scene.wait_until(2)
    assert scene.steps.over == []
    scene.wait_until(3)
    assert scene.steps.over == ["/chat"]
    scene.wait_until(4)
    assert scene.steps.over == ["/chat"]
    assert scene.code() is None
    scene.wait_until(PING_INTERVAL)
    assert scene.news() == ["2"]  # the heartbeat goes on


async def test_the_end_of_a_token_may_end_the_connection() -> None:
    scene = Scene()
    session = await scene.joined()
    scene.member().expires_at = scene.start + 3
    session.wake_at(scene.start + 3)
    scene.steps.expired = lambda member: member.session.close(1008, "over", Reason.EXPIRED)  # type: ignore[method-assign]
    scene.wait_until(3)
    await scene.settle()
    assert scene.wire.closed == (1008, "over")
    assert scene.is_empty()


# ── the end ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("code", "stays_away"),
    [
        (CloseCode.DONE, False), (CloseCode.GOING_AWAY, False), (CloseCode.POLICY, False),
        (CloseCode.SERVER_ERROR, False), (CloseCode.SILENT, False), (CloseCode.TOO_FAST, False),
        (CloseCode.DRAINING, False), (CloseCode.BAD_PROTOCOL, True), (CloseCode.REVOKED, True),
        (CloseCode.REPLACED, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["websocket", "polling"])
async def test_a_client_that_is_to_stay_away_is_told_disconnect_first(
    code: CloseCode, stays_away: bool, name: str
) -> None:
    scene = Scene()
    session = await scene.joined("/", "/chat", wire=MemoryWire(name))
    session.close(code, "words", Reason.SERVER)
    session.close(CloseCode.DONE, "again", Reason.SERVER)
    assert scene.news() == [*(["41", "41/chat,"] if stays_away else []), *(["1"] if name == "polling" else [])]
    assert scene.wire.closed == (code, "words")
    await scene.settle()
    assert sorted(scene.steps.ends) == [("/", "server disconnect"), ("/chat", "server disconnect")]
    assert scene.is_empty()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (CloseCode.REPLACED, ['42["waits"]', "41", "41/chat,", "1"]),
        (CloseCode.TOO_FAST, ['42["waits"]', "1"]), (CloseCode.DRAINING, ['42["waits"]', "1"]),
        (CloseCode.DONE, ['42["waits"]', "1"]), (CloseCode.SILENT, None),
    ],
)  # fmt: skip
async def test_who_is_ended_and_is_not_just_now_polling_is_told_with_its_next_poll(
    code: CloseCode, words: list[str] | None
) -> None:
    scene, wire = Scene(), Between("polling")
    session = await scene.joined("/", "/chat", wire=wire)
    session.hold()
    session.offer(text('42["waits"]'))
    session.close(code, "", Reason.SERVER)
    session.close(code, "", Reason.SERVER)
    kept = scene.core.leaving.claim("session", monotonic())
    assert (None if kept is None else [each.payload for each in kept]) == words
    assert scene.news() == []
    await scene.settle()
    assert scene.is_empty()


async def test_who_is_in_no_namespace_has_no_last_words() -> None:
    scene = Scene()
    session = scene.connection(Between("polling"))
    session.hold()
    session.close(CloseCode.BAD_PROTOCOL, "", Reason.PROTOCOL)
    assert len(scene.core.leaving) == 0


async def test_last_words_that_had_to_give_way_are_counted() -> None:
    scene = Scene()
    scene.core.leaving = Leaving(packets=1)
    session = await scene.joined(wire=Between("polling"))
    session.hold()
    session.close(CloseCode.REVOKED, "", Reason.SERVER)
    assert scene.drops() == {"last_words": 1}


async def test_a_probe_ends_with_the_session_that_it_wanted() -> None:
    scene, probe = Scene(), Probe()
    session = await scene.joined()
    session.upgrading = probe  # type: ignore[assignment]
    scene.wire.cut()
    assert probe.told == ["transport close"]
    assert session.upgrading is None
    await scene.settle()
    assert scene.is_empty()


async def test_a_half_received_packet_is_let_go_with_its_client() -> None:
    scene = Scene()
    await scene.joined()
    scene.wire.say('452-["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', b"half")
    before = scene.session.decoder.pending
    scene.wire.cut()
    assert (before, scene.session.decoder.pending) == (True, False)
    await scene.settle()
    assert scene.steps.heard == []


async def test_an_upgrade_takes_along_what_waited() -> None:
    scene, polling, websocket = Scene(), MemoryWire("polling", capacity=1), MemoryWire()
    session = await scene.joined(wire=polling)
    polling.read_on()
    session.hold()
    scene.steps.members[0].push(session.dialect.event("/", "a", []))  # type: ignore[arg-type]
    session.switch(websocket)
    scene.steps.members[0].push(session.dialect.event("/", "b", []))  # type: ignore[arg-type]
    assert websocket.frames == ['42["a"]', '42["b"]']
    assert session.wire is websocket
    assert scene.metrics.connections.value("polling") == 0
    assert scene.metrics.connections.value("websocket") == 1


@pytest.mark.parametrize("namespace", ["/typed", "/plain"])
async def test_who_is_cut_off_lies_nowhere_until_the_garbage_collector_comes_round(namespace: str) -> None:
    """A network that breaks cuts off thousands: to find them all at once would take a second of everybody's."""
    server = Server(settings=settings_for(), namespaces=["/plain"])
    typed = server.include(Namespace("/typed"))

    @typed.hook("disconnected")
    async def disconnected(socket: Socket) -> None:
        assert socket.wire

    def lying() -> list[Any]:
        return [each for each in gc.get_objects() if isinstance(each, (Connection, Member, Socket))]

    def new() -> list[str]:
        return [type(each).__name__ for each in lying() if id(each) not in others]

    gc.collect()
    others = {id(each): each for each in lying()}  # of other tests, perhaps, and held for as long as this one runs
    gc.disable()
    try:
        client = MemoryClient(server)
        await client.connect(namespace)
        assert "Connection" in new()
        client.wire.cut()
        del client.wire.link, client  # as wires do that had a network
        await server.application.rest(PATIENCE_SECONDS)
        assert new() == []
    finally:
        gc.enable()
