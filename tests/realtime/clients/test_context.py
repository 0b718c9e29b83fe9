"""What a handler may do with its client."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from socketio.exceptions import TimeoutError as StockTimeout

from realtime import AccessError, ClientGone, Identity, InboxFull, Namespace, PayloadError, Server, Socket
from realtime.clients.context import check_room
from realtime.names import Reason
from realtime.testing import MemoryClient, MemoryWire, Refused
from tests.realtime.living import SECONDS, settings_for, within


class Work:
    """A server with one namespace, one client in it, and the client's Socket."""

    def __init__(self, **changes: Any) -> None:
        self.namespace = Namespace("/work")
        self.server = Server(settings=settings_for(**changes))
        self.server.include(self.namespace)
        self.goodbyes: list[str] = []
        self.namespace.hook("disconnected")(self._disconnected)

    async def _disconnected(self, reason: str) -> None:
        self.goodbyes.append(reason)

    async def client(self, **options: Any) -> tuple[MemoryClient, Socket]:
        client = MemoryClient(self.server, **options)
        sid = await client.connect("/work", {"token": "x"})
        (socket,) = self.namespace.sockets(sid)
        return client, socket


@pytest.mark.asyncio
async def test_what_a_socket_tells_of_its_client() -> None:
    work = Work()
    _, socket = await work.client(query="room=a&room=b", headers=[(b"x-request", b"7"), (b"cookie", b"who=ann")])
    assert socket.namespace == "/work"
    assert socket.connected
    assert socket.auth == {"token": "x"}
    assert socket.rooms == ()
    assert socket.connection.headers["x-request"] == "7"
    assert socket.connection.query_params.getlist("room") == ["a", "b"]
    assert socket.connection.cookies == {"who": "ann"}
    assert socket.connection.client is not None
    assert socket.connection.client.host == "192.0.2.1"
    assert socket.connection is socket.connection
    assert repr(socket) == f"<Socket {socket.sid} in /work over websocket>"
    socket.data["kept"] = 1
    assert await work.server.get_session(socket.sid, "/work") == {"kept": 1}
    await work.server.save_session(socket.sid, {"other": 2}, "/work")
    assert socket.data == {"other": 2}
    assert socket.wire == "websocket"


@pytest.mark.asyncio
async def test_a_socket_knows_when_its_client_is_gone() -> None:
    client, socket = await Work().client()
    client.wire.cut()
    assert not socket.connected
    assert socket.wire == "websocket"


@pytest.mark.asyncio
async def test_a_polling_client_says_so() -> None:
    _, socket = await Work().client(wire=MemoryWire("polling"))
    assert socket.wire == "polling"


@pytest.mark.asyncio
async def test_emit_is_for_this_client_alone() -> None:
    work = Work()
    one, socket = await work.client()
    other, _ = await work.client()
    await socket.emit("told", {"n": 1})
    await socket.emit("told", (1, 2), volatile=True)
    assert await one.event("/work", "told") == {"n": 1}
    assert await one.event("/work", "told") == [1, 2]
    assert not any("told" in str(frame) for frame in other.wire.frames)


@pytest.mark.parametrize("async_handlers", [True, False])
@pytest.mark.asyncio
async def test_call_waits_for_the_answer_whatever_the_handlers_do(async_handlers: bool) -> None:
    work = Work()
    work.server.async_handlers = async_handlers

    @work.namespace.event
    async def begin(socket: Socket) -> Any:
        return await socket.call("question", {"n": 1}, timeout=SECONDS)

    client, _ = await work.client()
    client.emit("/work", "begin", id=1)
    assert await client.event("/work", "question") == {"n": 1}
    client.send("3", "/work", 1, '["answer"]')
    _, data = await client._until("/work", "31")
    assert data == ["answer"]


@pytest.mark.asyncio
async def test_call_ends_with_the_client_or_with_its_time() -> None:
    client, socket = await Work().client()
    with pytest.raises(StockTimeout):
        await socket.call("question", timeout=0.01)
    call = asyncio.ensure_future(socket.call("question", timeout=60))
    await client.event("/work", "question")
    await client.event("/work", "question")
    client.wire.cut()
    with pytest.raises(ClientGone):
        await within(call)
    with pytest.raises(ClientGone):
        await within(socket.call("question", timeout=60))


