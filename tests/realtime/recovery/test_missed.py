from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest

from realtime.clients.context import LOOKS
from realtime.cluster.lane import Lane
from realtime.journal.positions import Position
from realtime.testing import MemoryClient
from tests.realtime.houses import House, houses, until
from tests.realtime.living import SECONDS

pytestmark = pytest.mark.asyncio


async def told(house: House, since: Position | str, *channels: str | None) -> Any:
    """What was said in these channels since this place, or why that is not to be had."""
    position = Position.parse(str(since))
    assert position is not None
    async with asyncio.timeout(SECONDS):
        reason = await house.server.missed.look_back("/chat", channels, position)
    found = house.server.missed.entries("/chat", channels, position)
    return reason if reason is not None else [each.draft.body.decode() for each in found or ()]


async def test_what_was_said_elsewhere_is_read_from_the_log() -> None:
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        await alice.say("join", "lobby")
        await a.chat.emit("note", 0, to="lobby")
        start = str(a.chat.offset)
        for number, room in ((1, "lobby"), (2, "other"), (3, None), (4, "lobby")):
            await a.chat.emit("note", number, to=room)
        assert await told(b, start, "lobby", None) == ["[1]", "[3]", "[4]"]
        assert await told(a, start, "lobby", None) == ["[1]", "[3]", "[4]"]
        reads = b.journals[-1].reads
        assert await told(b, start, "lobby") == ["[1]", "[4]"]
        assert b.journals[-1].reads == reads, "it was read before"
        await a.chat.emit("note", 5, to="lobby")
        assert await told(b, start, "lobby") == ["[1]", "[4]", "[5]"]


async def test_of_a_room_that_is_not_heard_nothing_is_at_hand() -> None:
    """Although others have just had the log read: a part would be taken for all there was."""
    async with houses("a", "b") as (a, b):
        start = Position.parse((await a.chat.emit("note", 0, to="lobby")).offset)
        assert start is not None
        await a.chat.emit("note", 1, to="new")
        await a.chat.emit("note", 2, to="lobby")
        assert await told(b, start, "lobby") == ["[2]"]
        b.journals[-1].away = True
        assert await told(b, start, "new") == "bus"
        assert b.server.missed.entries("/chat", ["new"], start) is None


async def test_why_it_is_not_to_be_had() -> None:
    async with houses("a", "b") as (a, b):
        start = Position.parse((await a.chat.emit("note", 0, to="lobby")).offset)
        assert start is not None
        assert await told(b, Position("another", 1), "lobby") == "epoch"
        b.journals[-1].away = True
        assert await told(b, start, "new") == "bus"
        b.journals[-1].away = False
    async with houses("a", "b", log_limit_bytes=100_000) as (a, b):
        start = Position.parse((await a.chat.emit("note", 0, to="lobby")).offset)
        assert start is not None
        for number in range(400):
            await a.chat.emit("note", number, to="lobby")
        assert await told(b, start, "lobby") == "gone"
        reads = b.journals[-1].reads
        for _ in range(50):
            assert await told(b, start, "lobby") == "gone"
        assert b.journals[-1].reads == reads, "that it is too much is known"


async def test_who_has_heard_something_that_has_not_come_here_yet_waits_for_it() -> None:
    """Else it would come to it here once more."""
    async with houses("a", "b") as (a, b):
        bob = await b.guest(user="bob")
        await bob.say("join", "lobby")
        b.journals[-1].deaf = True
        emitted = await a.chat.emit("note", 1, to="lobby")
        assert await bob.catch_up() == []
        assert await told(b, str(emitted.offset), "lobby") == []
        assert await bob.catch_up() == [1], "it came out, for the log was asked"


