"""Namespaces, the steps before a client is let in, and the ways out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import Depends, FastAPI

from realtime import Fail, Namespace, Realtime, Server, Socket
from tests.behaviour.stage import CONNECT, CONNECT_ERROR, DISCONNECT, Guest, Wire, new_server, stage, until, within
from tests.realtime.living import settings_for
from tests.wire.clients import Gone, ended

pytestmark = pytest.mark.asyncio


def telling(*namespaces: str) -> tuple[Server, list[tuple[str, ...]]]:
    """A server that writes down who came and who went."""
    sio, log = new_server(), list[tuple[str, ...]]()

    def register(namespace: str) -> None:
        sio.on("connect", lambda sid, environ: log.append(("came", namespace, sid)), namespace=namespace)
        sio.on("disconnect", lambda sid, reason: log.append(("went", namespace, sid, reason)), namespace=namespace)

    for namespace in namespaces or ("/",):
        register(namespace)
    return sio, log


# ── namespaces ───────────────────────────────────────────────────────────────────────────────────


async def test_the_main_namespace_is_there_without_a_handler(wire: Wire) -> None:
    async with stage(new_server(), wire) as here:
        guest = await here.knock()
        answer = await guest.connect()
        assert (answer.kind, answer.namespace, list(answer.data)) == (CONNECT, "/", ["sid"])


async def test_the_connect_handler_runs_once_for_each_client(wire: Wire) -> None:
    sio, log = telling()
    async with stage(sio, wire) as here:
        one, other = await here.guests(2)
        assert one.sid != other.sid
        assert log == [("came", "/", one.sid), ("came", "/", other.sid)]


async def test_many_namespaces_on_many_connections(wire: Wire) -> None:
    sio, log = telling("/chat", "/news")
    async with stage(sio, wire) as here:
        chat, news = await here.guest("/chat"), await here.guest("/news")
        both = await here.guest("/chat")
        assert (await both.connect("/news")).kind == CONNECT
        assert [each[:2] for each in log] == [
            ("came", "/chat"),
            ("came", "/news"),
            ("came", "/chat"),
            ("came", "/news"),
        ]
        await sio.emit("told", namespace="/news")
        assert await here.heard(chat, news) == [[], [["told"]]]
        assert (await both.packet())[:2] == (2, "/news")


@pytest.mark.parametrize("name", [None, "/"])
async def test_no_name_is_the_main_namespace(wire: Wire, name: str | None) -> None:
    sio, came = new_server(), []
    sio.on("connect", lambda sid, environ: came.append(sid), namespace=name)
    async with stage(sio, wire) as here:
        guest = await here.guest()
        assert came == [guest.sid]
        await sio.emit("told", namespace=name)
        assert await guest.event() == ["told"]


@pytest.mark.parametrize("written", ["40", "40/,", '40/,{"a":1}'])
async def test_a_client_may_write_out_the_main_namespace_or_not(wire: Wire, written: str) -> None:
    sio, log = telling()
    async with stage(sio, wire) as here:
        guest = await here.knock()
        await guest.client.send(written)
        assert (await guest.packet())[:2] == (CONNECT, "/")
        assert len(log) == 1


async def test_a_namespace_that_does_not_exist(wire: Wire) -> None:
    async with stage(new_server(), wire) as here:
        guest = await here.knock("/doesnotexist")
        assert await guest.connect() == (CONNECT_ERROR, "/doesnotexist", None, {"message": "Invalid namespace"})


async def test_the_clients_of_a_namespace_and_of_its_rooms_can_be_found(wire: Wire) -> None:
    chat, other, sio = Namespace("/chat"), Namespace("/other"), new_server()
    sio.include(chat)
    sio.include(other)
    async with stage(sio, wire) as here:
        bar, foo, stranger = await here.guest("/chat"), await here.guest("/chat"), await here.guest("/other")
        for namespace, guest, room in ((chat, bar, "bar"), (chat, foo, "foo"), (other, stranger, "foo")):
            [socket] = [each for each in namespace.sockets() if each.sid == guest.sid]
            socket.enter(room)
        assert {each.sid for each in chat.sockets()} == {bar.sid, foo.sid}
        assert [each.sid for each in chat.sockets("foo")] == [foo.sid]
        assert [sid for sid, _ in sio.manager.get_participants("/chat", "foo")] == [foo.sid]


# ── steps before it ──────────────────────────────────────────────────────────────────────────────


def stepping(log: list[str], *refusing: str) -> FastAPI:
    """``/chat`` behind three dependencies, one after the other, and ``/`` behind nothing."""
    app = FastAPI()

    def step(name: str) -> Any:
        async def run() -> str:
            log.append(name)
            if name in refusing:
                raise Fail("unauthenticated", "Authentication error", details={"a": "b", "c": 3})
            return name

        return Depends(run)

    class Chat(Namespace):
        path = "/chat"

        async def authorize(
            self,
            one: str = step("one"),
            two: str = step("two"),
            three: str = step("three"),
        ) -> str:
            return f"{one} {two} {three}"

        async def connected(self, socket: Socket) -> None:
            log.append(f"connected: {socket.user}")

    realtime = Realtime(app, settings=settings_for())
    realtime.include(Chat())
    realtime.namespace("/open")
    return app


async def test_steps_run_in_their_order_and_what_they_find_is_there_afterwards(wire: Wire) -> None:
    log: list[str] = []
    async with stage(new_server(), wire, app=stepping(log)) as here:
        await here.guest("/chat")
        await until(lambda: len(log) == 4)
        assert log == ["one", "two", "three", "connected: one two three"]


async def test_a_step_that_refuses_is_the_last_and_its_words_and_data_arrive(wire: Wire) -> None:
    log: list[str] = []
    async with stage(new_server(), wire, app=stepping(log, "two")) as here:
        guest = await here.knock("/chat")
        answer = await guest.connect()
        assert answer.kind == CONNECT_ERROR
        assert answer.data == {
            "message": "Authentication error",
            "data": {"code": "unauthenticated", "message": "Authentication error", "details": {"a": "b", "c": 3}},
        }
        assert log == ["one", "two"]


async def test_steps_of_one_namespace_are_not_those_of_another(wire: Wire) -> None:
    log: list[str] = []
    async with stage(new_server(), wire, app=stepping(log, "one")) as here:
        guest = await here.guest("/open")
        assert (await guest.connect("/chat")).kind == CONNECT_ERROR
        assert log == ["one"]


async def test_nobody_is_in_before_a_long_step_has_ended(wire: Wire) -> None:
    sio, gate = new_server(), asyncio.Event()
    begun = asyncio.Event()

    @sio.event
    async def connect(sid: str, environ: Any) -> None:
        begun.set()
        await gate.wait()

    async with stage(sio, wire) as here:
        guest = await here.knock()
        answer = asyncio.ensure_future(guest.connect())
        await within(begun.wait())
        [(sid, _)] = sio.manager.get_participants("/", None)
        assert not sio.manager.is_connected(sid, "/")
        assert not answer.done()
        gate.set()
        assert (await within(answer)).data == {"sid": sid}
        assert sio.manager.is_connected(sid, "/")


async def test_whoever_leaves_during_a_step_was_never_in(wire: Wire) -> None:
    sio, gate, begun = new_server(), asyncio.Event(), asyncio.Event()
    log: list[str] = []

    class Slow(Namespace):
        path = "/slow"

        async def authorize(self) -> None:
            begun.set()
            await gate.wait()
            log.append("authorized")

        async def connected(self) -> None:
            log.append("connected")

        async def disconnected(self) -> None:
            log.append("disconnected")

    sio.include(Slow())
    async with stage(sio, wire) as here:
        guest = await here.knock("/slow")
        await guest.client.send("40/slow,")
        await within(begun.wait())
        if wire.polling:
            await guest.client.send("1")
        else:
            await guest.client.leave()
        await until(lambda: not sio.core.sessions)
        gate.set()
        await until(lambda: log and not sio.core.sessions and not sio.hub._leaving)
        assert log == ["authorized"]
        assert sio.hub.namespaces == {}


# ── the ways out ─────────────────────────────────────────────────────────────────────────────────


async def test_the_end_of_a_connection_is_the_end_in_each_of_its_namespaces(wire: Wire) -> None:
    sio, log = telling("/", "/chat", "/news")
    async with stage(sio, wire) as here:
        guest = await here.guest()
        for namespace in ("/chat", "/news"):
            await guest.connect(namespace)
        await guest.client.leave()
        await until(lambda: len(log) == 6)
        went = [each for each in log if each[0] == "went"]
        assert {each[1] for each in went} == {"/", "/chat", "/news"}
        assert {each[3] for each in went} == {"transport close"}


async def test_a_connection_may_be_closed_with_all_its_namespaces(wire: Wire) -> None:
    sio, log = telling("/", "/foo", "/bar")
    async with stage(sio, wire) as here:
        guest = await here.guest()
        for namespace in ("/foo", "/bar"):
            await guest.connect(namespace)
        await sio.eio.disconnect(sio.manager.eio_sid_from_sid(guest.sid, "/"))
        await ended(guest.client)
        await until(lambda: len(log) == 6)
        assert {each[3] for each in log if each[0] == "went"} == {"server disconnect"}


async def test_the_hook_is_told_in_which_rooms_its_client_was(wire: Wire) -> None:
    sio, told = new_server(), []

    @sio.event
    async def disconnect(sid: str, reason: str) -> None:
        told.append(set(sio.rooms(sid)))
        told.append(set(sio.manager.get_participants("/", "a")))

    async with stage(sio, wire) as here:
        guest = await here.guest()
        await sio.enter_room(guest.sid, "a")
        await sio.disconnect(guest.sid)
        assert told == [{guest.sid, "a"}, set()], "nobody is in a room any more, and it can still be asked which"
        assert list(sio.rooms(guest.sid)) == []
        assert (await guest.packet()).kind == DISCONNECT


async def test_who_connects_to_no_namespace_is_closed(wire: Wire) -> None:
    async with stage(new_server(settings={"connect_timeout_seconds": 0.05}), wire) as here:
        guest = await here.knock()
        gone = await ended(guest.client)
        assert gone.code == (400 if wire.polling else 1008)


async def test_coming_back_is_a_new_client_and_events_come_once(wire: Wire) -> None:
    sio, log = telling()
    async with stage(sio, wire) as here:
        first = await here.guest()
        await first.client.send("1")
        await ended(first.client)
        again = await here.guest()
        assert again.sid != first.sid
        await sio.emit("told")
        assert await here.heard(again) == [[["told"]]]
        await until(lambda: len(log) == 3)
        assert sorted(each[:2] for each in log) == [("came", "/"), ("came", "/"), ("went", "/")]


async def test_what_follows_a_disconnect_is_not_handled(wire: Wire) -> None:
    sio, heard = new_server(namespaces=["/", "/chat"]), []
    sio.on("test", lambda sid, data: heard.append(data), namespace="/chat")
    async with stage(sio, wire) as here:
        guest: Guest = await here.guest("/chat")
        await guest.emit("test", bytes(10))
        await guest.client.send("41/chat,")
        await guest.emit("test", b"late")
        with pytest.raises(Gone):
            await guest.packet()
        assert heard == [bytes(10)], "in order: what was sent before is heard, what was sent after is a violation"


# ── who comes back ───────────────────────────────────────────────────────────────────────────────


async def test_a_session_that_nobody_knows_is_not_taken_up_again(wire: Wire) -> None:
    sio, log = telling()
    async with stage(sio, wire) as here:
        guest = await here.knock()
        answer = await guest.connect(auth={"pid": "foo", "offset": "bar"})
        assert answer.kind == CONNECT
        assert log == [("came", "/", answer.data["sid"])]
        assert answer.data["sid"] != "foo"


async def test_a_server_made_python_socketios_way_offers_no_recovery_unasked(wire: Wire) -> None:
    async with stage(new_server(), wire) as here:
        guest = await here.knock()
        assert list((await guest.connect()).data) == ["sid"]
