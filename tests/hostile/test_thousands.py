"""Thousands of clients, of hearers with some dead among them, and of keys of presence.

A normal run has a part of them; ``SOAK_SECONDS=600`` has the numbers of the rows.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.hostile.crowd import CROWD_SECONDS, IN_FULL, crowd, house_for, members
from tests.hostile.ground import ground
from tests.hostile.houses import HOUSE_WIRES, Houses, come_in
from tests.hostile.test_crowds import watched
from tests.hostile.test_load import HANDSHAKE, text_frame
from tests.serving import ServerProcess
from tests.wire.clients import Client, PollingClient, websocket, within
from tests.wire.servers import Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio, pytest.mark.timeout(4 * CROWD_SECONDS)]

COME_BACK = 5_000 if IN_FULL else 500
HEARERS = {"fast": 10_000, "websocket": 5_000, "polling": 4_000} if IN_FULL else {"fast": 500, "websocket": 500}
BY_POLLING = 4_000 if IN_FULL else 200
"""Each has two connections and a request for every packet."""
DEAD = 100 if IN_FULL else 20
AT_ONCE = "1000"
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closed without a farewell."""


@pytest.mark.hostile("H4")
@pytest.mark.parametrize("wire", HOUSE_WIRES, ids=str)
async def test_thousands_come_back_at_once(tmp_path: Path, wire: Wire) -> None:
    """All are cut off in one moment, and are there again before the server is through with that.

    Who polls is cut off while its poll is pending, as the crowd does it itself when all are in: who is between two
    polls is there until its ping time-out, whatever becomes of its connection.
    """
    clients = BY_POLLING if wire.polling else COME_BACK
    many = ("--clients", str(clients), "--at-once", AT_ONCE)
    with house_for(2 * clients, tmp_path, wire) as server:
        async with ground(server, "/chat join") as field:
            stay = ("connect",) if wire.polling else ("idle", "--seconds", str(CROWD_SECONDS))
            async with crowd(server, wire, *stay, *many) as first:
                await watched(field, first.found() if wire.polling else members(server, "/chat", clients))
                await first.cut()
                async with crowd(server, wire, "connect", *many) as again:
                    found = await watched(field, again.found())
            assert (found["counted"], found["refused"]) == (clients, {})
            await watched(field, members(server, "/chat", 0))


# ── hearers, and the dead among them ─────────────────────────────────────────────────────────────


Dead = socket.socket | PollingClient


async def who_will_be_dead(server: ServerProcess, wire: Wire, stack: AsyncExitStack) -> Dead:
    """In the room of the crowd, and never takes what is said there. All have one name, so that no end is told."""
    name, join = {"username": "dead"}, '42/chat,["join",{"room":"bench"}]'
    if wire.polling:
        client: PollingClient = await stack.enter_async_context(wire.client(server))
        await come_in(client, "/chat", name)
        await client.send(join)
        return client
    dead = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=CROWD_SECONDS))
    dead.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    dead.sendall(HANDSHAKE.encode())
    assert (await asyncio.to_thread(dead.recv, 12)) == b"HTTP/1.1 101"
    dead.sendall(text_frame(f"40/chat,{json.dumps(name)}") + text_frame(join))
    return dead


def cut_off(dead: Dead) -> None:
    """Who polls is as dead without it: it has no poll pending."""
    if not isinstance(dead, PollingClient):
        dead.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        dead.close()


@pytest.mark.hostile("H5")
@pytest.mark.parametrize("wire", HOUSE_WIRES, ids=str)
async def test_what_is_said_to_thousands_of_whom_some_are_dead(tmp_path: Path, wire: Wire) -> None:
    """Half of the dead are cut off while it is said, half only read no more."""
    hearers = HEARERS.get(wire.name, BY_POLLING)
    with house_for(hearers + DEAD, tmp_path, wire) as server:
        async with ground(server, "/chat join", "/chat message") as field, AsyncExitStack() as stack:
            witness = await stack.enter_async_context(websocket(server.ws_url))
            await come_in(witness, "/chat", {"username": "witness"})
            await ask_all(witness, "join", ["bench"])
            dead = [await who_will_be_dead(server, wire, stack) for _ in range(DEAD)]
            await members(server, "/chat", DEAD + 1)
            many = ("--clients", str(hearers - DEAD), "--at-once", "200", "--rate", "1", "--seconds", "4")
            async with crowd(server, wire, "fan-out", *many) as living:
                saying = asyncio.ensure_future(living.found())
                await watched(field, said(witness, CROWD_SECONDS))
                for each in dead[::2]:
                    cut_off(each)
                found = await watched(field, saying)
            assert found["sent"] > 0
            assert (found["counted"], found["expected"]) == (found["sent"] * (hearers - DEAD),) * 2
            assert (found["missing"], found["repeated"], found["refused"]) == (0, 0, {})


