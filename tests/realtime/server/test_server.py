"""Everything python-socketio documents about ``AsyncServer``, seen by its own client over a real uvicorn."""

from __future__ import annotations

import asyncio
import json
import threading
from functools import partial
from typing import Any

import pytest
import socketio
from socketio.exceptions import TimeoutError as StockTimeout

from realtime import ClientGone, Namespace, Server, UsageError
from realtime.testing import MemoryClient
from tests.realtime.living import settings_for
from tests.realtime.served import (
    SECONDS,
    SocketIOClient,
    house,
    new_server,
    settle,
    sid_of,
    socket_io,
    turn,
    within,
)

# ── emit, send ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_who_is_reached_by_an_emission() -> None:
    async with house(new_server()) as here:
        sio = here.sio
        ann, bob, cleo = [await here.client() for _ in range(3)]
        everyone = {"ann": ann, "bob": bob, "cleo": cleo}
        await sio.enter_room(sid_of(ann), "a")
        await sio.enter_room(sid_of(ann), "b")
        await sio.enter_room(sid_of(bob), "b")
        cases: list[tuple[dict[str, Any], set[str]]] = [
            ({}, {"ann", "bob", "cleo"}),
            ({"to": None}, {"ann", "bob", "cleo"}),
            ({"to": []}, set()),
            ({"to": ""}, set()),
            ({"room": []}, set()),
            ({"to": "a"}, {"ann"}),
            ({"room": "b"}, {"ann", "bob"}),
            ({"to": ["a", "b"]}, {"ann", "bob"}),
            ({"room": ("a", sid_of(ann))}, {"ann"}),
            ({"to": sid_of(cleo)}, {"cleo"}),
            ({"to": "nobody is here"}, set()),
            ({"skip_sid": sid_of(ann)}, {"bob", "cleo"}),
            ({"skip_sid": [sid_of(ann), sid_of(bob)]}, {"cleo"}),
            ({"to": "b", "skip_sid": [sid_of(ann)]}, {"bob"}),
            ({"skip_sid": []}, {"ann", "bob", "cleo"}),
            ({"namespace": "/other"}, set()),
        ]
        for number, (where, names) in enumerate(cases):
            assert await sio.emit("told", {"number": number}, **where) == len(names), where
        await here.fence(ann, bob, cleo)
        for number, (where, names) in enumerate(cases):
            for name, client in everyone.items():
                assert client.count("told", number=number) == (name in names), (where, name)


@pytest.mark.parametrize(
    ("data", "args"),
    [
        (None, []),
        ("text", ["text"]),
        ({"a": [1, None, 2.5, "ü"]}, [{"a": [1, None, 2.5, "ü"]}]),
        ([1, 2], [[1, 2]]),
        ((1, 2), [1, 2]),
        ((), []),
        (b"\x00\xff", [b"\x00\xff"]),
        ({"file": b"abc", "name": "x"}, [{"file": b"abc", "name": "x"}]),
        (0, [0]),
        (False, [False]),
    ],
)
@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.asyncio
async def test_data_arrives_as_it_was(data: Any, args: list[Any], transport: str) -> None:
    async with house(new_server()) as here:
        client = await here.client(transports=[transport])
        got: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        client.client.on("data", lambda *found: got.set_result(list(found)))
        await here.sio.emit("data", data)
        assert await within(got) == args


@pytest.mark.asyncio
async def test_send_is_the_event_message() -> None:
    async with house(new_server()) as here:
        client, other = await here.client(), await here.client()
        await here.sio.send({"text": "hello"}, to=sid_of(client))
        assert await client.until("message") == {"text": "hello"}
        await here.fence(other)
        assert other.count("message") == 0


@pytest.mark.asyncio
async def test_what_is_not_json_reaches_nobody_and_says_so() -> None:
    async with house(new_server()) as here:
        client = await here.client()
        with pytest.raises(UsageError, match="object"):
            await here.sio.emit("told", object())
        await here.fence(client)
        assert client.count("told") == 0


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.asyncio
async def test_emissions_keep_their_order(transport: str) -> None:
    async with house(new_server()) as here:
        client = await here.client(transports=[transport])
        for number in range(300):
            await here.sio.emit("count", {"n": number})
        await here.fence(client)
        assert [data["n"] for name, data in client.all if name == "count"] == list(range(300))


