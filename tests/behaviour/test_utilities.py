"""What a server does with many clients at once: find them, take them into rooms and out of them, end them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from realtime import Namespace
from tests.behaviour.stage import DISCONNECT, Guest, Stage, Wire, new_server, stage
from tests.wire.clients import within

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def three(wire: Wire) -> AsyncIterator[tuple[Stage, Namespace, list[Guest]]]:
    """Three clients: the first in both rooms, the second in ``room1``, the third in ``room2``."""
    sio, namespace = new_server(), Namespace("/three")
    sio.include(namespace)
    async with stage(sio, wire) as here:
        guests = await here.guests(3, "/three")
        for guest, rooms in zip(guests, (["room1", "room2"], ["room1"], ["room2"]), strict=True):
            for room in rooms:
                await sio.enter_room(guest.sid, room, "/three")
        yield here, namespace, guests


def rooms(here: Stage, guests: list[Guest]) -> list[set[str]]:
    return [set(here.server.rooms(guest.sid, "/three")) - {guest.sid} for guest in guests]


async def test_all_are_found(wire: Wire) -> None:
    async with three(wire) as (_, namespace, guests):
        assert {socket.sid for socket in namespace.sockets()} == {guest.sid for guest in guests}


async def test_those_in_a_room_are_found(wire: Wire) -> None:
    async with three(wire) as (_, namespace, guests):
        assert {socket.sid for socket in namespace.sockets("room1")} == {guests[0].sid, guests[1].sid}


async def test_all_enter_a_room(wire: Wire) -> None:
    async with three(wire) as (here, namespace, guests):
        for socket in namespace.sockets():
            socket.enter("new")
        assert all("new" in each for each in rooms(here, guests))


async def test_those_in_a_room_enter_another(wire: Wire) -> None:
    async with three(wire) as (here, namespace, guests):
        for socket in namespace.sockets("room1"):
            socket.enter("room3")
        assert rooms(here, guests) == [{"room1", "room2", "room3"}, {"room1", "room3"}, {"room2"}]


async def test_all_leave_a_room(wire: Wire) -> None:
    async with three(wire) as (here, _, guests):
        await here.server.close_room("room1", "/three")
        assert rooms(here, guests) == [{"room2"}, set(), {"room2"}]


async def test_those_in_a_room_leave_another(wire: Wire) -> None:
    async with three(wire) as (here, namespace, guests):
        for socket in namespace.sockets("room2"):
            await socket.leave("room1")
        assert rooms(here, guests) == [{"room2"}, {"room1"}, {"room2"}]


async def test_all_are_disconnected(wire: Wire) -> None:
    async with three(wire) as (here, namespace, guests):
        for socket in namespace.sockets():
            await socket.disconnect()
        assert [(await within(guest.packet())).kind for guest in guests] == [DISCONNECT] * 3
        assert here.server.hub.namespaces == {}


async def test_those_in_a_room_are_disconnected(wire: Wire) -> None:
    async with three(wire) as (here, namespace, guests):
        await namespace.disconnect("room2")
        assert [(await within(guests[each].packet())).kind for each in (0, 2)] == [DISCONNECT] * 2
        assert await here.heard(guests[1]) == [[]]
