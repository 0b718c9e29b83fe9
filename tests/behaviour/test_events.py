"""Events and acknowledgements in both directions, with everything that they may carry."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import socketio as stock
from fastapi import Depends
from socketio.exceptions import TimeoutError as StockTimeout

from realtime import Fail, Namespace, Server, event
from tests.behaviour.stage import ACK, Wire, new_server, stage, within

pytestmark = pytest.mark.asyncio

IMAGE = bytes(range(256)) * 20
SEVERAL: list[Any] = [1, IMAGE, "3", [4], b"asdfasdf", [IMAGE, "swag", b"asdfasdf"]]


def hearing(*names: str) -> tuple[Server, list[list[Any]]]:
    """A server that writes down what clients say."""
    sio, heard = new_server(), list[list[Any]]()

    def register(name: str) -> None:
        async def handler(sid: str, *args: Any) -> None:
            heard.append([name, *args])

        sio.on(name, handler)

    for name in names:
        register(name)
    return sio, heard


# ── one way ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "args", [[1, "2", [3]], [1337], [None], [], [b"abcdefg"], SEVERAL], ids=lambda args: f"{len(args)} {type(args[:1])}"
)
async def test_what_a_client_says_reaches_the_handler_as_it_was(wire: Wire, args: list[Any]) -> None:
    sio, heard = hearing("random")
    async with stage(sio, wire) as here:
        guest = await here.guest()
        assert await guest.ask("random", *args) == []
        assert heard == [["random", *args]]


@pytest.mark.parametrize("said", [1337, None])
async def test_message_is_an_event_like_any_other(wire: Wire, said: Any) -> None:
    sio, heard = hearing("message")
    async with stage(sio, wire) as here:
        guest = await here.guest()
        await guest.ask("message", said)
        assert heard == [["message", said]]


@pytest.mark.parametrize(
    ("data", "args"),
    [("tobi", ["tobi"]), (IMAGE, [IMAGE]), (tuple(SEVERAL), SEVERAL), (None, [])],
    ids=["text", "binary", "several", "nothing"],
)
async def test_what_the_server_says_reaches_the_client_as_it_was(wire: Wire, data: Any, args: list[Any]) -> None:
    sio = new_server()
    async with stage(sio, wire) as here:
        guest = await here.guest()
        await sio.emit("woot", data, to=guest.sid)
        assert await guest.event() == ["woot", *args]


async def test_send_is_the_event_message(wire: Wire) -> None:
    sio = new_server()
    async with stage(sio, wire) as here:
        guest = await here.guest()
        await sio.send("a", to=guest.sid)
        assert await guest.event() == ["message", "a"]


async def test_every_script_arrives_and_every_time(wire: Wire) -> None:
    sio = new_server()
    async with stage(sio, wire) as here:
        guest = await here.guest()
        for _ in range(3):
            await sio.emit("hoot", "utf8 — текст 文字 🙂", to=guest.sid)
        assert [await guest.event() for _ in range(3)] == [["hoot", "utf8 — текст 文字 🙂"]] * 3


async def test_events_of_one_client_are_heard_in_their_order(wire: Wire) -> None:
    sio, heard = new_server(async_handlers=False), []
    first = asyncio.Event()

    async def hi(sid: str, letter: str) -> None:
        if letter == "a":
            await first.wait()
        heard.append(letter)

    sio.on("hi", hi, namespace="/chat")
    async with stage(sio, wire) as here:
        guest = await here.guest("/chat")
        await guest.emit("hi", "a")
        await guest.emit("hi", "b", id=0)
        first.set()
        assert (await guest.packet()).kind == ACK
        assert heard == ["a", "b"]


async def test_a_handler_for_every_event(wire: Wire) -> None:
    sio, heard = new_server(), []
    sio.on("*", lambda name, sid, *args: heard.append([name, *args]))
    async with stage(sio, wire) as here:
        guest = await here.guest()
        await guest.ask("my-event", "123")
        assert heard == [["my-event", "123"]]


# ── answers ──────────────────────────────────────────────────────────────────────────────────────

ANSWERS: list[tuple[list[Any], Any, list[Any]]] = [
    ([], (1, 2), [1, 2]),
    ([1, 2], None, []),
    ([bytes(3)], (1, 2), [1, 2]),
    ([], bytes(2), [bytes(2)]),
]


@pytest.mark.parametrize(("args", "returned", "answer"), ANSWERS)
async def test_a_client_is_answered(wire: Wire, args: list[Any], returned: Any, answer: list[Any]) -> None:
    sio, heard = new_server(), []

    @sio.event
    async def woot(sid: str, *args: Any) -> Any:
        heard.append(list(args))
        return returned

    async with stage(sio, wire) as here:
        guest = await here.guest()
        assert await guest.ask("woot", *args) == answer
        assert heard == [args]


@pytest.mark.parametrize(
    ("args", "answer"), [([], []), ([1, 2], []), ([bytes(4)], []), ([], [bytes(1)]), ([1, 2], [3])], ids=repr
)
async def test_the_server_is_answered(wire: Wire, args: list[Any], answer: list[Any]) -> None:
    sio = new_server()
    async with stage(sio, wire) as here:
        guest = await here.guest()
        answered = asyncio.get_running_loop().create_future()
        await sio.emit("hi", tuple(args), to=guest.sid, callback=lambda *found: answered.set_result(list(found)))
        asked = await guest.packet()
        assert asked.data == ["hi", *args]
        await guest.answer(asked, *answer)
        assert await within(answered) == answer


async def test_the_server_may_wait_for_the_answer(wire: Wire) -> None:
    sio = new_server()
    async with stage(sio, wire) as here:
        guest = await here.guest()
        asking = asyncio.ensure_future(sio.call("hi", (1, 2), to=guest.sid, timeout=5))
        asked = await guest.packet()
        assert asked.data == ["hi", 1, 2]
        await guest.answer(asked, 3)
        assert await within(asking) == 3


async def test_an_answer_that_does_not_come_in_time(wire: Wire) -> None:
    sio = new_server()
    async with stage(sio, wire) as here:
        guest = await here.guest()
        with pytest.raises(StockTimeout):
            await within(sio.call("unknown", to=guest.sid, timeout=0.05))
        assert await guest.packet() == (2, "/", 1, ["unknown"])


async def test_an_answer_that_comes_too_late_is_told_once_and_disturbs_nobody(wire: Wire) -> None:
    sio = new_server()
    sio.on("echo", lambda sid, data: data)
    async with stage(sio, wire) as here:
        guest = await here.guest()
        with pytest.raises(StockTimeout):
            await within(sio.call("echo", 42, to=guest.sid, timeout=0))
        await guest.answer(await guest.packet(), 42)
        assert await guest.ask("echo", "served") == ["served"]


async def test_an_answer_that_comes_in_time(wire: Wire) -> None:
    """And by name of a typed namespace's socket."""
    asked: list[Any] = []

    class Asking(Namespace):
        path = "/asking"

        async def connected(self, socket: Any = None) -> None:
            """Nothing to greet with."""

        @event(concurrent=True)
        async def turn(self, number: int) -> Any:
            [socket] = self.sockets()
            asked.append(await socket.call("echo", number, timeout=5))
            return asked[-1]

    sio = new_server()
    sio.include(Asking())
    async with stage(sio, wire) as here:
        guest = await here.guest("/asking")
        await guest.emit("turn", 42, id=9)
        await guest.answer(await guest.packet(), 42)
        assert await guest.packet() == (ACK, "/asking", 9, [42])
        assert asked == [42]


