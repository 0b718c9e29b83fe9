"""Each limit is a setting, has a number by reason, and is told of with a line for each client, not for each packet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import pytest

from realtime import Namespace, Server, Socket, event
from realtime.access.identity import Identity
from realtime.clients.connection import PATIENCE_EVENTS
from realtime.metrics import Counter
from tests.behaviour.stage import PORTABLE, Guest, Stage, Wire, new_server, stage, until
from tests.wire.clients import Gone, address, bare_websocket, polling

pytestmark = pytest.mark.asyncio

NAME = "/typed"


class Typed(Namespace):
    path = NAME

    async def authorize(self, auth: dict[str, Any] | None = None) -> Identity | None:
        return Identity(user_id="alice") if auth else None

    @event
    async def join(self, socket: Socket, room: str) -> None:
        await socket.join(room)

    @event
    async def wait(self) -> None:
        """So long that others come meanwhile."""
        done = asyncio.Event()
        asyncio.get_running_loop().call_later(0.02, done.set)
        await done.wait()


class Case(NamedTuple):
    cause: Callable[[Stage, Guest], Awaitable[Any]]
    settings: Mapping[str, Any]
    counter: str
    labels: tuple[str, ...]
    lines: int
    """Of the log, for one client that does it again and again."""


def says(*frames: str) -> Callable[[Stage, Guest], Awaitable[None]]:
    async def say(here: Stage, guest: Guest) -> None:
        if frames:
            await guest.client.send(*frames)

    return say


async def reads_nothing(here: Stage, guest: Guest) -> None:
    for _ in range(300):
        await here.server.emit("ev", "x" * 100_000, namespace=NAME)


async def asks_twice(here: Stage, guest: Guest) -> None:
    for _ in range(2):
        other = await here.knock(NAME)
        await other.connect(auth={"username": "alice"})


async def connects_to_nothing(here: Stage, guest: Guest) -> None:
    await here.knock()


async def knocks_twice(here: Stage, guest: Guest) -> None:
    """From an address that is not exempt: the limit is asked as requests ask it."""
    scope = {"type": "http", "method": "GET", "query_string": b"EIO=4&transport=polling", "client": ("192.0.2.1", 1)}
    for _ in range(3):
        try:
            here.server.eio.admit(scope | {"headers": []})
        except Exception as error:
            assert type(error).__name__ == "HandshakeError"


DEEP = f'42{NAME},["x",[[[[1]]]]]'
LONG = f'42{NAME},["{"x" * 20}"]'
CASES: dict[str, Case] = {
    "message": Case(
        says(f'42{NAME},["{"x" * 2_000}"]'), {"message_limit_bytes": 1_000}, "violations", ("too_big",), 1
    ),
    "attachments": Case(
        says(f'452-{NAME},["x",{{"_placeholder":true,"num":0}},{{"_placeholder":true,"num":1}}]'),
        {"attachment_limit": 1}, "violations", ("too_many_attachments",), 1,
    ),
    "depth": Case(says(DEEP), {"json_depth_limit": 3}, "violations", ("too_deep",), 1),
    "event name": Case(says(LONG), {"event_name_limit_characters": 10}, "violations", ("bad_event_name",), 1),
    "room name": Case(
        says(f'42{NAME},["join","xxxxx"]'), {"room_name_limit_characters": 4},
        "errors", (NAME, "invalid_payload"), 0,
    ),
    "rooms": Case(
        says(f'42{NAME},["join","a"]', *[f'42{NAME},["join","b"]'] * 9), {"rooms_per_connection": 1},
        "errors", (NAME, "too_many_rooms"), 1,
    ),
    "events": Case(
        says(*[f'42{NAME},["x"]'] * (PATIENCE_EVENTS + 9)), {"events_per_second": 1}, "drops", ("rate_limited",), 2
    ),
    "inbox": Case(says(*[f'42{NAME},["wait"]'] * 20), {"inbox_limit_events": 2}, "reading_stopped", (), 1),
    "backlog": Case(reads_nothing, {"backlog_limit_messages": 3}, "drops", ("slow",), 1),
    "namespaces": Case(
        says("40", *["40/other,"] * 9), {"namespaces_per_connection": 2}, "errors", ("/other", "too_many_namespaces"), 1
    ),
    "connect": Case(connects_to_nothing, {"connect_timeout_seconds": 0.05}, "violations", ("connect_late",), 1),
    "ping": Case(
        says(), {"ping_interval_seconds": 0.05, "ping_timeout_seconds": 0.05}, "ended", ("ping timeout",), 0
    ),
    "address": Case(
        knocks_twice, {"handshakes_per_minute_per_address": 1}, "handshakes_refused", ("address_limit",), 1
    ),
    "user": Case(asks_twice, {"connections_per_user": 1}, "errors", (NAME, "too_many_connections"), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_a_limit_is_a_setting_a_number_and_no_flood_of_lines(
    wire: Wire, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    case = CASES[name]
    sio: Server = new_server(settings=case.settings, namespaces=["/", "/other"])
    sio.include(Typed())
    counter: Counter = getattr(sio.metrics, case.counter)
    async with stage(sio, wire) as here:
        guest = await here.guest(NAME)
        caplog.clear()
        with caplog.at_level(logging.INFO, "realtime"):
            await case.cause(here, guest)
            await until(lambda: counter.value(*case.labels))
            await asyncio.wait([asyncio.ensure_future(rest(guest))], timeout=0.2)
        told = [each for each in caplog.records if each.name == "realtime"]
        assert len(told) == case.lines, [each.getMessage() for each in told]


async def rest(guest: Guest) -> None:
    """What it is told, if anything, and the end of it."""
    try:
        while True:
            await guest.client.receive()
    except (Gone, TimeoutError):
        return


async def test_an_upgrade_has_its_time(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "realtime")
    sio = new_server(settings={"upgrade_timeout_seconds": 0.05})
    async with stage(sio, PORTABLE) as here, polling(here.url) as client:
        url = address(here.url.replace("http", "ws", 1), "websocket", query=f"&sid={client.handshake['sid']}")
        late = sio.metrics.violations.bound("upgrade_late")
        async with bare_websocket(url):
            await until(lambda: late.count == 1)
        async with bare_websocket(url):
            await until(lambda: late.count == 2)
        assert sio.metrics.violations.values == {("upgrade_late",): 2}
        assert caplog.text.count("is over a limit: upgrade_late") == 1


async def test_a_room_of_more_characters_may_be_allowed(wire: Wire) -> None:
    sio = new_server(settings={"room_name_limit_characters": 200, "event_name_limit_characters": 200})
    typed = Typed()
    sio.include(typed)
    async with stage(sio, wire) as here:
        guest = await here.guest(NAME)
        assert await guest.ask("join", "r" * 200) == [None]
        assert "error" in (await guest.ask("join", "r" * 201))[0]
        assert (await guest.ask("e" * 200))[0]["error"]["code"] == "unknown_event"
