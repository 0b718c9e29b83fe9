from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from realtime.encoding.codecs import Encoded, RawJson, SocketIOText, text
from realtime.errors import CloseCode
from realtime.names import Reason
from realtime.session.outbox import Bounds
from realtime.session.session import Member, Session, State
from realtime.testing import MemoryWire
from tests.realtime.scene import PATIENCE_SECONDS, Scene

pytestmark = pytest.mark.asyncio


class Plain(Session):
    """A session whose wire has no protocol of its own; ``words`` are its last."""

    words: tuple[str, ...] = ()

    def receive(self, frame: str | bytes) -> None:
        raise AssertionError("nobody sends anything here")

    def _last_words(self, code: int) -> list[Encoded]:
        return [text(word) for word in self.words]


class Room:
    """A session on a wire of memory, with one member that the application is still to let in."""

    def __init__(self, capacity: int | None = None, bounds: Bounds = Bounds(), **settings: Any) -> None:  # noqa: B008
        self.scene = Scene(bounds, **settings)
        self.session = Plain(self.scene.core, "session", SocketIOText(), {})
        self.wire = MemoryWire(capacity=capacity)
        self.session.attach_wire(self.wire, free=True)
        self.member = self.session.join("sid", "/", {"token": "t"})

    def let_in(self) -> Member:
        assert self.session.accept(self.member, {"sid": "sid"})
        return self.member

    def is_empty(self) -> bool:
        self.scene.session = self.session  # type: ignore[assignment]
        return self.scene.is_empty()


async def elsewhere(call: Callable[..., Any], *args: Any) -> None:
    """Call this in another thread, and return when what that asked of this loop is done."""
    thread = threading.Thread(target=call, args=args)
    thread.start()
    await asyncio.wait_for(asyncio.to_thread(thread.join), PATIENCE_SECONDS)
    turn = asyncio.Event()
    asyncio.get_running_loop().call_soon(turn.set)
    await asyncio.wait_for(turn.wait(), PATIENCE_SECONDS)


# ── being let in ─────────────────────────────────────────────────────────────────────────────────


async def test_who_is_let_in_is_greeted_first_and_given_then_what_was_held_back() -> None:
    room = Room()
    assert room.member.state is State.PENDING
    room.member.push(text("first"))
    room.member.push(text("second"))
    assert room.wire.frames == []
    room.let_in()
    room.member.push(text("third"))
    assert room.wire.frames == ['40{"sid":"sid"}', "first", "second", "third"]
    assert room.member.held is None
    assert room.scene.metrics.members.value("/") == 1


async def test_what_is_volatile_is_not_held_back() -> None:
    room = Room()
    room.member.push(text("typing"), volatile=True)
    room.let_in()
    assert room.wire.frames == ['40{"sid":"sid"}']


async def test_what_is_held_back_stays_within_the_bounds_of_a_backlog() -> None:
    room = Room(bounds=Bounds(messages=3))
    for word in ("first", "second", "third", "fourth"):
        room.member.push(text(word))
    room.let_in()
    assert room.wire.frames == ['40{"sid":"sid"}', "first", "second"]
    assert room.scene.drops() == {"held": 2}


async def test_what_was_held_back_fits_a_wire_that_is_full() -> None:
    """Nobody is too slow who was never given a chance to read."""
    room = Room(bounds=Bounds(messages=3))
    room.session.hold()
    for number in range(5):
        room.member.push(text(f"{number}"))
    room.let_in()
    assert room.wire.closed is None
    room.wire.read_on()
    assert room.wire.frames == ['40{"sid":"sid"}', "0", "1"]


async def test_who_is_refused_is_told_and_leaves_no_trace() -> None:
    room = Room()
    room.member.push(text("held"))
    room.session.refuse(room.member, {"message": "No"})
    room.session.refuse(room.member, {"message": "No"})
    room.member.push(text("late"))
    assert room.wire.frames == ['44{"message":"No"}']
    assert (room.member.state, room.member.held) == (State.GONE, None)
    assert not room.session.accept(room.member, {})
    assert room.session.members == {}
    assert not room.scene.register.here
    assert not room.scene.register.leaving
    await room.scene.settle()
    assert room.scene.steps.ends == []


async def test_who_left_before_being_let_in_is_not_let_in() -> None:
    room = Room()
    room.session.leave(room.member, Reason.CLIENT)
    assert not room.session.accept(room.member, {})
    room.session.refuse(room.member, {"message": "No"})
    await room.scene.settle()
    assert room.wire.frames == []
    assert room.scene.steps.ends == []
    assert room.scene.metrics.members.value("/") == 0
    assert not room.scene.register.leaving