async def test_a_newcomer_to_a_room_is_told_before_what_is_said_now() -> None:
    async with houses("a", "b") as (a, b):
        start = str((await a.chat.emit("note", 0, to="lobby")).offset)
        for number in range(1, 4):
            await a.chat.emit("note", number, to="lobby")
        bob = await b.guest(user="bob")
        joining = asyncio.ensure_future(bob.say("join", "lobby", start))
        for number in range(4, 8):
            await a.chat.emit("note", number, to="lobby")
        assert (await asyncio.wait_for(joining, SECONDS)) == {"recovered": True}
        await a.chat.emit("note", 8, to="lobby")
        await until(lambda: "8" in str(bob.client.wire.frames[-1]))
        assert await bob.catch_up() == list(range(1, 9))
        assert await bob.say("join", "another", "nonsense") == {"recovered": False, "reason": "offset"}


async def test_a_room_that_is_closed_while_its_log_is_waited_for_is_not_entered() -> None:
    async with houses("a", "b") as (a, b):
        start = str((await a.chat.emit("note", 0, to="lobby")).offset)
        await a.chat.emit("note", 1, to="lobby")
        bob = await b.guest(user="bob")
        journal = b.journals[-1]
        gate = journal.watch_gate = asyncio.Event()
        joining = asyncio.ensure_future(bob.say("join", "lobby", start))
        await until(lambda: ("lobby",) in journal.watching)
        b.closed_rooms.add("lobby")
        gate.set()
        assert (await asyncio.wait_for(joining, SECONDS))["error"]["code"] == "forbidden"
        await a.chat.emit("note", 2, to="lobby")
        assert await bob.catch_up() == []


@pytest.mark.parametrize("busy", [1, 10])
async def test_what_is_said_while_a_rooms_rule_is_asked_is_told_too_or_nothing_is(busy: int) -> None:
    async with houses("a", "b") as (a, b):
        start = str((await a.chat.emit("note", 0, to="lobby")).offset)
        await a.chat.emit("note", 1, to="lobby")
        bob, numbers, asked = await b.guest(user="bob"), count(2), count()

        async def speak(room: str) -> None:
            if 0 < next(asked) <= busy:
                emitted = await a.chat.emit("note", next(numbers), to=room)
                await until(lambda: _lane(b).seen(room) >= Position.parse(str(emitted.offset)).offset)  # type: ignore[union-attr]

        b.on_asked = speak
        outcome = await bob.say("join", "lobby", start)
        said = next(numbers)
        await a.chat.emit("note", said, to="lobby")
        await until(lambda: f",{said}," in str(bob.client.wire.frames[-1]))
        told = await bob.catch_up()
        if busy < LOOKS:
            assert (outcome, told) == ({"recovered": True}, list(range(1, said + 1)))
        else:
            assert (outcome, told) == ({"recovered": False, "reason": "gone"}, [said])


def _lane(house: House) -> Lane:
    lane = house.server.hub.keepers["/chat"].lane
    assert isinstance(lane, Lane)
    return lane


async def test_a_namespace_that_keeps_nothing_has_nothing_to_read() -> None:
    async with houses("a") as (a,):
        assert await a.server.missed.look_back("/plain", ("x",), Position("e", 1)) is None
        client = MemoryClient(a.server)
        assert await client.connect("/plain")


async def test_a_place_behind_the_end_of_the_log_is_gone_at_once() -> None:
    async with houses("a", "b") as (a, b):
        bob = await b.guest(user="bob")
        await bob.say("join", "lobby")
        start = Position.parse(str((await a.chat.emit("note", 0, to="lobby")).offset))
        assert start is not None
        reads = b.journals[-1].reads
        assert await told(b, start._replace(offset=1 << 52), "lobby") == "gone"
        assert b.journals[-1].reads - reads <= 2, "nobody asks the log again and again for what cannot be"


async def test_rooms_that_were_only_looked_back_at_are_not_watched_for_ever() -> None:
    async with houses("a", "b") as (a, b):
        bob = await b.guest(user="bob")
        await bob.say("join", "mine")
        start = str((await a.chat.emit("note", 0, to="lobby")).offset)
        lane = b.server.hub.keepers["/chat"].lane
        assert isinstance(lane, Lane)
        lane.incoming.watches._linger = 0.01
        assert await told(b, start, "lobby", "mine") == []
        await until(lambda: "lobby" in b.journals[-1].unwatched)
        assert lane.incoming.watches.stands("mine")