# ── steps before a handler ───────────────────────────────────────────────────────────────────────


async def test_a_class_may_look_at_every_event_and_hand_on_another(wire: Wire) -> None:
    heard: list[list[Any]] = []

    class Wrapping(stock.AsyncNamespace):
        async def trigger_event(self, name: str, *args: Any) -> Any:
            if name == "join":
                return await super().trigger_event("wrap", args[0], name, *args[1:])
            return await super().trigger_event(name, *args)

        async def on_wrap(self, sid: str, *args: Any) -> str:
            heard.append(list(args))
            return "wrapped"

    sio = new_server()
    sio.register_namespace(Wrapping("/"))
    async with stage(sio, wire) as here:
        guest = await here.guest()
        assert await guest.ask("join", "woot") == ["wrapped"]
        assert heard == [["join", "woot"]]


async def test_a_step_before_every_event_may_refuse_it(wire: Wire) -> None:
    ran: list[str] = []

    def first() -> None:
        ran.append("first")
        raise Fail("unauthenticated", "Authentication error")

    def second() -> None:
        ran.append("second")

    behind = Namespace("/behind", dependencies=[Depends(first), Depends(second)])

    @behind.event
    async def join(room: str) -> None:
        ran.append("handler")

    sio = new_server()
    sio.include(behind)
    error = {"error": {"code": "unauthenticated", "message": "Authentication error"}}
    async with stage(sio, wire) as here:
        guest = await here.guest("/behind")
        assert await guest.ask("join", "woot") == [error]
        await guest.emit("join", "woot")
        assert await guest.event() == ["error", error]
        assert ran == ["first", "first"]
