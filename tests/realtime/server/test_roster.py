"""Client managers: one node, and several over a bus that is only a list of queues."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import socketio

from realtime import ClientGone, LimitError, Metrics, OutsideError, Server, UsageError
from realtime.names import Reason
from realtime.server.roster import QUESTIONS_LIMIT, BusManager, LocalManager, adopt, is_alone, skipped
from realtime.testing import MemoryClient
from tests.realtime.living import SECONDS, settings_for, within


class Air:
    """Every message to everybody who listens, its sender included."""

    def __init__(self) -> None:
        self.ears: list[asyncio.Queue[bytes]] = []
        self.said: list[dict[str, Any]] = []
        self.fails: Exception | None = None
        self.heard = asyncio.Event()

    async def publish(self, message: bytes) -> None:
        if self.fails is not None:
            raise self.fails
        self.said.append(json.loads(message))
        for ear in self.ears:
            ear.put_nowait(message)

    async def listen(self) -> AsyncIterator[bytes]:
        ear: asyncio.Queue[bytes] = asyncio.Queue()
        self.ears.append(ear)
        self.heard.set()
        while True:
            yield await ear.get()

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class Node:
    def __init__(self, air: Air) -> None:
        self.metrics = Metrics()
        self.manager = BusManager(air, self.metrics)
        self.server = Server(self.manager, settings=settings_for(), metrics=self.metrics, namespaces=["/", "/x"])

    async def client(self, namespace: str = "/") -> tuple[MemoryClient, str]:
        client = MemoryClient(self.server)
        return client, await client.connect(namespace)


@asynccontextmanager
async def nodes(count: int) -> AsyncIterator[tuple[Air, list[Node]]]:
    air = Air()
    made = [Node(air) for _ in range(count)]
    for node in made:
        node.server._initialize()
    async with asyncio.timeout(SECONDS):
        while len(air.ears) < count:
            air.heard.clear()
            await air.heard.wait()
    try:
        yield air, made
    finally:
        for node in made:
            await within(node.manager.stop())
            await within(node.manager.stop())


# ── emissions ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "data",
    [None, "text", {"a": [1, None]}, (1, "zwei"), (None, 1), ([1],), b"\x00", {"file": b"abc", "more": [b"d"]}, ()],
)
@pytest.mark.asyncio
async def test_an_emission_reaches_every_node_as_it_was(data: Any) -> None:
    async with nodes(2) as (_, (one, other)):
        clients = [(await node.client())[0] for node in (one, other)]
        assert await one.server.emit("told", data) == 1, "those of this instance"
        await one.server.emit("fence", 1)
        for client in clients:
            await client.event("/", "fence")
        frames = [[frame for frame in client.wire.frames[2:] if "fence" not in str(frame)] for client in clients]
        assert frames[0] == frames[1]
        assert frames[0], "something was said"


@pytest.mark.asyncio
async def test_rooms_and_exceptions_hold_on_every_node() -> None:
    async with nodes(2) as (_, (one, other)):
        ann, ann_sid = await one.client()
        bob, bob_sid = await other.client()
        await other.server.enter_room(bob_sid, "lobby")
        cases: list[dict[str, Any]] = [
            {"to": "lobby"},
            {"to": ["lobby", ann_sid]},
            {"to": ("lobby",), "skip_sid": [bob_sid]},
            {"skip_sid": bob_sid},
            {"to": []},
            {"to": ""},
            {"to": bob_sid},
        ]
        for number, where in enumerate(cases):
            await one.server.emit("told", number, **where)
        await one.server.emit("fence", 1)
        for client, numbers in ((ann, [1, 3]), (bob, [0, 1, 6])):
            await client.event("/", "fence")
            assert [args[1] for _, args in client.events if args[0] == "told"] == numbers


@pytest.mark.asyncio
async def test_what_is_for_a_client_of_this_node_is_not_for_the_bus() -> None:
    async with nodes(1) as (air, (node,)):
        client, sid = await node.client()
        await node.server.emit("told", 1, to=sid)
        await node.server.emit("told", 2, ignore_queue=True)
        await client.event("/", "told")
        await client.event("/", "told")
        assert air.said == []


@pytest.mark.asyncio
async def test_what_may_be_dropped_is_the_same_everywhere() -> None:
    async with nodes(2) as (_, (one, other)):
        await other.client()
        seen: asyncio.Queue[tuple[str, bool, str | None]] = asyncio.Queue()
        deliver = other.server.hub.deliver

        def watch(namespace: str, event: str, *args: Any, **options: Any) -> int:
            seen.put_nowait((event, options["volatile"], options["key"]))
            return deliver(namespace, event, *args, **options)

        other.server.hub.deliver = watch  # type: ignore[method-assign]
        await one.server.emit("typing", 1, volatile=True)
        await one.server.emit("moved", 1, key="ann")
        await one.server.emit("message", 1)
        expected = [("typing", True, None), ("moved", False, "ann"), ("message", False, None)]
        assert [await within(seen.get()) for _ in range(3)] == expected


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"event": "disconnect"}, "event"),
        ({"event": None}, "event"),
        ({"data": None}, "data"),
        ({"binary": True, "data": ["x", "no base64!"]}, "data"),
        ({"room": {"a": 1}}, "room"),
        ({"namespace": 7}, "namespace"),
        ({"skip_sid": [7]}, "skip_sid"),
    ],
    ids=str,
)
@pytest.mark.asyncio
async def test_what_python_socketio_does_not_write_is_refused_and_counted(
    changes: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with nodes(1) as (air, (node,)):
        client, _ = await node.client()
        message = {"method": "emit", "event": "told", "data": [1], "namespace": "/", "host_id": "another"}
        await air.publish(json.dumps(message | changes).encode())
        await air.publish(json.dumps(message).encode())
        assert await client.event("/", "told") == 1
        assert len([args for _, args in client.events if args[0] == "told"]) == 1
        assert node.metrics.bus_refused.value(reason) == 1
        assert not caplog.records


# ── questions ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_client_of_another_node_answers() -> None:
    async with nodes(2) as (_, (one, other)):
        client, sid = await other.client()
        call = asyncio.ensure_future(one.server.call("question", 1, to=sid, timeout=SECONDS))
        assert await client.event("/", "question") == 1
        client.wire.say('431["answer"]')
        assert await within(call) == "answer"
        assert one.manager._asked == {}


@pytest.mark.asyncio
async def test_a_client_of_this_node_that_leaves_ends_the_call_at_once() -> None:
    async with nodes(1) as (_, (node,)):
        client, sid = await node.client()
        call = asyncio.ensure_future(node.server.call("question", to=sid, timeout=60))
        await client.event("/", "question")
        client.wire.cut()
        with pytest.raises(ClientGone):
            await within(call)


@pytest.mark.asyncio
async def test_the_first_answer_of_a_room_counts() -> None:
    async with nodes(1) as (_, (node,)):
        answers: list[Any] = []
        clients = [await node.client() for _ in range(2)]
        for _, sid in clients:
            await node.server.enter_room(sid, "lobby")
        await node.server.emit("question", to="lobby", callback=answers.append)
        for client, _ in clients:
            await client.event("/", "question")
            client.wire.say("431[7]")
        await within(node.server.application.rest(SECONDS))
        assert answers == [7]
        assert node.metrics.drops.value("stray_ack") == 1


@pytest.mark.asyncio
async def test_questions_are_bounded() -> None:
    async with nodes(1) as (_, (node,)):
        answers: list[Any] = []
        for number in range(QUESTIONS_LIMIT + 5):
            node.manager._ask("room", "/", lambda number=number: answers.append(number))
        assert len(node.manager._asked) == QUESTIONS_LIMIT
        assert node.metrics.drops.value("callback") == 5
        await node.manager.trigger_callback("room", 1, [])
        await node.manager.trigger_callback("room", 6, [])
        await node.manager.trigger_callback("room", "6", [])
        assert answers == [5]


@pytest.mark.asyncio
async def test_questions_that_python_socketio_refuses() -> None:
    async with nodes(1) as (_, (node,)):
        with pytest.raises(ValueError, match="without a room"):
            await node.server.emit("question", callback=print)
    alone = BusManager(Air(), Metrics())
    with pytest.raises(RuntimeError, match="context of a server"):
        await alone.emit("question", None, room="lobby", callback=print)


# ── clients of other nodes ───────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_rooms_and_ends_of_clients_of_another_node() -> None:
    async with nodes(2) as (_, (one, other)):
        client, sid = await other.client()
        reasons: list[str] = []
        other.server.on("disconnect", lambda sid, reason: reasons.append(reason))
        await one.server.enter_room(sid, "lobby")
        await one.server.emit("told", 1, to="lobby")
        assert await client.event("/", "told") == 1
        await one.server.leave_room(sid, "lobby")
        await one.server.emit("told", 2, to="lobby")
        await one.server.emit("fence", 1)
        await client.event("/", "fence")
        assert [args[1] for _, args in client.events if args[0] == "told"] == [1]
        await one.server.enter_room(sid, "lobby")
        await one.server.close_room("lobby")
        await one.server.emit("told", 3, to="lobby")
        await one.server.disconnect(sid)
        await client._until("/", "1")
        await within(other.server.application.rest(SECONDS))
        assert [args[1] for _, args in client.events if args[0] == "told"] == [1]
        assert reasons == [Reason.SERVER]


@pytest.mark.asyncio
async def test_a_connect_handler_may_enter_rooms_on_a_node_among_others() -> None:
    async with nodes(2) as (air, (one, _)):

        @one.server.event
        async def connect(sid: str, environ: Any) -> None:
            await one.server.enter_room(sid, "lobby")
            await one.server.emit("hello", to="lobby")

        client, sid = await one.client()
        await client.event("/", "hello")
        assert one.server.rooms(sid) == [sid, "lobby"]
        assert [message["method"] for message in air.said] == ["emit"]


@pytest.mark.asyncio
async def test_disconnecting_a_room_on_every_node() -> None:
    async with nodes(2) as (_, made):
        clients = []
        for node in made:
            client, sid = await node.client()
            await node.server.enter_room(sid, "lobby")
            clients.append(client)
        await made[0].server.disconnect_room("/", "lobby", Reason.REPLACED)
        for client in clients:
            await client._until("/", "1")
        for node in made:
            await within(node.server.application.rest(SECONDS))
            assert len(node.server.core.sessions) == 1, "the connection may take another namespace"
            assert "/" not in node.server.hub.namespaces


# ── trouble ──────────────────────────────────────────────────────────────────────────────────────


async def _tried(node: Node) -> None:
    """What was sent while the bus was away has arrived, or not."""
    if node.manager._trying is not None:
        await within(node.manager._trying)


@pytest.mark.parametrize("error", [OutsideError("away"), LimitError("too long")])
@pytest.mark.asyncio
async def test_a_bus_that_is_away_is_counted_and_said_once(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async with nodes(1) as (air, (node,)):
        client, _ = await node.client()
        air.fails = error
        for number in range(3):
            assert await node.server.emit("told", number) == 1
            assert await client.event("/", "told") == number
        await _tried(node)
        assert node.metrics.drops.value("bus") == 3
        assert caplog.text.count("does not take messages") == 1
        air.fails = None
        await node.server.emit("told", 4)
        await _tried(node)
        air.fails = error
        await node.server.emit("told", 5)
        assert caplog.text.count("does not take messages") == 2


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\xfe",
        b"not json",
        b'"method"',
        b"[1]",
        b"7",
        b"null",
        b"[" * 100_000,
        b"{}",
        b'{"method": "explode"}',
        b'{"method": "emit"}',
        b'{"method": "emit", "event": "told", "data": [1], "binary": true}',
        b'{"method": "emit", "event": "told", "data": 1, "room": {"a": 1}}',
        b'{"method": "emit", "event": "told", "data": [1], "callback": 7}',
        b'{"method": "callback", "host_id": "x"}',
        b'{"method": "disconnect"}',
        b'{"method": "disconnect", "sid": ["a"]}',
        b'{"method": "enter_room", "sid": "nobody", "room": "a"}',
        b'{"method": "close_room"}',
    ],
)
@pytest.mark.asyncio
async def test_whatever_comes_over_the_bus_the_next_message_is_heard(message: bytes) -> None:
    async with nodes(2) as (air, (one, other)):
        client, _ = await other.client()
        for ear in air.ears:
            ear.put_nowait(message)
        await one.server.emit("told", "after")
        while await client.event("/", "told") != "after":
            pass
        assert one.manager.thread is not None
        assert not one.manager.thread.done()


# ── adopting ─────────────────────────────────────────────────────────────────────────────────────


class Stock(socketio.AsyncManager):
    """Somebody's own manager."""

    async def emit(self, event: str, *args: Any, **options: Any) -> Any:
        return await super().emit(event.upper(), *args, **options)


