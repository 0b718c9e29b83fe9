"""The hub with real sessions over wires in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from realtime import Metrics, Server, UsageError
from realtime.clients.peer import PlainDialect
from realtime.encoding.codecs import Encoded, SocketIOText
from realtime.names import Reason
from realtime.rooms.hub import Hub
from realtime.session.session import Member
from realtime.testing import MemoryClient, MemoryWire
from tests.realtime.living import SECONDS, settings_for, within


class Counting(SocketIOText):
    """Counts how often it encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded: list[tuple[str, Any]] = []

    def event(self, namespace: str, name: str, args: Any, id: int | None = None) -> Encoded:
        self.encoded.append((name, tuple(args)))
        return super().event(namespace, name, args, id)


def new_server() -> Server:
    return Server(settings=settings_for(), namespaces=["/", "/other"])


async def crowd(server: Server, count: int, namespace: str = "/") -> tuple[list[MemoryClient], list[str]]:
    clients = [MemoryClient(server) for _ in range(count)]
    return clients, [await each.connect(namespace) for each in clients]


def heard(client: MemoryClient, name: str) -> list[str]:
    return [frame for frame in client.wire.frames if isinstance(frame, str) and f'"{name}"' in frame]


@pytest.mark.asyncio
async def test_an_emission_is_encoded_once_for_each_dialect() -> None:
    server = new_server()
    dialect = server._dialect = Counting()
    clients, _ = await crowd(server, 20)
    assert server.hub.deliver("/", "told", [{"a": 1}]) == 20
    assert dialect.encoded == [("told", ({"a": 1},))]
    for client in clients:
        assert heard(client, "told") == ['42["told",{"a":1}]']
    assert server.metrics.emissions.value("/") == 1
    assert server.metrics.events_out.value("/") == 20


@pytest.mark.asyncio
async def test_nobody_gets_what_one_form_cannot_say() -> None:
    server = new_server()
    clients, sids = await crowd(server, 3)

    def say(name: str, data: Any) -> str:
        raise UsageError("not in this form")

    for target in ([sids[2], *sids], sids):
        odd = server.hub.find(sids[1], "/")
        assert odd is not None
        odd.session.dialect = PlainDialect(say)
        with pytest.raises(UsageError, match="not in this form"):
            server.hub.deliver("/", "told", [1], target)
    for client in clients:
        assert heard(client, "told") == []


@pytest.mark.asyncio
async def test_a_form_may_be_silent() -> None:
    server = new_server()
    _, sids = await crowd(server, 2)
    silent = server.hub.find(sids[0], "/")
    assert silent is not None
    silent.session.dialect = PlainDialect(lambda name, data: None)
    assert server.hub.deliver("/", "told", [1]) == 1


@pytest.mark.asyncio
async def test_an_emission_between_two_namespaces_stays_in_its_own() -> None:
    server = new_server()
    (client,), (sid,) = await crowd(server, 1)
    await client.connect("/other")
    assert server.hub.deliver("/other", "told", [1], sid) == 0
    assert server.hub.deliver("/other", "told", [1]) == 1
    assert heard(client, "told") == ['42/other,["told",1]']


@pytest.mark.asyncio
async def test_whoever_is_full_does_not_hold_up_the_others() -> None:
    server = new_server()
    slow = MemoryClient(server, MemoryWire(capacity=2))
    await slow.connect()
    (quick,), _ = await crowd(server, 1)
    for number in range(50):
        server.hub.deliver("/", "told", [number])
    assert len(heard(quick, "told")) == 50
    assert len(heard(slow, "told")) < 50
    slow.wire.read_on()
    assert len(heard(slow, "told")) == 50


@pytest.mark.asyncio
async def test_each_recipient_is_asked_under_an_id_of_its_own() -> None:
    server = new_server()
    clients, sids = await crowd(server, 3)
    clients[0].wire.say()
    answers: list[Any] = []
    members = server.hub.select("/", None)
    members[0].expect(lambda: None)
    assert server.hub.ask(members, "question", [], answers.append) == 3
    for number, client in enumerate(clients):
        (frame,) = heard(client, "question")
        id = frame.removeprefix("42").partition("[")[0]
        client.wire.say(f"43{id}[{number}]")
        client.wire.say(f"43{id}[{number}]")
    assert answers == [0, 1, 2], "an answer counts once"
    assert server.metrics.drops.value("stray_ack") == 3
    assert len(sids) == 3


@pytest.mark.asyncio
async def test_while_the_disconnect_hook_runs_the_client_can_still_be_asked_about() -> None:
    server, seen, gate = new_server(), [], asyncio.Event()

    @server.event
    async def disconnect(sid: str, reason: str) -> None:
        seen.append((server.rooms(sid), server.hub.is_connected(sid, "/"), server.hub.select("/", "lobby")))
        await within(gate.wait())

    (client,), (sid,) = await crowd(server, 1)
    await server.enter_room(sid, "lobby")
    client.wire.cut(Reason.TRANSPORT_CLOSE)
    assert server.hub.find(sid, "/") is not None
    gate.set()
    await within(server.application.rest(SECONDS))
    assert seen == [([sid, "lobby"], False, [])]
    assert server.hub.find(sid, "/") is None
    assert server.rooms(sid) == []
    assert server.hub.namespaces == {}


@pytest.mark.asyncio
async def test_rooms_are_counted_when_somebody_looks() -> None:
    server = new_server()
    _, (one, other) = await crowd(server, 2)
    for sid, room in ((one, "a"), (other, "a"), (other, "b")):
        await server.enter_room(sid, room)
    assert server.metrics.rooms.value("/") == 2
    assert server.hub.count("/", "a") == 2
    assert server.hub.count("/", None) == 2


class Ghost:
    """As much of a session as a member needs in order to be indexed."""

    kind = "ghost"
    dialect = SocketIOText()

    def offer(self, *args: Any) -> None: ...


def test_many_threads_may_come_go_join_and_look_at_once() -> None:
    """Starlette's TestClient gives each connection a thread and an event loop; the index is one."""
    hub, errors = Hub(Metrics()), []
    start = threading.Barrier(6)

    def work(number: int) -> None:
        try:
            start.wait(10)
            for turn in range(300):
                member = Member(f"{number}-{turn}", "/", Ghost())  # type: ignore[arg-type]
                hub.attach(member)
                hub.join(member.sid, "/", "lobby")
                hub.join(member.sid, "/", turn % 3)
                assert member in hub.select("/", "lobby"), "it has just joined"
                hub.select("/", [0, 1, 2])
                if turn % 2:
                    hub.leave(member.sid, "/", "lobby")
                hub.detach(member)
                hub.forget(member)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert hub.namespaces == {}
    left: Mapping[Any, Any] = hub._leaving
    assert left == {}
