"""What the application keeps count of: quotas, waiting callers, handlers at the end."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from fastapi import Depends, HTTPException
from pydantic import BaseModel

from realtime import Identity, Namespace, Server, Socket
from realtime.testing import MemoryClient, Refused
from tests.realtime.living import SECONDS, settings_for, within


def secure(server: Server) -> Namespace:
    namespace = Namespace("/secure")

    @namespace.hook("authorize")
    async def authorize(auth: dict[str, str]) -> Identity:
        return Identity(auth["user"])

    @namespace.event
    async def become(socket: Socket, user: str) -> None:
        socket.user = Identity(user)

    server.include(namespace)
    return namespace


async def enter(server: Server, user: str) -> MemoryClient:
    client = MemoryClient(server)
    await client.connect("/secure", {"user": user})
    return client


@pytest.mark.asyncio
async def test_connections_of_one_user_are_counted_and_given_back_to_whom_they_were_counted_for() -> None:
    server = Server(settings=settings_for(connections_per_user=2))
    secure(server)
    first, second = await enter(server, "ann"), await enter(server, "ann")
    with pytest.raises(Refused) as caught:
        await enter(server, "ann")
    assert caught.value.data["data"]["code"] == "too_many_connections"
    await enter(server, "bob")
    await first.call("/secure", "become", "cleo")
    first.wire.cut()
    second.disconnect("/secure")
    await within(server.application.rest(SECONDS))
    assert list(server.application._counted.values()) == ["user:bob"]
    await enter(server, "ann")
    await enter(server, "ann")


@pytest.mark.asyncio
async def test_a_client_that_left_while_it_was_authorised_costs_nothing() -> None:
    server = Server(settings=settings_for(connections_per_user=1))
    begun, gate = asyncio.Event(), asyncio.Event()
    namespace = Namespace("/secure")

    @namespace.hook("authorize")
    async def authorize() -> Identity:
        begun.set()
        await within(gate.wait())
        return Identity("ann")

    server.include(namespace)
    client = MemoryClient(server)
    client.send("0", "/secure", None, "")
    await within(begun.wait())
    client.wire.cut()
    gate.set()
    await within(server.application.rest(SECONDS))
    assert len(server.application._quota) == 0
    assert server.application._counted == {}


@pytest.mark.asyncio
async def test_several_callers_may_wait_for_one_end() -> None:
    server, gate = Server(settings=settings_for()), asyncio.Event()

    @server.event
    async def disconnect(sid: str, reason: str) -> None:
        await within(gate.wait())

    client = MemoryClient(server)
    sid = await client.connect()
    first = asyncio.ensure_future(server.disconnect(sid))
    second = asyncio.ensure_future(server.disconnect(sid))
    await within(second)
    member = server.hub.find(sid, "/")
    assert member is not None
    assert not first.done()
    third = asyncio.ensure_future(server.application.settled(member))
    gate.set()
    await within(asyncio.gather(first, third))
    await within(server.application.settled(member))
    assert server.application._ending == {}


@pytest.mark.asyncio
async def test_a_caller_that_gives_up_does_not_stop_the_hook() -> None:
    server, gate, ended = Server(settings=settings_for()), asyncio.Event(), asyncio.Event()

    @server.event
    async def disconnect(sid: str, reason: str) -> None:
        await within(gate.wait())
        ended.set()

    client = MemoryClient(server)
    sid = await client.connect()
    caller = asyncio.ensure_future(server.disconnect(sid))
    await client._until("/", "1")
    caller.cancel()
    gate.set()
    await within(ended.wait())
    with pytest.raises(asyncio.CancelledError):
        await caller


@pytest.mark.asyncio
async def test_a_disconnect_hook_that_raises_is_logged_and_nothing_stays(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(settings=settings_for())

    @server.event
    async def disconnect(sid: str, reason: str) -> None:
        raise RuntimeError("the hook broke")

    client = MemoryClient(server)
    sid = await client.connect()
    await within(server.disconnect(sid))
    assert "the hook broke" in caplog.text
    assert server.hub._leaving == {}


@pytest.mark.asyncio
async def test_an_answer_that_cannot_be_said_is_an_error_object(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(settings=settings_for())
    server.on("odd", lambda sid: object())
    client = MemoryClient(server)
    await client.connect()
    assert (await client.call("/", "odd"))["error"]["code"] == "internal"
    assert "odd of / failed" in caplog.text


@pytest.mark.asyncio
async def test_a_greeting_that_fails_is_told_and_the_client_stays() -> None:
    server, namespace = Server(settings=settings_for()), Namespace("/work")

    @namespace.hook("connected")
    async def connected() -> None:
        raise RuntimeError("the secret detail")

    @namespace.event
    async def ping() -> str:
        return "pong"

    server.include(namespace)
    client = MemoryClient(server)
    await client.connect("/work")
    told: Any = await client.event("/work", "error")
    assert told["error"]["code"] == "internal"
    assert await client.call("/work", "ping") == "pong"


@pytest.mark.asyncio
async def test_the_rest_is_waited_for_and_no_longer() -> None:
    server, gate, begun, done = Server(settings=settings_for()), asyncio.Event(), asyncio.Event(), asyncio.Event()

    @server.event
    async def slow(sid: str) -> None:
        begun.set()
        await within(gate.wait())
        done.set()

    client = MemoryClient(server)
    await client.connect()
    client.emit("/", "slow")
    await within(begun.wait())
    await within(server.application.rest(0.01))
    assert not done.is_set()
    rest = asyncio.ensure_future(server.application.rest(60))
    gate.set()
    await within(rest)
    assert done.is_set()


@pytest.mark.asyncio
async def test_a_handler_of_one_argument_answers_and_refuses_as_any_other() -> None:
    """It is begun without the machinery that a dependency needs."""
    server = Server(settings=settings_for())
    namespace = Namespace("/secure")

    class Room(BaseModel):
        name: str
        size: int = 1

    @namespace.event
    async def make(room: Room) -> Room:
        if room.name == "taken":
            raise HTTPException(409, "Taken")
        return room

    @namespace.event
    def make_in_a_thread(room: Room) -> Room:
        return room

    @namespace.event
    async def make_with_help(room: Room, size: Annotated[int, Depends(lambda: 2)]) -> Room:
        if room.name == "taken":
            raise HTTPException(409, "Taken")
        return room

    server.include(namespace)
    assert namespace.events["make"].plan.begin is not None
    assert namespace.events["make_with_help"].plan.begin is None
    client = await enter_as_guest(server)
    for name in ("make", "make_in_a_thread", "make_with_help"):
        assert await client.call("/secure", name, {"name": "free"}) == {"name": "free", "size": 1}
        wrong: list[list[dict[str, str]]] = [[{}], [{"name": "a", "size": "x"}], [{}, {}], []]
        for payload in wrong:
            assert (await client.call("/secure", name, *payload))["error"]["code"] == "invalid_payload"
        if name != "make_in_a_thread":
            refused = await client.call("/secure", name, {"name": "taken"})
            assert refused == {"error": {"code": "http_409", "message": "Taken"}}


async def enter_as_guest(server: Server) -> MemoryClient:
    client = MemoryClient(server)
    await client.connect("/secure")
    return client


@pytest.mark.asyncio
async def test_a_client_that_leaves_during_a_call_is_no_fault_of_the_handler(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(settings=settings_for())
    namespace = server.include(Namespace("/secure"))
    asked = asyncio.Event()

    @namespace.event
    async def relay(socket: Socket, sid: str) -> None:
        [other] = [each for each in namespace.sockets() if each.sid == sid]
        asked.set()
        await other.call("question")

    one, other = MemoryClient(server), MemoryClient(server)
    await one.connect("/secure")
    sid = await other.connect("/secure")
    answer = asyncio.ensure_future(one.call("/secure", "relay", sid))
    await within(asked.wait())
    other.wire.cut()
    assert await within(answer) == {"error": {"code": "client_gone", "message": "The client left before it answered"}}
    assert "Traceback" not in caplog.text


@pytest.mark.asyncio
@pytest.mark.parametrize("style", ["typed", "classic"])
async def test_a_handler_that_waited_for_something_cancelled_has_failed_and_no_more(style: str) -> None:
    server = Server(settings=settings_for(), async_handlers=False)
    waited: list[asyncio.Future[None]] = []
    seen: list[Any] = []

    async def wait() -> None:
        waited.append(asyncio.get_running_loop().create_future())
        await waited[-1]

    if style == "typed":
        namespace = server.include(Namespace("/x"))
        namespace.event("wait")(wait)
        namespace.event("note")(lambda number: seen.append(number))
        namespace.hook("disconnected")(lambda: seen.append("gone"))
    else:
        server.on("wait", lambda sid: wait(), "/x")
        server.on("note", lambda sid, number: seen.append(number), "/x")
        server.on("disconnect", lambda sid: seen.append("gone"), "/x")
    client = MemoryClient(server)
    await client.connect("/x")
    first = asyncio.ensure_future(client.call("/x", "wait"))
    second = asyncio.ensure_future(client.call("/x", "note", 1))
    while not waited:
        await asyncio.wait({first}, timeout=0)
    waited[0].cancel()
    assert (await within(first))["error"]["code"] == "internal"
    await within(second)
    assert seen == [1]
    client.send("2", "/x", None, '["wait"]')
    while len(waited) < 2:
        await asyncio.wait({first}, timeout=0)
    client.wire.cut()
    waited[1].cancel()
    await within(server.application.rest(SECONDS))
    assert seen == [1, "gone"]
    assert not server.hub._leaving


@pytest.mark.asyncio
async def test_a_handler_that_cancels_its_own_task_is_cancelled() -> None:
    server = Server(settings=settings_for())
    namespace = server.include(Namespace("/x"))

    @namespace.event
    async def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()

    client = MemoryClient(server)
    await client.connect("/x")
    client.send("2", "/x", 1, '["cancel"]')
    await within(server.application.rest(SECONDS))
    assert str(client.wire.frames[-1]).startswith("40/x")
