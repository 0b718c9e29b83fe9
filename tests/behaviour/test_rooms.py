"""Who is in which room, and who is told what is said to rooms, to everyone, and to everyone but some."""

from __future__ import annotations

from typing import Any

import pytest

from realtime import Namespace, Server, Socket, event
from tests.behaviour.stage import Wire, new_server, stage, until

pytestmark = pytest.mark.asyncio

BYTES = bytes(10)


def joining() -> Server:
    """``join`` enters rooms that the client names, ``others`` says something to everyone in a room but the sender."""
    sio = new_server(namespaces=["/", "/test"])

    @sio.event
    async def join(sid: str, *rooms: str) -> None:
        for room in rooms:
            await sio.enter_room(sid, room)

    @sio.event
    async def others(sid: str, room: str | None, data: Any) -> None:
        await sio.emit("a", data, room=room, skip_sid=sid)
        await sio.emit("b", data, to=sid)

    return sio


@pytest.mark.parametrize("data", ["b", BYTES], ids=["text", "binary"])
async def test_everyone_in_a_namespace_and_nobody_in_another(wire: Wire, data: Any) -> None:
    async with stage(joining(), wire) as here:
        ann, bob = await here.guests(2)
        stranger = await here.guest("/test")
        assert await here.server.emit("a", data) == 2
        assert await here.heard(ann, bob, stranger) == [[["a", data]], [["a", data]], []]


async def test_everyone_but_the_sender(wire: Wire) -> None:
    async with stage(joining(), wire) as here:
        ann, bob = await here.guests(2)
        stranger = await here.guest("/test")
        await bob.emit("others", None, "b")
        assert await bob.event() == ["b", "b"]
        assert await here.heard(ann, bob, stranger) == [[["a", "b"]], [], []]


async def test_a_room(wire: Wire) -> None:
    async with stage(joining(), wire) as here:
        ann, bob = await here.guests(2)
        await ann.ask("join", "woot")
        assert await here.server.emit("a", room="woot") == 1
        assert await here.heard(ann, bob) == [[["a"]], []]


async def test_who_is_in_two_of_the_rooms_is_told_once(wire: Wire) -> None:
    async with stage(joining(), wire) as here:
        ann, bob = await here.guests(2)
        await ann.ask("join", "woot", "test")
        await bob.ask("join", "third")
        await here.server.emit("a", room=["woot", "test"])
        await here.server.emit("b", room="third")
        assert await here.heard(ann, bob) == [[["a"]], [["b"]]]


@pytest.mark.parametrize("data", ["x", BYTES], ids=["text", "binary"])
async def test_a_room_but_the_sender(wire: Wire, data: Any) -> None:
    async with stage(joining(), wire) as here:
        ann, bob, cleo = await here.guests(3)
        await ann.ask("join", "woot")
        await bob.ask("join", "test")
        await cleo.ask("join", "test")
        await cleo.emit("others", "test", data)
        assert await cleo.event() == ["b", data]
        assert await here.heard(ann, bob, cleo) == [[], [["a", data]], []]


async def test_rooms_are_kept_track_of(wire: Wire) -> None:
    sio = joining()
    async with stage(sio, wire) as here:
        ann = await here.guest()
        for room in "abc":
            await ann.ask("join", room)
        assert set(sio.rooms(ann.sid)) == {ann.sid, "a", "b", "c"}
        await sio.leave_room(ann.sid, "b")
        assert set(sio.rooms(ann.sid)) == {ann.sid, "a", "c"}
        await sio.disconnect(ann.sid)
        assert list(sio.rooms(ann.sid)) == []


async def test_an_empty_room_is_gone(wire: Wire) -> None:
    sio = joining()
    async with stage(sio, wire) as here:
        ann = await here.guest()
        await ann.ask("join", "a")
        assert "a" in sio.hub.namespaces["/"]
        await sio.leave_room(ann.sid, "a")
        assert "a" not in sio.hub.namespaces["/"]


async def test_leaving_a_room_that_one_is_not_in_changes_nothing(wire: Wire) -> None:
    sio = joining()
    async with stage(sio, wire) as here:
        ann = await here.guest()
        await ann.ask("join", "a", "b")
        await sio.leave_room(ann.sid, "unknown")
        assert set(sio.rooms(ann.sid)) == {ann.sid, "a", "b"}


async def test_several_rooms_at_once(wire: Wire) -> None:
    sio = joining()
    async with stage(sio, wire) as here:
        ann = await here.guest()
        await ann.ask("join", "a", "b", "c")
        assert set(sio.rooms(ann.sid)) == {ann.sid, "a", "b", "c"}


@pytest.mark.parametrize("namespace", ["/", "/test"])
async def test_everyone_but_one(wire: Wire, namespace: str) -> None:
    async with stage(joining(), wire) as here:
        ann, bob = await here.guests(2, namespace)
        assert await here.server.emit("a", skip_sid=bob.sid, namespace=namespace) == 1
        assert await here.heard(ann, bob) == [[["a"]], []]


async def test_everyone_but_the_sender_and_one_more(wire: Wire) -> None:
    sio = joining()

    @sio.event
    async def exclude(sid: str, other: str) -> None:
        await sio.emit("a", skip_sid=[sid, other])

    async with stage(sio, wire) as here:
        ann, bob, cleo = await here.guests(3)
        await cleo.ask("exclude", bob.sid)
        assert await here.heard(ann, bob, cleo) == [[["a"]], [], []]


class Club(Namespace):
    path = "/club"

    @event
    async def join(self, socket: Socket, room: str) -> None:
        await socket.join(room)

    @event
    async def tell(self, socket: Socket, without: str, sender: bool) -> int:
        skip = [each.sid for each in self.sockets(without)]
        return await self.emit("a", skip=skip if sender else [*skip, socket.sid])


@pytest.mark.parametrize(("sender", "told"), [(True, [True, False, True]), (False, [True, False, False])])
async def test_everyone_but_a_room(wire: Wire, sender: bool, told: list[bool]) -> None:
    sio = new_server()
    sio.include(Club())
    async with stage(sio, wire) as here:
        guests = await here.guests(3, "/club")
        await guests[1].ask("join", "room1")
        await guests[2].emit("tell", "room1", sender, id=7)
        packets = [await guests[2].packet() for _ in range(1 + told[2])]
        assert [packet.data for packet in packets] == [*([["a"]] if told[2] else []), [sum(told)]]
        assert await here.heard(*guests) == [[["a"]], [], []]


async def test_rooms_of_a_client_that_is_refused_are_left(wire: Wire) -> None:
    sio = new_server()

    @sio.event
    async def connect(sid: str, environ: Any) -> bool:
        await sio.enter_room(sid, "room1")
        return False

    async with stage(sio, wire) as here:
        guest = await here.knock()
        assert (await guest.connect()).kind == 4
        assert sio.hub.namespaces == {}


async def test_who_has_left_enters_no_room(wire: Wire) -> None:
    entered: list[bool] = []

    class Door(Namespace):
        path = "/door"

        async def connected(self, socket: Socket) -> None:
            await socket.disconnect()
            await socket.join("room1")
            entered.append(socket.enter("room2"))

    sio = new_server()
    sio.include(Door())
    async with stage(sio, wire) as here:
        guest = await here.guest("/door")
        assert (await guest.packet())[:2] == (1, "/door")
        await until(lambda: not sio.hub._leaving)
        assert sio.hub.namespaces == {}
        assert entered == [False]
