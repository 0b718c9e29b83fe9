"""Honest clients: circles of every wire that talk, and each hears every message once, in one order for all."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from tests.end_to_end.clients import Told, chatter, event_stream, publish, raw, socket_io, within
from tests.serving import ServerProcess

SAY_SECONDS = 20.0
"""For a circle to hear all that was said, on a machine that others work on and beside attackers."""
LINES = 8
"""Messages of each member of a circle, or notifications on a topic."""
TRANSPORTS: dict[str, list[str] | None] = {
    "Socket.IO, WebSocket": ["websocket"],
    "Socket.IO, polling": ["polling"],
    "Socket.IO, upgraded": None,
}


@dataclass
class Account:
    """What the honest clients did and met."""

    said: int = 0
    heard: int = 0
    rounds: Counter[str] = field(default_factory=Counter)
    round_trips: list[float] = field(default_factory=list)
    """Seconds, of an echo that is asked for again and again on one connection."""


@dataclass
class Member:
    """``event`` is the name under which ``told`` has what is said."""

    told: Told
    event: str
    say: Callable[[str], Awaitable[Any]]

    async def hear(self, count: int) -> list[str]:
        """The next texts."""
        return [(await self.told.until(self.event, SAY_SECONDS))["text"] for _ in range(count)]


# ── a room of the chat ───────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def by_socket_io(server: ServerProcess, name: str, room: str, wire: str) -> AsyncIterator[Member]:
    async with chatter(server.url, name, room, transports=TRANSPORTS[wire]) as client:

        async def say(text: str) -> None:
            await client.ask("message", {"room": room, "text": text})

        yield Member(client, "message", say)


@asynccontextmanager
async def by_route(server: ServerProcess, name: str, room: str, wire: str) -> AsyncIterator[Member]:
    path, event = {
        "/ws/chat": (f"/ws/chat/{name}?room={room}", "message"),
        "/ws/json-chat": (f"/ws/json-chat/{name}?room={room}", "chat"),
        "/ws/rooms": (f"/ws/rooms/chat/{room}?username={name}", "message"),
    }[wire]
    async with raw(server.ws_url, path) as client:

        async def say(text: str) -> None:
            whole: dict[str, Any] = {
                "/ws/json-chat": {"type": "chat", "text": text},
                "/ws/rooms": {"event": "message", "data": {"room": room, "text": text}},
            }
            await client.say(whole.get(wire, text))

        yield Member(client, event, say)


ROUTES = ("/ws/chat", "/ws/json-chat", "/ws/rooms")


async def chat(server: ServerProcess, account: Account, number: int, chance: random.Random) -> None:
    """Six clients in one room, one on each wire; who is first to talk is left to chance, and so is the length."""
    room = f"circle-{number}"
    async with AsyncExitStack() as stack:
        members: list[Member] = []
        for place, wire in enumerate((*TRANSPORTS, *ROUTES)):
            enter = by_socket_io if wire in TRANSPORTS else by_route
            members.append(await stack.enter_async_context(enter(server, f"m{place}-{number}", room, wire)))
        await everybody_is_here(members, number)
        texts = [
            [f"{place}:{line}:{'x' * chance.randrange(2_000)}" for line in range(LINES)]
            for place in range(len(members))
        ]

        async def talk(member: Member, own: list[str]) -> None:
            for text in own:
                await member.say(text)

        await asyncio.gather(*(talk(member, own) for member, own in zip(members, texts, strict=True)))
        total = LINES * len(members)
        heard = await asyncio.gather(*(member.hear(total) for member in members))
        check(heard, texts)
        # Whatever came twice would stand before this.
        await members[0].say("the end")
        for member in members:
            assert await member.hear(1) == ["the end"], "something came twice"
        account.said += total
        account.heard += total * len(members)


async def everybody_is_here(members: list[Member], number: int) -> None:
    """Plain routes say nothing when one has come in: the last is here when the others hear it speak."""
    for place, member in enumerate(members):
        await member.say(f"here {place}")
    for member in members:
        while (await member.hear(1))[0] != f"here {len(members) - 1}":
            pass


def check(heard: list[list[str]], said: list[list[str]]) -> None:
    """The same for everyone: each sender's own order, nothing missing, nothing twice."""
    assert all(each == heard[0] for each in heard), "two members heard different things, or in another order"
    for place, own in enumerate(said):
        assert [text for text in heard[0] if text.startswith(f"{place}:")] == own


# ── a topic ──────────────────────────────────────────────────────────────────────────────────────


async def topic(server: ServerProcess, account: Account, number: int, chance: random.Random) -> None:
    """Published over HTTP, heard as Server-Sent Events, on a plain route, over Socket.IO on each of its wires."""
    name = f"topic-{number}"
    async with AsyncExitStack() as stack:
        followers: list[Told] = [
            await stack.enter_async_context(event_stream(server.url, name)),
            await stack.enter_async_context(raw(server.ws_url, f"/ws/notify/{name}")),
        ]
        for transports in TRANSPORTS.values():
            client = await stack.enter_async_context(socket_io(server.url, "/notify", transports=transports))
            await client.ask("subscribe", {"topic": name})
            followers.append(client)
        await asyncio.wait_for(all_follow(server, name, len(followers)), SAY_SECONDS)
        titles = [f"{line} {'x' * chance.randrange(400)}" for line in range(LINES)]
        for title in titles:
            assert (await publish(server.url, name, title))["sent"] == len(followers)
        for follower in followers:
            heard: list[str] = []
            while len(heard) < LINES:
                title = (await follower.until("notification", SAY_SECONDS))["title"]
                heard += [title] if title != "are you there?" else []
            assert heard == titles
            assert follower.count("notification", title=titles[-1]) == 1
        account.said += LINES
        account.heard += LINES * len(followers)


async def all_follow(server: ServerProcess, name: str, followers: int) -> None:
    while (await publish(server.url, name, "are you there?"))["sent"] < followers:
        pass


# ── acknowledgements ─────────────────────────────────────────────────────────────────────────────


async def echoes(server: ServerProcess, account: Account, number: int, chance: random.Random) -> None:
    """Text and binary come back as they went, on each wire."""
    for transports in TRANSPORTS.values():
        async with socket_io(server.url, "/echo", transports=transports) as client:
            for line in range(LINES):
                value = {"line": line, "bytes": chance.randbytes(chance.randrange(5_000)), "text": "é\u2028🙈"}
                assert await client.call("echo", value) == value
            account.said += LINES
            account.heard += LINES


async def bystander(server: ServerProcess, account: Account, stop: asyncio.Event) -> None:
    """One connection for the whole time; each answer comes, and how long it took is kept."""
    async with socket_io(server.url, "/echo", transports=["websocket"]) as client:
        while not stop.is_set():
            begun = monotonic()
            assert await within(client.call("echo", begun), SAY_SECONDS) == begun
            account.round_trips.append(monotonic() - begun)
            await pause(stop, 0.1)
        assert not client.gone.is_set()


ROUNDS = {"chat": chat, "topic": topic, "echoes": echoes}


async def go_round(server: ServerProcess, account: Account, kind: str, seed: str, stop: asyncio.Event) -> None:
    """Rounds of one kind until it is over; the one that is under way is finished."""
    chance = random.Random(seed)
    while not stop.is_set():
        account.rounds[kind] += 1
        await ROUNDS[kind](server, account, account.rounds[kind], chance)
        await pause(stop, chance.random() / 2)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        pass