@pytest.mark.asyncio
async def test_emit_from_another_thread_and_loop() -> None:
    async with house(new_server()) as here:
        client = await here.client()
        reached: list[int] = []

        def elsewhere() -> None:
            reached.append(asyncio.run(here.sio.emit("told", {"from": "afar"})))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        assert await client.until("told") == {"from": "afar"}
        await asyncio.to_thread(thread.join, SECONDS)
        assert reached == [1]


# ── callbacks and call ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("returned", "args"), [(None, []), (7, [7]), ((1, 2), [1, 2]), ({"a": 1}, [{"a": 1}]), (b"x", [b"x"])]
)
@pytest.mark.asyncio
async def test_a_callback_gets_what_the_client_answers(returned: Any, args: list[Any]) -> None:
    async with house(new_server()) as here:
        client = await here.client()
        client.client.on("question", lambda *_: returned)
        got: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        await here.sio.emit("question", to=sid_of(client), callback=lambda *found: got.set_result(list(found)))
        assert await within(got) == args


@pytest.mark.asyncio
async def test_a_callback_may_be_a_coroutine_function_and_hears_every_member_of_a_room() -> None:
    async with house(new_server()) as here:
        names = ["ann", "bob"]
        clients = [await here.client() for _ in names]
        for client, name in zip(clients, names, strict=True):
            client.client.on("question", partial(lambda name, *_: name, name))
        heard: list[str] = []
        everybody = asyncio.Event()

        async def callback(name: str) -> None:
            heard.append(name)
            if len(heard) == len(names):
                everybody.set()

        await here.sio.emit("question", callback=callback)
        await within(everybody.wait())
        assert sorted(heard) == names


@pytest.mark.asyncio
async def test_call_returns_the_answer() -> None:
    async with house(new_server()) as here:
        client = await here.client()
        client.client.on("double", lambda number: number * 2)
        client.client.on("several", lambda: (1, 2))
        client.client.on("nothing", lambda: None)
        assert await here.sio.call("double", 21, to=sid_of(client), timeout=SECONDS) == 42
        assert await here.sio.call("double", 4, sid=sid_of(client), timeout=SECONDS) == 8
        assert list(await here.sio.call("several", to=sid_of(client), timeout=SECONDS)) == [1, 2]
        assert await here.sio.call("nothing", to=sid_of(client), timeout=SECONDS) is None


@pytest.mark.asyncio
async def test_call_from_a_handler_of_the_same_client() -> None:
    sio = new_server()

    @sio.event
    async def begin(sid: str) -> Any:
        return await sio.call("question", to=sid, timeout=SECONDS)

    async with house(sio) as here:
        client = await here.client()
        client.client.on("question", lambda: "answer")
        assert await client.call("begin") == "answer"


def unanswering(client: SocketIOClient) -> asyncio.Event:
    """The client hears ``question`` and does not answer, as long as it lives; the event tells that it was asked."""
    asked = asyncio.Event()

    async def question() -> None:
        asked.set()
        await asyncio.Event().wait()

    client.client.on("question", question)
    return asked


@pytest.mark.asyncio
async def test_call_times_out() -> None:
    async with house(new_server()) as here:
        client = await here.client()
        unanswering(client)
        with pytest.raises(StockTimeout) as caught:
            await here.sio.call("question", to=sid_of(client), timeout=0.05)
        assert not isinstance(caught.value, ClientGone)


@pytest.mark.asyncio
async def test_call_ends_at_once_when_the_client_leaves() -> None:
    async with house(new_server()) as here:
        async with socket_io(here.url, "/") as client:
            asked = unanswering(client)
            call = asyncio.create_task(here.sio.call("question", to=sid_of(client), timeout=60))
            await within(asked.wait())
            await here.sio.disconnect(sid_of(client))
            with pytest.raises(ClientGone):
                await within(call)
        with pytest.raises(ClientGone):
            await within(here.sio.call("question", to="nobody", timeout=60))


