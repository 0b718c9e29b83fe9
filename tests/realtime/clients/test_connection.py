from __future__ import annotations

import asyncio
import base64
import json
import logging
from typing import Any

import pytest

from realtime.clients.connection import PATIENCE_EVENTS, STRAY_ACKS
from realtime.encoding.packets import PacketLimits
from realtime.names import Reason
from realtime.session.session import Member
from tests.realtime.scene import Scene

pytestmark = pytest.mark.asyncio


# ── the handshake ────────────────────────────────────────────────────────────────────────────────


async def test_the_first_packet_says_what_holds_here() -> None:
    scene = Scene()
    scene.connection()
    [frame] = scene.wire.frames
    assert isinstance(frame, str)
    assert frame[0] == "0"
    assert json.loads(frame[1:]) == {
        "sid": "session", "upgrades": [], "pingInterval": 25_000, "pingTimeout": 20_000, "maxPayload": 1_000_000,
    }  # fmt: skip
    assert scene.metrics.connections.value("websocket") == 1


# ── before CONNECT ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ('42["x"]', "event_before_connect"),
        ('421["x"]', "event_before_connect"),
        ('42/chat,["x"]', "event_before_connect"),
        ("430[]", "ack_before_connect"),
        ("43/chat,1[]", "ack_before_connect"),
        ("41", "disconnect_before_connect"),
        ("41/chat,", "disconnect_before_connect"),
    ],
)
async def test_nothing_goes_before_connect(frame: str, reason: str) -> None:
    scene = Scene()
    scene.connection()
    scene.wire.say(frame, "40", '42["later"]')
    await scene.settle()
    assert scene.code() == 4501
    assert scene.violations() == {reason: 1}
    assert scene.steps.members == []
    assert scene.steps.heard == []
    assert scene.is_empty()


async def test_a_binary_event_before_connect_is_refused_with_its_last_attachment() -> None:
    scene = Scene()
    scene.connection()
    scene.wire.say('451-["x",{"_placeholder":true,"num":0}]')
    assert scene.code() is None
    scene.wire.say(b"x")
    assert scene.violations() == {"event_before_connect": 1}


async def test_connect_is_answered_with_a_sid_of_its_own_for_each_namespace() -> None:
    scene = Scene()
    scene.connection()
    scene.wire.say('40{"token":"t"}', '40/chat,{"username":"alice"}')
    await scene.settle()
    assert scene.news() == ['40{"sid":"sid1"}', '40/chat,{"sid":"sid2"}']
    assert [member.auth for member in scene.steps.members] == [{"token": "t"}, {"username": "alice"}]
    assert scene.register.here == {"sid1", "sid2"}


async def test_an_unknown_namespace_is_refused_and_the_connection_lives() -> None:
    scene = Scene()
    scene.connection()
    scene.wire.say("40/nobody,")
    assert scene.news() == ['44/nobody,{"message":"Invalid namespace"}']
    assert scene.metrics.handshakes_refused.value("unknown_namespace") == 1
    scene.wire.say("40")
    await scene.settle()
    assert scene.news() == ['40{"sid":"sid1"}']


async def test_a_namespace_that_was_refused_is_not_connected_and_may_be_tried_again() -> None:
    scene = Scene()
    accept = scene.steps.step
    scene.steps.step = scene.steps.refuse
    scene.connection()
    scene.wire.say("40")
    await scene.settle()
    assert scene.news() == ['44{"message":"No"}']
    assert not scene.register.here
    assert not scene.register.leaving
    scene.steps.step = accept
    scene.wire.say("40")
    await scene.settle()
    assert scene.news() == ['40{"sid":"sid2"}']
    assert scene.steps.ends == []


async def test_events_that_come_while_a_client_is_let_in_wait_for_that() -> None:
    scene, door = Scene(), asyncio.Event()

    async def wait(member: Member) -> None:
        await door.wait()
        await scene.steps.accept(member)

    scene.steps.step = wait
    scene.connection()
    scene.wire.say("40", '42["early"]')
    await scene.steps.began(1)
    assert scene.steps.heard == []
    door.set()
    await scene.settle()
    assert scene.steps.names == ["early"]


