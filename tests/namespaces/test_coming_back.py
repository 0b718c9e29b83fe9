"""What the features make of clients that are cut off and come back: who is told, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from namespaces.app import create_app
from namespaces.chat import GRACE_SECONDS
from realtime import Server
from tests.namespaces.running import settings_for, token
from tests.realtime.coming_back import Guest

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def application(folder: Path, **settings: Any) -> AsyncIterator[Server]:
    app = create_app(settings_for(folder, **settings))
    try:
        yield app.state.realtime.server
    finally:
        await app.state.realtime.close()


async def enter(server: Server, name: str, *rooms: str) -> Guest:
    guest = Guest(server)
    guest.auth = {"username": name}
    await guest.come()
    for room in rooms:
        await guest.say("join", {"room": room})
    return guest


async def names(guest: Guest, room: str) -> list[tuple[str, int]]:
    answer = await guest.say("members", {"room": room})
    return [(each["username"], each["connections"]) for each in answer["members"]]


def told(guest: Guest) -> list[tuple[str, str]]:
    """Arrivals and departures that it heard of."""
    return [(data[0], data[1]["username"]) for data in guest.events if data[0] in ("joined", "left")]


async def until_left(server: Server, guest: Guest, name: str) -> None:
    async with asyncio.timeout(5):
        while ("left", name) not in told(guest):
            await guest.client.event("/chat", "left")
            guest.read()


async def test_nobody_is_told_of_a_short_absence(tmp_path: Path) -> None:
    async with application(tmp_path) as server:
        bob, alice = await enter(server, "bob", "lobby"), await enter(server, "alice", "lobby")
        alice.cut()
        assert await names(bob, "lobby") == [("bob", 1), ("alice", 1)]
        assert (await alice.come())["recovered"] is True
        assert await names(bob, "lobby") == [("bob", 1), ("alice", 1)]
        alice.client.disconnect("/chat")
        await until_left(server, bob, "alice")
        assert told(bob) == [("joined", "alice"), ("left", "alice")]


async def test_after_the_grace_it_has_left_and_comes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert GRACE_SECONDS == 5.0
    monkeypatch.setattr("namespaces.chat.GRACE_SECONDS", 0.05)
    async with application(tmp_path) as server:
        bob, alice = await enter(server, "bob", "lobby"), await enter(server, "alice", "lobby")
        alice.cut()
        await until_left(server, bob, "alice")
        assert await names(bob, "lobby") == [("bob", 1)]
        assert (await alice.come())["recovered"] is True
        assert await names(bob, "lobby") == [("bob", 1), ("alice", 1)]
        assert told(bob) == [("joined", "alice"), ("left", "alice"), ("joined", "alice")]
        assert told(alice) == [], "nobody is told of itself"


async def test_a_window_that_is_shorter_than_the_grace(tmp_path: Path) -> None:
    async with application(tmp_path, recovery_window_seconds=0.05) as server:
        bob, alice = await enter(server, "bob", "lobby"), await enter(server, "alice", "lobby")
        alice.cut()
        await until_left(server, bob, "alice")
        assert (await alice.come())["recovered"] is False


async def test_rooms_that_were_left_for_it_meanwhile(tmp_path: Path) -> None:
    async with application(tmp_path) as server:
        bob, alice = await enter(server, "bob", "a", "b"), await enter(server, "alice", "a", "b")
        alice.cut()
        await server.leave_room(alice.sid, "b", "/chat")
        await alice.come()
        await until_left(server, bob, "alice")
        assert [await names(bob, room) for room in "ab"] == [[("bob", 1), ("alice", 1)], [("bob", 1)]]


async def test_who_goes_by_itself_has_left_at_once(tmp_path: Path) -> None:
    async with application(tmp_path) as server:
        bob, alice = await enter(server, "bob", "lobby"), await enter(server, "alice", "lobby")
        alice.client.disconnect("/chat")
        await until_left(server, bob, "alice")
        assert not server.application.typed["/chat"]._leaving  # type: ignore[attr-defined]


async def test_a_guest_whose_name_was_taken_meanwhile_does_not_come_back(tmp_path: Path) -> None:
    async with application(tmp_path) as server:
        alice = await enter(server, "alice", "lobby")
        alice.cut()
        holder = Guest(server)
        holder.auth = {"token": token("alice")}
        await holder.come()
        await holder.say("join", {"room": "lobby"})
        refused = await alice.come()
        assert refused["data"]["code"] == "name_taken"


async def test_the_same_client_id_after_coming_back_is_one_message(tmp_path: Path) -> None:
    async with application(tmp_path) as server:
        alice = await enter(server, "alice", "lobby")
        said = {"room": "lobby", "text": "hi", "client_id": "1"}
        first = await alice.say("message", said)
        alice.events, alice.offset = [], None  # neither event nor answer had arrived
        alice.cut()
        await alice.come()
        assert await alice.say("message", said) == first
        assert [data[1]["text"] for data in alice.events if data[0] == "message"] == ["hi"]


async def test_topics_and_the_secure_namespace_come_back_as_well(tmp_path: Path) -> None:
    async with application(tmp_path) as server:
        follower = Guest(server, "/notify")
        await follower.come()
        await follower.say("subscribe", {"topic": "orders"})
        follower.cut()
        notify = server.application.typed["/notify"]
        await notify.emit("notification", {"id": 1}, to="orders")
        assert (await follower.come())["recovered"] is True
        assert follower.told == [{"id": 1}]
        keeper = Guest(server, "/secure")
        keeper.auth = {"token": token("alice")}
        await keeper.come()
        keeper.cut()
        await server.application.typed["/secure"].emit("message", {"text": "x"}, to="user:alice")
        keeper.auth = {"token": token("alice", "another:scope")}
        assert (await keeper.come())["recovered"] is True
        assert keeper.told == [{"text": "x"}]
        keeper.cut()
        keeper.auth = {"token": "nonsense"}
        assert "recovered" not in await keeper.come()