@pytest.mark.parametrize("manager", [None, socketio.AsyncManager(), Stock()])
@pytest.mark.asyncio
async def test_python_socketios_managers_get_our_index(manager: Any) -> None:
    server = Server(manager, settings=settings_for())
    assert isinstance(server.manager, LocalManager)
    assert is_alone(server.manager)
    client = MemoryClient(server)
    sid = await client.connect()
    assert await server.emit("told", 1, to=[sid]) == 1
    name = "TOLD" if isinstance(manager, Stock) else "told"
    assert await client.event("/", name) == 1
    assert list(server.manager.get_namespaces()) == ["/"]
    eio_sid = server.manager.eio_sid_from_sid(sid, "/")
    assert eio_sid is not None
    assert list(server.manager.get_participants("/", None)) == [(sid, eio_sid)]
    assert server.manager.sid_from_eio_sid(eio_sid, "/") == sid
    assert server.manager.eio_sid_from_sid("nobody", "/") is None
    assert server.manager.sid_from_eio_sid("nobody", "/") is None
    assert server.manager.is_connected(sid, "/")
    assert not server.manager.is_pre_connected(sid, "/")


@pytest.mark.parametrize("manager", [socketio.Manager(), object(), "redis://"])
def test_what_is_no_asyncio_manager_is_refused(manager: Any) -> None:
    with pytest.raises(UsageError, match="asyncio client manager"):
        adopt(manager, Server(settings=settings_for()).hub)


@pytest.mark.parametrize(
    ("given", "found"),
    [(None, ()), ("a", ("a",)), (["a", "b"], ("a", "b")), ([None], ()), ([], ()), (("a", None), ("a",))],
)
def test_skipped(given: Any, found: tuple[str, ...]) -> None:
    assert skipped(given) == found


@pytest.mark.asyncio
async def test_nobody_waits_for_a_bus_that_does_not_take_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried with one message at a time, and the rest is counted."""
    air, gate = Air(), asyncio.Event()
    take = air.publish
    asked = 0

    async def slow(message: bytes) -> None:
        nonlocal asked
        asked += 1
        await gate.wait()
        await take(message)

    monkeypatch.setattr(air, "publish", slow)
    monkeypatch.setattr("realtime.server.roster.PUBLISH_SECONDS", 0.05)
    node = Node(air)
    for _ in range(10):
        emitted = await within(node.server.emit("hello"))
        assert emitted.bus == "away"
    assert asked == 2
    assert node.metrics.drops.value("bus") == 9
    gate.set()
    assert node.manager._trying is not None
    await within(node.manager._trying)
    assert (await node.server.emit("again")).bus == "up"
    await node.manager.stop()