async def test_events_of_a_client_that_is_refused_reach_no_handler() -> None:
    scene = Scene()
    scene.steps.step = scene.steps.refuse
    scene.connection()
    scene.wire.say("40", '42["early"]')
    await scene.settle()
    assert scene.steps.heard == []
    assert scene.drops() == {"after_disconnect": 1}


# ── after CONNECT ────────────────────────────────────────────────────────────────────────────────


async def test_events_reach_the_application_in_order() -> None:
    scene = Scene()
    await scene.joined("/", "/chat")
    scene.wire.say('42["a",1]', '42/chat,7["b"]', '420["c"]', '42["a",2]')
    await scene.settle()
    assert [one for one in scene.steps.heard if one[0] == "/"] == [
        ("/", ["a", 1], None), ("/", ["c"], 0), ("/", ["a", 2], None),
    ]  # fmt: skip
    assert ("/chat", ["b"], 7) in scene.steps.heard
    assert scene.news() == []


@pytest.mark.parametrize("attachment", [b"\x00\xff", "b" + base64.b64encode(b"\x00\xff").decode()])
async def test_an_attachment_comes_as_binary_or_in_base64(attachment: str | bytes) -> None:
    scene = Scene()
    await scene.joined()
    scene.wire.say('451-["file",{"_placeholder":true,"num":0}]', attachment)
    await scene.settle()
    assert scene.steps.heard == [("/", ["file", b"\x00\xff"], None)]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("40", "connect_twice"),
        ("", "bad_engine_packet"),
        ("0", "bad_engine_packet"),
        ("1x", "bad_engine_packet"),
        ("2", "bad_engine_packet"),
        ("2probe", "bad_engine_packet"),
        ("3probe", "bad_engine_packet"),
        ("5", "bad_engine_packet"),
        ("7", "bad_engine_packet"),
        ("hello", "bad_engine_packet"),
        ("b!!!", "bad_base64"),
        (b"stray", "unexpected_binary"),
        ("4", "bad_packet_type"),
        ("49", "bad_packet_type"),
        ("44{}", "bad_packet_type"),
        ("42", "bad_payload"),
        ('42"x"', "bad_payload"),
        ('42["connect"]', "reserved_event"),
        ('42["x"', "bad_json"),
        ('42/other,["x"]', "event_before_connect"),
        ("41/other", "disconnect_before_connect"),
        ("43/other,1[]", "ack_before_connect"),
    ],
    ids=repr,
)
async def test_a_violation_ends_the_connection(frame: str | bytes, reason: str) -> None:
    scene = Scene()
    await scene.joined("/", "/chat")
    scene.wire.say(frame, '42["later"]')
    await scene.settle()
    assert scene.code() == 4501
    assert scene.news() == ["41", "41/chat,"]
    assert scene.violations() == {reason: 1}
    assert scene.steps.names == []
    assert sorted(scene.steps.ends) == [("/", "protocol error"), ("/chat", "protocol error")]
    assert scene.is_empty()


async def test_a_log_line_about_a_violation_holds_nothing_of_what_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    await scene.joined()
    with caplog.at_level(logging.DEBUG, "realtime"):
        scene.wire.say('42["hunter2"')
        scene.wire.say('42["hunter2"')
    assert len(caplog.messages) == 1, "one line for a client, not one for each packet"
    assert caplog.messages[0].startswith("client session was ended, protocol error: ")
    assert "hunter2" not in caplog.text