async def said(client: Client, seconds: float) -> None:
    """Returns with the first message; arrivals before it are passed over."""

    async def listen() -> None:
        while not str(await patient(client)).startswith('42/chat,["message"'):
            pass

    await within(listen(), seconds)


async def patient(client: Client) -> Any:
    """What comes next, however late."""
    while True:
        try:
            return await client.receive()
        except TimeoutError:
            continue


# ── presence ─────────────────────────────────────────────────────────────────────────────────────

GROUPS, FRIENDS, ROOMS = 20, 5, 100
"""Each is in all rooms of its group of friends: 100 clients, 2,000 rooms, 10,000 keys."""
GROUPS_BY_POLLING = GROUPS if IN_FULL else 4


async def ask_all(client: Client, event: str, rooms: list[str]) -> dict[str, Any]:
    """The answer for each room; what else is said meanwhile is passed over."""
    asked = [f"42/chat,{number}{json.dumps([event, {'room': room}])}" for number, room in enumerate(rooms)]
    await client.send(*asked)
    answers: dict[str, Any] = {}
    while len(answers) < len(rooms):
        head, _, rest = str(await client.receive()).partition("[")
        if head.startswith("43/chat,"):
            answers[rooms[int(head[8:])]] = json.loads(f"[{rest}")[0]
    return answers


async def go(client: Client) -> None:
    """At once, whatever is still unread."""
    if isinstance(client, PollingClient):
        try:
            await client.post("1")
        except aiohttp.ServerDisconnectedError:  # the connection that it had kept was just being ended
            await client.post("1")
    else:
        await client.leave()


def rooms_of(group: int) -> list[str]:
    return [f"{group}-{number}" for number in range(ROOMS)]


async def present(client: Client, groups: int) -> dict[str, set[str]]:
    """Who is in the rooms of all groups: by name, with one connection each."""
    found: dict[str, set[str]] = {}
    for group in range(groups):
        for room, answer in (await ask_all(client, "members", rooms_of(group))).items():
            assert {each["connections"] for each in answer["members"]} <= {1}
            found[room] = {each["username"] for each in answer["members"]}
    return found


@pytest.mark.hostile("H3")
@pytest.mark.parametrize("wire", HOUSE_WIRES, ids=str)
async def test_ten_thousand_keys_of_presence(houses: Houses, wire: Wire) -> None:
    server = houses.get(wire, REALTIME_HISTORY_ON_JOIN="0")
    groups = GROUPS_BY_POLLING if wire.polling else GROUPS
    async with (
        ground(server, "/chat join", "/chat members") as field,
        wire.client(server) as watcher,
        AsyncExitStack() as stack,
    ):
        await come_in(watcher, "/chat", {"username": "watcher"})
        friends: list[Client] = []

        async def arrive(group: int, friend: int) -> None:
            client = await stack.enter_async_context(wire.client(server))
            friends.append(client)
            await come_in(client, "/chat", {"username": f"user-{group}-{friend}"})
            answers = await ask_all(client, "join", rooms_of(group))
            for answer in answers.values():
                assert f"user-{group}-{friend}" in answer["members"]

        async def arrive_all() -> None:
            for group in range(groups):
                for friend in range(FRIENDS):
                    await arrive(group, friend)

        await watched(field, arrive_all())
        assert await watched(field, present(watcher, groups)) == {
            room: {f"user-{group}-{friend}" for friend in range(FRIENDS)}
            for group in range(groups)
            for room in rooms_of(group)
        }
        await watched(field, asyncio.gather(*(go(client) for client in friends)))

        async def all_gone() -> None:
            while any((await present(watcher, groups)).values()):
                pass

        await within(watched(field, all_gone()), CROWD_SECONDS)