@pytest.mark.asyncio
async def test_a_handler_that_waits_behind_the_full_inbox_of_its_own_client_fails_at_once() -> None:
    work = Work(inbox_limit_events=4)

    @work.namespace.event
    async def begin(socket: Socket) -> Any:
        return await socket.call("question", timeout=60)

    @work.namespace.event
    async def quick(n: int) -> int:
        return n

    client, _ = await work.client()
    client.emit("/work", "begin", id=1)
    await client.event("/work", "question")
    for number in range(4):
        client.emit("/work", "quick", number, id=10 + number)
    _, (answer,) = await client._until("/work", "31")
    assert answer["error"]["code"] == "inbox_full"
    _, data = await client._until("/work", "313")
    assert data == [3], "and all the others are served"
    client.send("3", "/work", 1, '["late"]')
    client.emit("/work", "quick", 5, id=5)
    _, data = await client._until("/work", "35")
    assert data == [5]
    assert work.server.metrics.drops.value("stray_ack") == 0


@pytest.mark.asyncio
async def test_a_client_that_is_not_read_from_is_not_asked_at_all() -> None:
    work = Work(inbox_limit_events=4)
    gate = asyncio.Event()

    @work.namespace.event
    async def wait() -> None:
        await gate.wait()

    client, socket = await work.client()
    answers: list[Any] = []
    waiting = asyncio.ensure_future(socket.call("question", "first", timeout=60))
    assert await client.event("/work", "question") == "first"
    for _ in range(5):
        client.emit("/work", "wait")
    with pytest.raises(InboxFull):
        await within(waiting)
    with pytest.raises(InboxFull):
        await within(socket.call("question", "second", timeout=60))
    await work.server.emit("question", "third", to=socket.sid, namespace="/work", callback=answers.append)
    assert await client.event("/work", "question") == "third", "who gave a callback waits, and the second was not sent"
    gate.set()
    await within(work.server.application.rest(SECONDS))
    client.send("3", "/work", 2, '["yes"]')
    assert answers == ["yes"]
    again = asyncio.ensure_future(socket.call("question", "fourth", timeout=60))
    assert await client.event("/work", "question") == "fourth"
    client.send("3", "/work", 3, '["served"]')
    assert await within(again) == "served"


@pytest.mark.asyncio
async def test_a_call_to_a_room_fails_when_none_of_its_clients_is_left_to_answer() -> None:
    work = Work(inbox_limit_events=4)
    gate = asyncio.Event()

    @work.namespace.event
    async def wait() -> None:
        await gate.wait()

    clients = [await work.client() for _ in range(3)]
    for _, socket in clients:
        socket.enter("room")
    calls = [
        asyncio.ensure_future(work.server.call("question", to="room", namespace="/work", timeout=60)) for _ in range(2)
    ]
    for client, _ in clients:
        await client.event("/work", "question")
        await client.event("/work", "question")
    clients[0][0].wire.cut()
    for _ in range(5):
        clients[1][0].emit("/work", "wait")
    clients[2][0].send("3", "/work", 1, '["here I am"]')
    assert await within(calls[0]) == "here I am"
    clients[2][0].wire.cut()
    with pytest.raises(ClientGone):
        await within(calls[1])
    with pytest.raises(InboxFull):
        await within(work.server.call("question", to="room", namespace="/work", timeout=60))
    gate.set()


@pytest.mark.asyncio
async def test_enter_asks_no_rule_and_leaves_nobody_behind() -> None:
    work = Work(rooms_per_connection=1)
    client, socket = await work.client()
    _, other = await work.client()
    assert socket.enter("user:ann") is True
    assert socket.enter("user:ann") is False
    assert socket.enter("@ann:bob") is True
    assert set(socket.rooms) == {"user:ann", "@ann:bob"}
    with pytest.raises(ValueError, match="sid room"):
        socket.enter(other.sid)
    client.wire.cut()
    assert socket.enter("late") is False
    assert work.server.hub.select("/work", "late") == []


@pytest.mark.asyncio
async def test_two_joins_at_once_are_one() -> None:
    work, gate = Work(rooms_per_connection=1), asyncio.Event()
    joined: list[str] = []

    @work.namespace.hook("may_join")
    async def may_join(room: str) -> None:
        await within(gate.wait())

    work.namespace.hook("joined")(_record(joined))
    _, socket = await work.client()
    both = asyncio.gather(socket.join("a"), socket.join("a"))
    gate.set()
    await within(both)
    assert joined == ["a"]