@pytest.mark.asyncio
async def test_call_refuses_what_python_socketio_refuses() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        await new_server().call("question")
    with pytest.raises(RuntimeError, match="async_handlers"):
        await new_server(async_handlers=False).call("question", to="sid")


# ── rooms ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_rooms() -> None:
    async with house(new_server(namespaces=["/", "/other"])) as here:
        sio, client = here.sio, await here.client("/other")
        sid = sid_of(client)
        assert sio.rooms(sid, namespace="/other") == [sid]
        await sio.enter_room(sid, "a", namespace="/other")
        await sio.enter_room(sid, "b", namespace="/other")
        await sio.enter_room(sid, "b", namespace="/other")
        assert sio.rooms(sid, namespace="/other") == [sid, "a", "b"]
        await sio.leave_room(sid, "a", namespace="/other")
        await sio.leave_room(sid, "never was there", namespace="/other")
        assert sio.rooms(sid, namespace="/other") == [sid, "b"]
        await sio.close_room("b", namespace="/other")
        assert sio.rooms(sid, namespace="/other") == [sid]
        assert await sio.emit("told", to="b", namespace="/other") == 0
        assert sio.rooms("nobody") == []


@pytest.mark.asyncio
async def test_rooms_that_cannot_be_entered() -> None:
    async with house(new_server()) as here:
        ann, bob = await here.client(), await here.client()
        with pytest.raises(ValueError, match="not connected"):
            await here.sio.enter_room("nobody", "a")
        with pytest.raises(ValueError, match="sid room"):
            await here.sio.enter_room(sid_of(ann), sid_of(bob))
        with pytest.raises(ValueError, match="sid room"):
            await here.sio.close_room(sid_of(bob))


# ── sessions, transport, environ, tasks ──────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_session_is_kept_for_the_client_alone() -> None:
    async with house(new_server()) as here:
        sio, ann, bob = here.sio, await here.client(), await here.client()
        assert await sio.get_session(sid_of(ann)) == {}
        await sio.save_session(sid_of(ann), {"user": "ann"})
        async with sio.session(sid_of(ann)) as session:
            session["visits"] = 1
        assert await sio.get_session(sid_of(ann)) == {"user": "ann", "visits": 1}
        assert await sio.get_session(sid_of(bob)) == {}
        for work in (sio.get_session("nobody"), sio.save_session("nobody", {})):
            with pytest.raises(KeyError):
                await work


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.asyncio
async def test_transport_and_environ(transport: str) -> None:
    async with house(new_server()) as here:
        client = await here.client(transports=[transport])
        assert here.sio.transport(sid_of(client)) == transport
        environ = here.sio.get_environ(sid_of(client))
        assert environ is not None
        assert environ["REMOTE_ADDR"] == "127.0.0.1"
        assert environ["PATH_INFO"] == "/socket.io/"
        assert f"transport={transport}" in environ["QUERY_STRING"]
        assert environ["HTTP_HOST"] in here.url
        assert environ["asgi.scope"]["client"][0] == "127.0.0.1"
        assert here.sio.get_environ("nobody") is None


@pytest.mark.parametrize(
    ("trusted", "address"), [((), "192.0.2.1"), (("192.0.2.0/24",), "198.51.100.7"), (("10.0.0.0/8",), "192.0.2.1")]
)
@pytest.mark.asyncio
async def test_the_address_is_the_clients_as_far_as_trusted_proxies_tell(
    trusted: tuple[str, ...], address: str
) -> None:
    sio = Server(settings=settings_for(trusted_proxies=list(trusted)))
    client = MemoryClient(sio, headers=[(b"x-forwarded-for", b"203.0.113.9, 198.51.100.7")])
    environ = sio.get_environ(await client.connect())
    assert environ is not None
    assert environ["REMOTE_ADDR"] == address