async def test_whoever_is_let_in_is_let_in_once() -> None:
    room = Room()
    room.let_in()
    assert not room.session.accept(room.member, {})
    room.session.refuse(room.member, {"message": "No"})
    assert room.wire.frames == ['40{"sid":"sid"}']
    assert room.member.state is State.JOINED
    assert room.scene.metrics.members.value("/") == 1


async def test_a_client_without_a_greeting_is_sent_none() -> None:
    room = Room()
    room.session.dialect = RawJson()
    room.let_in()
    other = room.session.join("other", "/chat", None)
    assert room.session.accept(other, None)
    third = room.session.join("third", "/third", None)
    room.session.refuse(third, {"message": "No"})
    assert room.wire.frames == []


async def test_names_that_clients_choose_grow_no_table() -> None:
    room = Room()
    for number in range(5):
        member = room.session.join(f"sid{number}", f"/{number}", None)
        room.session.accept(member, {})
        room.session.leave(member, Reason.CLIENT)
    await room.scene.settle()
    assert set(room.scene.metrics.members.values) == {("other",)}
    assert set(room.scene.metrics.disconnects.values) == {("other", "client disconnect")}


# ── sending ──────────────────────────────────────────────────────────────────────────────────────


async def test_who_is_gone_is_sent_nothing() -> None:
    room = Room()
    member = room.let_in()
    room.session.leave(member, Reason.CLIENT)
    member.push(text("late"))
    assert room.wire.frames == ['40{"sid":"sid"}']
    await room.scene.settle()


async def test_who_is_too_slow_is_closed_and_not_sent_what_waited() -> None:
    room = Room(capacity=1, bounds=Bounds(messages=2))
    room.let_in()
    for number in range(3):
        room.session.offer(text(f"{number}"))
    assert room.wire.closed == (4430, "too slow to read")
    assert room.wire.frames == ['40{"sid":"sid"}']
    assert room.scene.drops() == {"slow": 1}
    await room.scene.settle()
    assert room.scene.steps.ends == [("/", "slow")]
    assert room.is_empty()


async def test_a_closed_session_sends_nothing() -> None:
    room = Room()
    room.session.lost(Reason.TRANSPORT_CLOSE)
    room.session.offer(text("late"))
    assert room.wire.frames == []
    assert room.session.take() is None


async def test_other_threads_may_send_and_their_order_holds() -> None:
    room = Room()
    member = room.let_in()

    def send() -> None:
        for number in range(100):
            member.push(text(f"{number}"))

    await elsewhere(send)
    assert room.wire.frames == ['40{"sid":"sid"}', *map(str, range(100))]


async def test_other_threads_may_send_to_somebody_who_is_let_in_meanwhile() -> None:
    room = Room()
    room.member.push(text("here"))
    pushed = threading.Thread(target=room.member.push, args=(text("there"),))
    pushed.start()
    pushed.join(PATIENCE_SECONDS)
    room.let_in()
    await elsewhere(room.member.push, text("later"))
    assert room.wire.frames == ['40{"sid":"sid"}', "here", "there", "later"]


async def test_other_threads_may_send_to_somebody_who_is_not_let_in_yet() -> None:
    room = Room()
    await elsewhere(room.member.push, text("there"))
    assert room.wire.frames == []
    room.let_in()
    assert room.wire.frames == ['40{"sid":"sid"}', "there"]


async def test_other_threads_may_close_and_it_happens_once() -> None:
    room = Room()
    room.let_in()
    await elsewhere(room.session.close, CloseCode.REVOKED, "revoked", Reason.SERVER)
    await elsewhere(room.session.close, CloseCode.DONE, "again", Reason.CLIENT)
    assert room.wire.closed == (4503, "revoked")
    await room.scene.settle()
    assert room.scene.steps.ends == [("/", "server disconnect")]
    assert room.is_empty()


# ── the wire ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_wire_belongs_to_the_session_that_it_is_attached_to_and_is_counted() -> None:
    room = Room()
    assert room.wire.link is room.session
    other = MemoryWire("polling")
    room.session.attach_wire(other, free=False)
    assert (room.session.wire, other.link) == (other, room.session)
    assert room.scene.metrics.connections.values == {("websocket",): 0, ("polling",): 1}
    room.session.lost(Reason.TRANSPORT_CLOSE)
    room.session.lost(Reason.TRANSPORT_CLOSE)
    assert room.scene.metrics.connections.value("polling") == 0