async def test_a_client_that_is_too_fast_is_one_line_then_and_one_when_it_is_enough(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene(events_per_second=1)
    scene.steps.has_limit = True
    await scene.joined()
    with caplog.at_level(logging.INFO, "realtime"):
        scene.wire.say(*['42["x"]'] * (PATIENCE_EVENTS + 10))
    assert caplog.messages == [
        "client session is over a limit: rate_limited",
        "client session was ended, limit: too many events",
    ]
    assert scene.metrics.ended.values == {("limit",): 1}
    assert scene.drops()["rate_limited"] == PATIENCE_EVENTS + 1


@pytest.mark.parametrize("frame", ["6", "3"])
async def test_a_packet_that_asks_for_nothing_is_answered_with_nothing(frame: str) -> None:
    scene = Scene()
    await scene.joined()
    scene.wire.say(frame)
    await scene.settle()
    assert scene.news() == []
    assert scene.code() is None


@pytest.mark.parametrize(
    "frame",
    ["42" + json.dumps(["x" * 200]), "42" + json.dumps(["é" * 60], ensure_ascii=False), b"x" * 101],
    ids=["characters", "bytes", "binary"],
)
async def test_a_message_over_the_limit_is_1009_and_nothing_is_said_about_it(frame: str | bytes) -> None:
    scene = Scene()
    scene.connection(limits=PacketLimits(message_bytes=100))
    scene.wire.say("40")
    await scene.settle()
    scene.wire.say(frame)
    assert scene.wire.closed == (1009, "")
    assert scene.violations() == {"too_big": 1}


@pytest.mark.parametrize("word", ["x" * 94, "é" * 47, "\ud83d" * 31])
async def test_a_message_of_just_the_limit_is_taken(word: str) -> None:
    """The limit is in bytes; half an emoji counts as the three that its escape in UTF-8 would take."""
    scene = Scene()
    scene.connection(limits=PacketLimits(message_bytes=100))
    scene.wire.say("40", f'42["{word}"]')
    await scene.settle()
    assert scene.code() is None


async def test_a_payload_that_cannot_be_taken_is_answered_and_the_connection_lives() -> None:
    scene = Scene()
    await scene.joined()
    scene.wire.say('425["x",1e400]', '42["x",1e400]', '42["y"]')
    await scene.settle()
    acknowledged, told = scene.news()
    assert isinstance(acknowledged, str)
    assert isinstance(told, str)
    assert acknowledged.startswith('435[{"error":{"code":"invalid_payload"')
    assert told.startswith('42["error",{"error":{"code":"invalid_payload"')
    assert scene.steps.names == ["y"]
    assert scene.drops() == {"unreadable_payload": 2}
    assert scene.metrics.errors.value("/", "invalid_payload") == 2


async def test_an_answer_that_cannot_be_taken_answers_nothing_that_the_client_asked() -> None:
    """Both sides count their questions from the same numbers: 5 here is ours, not the client's."""
    scene = Scene()
    await scene.joined()
    scene.wire.say("435[1e400]")
    [told] = scene.news()
    assert isinstance(told, str)
    assert told.startswith('42["error",{"error":{"code":"invalid_payload"')


async def test_a_payload_that_cannot_be_taken_for_a_namespace_that_is_not_connected_is_counted_alone() -> None:
    scene = Scene()
    scene.connection()
    scene.wire.say('425["x",1e400]')
    assert scene.news() == []
    assert scene.drops() == {"unreadable_payload": 1}


async def test_leaving_runs_the_hook_once_and_the_connection_stays() -> None:
    scene = Scene()
    await scene.joined("/", "/chat")
    scene.wire.say("41")
    await scene.settle()
    assert scene.steps.ends == [("/", "client disconnect")]
    assert scene.news() == []
    scene.wire.say('42/chat,["still here"]')
    await scene.settle()
    assert scene.steps.names == ["still here"]
    scene.wire.say("40")
    await scene.settle()
    assert scene.news() == ['40{"sid":"sid3"}']


@pytest.mark.parametrize("frame", ['42["x"]', "431[]", "41"])
async def test_after_its_own_disconnect_a_client_says_nothing_more_there(frame: str) -> None:
    scene = Scene()
    await scene.joined("/", "/chat")
    scene.wire.say("41", frame)
    await scene.settle()
    assert scene.code() == 4501
    assert scene.steps.heard == []


async def test_what_was_said_before_leaving_is_still_heard_and_the_hook_runs_last() -> None:
    scene = Scene()
    await scene.joined()
    scene.steps.gate = asyncio.Event()
    scene.wire.say('42["a"]', '42["b"]', "41")
    await scene.steps.began(2)
    assert scene.steps.names == ["a"]
    assert scene.steps.ends == []
    scene.steps.gate.set()
    await scene.settle()
    assert scene.steps.names == ["a", "b"]
    assert scene.steps.ends == [("/", "client disconnect")]
    assert not scene.register.leaving
    assert scene.code() is None


async def test_goodbye_ends_every_namespace_and_the_wire() -> None:
    scene = Scene()
    await scene.joined("/", "/chat")
    scene.wire.say("1", '42["later"]')
    await scene.settle()
    assert scene.wire.closed == (1000, "")
    assert scene.news() == []
    assert sorted(scene.steps.ends) == [("/", "transport close"), ("/chat", "transport close")]
    assert scene.steps.heard == []
    assert scene.is_empty()


async def test_there_is_an_end_to_the_namespaces_of_one_connection() -> None:
    scene = Scene(namespaces_per_connection=2)
    scene.steps.namespaces |= {"/third"}
    await scene.joined("/", "/chat")
    scene.wire.say("40/third,")
    [answer] = scene.news()
    assert isinstance(answer, str)
    assert answer.startswith("44/third,")
    assert json.loads(answer.removeprefix("44/third,"))["data"]["code"] == "too_many_namespaces"
    scene.wire.say("41")
    await scene.settle()
    scene.wire.say("40/third,")
    await scene.settle()
    assert scene.news() == ['40/third,{"sid":"sid3"}']


async def test_coming_and_going_starts_no_more_than_the_namespaces_one_may_have() -> None:
    scene, door = Scene(namespaces_per_connection=3), asyncio.Event()

    async def wait(member: Member) -> None:
        await door.wait()

    scene.steps.step = wait
    scene.connection()
    for _ in range(20):
        scene.wire.say("40")
        if "/" in scene.session.members:
            scene.wire.say("41")
    await scene.steps.began(3)
    door.set()
    await scene.settle()
    assert len(scene.steps.members) == 3
    assert not scene.register.here
    assert not scene.register.leaving


# ── an honest race: we end a namespace, the client does not know yet ─────────────────────────────


async def test_what_comes_for_a_namespace_that_we_have_just_ended_is_ignored_and_counted() -> None:
    scene = Scene()
    session = await scene.joined("/", "/chat")
    session.dismiss("/", Reason.SERVER)
    assert scene.news() == ["41"]
    scene.wire.say('42["x"]', '421["y"]', "431[]", "41", "41")
    await scene.settle()
    assert scene.code() is None
    assert scene.steps.heard == []
    assert scene.steps.ends == [("/", "server disconnect")]
    assert scene.drops() == {"after_disconnect": 2, "stray_ack": 1}


async def test_the_race_is_over_once_the_client_has_come_back() -> None:
    scene = Scene()
    session = await scene.joined("/", "/chat")
    session.dismiss("/", Reason.SERVER)
    scene.wire.say("40", "41", '42["x"]')
    await scene.settle()
    assert scene.violations() == {"event_before_connect": 1}


@pytest.mark.parametrize(
    ("reason", "heard"),
    [
        (Reason.SERVER, False), (Reason.EXPIRED, False), (Reason.REPLACED, False),
        (Reason.LIMIT, True), (Reason.CLIENT, True),
    ],
)  # fmt: skip
async def test_what_a_client_had_sent_before_we_ended_it_is_handled_or_not_by_the_reason(
    reason: Reason, heard: bool
) -> None:
    scene = Scene()
    session = await scene.joined()
    scene.steps.gate = asyncio.Event()
    scene.wire.say('42["running"]', '42["waiting"]')
    await scene.steps.began(2)
    session.dismiss("/", reason)
    scene.steps.gate.set()
    await scene.settle()
    assert scene.steps.names == (["running", "waiting"] if heard else ["running"])
    assert scene.steps.ends == [("/", reason)]
    assert scene.drops().get("after_disconnect", 0) == (0 if heard else 1)


async def test_dismissing_who_is_not_there_is_nothing() -> None:
    scene = Scene()
    session = await scene.joined()
    session.dismiss("/chat", Reason.SERVER)
    assert scene.news() == []
    scene.wire.say('42/chat,["x"]')
    assert scene.violations() == {"event_before_connect": 1}


async def test_who_is_dismissed_before_being_let_in_is_told_so_and_has_no_hook() -> None:
    scene, door = Scene(), asyncio.Event()

    async def wait(member: Member) -> None:
        await door.wait()
        await scene.steps.accept(member)

    scene.steps.step = wait
    session = scene.connection()
    scene.wire.say("40", '42["early"]')
    await scene.steps.began(1)
    session.dismiss("/", Reason.SERVER)
    [answer] = scene.news()
    assert isinstance(answer, str)
    assert answer.startswith("44{")
    assert json.loads(answer[2:])["data"]["code"] == "ended"
    scene.wire.say('42["in flight"]')
    door.set()
    await scene.settle()
    assert scene.news() == []
    assert scene.steps.let_in == [False]
    assert scene.steps.heard == []
    assert scene.steps.ends == []
    assert scene.code() is None
    scene.wait_until(10)
    assert scene.code() is not None
    assert scene.is_empty()


# ── acknowledgements ─────────────────────────────────────────────────────────────────────────────


async def test_an_answer_reaches_who_asked() -> None:
    scene, answers = Scene(), []
    await scene.joined()

    async def later(*args: Any) -> None:
        answers.append(("later", *args))

    ids = [scene.member().expect(lambda *args: answers.append(args)), scene.member().expect(later)]
    scene.wire.say(f'43{ids[0]}["yes",2]', f"43{ids[1]}[]")
    await scene.settle()
    assert answers == [("yes", 2), ("later",)]
    assert scene.drops() == {}


async def test_answers_that_nobody_asked_for_are_counted_and_have_an_end() -> None:
    scene, answers = Scene(), []
    await scene.joined()
    id = scene.member().expect(lambda *args: answers.append(args))
    for _ in range(STRAY_ACKS):
        scene.wire.say("4399[]")
    assert scene.code() is None
    scene.wire.say(f'43{id}["in between"]')
    assert answers == [("in between",)]
    scene.wire.say(f"43{id}[]")
    assert scene.code() == 4501
    assert scene.violations() == {"ack_flood": 1}
    assert scene.drops() == {"stray_ack": STRAY_ACKS + 1}
    assert answers == [("in between",)]


async def test_whoever_waits_for_an_answer_is_told_when_the_client_goes() -> None:
    class Waiter:
        given_up = False

        def __call__(self, *_: Any) -> None:
            raise AssertionError("nobody answered")

        def abandoned(self) -> None:
            self.given_up = True

    scene, waiter = Scene(), Waiter()
    await scene.joined()
    scene.member().expect(waiter)
    scene.wire.cut()
    assert waiter.given_up


# ── too fast ─────────────────────────────────────────────────────────────────────────────────────


async def test_events_over_the_rate_are_answered_for_a_while_then_the_connection_ends() -> None:
    scene = Scene(events_per_second=5)
    scene.steps.has_limit = True
    await scene.joined()
    for number in range(5):
        scene.wire.say(f'42["x",{number}]')
    assert scene.news() == []
    scene.wire.say('427["x"]', '42["x"]')
    acknowledged, told = scene.news()
    assert isinstance(acknowledged, str)
    error = json.loads(acknowledged.removeprefix("437"))[0]["error"]
    assert error["code"] == "rate_limited"
    assert 0 < error["retry_after"] <= 0.2
    assert isinstance(told, str)
    assert told.startswith('42["error",{"error":{"code":"rate_limited"')
    for _ in range(PATIENCE_EVENTS - 2):
        scene.wire.say('42["x"]')
    assert scene.code() is None
    scene.news()
    scene.wire.say('42["x"]')
    assert scene.wire.closed == (4429, "too many events")
    assert scene.news() == []
    await scene.settle()
    assert scene.steps.names == ["x"] * 5
    assert scene.steps.ends == [("/", "limit")]
    assert scene.drops() == {"rate_limited": PATIENCE_EVENTS + 1}


async def test_payloads_that_cannot_be_taken_are_events_to_the_limit() -> None:
    scene = Scene(events_per_second=5)
    scene.steps.has_limit = True
    await scene.joined()
    for _ in range(5 + PATIENCE_EVENTS + 1):
        scene.wire.say('42["x",1e400]')
    assert scene.wire.closed == (4429, "too many events")


async def test_where_no_limit_holds_any_rate_is_fine() -> None:
    scene = Scene(events_per_second=5, inbox_limit_events=1_000)
    await scene.joined()
    for _ in range(500):
        scene.wire.say('42["x"]')
    await scene.settle()
    assert len(scene.steps.heard) == 500


async def test_a_full_inbox_stops_the_wire_until_half_of_it_is_done() -> None:
    scene = Scene(inbox_limit_events=4)
    await scene.joined()
    scene.steps.gate = asyncio.Event()
    for _ in range(5):  # one is under way
        scene.wire.say('42["x"]')
    before = scene.wire.paused
    scene.steps.gate.set()
    await scene.settle()
    assert (before, scene.wire.paused) == (True, False)
    assert len(scene.steps.heard) == 5
