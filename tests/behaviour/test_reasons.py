"""Why a client left: what its hook is told, once, and what the client is told where we end it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from realtime import Namespace, Server
from realtime.clients.connection import PATIENCE_EVENTS
from realtime.errors import CloseCode
from realtime.names import Reason
from tests.behaviour.stage import CONNECT, DISCONNECT, EVENT, FAST, Guest, Stage, Wire, new_server, stage, until
from tests.wire.clients import WebSocketClient, ended

pytestmark = pytest.mark.asyncio

NAME = "/typed"


class Typed(Namespace):
    path = NAME

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    async def disconnected(self, reason: str) -> None:
        self.told.append(reason)


class End(NamedTuple):
    """``cause`` brings it about; ``code`` is None where the connection stays, and only the membership ends."""

    cause: Callable[[Stage, Guest], Awaitable[Any]]
    code: int | None = None
    told: tuple[int, ...] = ()
    """The kinds of packets that the client is sent, where it stays connected."""
    settings: Mapping[str, Any] = MappingProxyType({})


async def leaves(here: Stage, guest: Guest) -> None:
    await guest.client.send(f"41{NAME},")


async def goes(here: Stage, guest: Guest) -> None:
    await guest.client.send("1")


async def is_dismissed(here: Stage, guest: Guest) -> None:
    await here.server.disconnect(guest.sid, NAME)


async def is_replaced(here: Stage, guest: Guest) -> None:
    await here.server.disconnect_room(NAME, guest.sid, Reason.REPLACED)


async def expires(here: Stage, guest: Guest) -> None:
    here.server.application.expired(member(here.server, guest))


async def says_nothing(here: Stage, guest: Guest) -> None:
    """Its ping goes unanswered."""


async def breaks_the_rules(here: Stage, guest: Guest) -> None:
    await guest.client.send("4abc")


async def reads_nothing(here: Stage, guest: Guest) -> None:
    for _ in range(300):
        await here.server.emit("ev", "x" * 300_000, namespace=NAME)


async def says_too_much(here: Stage, guest: Guest) -> None:
    await guest.client.send(*[f'42{NAME},["x"]'] * (PATIENCE_EVENTS + 2))


async def is_drained(here: Stage, guest: Guest) -> None:
    await here.server.eio.shutdown()


def member(server: Server, guest: Guest) -> Any:
    return server.hub.find(guest.sid, NAME)


SHORT = {"ping_interval_seconds": 0.1, "ping_timeout_seconds": 0.1}
FEW = {"backlog_limit_messages": 3}
ENDS: dict[Reason, End] = {
    Reason.CLIENT: End(leaves),
    Reason.SERVER: End(is_dismissed, told=(DISCONNECT,)),
    Reason.REPLACED: End(is_replaced, told=(DISCONNECT,)),
    Reason.EXPIRED: End(expires, told=(EVENT, DISCONNECT)),
    Reason.PING_TIMEOUT: End(says_nothing, CloseCode.SILENT, settings=SHORT),
    Reason.PROTOCOL: End(breaks_the_rules, CloseCode.BAD_PROTOCOL),
    Reason.SLOW: End(reads_nothing, CloseCode.TOO_SLOW, settings=FEW),
    Reason.LIMIT: End(says_too_much, CloseCode.TOO_FAST, settings={"events_per_second": 1}),
    Reason.DRAINING: End(is_drained, CloseCode.GOING_AWAY),
    Reason.TRANSPORT_CLOSE: End(goes, CloseCode.DONE),
}


@pytest.mark.parametrize("reason", ENDS)
async def test_the_hook_is_told_why_once_and_the_client_with_a_close_code(wire: Wire, reason: Reason) -> None:
    end, typed = ENDS[reason], Typed()
    sio = new_server(settings=end.settings)
    sio.include(typed)
    async with stage(sio, wire) as here:
        guest = await here.guest(NAME)
        await end.cause(here, guest)
        if end.code is None:
            await until(lambda: typed.told)
            assert not sio.hub.namespaces
            assert tuple([(await guest.packet()).kind for _ in end.told]) == end.told
            assert (await guest.connect()).kind == CONNECT, "the connection stays"
        else:
            gone = await ended(guest.client)
            assert gone.code == (400 if wire.polling else end.code)
        await until(lambda: typed.told and not sio.hub._leaving)
        assert typed.told == [reason]
        assert sio.metrics.disconnects.values == {(NAME, reason): 1}


async def test_a_connection_that_breaks_is_an_error_of_the_transport() -> None:
    """Only the fast wire can tell it from a client that hangs up; elsewhere it is a transport that closed."""
    typed, sio = Typed(), new_server()
    sio.include(typed)
    async with stage(sio, FAST) as here:
        guest = await here.guest(NAME)
        assert isinstance(guest.client, WebSocketClient)
        line = guest.client.websocket.transport.get_extra_info("socket")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await guest.client.leave()
        await until(lambda: typed.told)
        assert typed.told == [Reason.TRANSPORT_ERROR]


async def test_every_reason_is_here() -> None:
    assert {*ENDS, Reason.TRANSPORT_ERROR} == set(Reason)