async def test_what_a_wire_gives_back_is_the_first_it_takes_again() -> None:
    room = Room()
    room.session.hold()
    room.session.offer(text("a"))
    room.session.offer(text("b"))
    taken = room.session.take()
    assert taken is not None
    room.session.put_back(taken)
    room.wire.read_on()
    assert room.wire.frames == ["a", "b"]


async def test_a_broken_frame_is_counted_and_ends_the_client() -> None:
    room = Room()
    room.let_in()
    room.session.broken(1007, "bad UTF-8")
    assert room.wire.closed == (1007, "bad UTF-8")
    assert room.scene.violations() == {"bad_frame": 1}
    await room.scene.settle()
    assert room.scene.steps.ends == [("/", "protocol error")]


async def test_a_session_without_a_wire_may_end() -> None:
    room = Room()
    session = Plain(room.scene.core, "wireless", SocketIOText(), {})
    session.offer(text("waits"))
    session.stop_reading()
    session.read_on()
    session.close(CloseCode.DONE, "", Reason.SERVER)
    assert session.closed
    assert list(room.scene.core.sessions) == ["session"]


async def test_a_full_inbox_stops_every_wire_that_comes_until_it_is_half_empty() -> None:
    room = Room(inbox_limit_events=2)
    member = room.let_in()
    room.scene.steps.gate = asyncio.Event()
    for _ in range(3):
        room.session.inbox.put(member, ("event", ["x"], None))
    other = MemoryWire()
    room.session.attach_wire(other, free=True)
    paused = (room.wire.paused, other.paused)
    room.scene.steps.gate.set()
    await room.scene.settle()
    assert paused == (True, True)
    assert not other.paused


# ── what runs for a client ───────────────────────────────────────────────────────────────────────


async def test_events_run_one_at_a_time_unless_the_application_lets_them_overlap() -> None:
    room = Room()
    member = room.let_in()
    room.scene.steps.gate = asyncio.Event()
    for number in range(3):
        room.session.inbox.put(member, ("event", [f"{number}"], None))
    await room.scene.steps.began(1)
    assert member.busy
    assert room.scene.steps.names == ["0"]
    room.scene.steps.beside = True
    room.scene.steps.gate.set()
    await room.scene.settle()
    room.scene.steps.gate.clear()
    for number in range(3, 6):
        room.session.inbox.put(member, ("event", [f"{number}"], None))
    await room.scene.steps.began(6)
    assert room.scene.steps.names == [f"{number}" for number in range(6)]
    assert room.scene.steps.finished == 3
    assert member.running == 3
    room.scene.steps.gate.set()
    await room.scene.settle()
    assert member.running == 0
    assert not member.busy


async def test_there_is_an_end_to_what_runs_at_once_for_one_client() -> None:
    room = Room(inbox_limit_events=4)
    member = room.let_in()
    room.scene.steps.beside = True
    room.scene.steps.gate = asyncio.Event()
    for number in range(4 + 1 + 4):  # four beside each other, one in its place, and four wait
        room.session.inbox.put(member, ("event", [f"{number}"], None))
    await room.scene.steps.began(5)
    assert (member.running, room.wire.paused) == (4, True)
    assert room.scene.steps.names == ["0", "1", "2", "3", "4"]
    room.scene.steps.gate.set()
    await room.scene.settle()
    assert room.scene.steps.names == [f"{number}" for number in range(9)]


async def test_the_disconnect_hook_runs_once_after_what_was_sent_before_and_may_still_find_its_client() -> None:
    room, found = Room(), []
    member = room.let_in()

    async def ended(member: Member, reason: str) -> None:
        found.append((member.sid in room.scene.register.leaving, reason, room.scene.steps.names.copy()))

    room.scene.steps.ended = ended  # type: ignore[method-assign]
    room.session.inbox.put(member, ("event", ["a"], None))
    room.session.leave(member, Reason.CLIENT)
    room.session.leave(member, Reason.CLIENT)
    room.session.lost(Reason.TRANSPORT_CLOSE)
    await room.scene.settle()
    assert found == [(True, "client disconnect", ["a"])]
    assert not room.scene.register.leaving


async def test_an_old_membership_that_ends_takes_nothing_from_a_new_one_of_the_same_namespace() -> None:
    room = Room()
    old = room.let_in()
    new = room.session.join("new", "/", None)
    room.session.leave(old, Reason.CLIENT)
    assert room.session.members == {"/": new}
    await room.scene.settle()


