"""Clients that come back to another node: what they were, what they missed, and that one node has them at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.realtime.houses import Guest, House, houses, until

pytestmark = pytest.mark.asyncio


def moved(guest: Guest, house: House) -> Guest:
    """The same client, at another node from now on."""
    guest.server = house.server
    return guest


async def test_who_was_cut_off_goes_on_at_another_node() -> None:
    async with houses("a", "b") as (a, b):
        alice, bob = await a.guest(user="alice"), await b.guest(user="bob")
        await alice.say("join", "lobby")
        await alice.say("remember", "colour", "red")
        await bob.say("say", "lobby", 1)
        assert await alice.catch_up() == [1]
        first, pid = alice.sid, alice.pid
        alice.cut()
        await bob.say("say", "lobby", 2)
        await bob.say("say", "other", 3)
        await until(lambda: a.has_written)
        data = await moved(alice, b).come()
        assert (data["sid"], data["pid"], data["recovered"]) == (first, pid, True)
        assert b.hooks("authorize")[-1] == (True, {"colour": "red", "here": True}, {"user": "alice"})
        await bob.say("say", "lobby", 4)
        assert await alice.catch_up() == [1, 2, 4]
        assert sorted(b.hooks("connected")[-1][-1]) == ["lobby", "user:alice"]
        await until(lambda: not len(a.server.returning.absence.away))
        assert a.hooks("expired") == b.hooks("expired") == []


async def test_who_was_connected_to_a_node_that_died_goes_on() -> None:
    async with houses("a", "b") as (a, b):
        alice, bob = await a.guest(user="alice"), await b.guest(user="bob")
        await alice.say("join", "lobby")
        await bob.say("say", "lobby", 1)
        await alice.catch_up()
        a.die()
        await bob.say("say", "lobby", 2)
        data = await moved(alice, b).come()
        assert (data.get("reason"), data["recovered"]) == (None, True)
        await bob.say("say", "lobby", 3)
        assert await alice.catch_up() == [1, 2, 3]


async def test_what_another_node_believes_connected_is_closed_there() -> None:
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        await alice.say("join", "lobby")
        half_open = alice.client
        await a.written(alice)
        await b.chat.emit("note", 1, to="lobby")
        assert (await moved(alice, b).come())["recovered"] is True
        await until(lambda: half_open.wire.closed is not None)
        assert half_open.wire.closed == (4504, "replaced by another connection")
        await until(lambda: a.hooks("disconnected"))
        assert a.hooks("disconnected") == [("replaced", True)]
        await b.chat.emit("note", 2, to="lobby")
        assert await alice.catch_up() == [1, 2]


@pytest.mark.parametrize("user", ["banned", "mallory"])
async def test_a_stolen_pid_ends_nobody_elsewhere(user: str) -> None:
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        await alice.say("join", "lobby")
        await a.written(alice)
        thief = Guest(b.server, user=user)
        thief.pid = alice.pid
        data = await thief.come()
        assert data.get("reason", data.get("data", {}).get("code")) in ("user", "forbidden")
        await a.chat.emit("note", 1, to="lobby")
        assert await alice.catch_up() == [1]
        assert (alice.client.wire.closed, a.hooks("disconnected"), thief.told) == (None, [], [])


async def test_of_two_that_show_one_pid_on_two_nodes_one_goes_on() -> None:
    async with houses("a", "b", "c") as (a, b, c):
        alice = await a.guest(user="alice")
        alice.cut()
        await until(lambda: a.has_written)
        await a.chat.emit("note", 1)
        twin = Guest(c.server, user="alice")
        twin.pid, twin.offset = alice.pid, alice.offset
        outcomes = await asyncio.gather(moved(alice, b).come(), twin.come())
        assert sorted(data["recovered"] for data in outcomes) == [False, True]
        assert {data.get("reason") for data in outcomes} == {None, "unknown"}
        assert [alice.told, twin.told] in ([[1], []], [[], [1]])


@pytest.mark.parametrize("told", [True, False])
async def test_both_are_told_that_they_go_on_only_where_one_takes_over_from_the_other(told: bool) -> None:
    """Whoever comes right behind. The first is closed with 4504, at the latest when its node writes it down again."""
    async with houses("a", "b", "c", recovery_window_seconds=0.6) as (a, b, c):
        first = await a.guest(user="alice")
        await first.say("join", "lobby")
        second = Guest(c.server, user="alice")
        second.pid = first.pid
        first.cut()
        await until(lambda: a.has_written)
        assert (await moved(first, b).come())["recovered"] is True
        await until(lambda: b.has_written)
        b.sessions[-1].deaf = not told
        assert (await second.come())["recovered"] is True
        await until(lambda: first.client.wire.closed is not None)
        assert first.client.wire.closed == (4504, "replaced by another connection")
        assert "41/chat," in first.client.wire.frames, "stock clients read this, and stay away"
        assert b.hooks("disconnected") == [("replaced", True)]
        await a.chat.emit("note", 1, to="lobby")
        assert await second.catch_up() == [1]
        assert not b.server.hub.namespaces.get("/chat")


async def test_who_comes_while_another_is_just_taking_it_starts_clean() -> None:
    async with houses("a", "b", "c") as (a, b, c):
        first = await a.guest(user="alice")
        second = Guest(c.server, user="alice")
        second.pid = first.pid
        first.cut()
        await until(lambda: a.has_written)
        answer = b.sessions[-1].answer = asyncio.Event()
        coming = asyncio.ensure_future(moved(first, b).come())
        await until(lambda: b.sessions[-1].answer is None)
        data = await second.come()
        assert (data["recovered"], data["reason"]) == (False, "unknown")
        answer.set()
        assert (await coming)["recovered"] is True
        await until(lambda: b.has_written and c.has_written)
        assert (first.client.wire.closed, second.client.wire.closed) == (None, None)


async def test_what_is_no_pid_of_ours_is_not_looked_for() -> None:
    async with houses("a") as (a,):
        a.sessions[-1].away = True
        stranger = Guest(a.server)
        stranger.pid = "x" * 1_000
        assert (await stranger.come())["reason"] == "unknown"
        stranger.pid = "x" * 32
        assert (await stranger.come())["reason"] == "store"


async def test_who_left_has_left_everywhere() -> None:
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        await a.written(alice)
        alice.client.disconnect("/chat")
        await until(lambda: a.has_written)
        assert (await moved(alice, b).come())["reason"] == "unknown"


@pytest.mark.parametrize("dead", [False, True])
async def test_rooms_that_are_changed_from_another_node_meanwhile(dead: bool) -> None:
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        for room in ("stays", "left", "closed"):
            await alice.say("join", room)
        if dead:
            a.die()
        else:
            alice.cut()
            await until(lambda: a.has_written)
        for room in ("stays", "left", "closed", "entered"):
            await b.chat.emit("note", f"before {room}", to=room)
        await b.server.enter_room(alice.sid, "entered", "/chat")
        await b.server.leave_room(alice.sid, "left", "/chat")
        await b.server.close_room("closed", "/chat")
        for room in ("stays", "left", "closed", "entered"):
            await b.chat.emit("note", f"after {room}", to=room)
        assert (await moved(alice, b).come())["recovered"] is True
        assert alice.told == ["before stays", "before left", "before closed", "after stays", "after entered"]
        assert b.hooks("connected")[-1][-1] == ["entered", "stays", "user:alice"]


@pytest.mark.parametrize("by", ["sid", "room"])
async def test_who_is_sent_away_from_another_node_does_not_come_back(by: str) -> None:
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        a.die()
        if by == "sid":
            await b.server.disconnect(alice.sid, "/chat")
        else:
            await b.chat.disconnect("user:alice")
        assert (await moved(alice, b).come())["reason"] == "unknown"


async def test_a_node_that_is_drained_keeps_its_sessions() -> None:
    async with houses("a", "b") as (a, b):
        alice, polling = await a.guest(user="alice"), await a.guest(user="bob")
        await alice.say("join", "lobby")
        await a.server.shutdown()
        await b.chat.emit("note", 1, to="lobby")
        assert (await moved(alice, b).come())["recovered"] is True
        assert alice.told == [1]
        assert (await moved(polling, b).come())["recovered"] is True


async def test_while_the_store_is_away_everybody_starts_clean_and_is_told_why() -> None:
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        await a.written(alice)
        for house in (a, b):
            house.sessions[-1].away = True
        await alice.say("join", "lobby")
        alice.cut()
        assert (await moved(alice, b).come())["reason"] == "store"
        assert (await alice.come())["reason"] == "store"
        for house in (a, b):
            house.sessions[-1].away = False
        await b.written(alice)
        alice.cut()
        await until(lambda: b.has_written)
        assert (await moved(alice, a).come())["recovered"] is True


async def test_never_a_part_of_what_was_missed_while_the_journal_is_away() -> None:
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        await alice.say("join", "lobby")
        a.die()
        await b.chat.emit("note", 1, to="lobby")
        b.journals[-1].away = True
        assert (await moved(alice, b).come())["reason"] == "bus"
        assert alice.told == []


async def test_a_client_whose_completeness_is_not_proved_starts_clean() -> None:
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        member = a.server.hub.find(alice.sid, "/chat")
        assert member is not None
        member.trail.unproved = "alone"
        await a.written(alice)
        assert (await moved(alice, b).come())["reason"] == "incomplete"


async def test_time_is_over_on_one_node() -> None:
    async with houses("a", "b", recovery_window_seconds=0.3) as (a, b):
        alice = await a.guest(user="alice")
        await alice.say("remember", "colour", "red")
        alice.cut()
        await until(lambda: a.hooks("expired") or b.hooks("expired"))
        assert a.hooks("expired") + b.hooks("expired") == [("alice", {"colour": "red"})]
        assert (await moved(alice, b).come())["reason"] == "unknown"


async def test_a_first_attempt_that_was_cut_and_fails_late_does_not_harm_the_second() -> None:
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        await a.written(alice)
        gate = b.sessions[-1].gate = asyncio.Event()
        first = asyncio.ensure_future(moved(alice, b).come())
        await until(lambda: b.sessions[-1].gate is None)
        alice.cut()
        first.cancel()
        b.gate.clear()
        second = asyncio.ensure_future(alice.come())
        await until(lambda: len(b.hooks("authorize")) == 2)
        b.sessions[-1].away = True
        gate.set()
        for _ in range(20):
            await asyncio.wait({second}, timeout=0)
        b.sessions[-1].away = False
        b.gate.set()
        await second
        await alice.say("join", "lobby")
        await b.chat.emit("note", 1, to="lobby")
        assert await alice.catch_up() == [1]
        assert b.server.hub.is_connected(alice.sid, "/chat")


async def test_of_a_node_that_died_another_tells_who_did_not_come_back() -> None:
    async with houses("a", "b", recovery_window_seconds=0.3) as (a, b):
        alice = await a.guest(user="alice")
        await alice.say("remember", "colour", "red")
        await a.written(alice)
        a.die()
        await until(lambda: b.hooks("expired"))
        assert (a.hooks("expired"), b.hooks("expired")) == ([], [(None, {"colour": "red"})])


async def test_who_comes_back_again_and_again_has_everything_once() -> None:
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        await alice.say("join", "lobby")
        for number in range(6):
            alice.cut()
            for part in range(3):
                await (a, b)[part % 2].chat.emit("note", 3 * number + part, to="lobby")
            await until(lambda: a.has_written and b.has_written)
            assert (await moved(alice, (a, b)[number % 2]).come())["recovered"] is True
        assert await alice.catch_up() == list(range(18))


async def test_it_is_not_told_twice_of_what_it_heard_elsewhere() -> None:
    """What is said has come to the first node, and not yet to the one that it comes back to."""
    async with houses("a", "b") as (a, b):
        alice, bob = await a.guest(user="alice"), await b.guest(user="bob")
        for guest in (alice, bob):
            await guest.say("join", "lobby")
        b.journals[-1].deaf = True
        await a.chat.emit("note", 1, to="lobby")
        assert await alice.catch_up() == [1]
        alice.cut()
        await until(lambda: a.has_written)
        coming = asyncio.ensure_future(moved(alice, b).come())
        for _ in range(20):
            await asyncio.wait({coming}, timeout=0)
        b.journals[-1].deaf = False
        data = await coming
        await a.chat.emit("note", 2, to="lobby")
        await until(lambda: "note" in str(bob.client.wire.frames))
        await alice.catch_up()
        assert data["recovered"] is False or alice.told == [1, 2]


async def test_what_was_lost_on_its_way_from_the_log_comes_again() -> None:
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        await alice.say("join", "lobby")
        a.die()
        for number in range(3):
            await b.chat.emit("note", number, to="lobby")
        assert (await moved(alice, b).come())["recovered"] is True
        assert alice.told == [0, 1, 2]
        alice.events, alice.offset = alice.events[:1], alice.events[0][-1]  # the rest of it did not arrive
        alice.cut()
        assert (await alice.come())["recovered"] is True
        assert alice.told == [0, 1, 2]


async def test_what_changes_while_it_is_let_in_elsewhere_is_not_lost() -> None:
    """Its old connection is half open: what it does there counts until the session is taken from it."""
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        for key in ("colour", "size", "shape"):
            await alice.say("remember", key, "old")
        await a.written(alice)
        b.gate.clear()
        again = Guest(b.server, user="alice")
        again.pid, again.offset = alice.pid, alice.offset
        coming = asyncio.ensure_future(again.come())
        await until(lambda: b.hooks("authorize"))
        here = await b.server.get_session(alice.sid, "/chat")
        here["shape"] = here["kind"] = "of the authorise step"
        del here["size"]
        for key in ("colour", "mood"):
            await alice.say("remember", key, "new")
        await a.written(alice)
        b.gate.set()
        assert (await coming)["recovered"] is True
        assert await b.server.get_session(alice.sid, "/chat") == {
            "colour": "new", "mood": "new", "shape": "of the authorise step", "kind": "of the authorise step",
        }  # fmt: skip


async def test_who_has_become_somebody_else_meanwhile_is_not_given_away() -> None:
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        await a.written(alice)
        gate = b.sessions[-1].gate = asyncio.Event()
        former = Guest(b.server, user="alice")
        former.pid, former.offset = alice.pid, alice.offset
        coming = asyncio.ensure_future(former.come())
        await until(lambda: b.sessions[-1].gate is None)
        member = a.server.hub.find(alice.sid, "/chat")
        assert member is not None
        member.user = "anna"
        await alice.say("remember", "colour", "red")
        await a.written(alice)
        gate.set()
        data = await coming
        assert (data["recovered"], data["reason"]) == (False, "user")
        assert await b.server.get_session(data["sid"], "/chat") == {}
        await until(lambda: a.has_written and b.has_written)
        anna = Guest(b.server, user="anna")
        anna.pid, anna.offset = alice.pid, alice.offset
        data = await anna.come()
        assert (data["recovered"], data.get("reason")) == (True, None)
        assert (await b.server.get_session(anna.sid, "/chat"))["colour"] == "red"


@pytest.mark.parametrize("to", ["the same node", "another"])
async def test_rooms_that_are_changed_while_the_claim_is_on_its_way(to: str) -> None:
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        for room in ("lobby", "attic"):
            await alice.say("join", room)
        alice.cut()
        await until(lambda: a.has_written)
        house = a if to == "the same node" else b
        answer = house.sessions[-1].answer = asyncio.Event()
        coming = asyncio.ensure_future(moved(alice, house).come())
        await until(lambda: house.sessions[-1].answer is None)
        await house.server.leave_room(alice.sid, "lobby", namespace="/chat")
        await house.server.enter_room(alice.sid, "cellar", namespace="/chat")
        answer.set()
        assert (await coming)["recovered"] is True
        for number, room in enumerate(("lobby", "attic", "cellar")):
            await house.chat.emit("note", number, to=room)
        assert await alice.catch_up() == [1, 2]
        assert sorted(house.hooks("connected")[-1][-1]) == ["attic", "cellar", "user:alice"]


async def joins_while_it_comes(a: House, b: House, room: str) -> tuple[asyncio.Event, Guest, asyncio.Future[Any]]:
    """It asks at b to go on and is looked up; before it is taken, once the event is set, it enters a room at a."""
    alice = await a.guest(user="alice")
    await a.written(alice)
    gate = b.sessions[-1].gate = asyncio.Event()
    again = Guest(b.server, user="alice")
    again.pid, again.offset = alice.pid, alice.offset
    coming = asyncio.ensure_future(again.come())
    await until(lambda: b.sessions[-1].gate is None)
    await alice.say("join", room)
    await a.written(alice)
    return gate, again, coming


async def test_the_rule_of_a_room_that_it_entered_until_it_was_taken_is_asked_too() -> None:
    async with houses("a", "b") as (a, b):
        gate, again, coming = await joins_while_it_comes(a, b, "attic")
        b.closed_rooms.add("attic")
        gate.set()
        data = await coming
        assert (data["recovered"], data["reason"]) == (False, "access")
        await a.chat.emit("note", 1, to="attic")
        assert await again.catch_up() == []


async def test_who_may_not_go_on_after_all_hears_once_what_is_said_while_it_is_asked_in_anew() -> None:
    async with houses("a", "b") as (a, b):
        gate, again, coming = await joins_while_it_comes(a, b, "attic")

        async def closed(room: str) -> None:
            b.gate.clear()

        b.on_asked = closed
        b.closed_rooms.add("attic")
        gate.set()
        await until(lambda: len(b.hooks("authorize")) == 2)
        await b.chat.emit("note", "meanwhile")
        b.gate.set()
        assert (await coming)["reason"] == "access"
        assert await again.catch_up() == ["meanwhile"]
