"""Somebody else shows the pid, or the connection before is still there: what is taken from whom, and when."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from realtime import Namespace, Server
from realtime.server.calls import ClientGone
from tests.realtime.coming_back import Guest, Place
from tests.realtime.living import SECONDS, settings_for

pytestmark = pytest.mark.asyncio


async def test_what_the_server_believes_connected_is_taken_over() -> None:
    """The client is back before the end of its connection was noticed."""
    place = Place()
    place.server.include(Namespace("/news", recovery=True))
    alice = await place.guest(user="alice")
    await alice.say("join", "lobby")
    half_open = alice.client
    beside = Guest(place.server, "/news")
    beside.client = half_open
    await beside.knock()
    await place.chat.emit("note", 1, to="lobby")
    data = await alice.come()
    assert (data["recovered"], alice.told) == (True, [1])
    assert half_open.wire.closed == (4504, "replaced by another connection")
    assert "41/chat," in half_open.wire.frames
    assert place.hooks("disconnected") == [("replaced", True)]
    assert [call[0] for call in place.seen][-3:] == ["disconnected", "authorize", "connected"]
    assert len(place.server.hub.namespaces["/chat"].everyone) == 1
    await place.chat.emit("note", 2, to="lobby")
    assert await alice.catch_up() == [1, 2]
    assert len(place.server.returning.absence.away) == 1, "what is taken over is not away"
    await beside.come()
    assert beside.data["recovered"] is True, "what else was on that connection may come back as well"


async def test_who_is_cut_off_while_it_takes_over_may_come_back_once_more() -> None:
    server = Server(settings=settings_for())
    chat = server.include(Namespace("/chat", recovery=True))
    gate = asyncio.Event()

    @chat.hook("disconnected")
    async def disconnected() -> None:
        await asyncio.wait_for(gate.wait(), SECONDS)

    alice = Guest(server)
    await alice.come()
    first = alice.sid
    coming = asyncio.ensure_future(alice.come())  # the old connection is half open, and its hook takes a while
    for _ in range(5):
        await asyncio.wait({coming}, timeout=0)
    alice.cut()
    coming.cancel()
    gate.set()
    await server.application.rest(SECONDS)
    assert (await alice.come())["recovered"] is True
    assert alice.sid == first


async def change_rooms_meanwhile(place: Place, sid: str, coming: asyncio.Future[Any]) -> None:
    """While it is asked whether ``coming`` may come in again: one room entered and one left for it, a word in each;
    then it goes on."""
    while len(place.hooks("authorize")) < 2:
        await asyncio.wait({coming}, timeout=0)
    await place.server.enter_room(sid, "entered", "/chat")
    await place.server.leave_room(sid, "left", "/chat")
    for room in ("stays", "left", "entered"):
        await place.chat.emit("note", room, to=room)
    place.gate.set()


def stolen(place: Place, alice: Guest, user: str) -> Guest:
    """Somebody has got hold of her pid."""
    thief = Guest(place.server, user=user)
    thief.pid, thief.offset = alice.pid, alice.offset
    return thief


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("user", ["banned", "mallory"])
async def test_nothing_is_taken_from_anybody_before_whoever_comes_is_let_in(away: bool, user: str) -> None:
    place = Place()
    alice = await place.guest(user="alice")
    for room in ("stays", "left"):
        await alice.say("join", room)
    if away:
        alice.cut()
    place.gate.clear()
    thief = stolen(place, alice, user)
    coming = asyncio.ensure_future(thief.come())
    await change_rooms_meanwhile(place, alice.sid, coming)
    data = await coming
    assert data.get("reason", data.get("data", {}).get("code")) in ("user", "forbidden")
    await place.chat.emit("note", "last", to="entered")
    if away:
        assert (await alice.come())["recovered"] is True
    assert await alice.catch_up() == ["stays", "entered", "last"]
    assert alice.client.wire.closed is None
    assert len(place.hooks("disconnected")) == away
    assert place.hooks("expired") == []
    assert thief.told == []


async def test_rooms_that_others_change_while_it_is_let_in_again() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    for room in ("stays", "left"):
        await alice.say("join", room)
    alice.cut()
    place.gate.clear()
    coming = asyncio.ensure_future(alice.come())
    await change_rooms_meanwhile(place, alice.sid, coming)
    assert (await coming)["recovered"] is True
    assert await alice.catch_up() == ["stays", "entered"]
    rooms = {alice.sid, "stays", "entered", "user:alice"}
    assert set(place.server.hub.rooms_of(alice.sid, "/chat")) == rooms
    stays = place.server.hub.find(alice.sid, "/chat").trail._stays  # type: ignore[union-attr]
    assert {room for room, stay in stays.items() if stay.granted} == {"user:alice"}, "the others it was not given by it"


async def test_a_room_that_somebody_else_puts_a_newcomer_into_is_not_of_its_authorise_step() -> None:
    place = Place()
    place.gate.clear()
    alice = Guest(place.server, user="alice")
    coming = asyncio.ensure_future(alice.come())
    while not place.hooks("authorize"):
        await asyncio.wait({coming}, timeout=0)
    (member,) = place.server.hub.select("/chat", None)
    await place.server.enter_room(member.sid, "news", "/chat")
    place.gate.set()
    await coming
    alice.cut()
    await place.chat.emit("note", 1, to="news")
    assert (await alice.come())["recovered"] is True
    assert alice.told == [1]


async def test_who_comes_back_to_a_connection_that_is_still_open_is_asked_for_its_rooms_first() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    await alice.say("join", "lobby")
    half_open = alice.client
    place.closed_rooms.add("lobby")
    data = await alice.come()
    assert (data["recovered"], data["reason"]) == (False, "access")
    assert half_open.wire.closed == (4504, "replaced by another connection"), "it is the same user, and starts clean"
    assert place.hooks("expired") == [("alice", {})]
    assert len(place.server.hub.namespaces["/chat"].everyone) == 1


async def test_who_leaves_before_it_is_let_in_has_ended_nothing() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    first = alice.sid
    place.gate.clear()
    coming = asyncio.ensure_future(alice.come())
    while len(place.hooks("authorize")) < 2:
        await asyncio.wait({coming}, timeout=0)
    alice.cut()
    coming.cancel()
    place.gate.set()
    await place.server.application.rest(SECONDS)
    assert place.hooks("disconnected") == []
    assert place.server.hub.is_connected(first, "/chat")
    assert (await alice.come())["recovered"] is True
    assert alice.sid == first


async def test_what_cannot_go_on_is_given_up_by_its_own_user_alone() -> None:
    place = Place(log_limit_entries=5)
    alice = await place.guest(user="alice")
    first = alice.pid
    alice.cut()
    for number in range(9):
        await place.chat.emit("note", number)
    assert (await stolen(place, alice, "mallory").come())["reason"] == "gone"
    assert place.hooks("expired") == []
    assert place.server.returning.absence.away.find(first or "") is not None
    assert (await alice.come())["reason"] == "gone"
    assert place.hooks("expired") == [("alice", {})]


async def test_python_socketios_handlers_hear_of_each_sid_what_belongs_to_it() -> None:
    server = Server(settings=settings_for(), recovery=True)
    books: list[tuple[Any, ...]] = []

    @server.event
    async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
        books.append(("connect", sid, environ["realtime.recovered"]))

    @server.event
    async def disconnect(sid: str, reason: str) -> None:
        books.append(("disconnect", sid, reason))

    guest = Guest(server, "/")
    await guest.come()
    first = guest.sid
    await server.enter_room(first, "lobby")
    assert (await guest.come())["recovered"] is True
    await server.application.rest(SECONDS)
    stranger = books[1][1]
    assert stranger != first == guest.sid
    assert books == [
        ("connect", first, False),
        ("connect", stranger, False),
        ("disconnect", first, "replaced"),
        ("disconnect", stranger, "replaced"),
        ("connect", first, True),
    ]
    await server.emit("note", 1, to="lobby")
    assert [frame for frame in guest.client.wire.frames if "note" in str(frame)]


async def test_of_two_that_show_one_pid_one_goes_on() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    alice.cut()
    await place.chat.emit("note", 1)
    twin = Guest(place.server, user="alice")
    twin.pid, twin.offset = alice.pid, alice.offset
    place.gate.clear()
    coming = asyncio.gather(alice.come(), twin.come())
    for _ in range(10):
        await asyncio.wait({coming}, timeout=0)
    place.gate.set()
    outcomes = await coming
    assert sorted(data["recovered"] for data in outcomes) == [False, True]
    assert len({data["sid"] for data in outcomes}) == len({data["pid"] for data in outcomes}) == 2
    assert [alice.told, twin.told] in ([[1], []], [[], [1]])
    assert {data.get("reason") for data in outcomes} == {None, "unknown"}


async def test_what_was_held_back_for_one_is_not_told_to_another() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    await alice.say("join", "lobby")
    alice.cut()
    bob = Guest(place.server, user="bob")
    bob.pid = alice.pid
    place.gate.clear()
    coming = asyncio.ensure_future(bob.come())
    while len(place.hooks("authorize")) < 2:
        await asyncio.wait({coming}, timeout=0)
    asking = asyncio.ensure_future(place.server.call("secret", sid=alice.sid, namespace="/chat"))
    await place.server.emit("secret", room="lobby", namespace="/chat", callback=lambda *answer: None)
    await asyncio.wait({asking}, timeout=0)
    place.gate.set()
    assert (await coming)["reason"] == "user"
    with pytest.raises(ClientGone):
        await asyncio.wait_for(asking, SECONDS)
    await bob.say("remember", "here", True)
    assert not any("secret" in frame for frame in bob.client.wire.frames)
    assert (await alice.come())["recovered"] is True


async def test_who_is_sent_away_while_it_is_let_in_again_has_left() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    alice.cut()
    place.gate.clear()
    coming = asyncio.ensure_future(alice.come())
    while len(place.hooks("authorize")) < 2:
        await asyncio.wait({coming}, timeout=0)
    await place.server.disconnect(alice.sid, "/chat")
    place.gate.set()
    assert (await coming)["data"]["code"] == "refused"
    assert place.hooks("expired") == [("alice", {})]
    assert (await alice.come())["recovered"] is False


async def test_who_comes_right_behind_takes_over() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    alice.cut()
    twin = Guest(place.server, user="alice")
    twin.pid = alice.pid
    assert (await alice.come())["recovered"] is True
    assert (await twin.come())["recovered"] is True
    assert alice.client.wire.closed == (4504, "replaced by another connection")
    assert [member.sid for member in place.server.hub.namespaces["/chat"].everyone.values()] == [twin.sid]


async def test_another_user_does_not_inherit() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    await alice.say("join", "secret")
    await alice.say("remember", "colour", "red")
    alice.cut()
    await place.chat.emit("note", "for alice", to="secret")
    thief = Guest(place.server, user="mallory")
    thief.pid, thief.offset = alice.pid, alice.offset
    data = await thief.come()
    assert (data["recovered"], data["reason"], thief.told) == (False, "user", [])
    assert data["sid"] != alice.sid
    assert place.hooks("connected")[-1] == (False, "user", ["user:mallory"])
    assert place.hooks("authorize")[-1] == (False, {}, {"user": "mallory"})
    assert (await alice.come())["recovered"] is True
    assert alice.told == ["for alice"]