async def test_an_error_is_the_acknowledgement_or_an_event_where_none_was_asked_for() -> None:
    room = Room()
    room.session.fail("/", 7, {"code": "full"})
    room.session.fail("/chat", 0, {"code": "full"})
    room.session.fail("/", None, {"code": "full"})
    assert room.wire.frames == [
        '437[{"error":{"code":"full"}}]',
        '43/chat,0[{"error":{"code":"full"}}]',
        '42["error",{"error":{"code":"full"}}]',
    ]


async def test_an_answer_that_nobody_waits_for_is_told_apart() -> None:
    room, answers = Room(), []
    member = room.let_in()
    assert not room.session.acknowledged(member, 1, [])
    id = member.expect(lambda *args: answers.append(args))
    assert room.session.acknowledged(member, id, ["yes"])
    assert not room.session.acknowledged(member, id, ["yes"])
    assert answers == [("yes",)]


# ── the end ──────────────────────────────────────────────────────────────────────────────────────


async def test_last_words_leave_after_what_waited() -> None:
    room = Room(capacity=1)
    room.session.words = ("bye", "bye bye")
    for word in "abc":
        room.session.offer(text(word))
    room.session.close(CloseCode.REPLACED, "replaced", Reason.REPLACED)
    assert room.wire.frames == ["a", "b", "c", "bye", "bye bye"]
    assert room.wire.closed == (4504, "replaced")


async def test_last_words_take_the_place_of_a_backlog_that_is_full() -> None:
    room = Room(capacity=1, bounds=Bounds(messages=2))
    room.session.words = ("bye",)
    for word in "abc":
        room.session.offer(text(word))
    room.session.close(CloseCode.REPLACED, "replaced", Reason.REPLACED)
    assert room.wire.frames == ["a", "bye"]


async def test_a_client_that_was_lost_has_no_backlog() -> None:
    room = Room(capacity=1)
    for word in "abc":
        room.session.offer(text(word))
    room.session.lost(Reason.TRANSPORT_CLOSE)
    room.session.close(CloseCode.DONE, "", Reason.SERVER)
    assert room.wire.closed is None
    assert len(room.session.outbox) == 0
    room.wire.read_on()
    assert room.wire.frames == ["a"]


async def test_every_membership_ends_with_its_session_and_only_who_was_let_in_has_a_hook() -> None:
    room = Room()
    room.let_in()
    room.session.join("pending", "/chat", None)
    room.session.close(CloseCode.GOING_AWAY, "", Reason.DRAINING)
    await room.scene.settle()
    assert room.scene.steps.ends == [("/", "draining")]
    assert room.is_empty()


async def test_what_a_session_of_no_protocol_cannot_do_it_does_not_do_silently() -> None:
    room = Room()
    with pytest.raises(NotImplementedError):
        room.session.dismiss("/", Reason.SERVER)
    with pytest.raises(NotImplementedError):
        Session(room.scene.core, "other", SocketIOText(), {}).receive("x")


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


async def test_tokens_end_one_after_the_other() -> None:
    room = Room()
    session, deadlines, now = room.session, room.scene.core.deadlines(room.scene.loop), room.scene.loop.time()
    chat = session.join("chat", "/chat", None)
    assert session.next_expiry() is None
    room.member.expires_at, chat.expires_at = now + 100, now + 200
    assert session.next_expiry() == now + 100
    session.wake_at(now + 50)
    for seconds, over in ((99, []), (100, ["/"]), (150, ["/"]), (200, ["/", "/chat"]), (300, ["/", "/chat"])):
        deadlines.run(now + seconds)
        assert room.scene.steps.over == over
    assert session.alarm is None


async def test_a_token_whose_end_closes_the_session_wakes_nobody_any_more() -> None:
    room = Room()
    session, deadlines, now = room.session, room.scene.core.deadlines(room.scene.loop), room.scene.loop.time()
    chat = session.join("chat", "/chat", None)
    room.member.expires_at, chat.expires_at = now + 100, now + 200
    session.wake_at(now + 100)
    room.scene.steps.expired = lambda member: session.close(1008, "over", Reason.EXPIRED)  # type: ignore[method-assign]
    deadlines.run(now + 100)
    await room.scene.settle()
    assert room.wire.closed == (1008, "over")
    assert room.is_empty()


async def test_to_send_to_a_client_whose_loop_is_over_is_counted() -> None:
    """As under Starlette's TestClient, whose loops end with their connections."""
    scene = Scene()

    async def connect() -> Session:
        return Plain(scene.core, "gone", SocketIOText(), {})

    session = await asyncio.to_thread(lambda: asyncio.run(connect()))
    session.offer(text("late"))
    assert scene.drops() == {"loop_closed": 1}