def _record(log: list[str]) -> Any:
    async def joined(room: str) -> None:
        log.append(room)

    return joined


@pytest.mark.asyncio
async def test_a_client_that_leaves_before_the_rule_has_spoken_has_not_joined() -> None:
    work, gate = Work(), asyncio.Event()
    joined: list[str] = []

    @work.namespace.hook("may_join")
    async def may_join(room: str) -> None:
        await within(gate.wait())

    work.namespace.hook("joined")(_record(joined))
    client, socket = await work.client()
    join = asyncio.ensure_future(socket.join("a"))
    client.wire.cut()
    gate.set()
    await within(join)
    assert joined == []
    assert work.server.hub.namespaces == {}


@pytest.mark.asyncio
async def test_disconnect_ends_the_membership_with_its_reason() -> None:
    work = Work()
    client, socket = await work.client()
    await socket.disconnect()
    await socket.disconnect(Reason.REPLACED)
    assert client.wire.frames[-1] == "41/work,"
    assert client.wire.closed is None, "other namespaces live on"
    await within(work.server.application.rest(SECONDS))
    assert work.goodbyes == [Reason.SERVER]


@pytest.mark.asyncio
async def test_disconnect_while_authorising_refuses() -> None:
    work = Work()

    @work.namespace.hook("authorize")
    async def authorize(socket: Socket) -> None:
        await socket.disconnect()

    with pytest.raises(Refused) as caught:
        await work.client()
    assert caught.value.data["data"]["code"] == "refused"
    assert work.goodbyes == []
    assert work.server.hub.namespaces == {}


@pytest.mark.asyncio
async def test_a_token_that_runs_out_ends_the_connection() -> None:
    work = Work(jwt_leeway_seconds=0)
    client, socket = await work.client()
    socket.user = Identity("ann", expires_at=time.time() + 3600)
    socket.user = Identity("ann", expires_at=time.time() + 0.05)
    assert (await client.event("/work", "token_expired"))["message"]
    await within(work.server.application.rest(SECONDS))
    assert work.goodbyes == [Reason.EXPIRED]
    assert not socket.connected


@pytest.mark.asyncio
async def test_a_later_token_takes_the_place_of_an_earlier_one() -> None:
    work = Work(jwt_leeway_seconds=0)
    client, socket = await work.client()
    socket.user = Identity("ann", expires_at=time.time() + 0.02)
    socket.user = Identity("ann", expires_at=time.time() + 3600)
    deadlines = work.server.core.deadlines(asyncio.get_running_loop())
    deadlines.run(asyncio.get_running_loop().time() + 10)
    assert socket.connected
    socket.user = Identity("ann")
    deadlines.run(asyncio.get_running_loop().time() + 19)
    assert socket.connected
    assert client.wire.closed is None


@pytest.mark.asyncio
async def test_a_handler_in_a_thread_touches_only_what_it_may() -> None:
    """A handler without ``async`` runs in a thread; timers and sessions are the loop's."""
    work, threads = Work(jwt_leeway_seconds=0), []

    @work.namespace.event
    def refresh(socket: Socket) -> bool:
        threads.append(threading.current_thread() is threading.main_thread())
        socket.user = Identity("ann", expires_at=time.time() + 0.05)
        return socket.enter("hall")

    client, socket = await work.client()
    assert await client.call("/work", "refresh") is True
    assert threads == [False]
    assert socket.rooms == ("hall",)
    await client.event("/work", "token_expired")


def room_problem(room: Any) -> str | None:
    try:
        check_room(room)
    except (PayloadError, AccessError) as error:
        return error.code
    return None


@pytest.mark.parametrize("room", [7, None, "", " a", "a\u200b", "a" * 129, "\x00"])
def test_a_bad_room_name(room: Any) -> None:
    with pytest.raises(PayloadError, match="room"):
        check_room(room)


@pytest.mark.parametrize("room", ["@alice:bob", "@", "user:alice"])
def test_a_room_of_the_system(room: str) -> None:
    assert room_problem(room) == "system_room"


@pytest.mark.parametrize("room", ["lobby", "Küche 7", "a" * 128, "{x}*[1]?", "..", "users"])
def test_a_good_room_name(room: str) -> None:
    assert room_problem(room) is None