@pytest.mark.asyncio
async def test_after_an_upgrade_the_transport_is_websocket() -> None:
    async with house(new_server()) as here:
        client = await here.client()
        assert client.client.transport() == "websocket"
        assert here.sio.transport(sid_of(client)) == "websocket"


@pytest.mark.asyncio
async def test_background_tasks_and_sleep() -> None:
    sio = new_server()

    async def work(number: int, *, more: int) -> int:
        await sio.sleep(0)
        return number + more

    assert await within(sio.start_background_task(work, 1, more=2)) == 3


def test_instrument_says_that_it_is_not_there_yet() -> None:
    with pytest.raises(UsageError, match="not there yet"):
        new_server().instrument(auth=False)


def test_attach_says_what_to_write_instead() -> None:
    with pytest.raises(UsageError, match=r"write Realtime\(app\)"):
        new_server().attach(object())


# ── handlers ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("returned", "answer"), [(None, None), (7, 7), ((1, 2), (1, 2)), ([1, 2], [1, 2]), ({"a": 1}, {"a": 1})]
)
@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.asyncio
async def test_an_acknowledgement_is_what_the_handler_returns(returned: Any, answer: Any, is_async: bool) -> None:
    sio = new_server()

    async def asynchronous(sid: str, *args: Any) -> Any:
        return returned

    def plain(sid: str, *args: Any) -> Any:
        return returned

    sio.on("question", asynchronous if is_async else plain)
    async with house(sio) as here:
        client = await here.client()
        found = await client.call("question", ("a", "b"))
        assert (tuple(found) if isinstance(returned, tuple) else found) == answer


@pytest.mark.asyncio
async def test_arguments_arrive_as_the_client_sent_them() -> None:
    sio = new_server()
    got: list[Any] = []

    @sio.event
    async def told(sid: str, *args: Any) -> None:
        got.append(args)

    async with house(sio) as here:
        client = await here.client()
        for data in (None, 1, (1, "zwei"), [1], {"b": b"\x01\x02"}, ("x", b"y", {"z": [b"w"]})):
            await client.call("told", data)
    assert got == [(), (1,), (1, "zwei"), ([1],), ({"b": b"\x01\x02"},), ("x", b"y", {"z": [b"w"]})]


@pytest.mark.asyncio
async def test_an_event_that_nobody_handles_is_not_acknowledged() -> None:
    async with house(new_server()) as here:
        client = await here.client()
        with pytest.raises(StockTimeout):
            await client.client.call("unheard", timeout=0.1)
        assert client.all == []


@pytest.mark.asyncio
async def test_handlers_for_everything() -> None:
    sio = new_server(namespaces=["/", "/free", "/other"])
    got: list[Any] = []
    sio.on("named", lambda sid, data: got.append(("named", data)))
    sio.on("*", lambda event, sid, data: got.append(("any event", event, data)))
    sio.on("named", lambda namespace, sid, data: got.append(("any namespace", namespace, data)), namespace="*")
    sio.on("*", lambda event, namespace, sid, data: got.append(("anything", event, namespace, data)), namespace="*")
    sio.on("connect", lambda namespace, sid, environ: got.append(("connect", namespace)), namespace="*")
    async with house(sio) as here:
        root, other = await here.client(), await here.client("/other")
        await root.call("named", 1)
        await root.call("else", 2)
        await other.call("named", 3)
        await other.call("else", 4)
    assert got == [
        ("connect", "/"),
        ("connect", "/other"),
        ("named", 1),
        ("any event", "else", 2),
        ("any namespace", "/other", 3),
        ("anything", "else", "/other", 4),
    ]


class Rooms(socketio.AsyncNamespace):
    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self.log: list[Any] = []

    async def on_connect(self, sid: str, environ: Any) -> None:
        self.log.append("connect")
        await self.save_session(sid, {"seen": True})
        await self.enter_room(sid, "lobby")

    def on_disconnect(self, sid: str, reason: str) -> None:
        self.log.append(("disconnect", reason))

    async def on_say(self, sid: str, text: str) -> Any:
        await self.emit("said", {"text": text}, room="lobby")
        return [await self.get_session(sid), self.rooms(sid) == [sid, "lobby"]]

    @staticmethod
    def on_static(sid: str) -> str:
        return "static"


@pytest.mark.asyncio
async def test_a_class_namespace() -> None:
    sio, rooms = new_server(), Rooms("/rooms")
    sio.register_namespace(rooms)
    async with house(sio) as here:
        client = await here.client("/rooms")
        assert await client.call("say", "hello") == [{"seen": True}, True]
        assert await client.until("said") == {"text": "hello"}
        assert await client.call("static") == "static"
        await client.client.disconnect()
        await settle(here)
    assert rooms.log[0] == "connect"
    assert [name for name, _ in rooms.log[1:]] == ["disconnect"]


class CatchAll(socketio.AsyncNamespace):
    async def trigger_event(self, event: str, *args: Any) -> Any:
        return [event, len(args)]


@pytest.mark.asyncio
async def test_a_class_that_routes_by_itself_and_one_for_every_namespace() -> None:
    sio = new_server(namespaces="*")
    sio.register_namespace(CatchAll("*"))
    async with house(sio) as here:
        client = await here.client("/anything")
        assert await client.call("whatever", (1, 2)) == ["whatever", 4]


@pytest.mark.asyncio
async def test_async_handlers_overlap_and_without_them_events_take_their_turn() -> None:
    for overlaps in (True, False):
        sio = new_server(async_handlers=overlaps)
        gate, order = asyncio.Event(), []

        @sio.event
        async def slow(sid: str) -> None:
            order.append("slow begins")  # noqa: B023 - the handler lives as long as the loop's turn
            await within(gate.wait())  # noqa: B023
            order.append("slow ends")  # noqa: B023

        @sio.event
        async def quick(sid: str) -> None:
            order.append("quick")  # noqa: B023

        async with house(sio) as here:
            client = await here.client()
            slow_call = asyncio.create_task(client.call("slow"))
            while not order:
                await asyncio.wait_for(asyncio.shield(turn()), SECONDS)
            quick_call = asyncio.create_task(client.call("quick"))
            if overlaps:
                await within(quick_call)
            gate.set()
            await within(asyncio.gather(slow_call, quick_call))
        middle = ["quick", "slow ends"] if overlaps else ["slow ends", "quick"]
        assert order == ["slow begins", *middle]


@pytest.mark.asyncio
async def test_a_handler_that_raises_is_an_error_object_and_runs_once(caplog: pytest.LogCaptureFixture) -> None:
    sio, runs = new_server(), []

    @sio.event
    async def broken(sid: str, data: Any) -> None:
        runs.append(data)
        raise TypeError("the secret detail")

    async with house(sio) as here:
        client = await here.client()
        answer = await client.call("broken", 1)
        assert answer["error"]["code"] == "internal"
        assert "secret" not in json.dumps(answer)
        await client.emit("broken", 2)
        told = await client.until("error")
        assert told["error"]["code"] == "internal"
        assert told["error"]["details"]["incident"] in caplog.text
        await client.call("broken", 3)
    assert runs == [1, 2, 3]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("policy", "arrived"),
    [
        ("drop_newest", ["at 0", "at 1", "at 2"]),
        ("drop_oldest", ["at 0", "at 8", "at 9"]),
        ("latest_per_key", ["at 0", "at 9"]),
        ("disconnect", None),
    ],
)
async def test_what_a_slow_reader_misses_is_the_operators_choice(policy: Any, arrived: list[str] | None) -> None:
    server = Server(settings=settings_for(backlog_limit_messages=2, backlog_policy=policy))
    namespace = server.include(Namespace("/where"))
    client = MemoryClient(server)
    await client.connect("/where")
    client.wire.frames.clear()
    client.wire.read_on()
    client.wire.capacity = 1
    for number in range(10):
        await namespace.emit("moved", f"at {number}", key="ann")
    if arrived is None:
        assert client.wire.closed == (4430, "too slow to read")
        return
    client.wire.capacity = None
    client.wire.read_on()
    assert client.wire.frames == [f'42/where,["moved","{each}"]' for each in arrived]
    assert client.wire.closed is None
