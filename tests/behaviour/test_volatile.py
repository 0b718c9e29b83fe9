"""Volatile events: they arrive wherever the client can take them, and give way to others wherever it cannot.

The bound of a client's backlog decides, not the moment: what is said twice in one turn arrives twice.
"""

from __future__ import annotations

from typing import Any

import pytest

from realtime.session.session import State
from tests.behaviour.stage import Guest, Stage, Wire, new_server, stage

pytestmark = pytest.mark.asyncio

BIG = "x" * 300_000
WAITING = 3


@pytest.mark.parametrize("data", ["data", bytes([1, 2, 3])], ids=["text", "binary"])
@pytest.mark.parametrize("alone", [True, False], ids=["to one", "to all"])
async def test_a_client_that_reads_is_told_every_one(wire: Wire, data: Any, alone: bool) -> None:
    sio = new_server()
    async with stage(sio, wire) as here:
        guest = await here.guest()
        to = guest.sid if alone else None
        await sio.emit("ev", data, to=to, volatile=True)
        assert await guest.event() == ["ev", data]
        for volatile in (False, True, True, False):
            await sio.emit("ev", [data, volatile], to=to, volatile=volatile)
        assert await here.heard(guest) == [[["ev", [data, each]] for each in (False, True, True, False)]]


async def test_a_namespace_that_reads_is_told_every_one(wire: Wire) -> None:
    sio = new_server(namespaces=["/chat"])
    async with stage(sio, wire) as here:
        guest = await here.guest("/chat")
        await sio.emit("ev", "data", namespace="/chat", volatile=True)
        assert await guest.event() == ["ev", "data"]


async def behind(here: Stage, guest: Guest) -> int:
    """Until the client is sent no more for now; how many events were needed for that."""
    outbox = here.server.hub.namespaces[guest.namespace].everyone[guest.sid].session.outbox
    sent = 0
    while outbox.free:
        await here.server.emit("ev", [sent, BIG], namespace=guest.namespace)
        sent += 1
        assert sent < 200
    return sent


@pytest.mark.parametrize("turns", ["...v", "..v.", "v..."], ids=["regular before", "regular around", "regular after"])
@pytest.mark.parametrize("namespace", ["/", "/chat"])
async def test_a_client_that_is_behind_is_told_what_is_not_volatile(wire: Wire, turns: str, namespace: str) -> None:
    """Three events may wait: the fourth is one too many, and the volatile one gives way wherever it stands."""
    sio = new_server(
        namespaces=["/", "/chat"], settings={"backlog_limit_messages": WAITING, "backlog_limit_bytes": 1 << 30}
    )
    async with stage(sio, wire) as here:
        guest = await here.guest(namespace)
        sent = await behind(here, guest)
        expected = list(range(sent))
        for number, turn in enumerate(turns, sent):
            await sio.emit("ev", [number, turn], namespace=namespace, volatile=turn == "v")
            if turn != "v":
                expected.append(number)
        assert sio.metrics.drops.value("volatile") == 1
        assert [(await guest.event())[1][0] for _ in expected] == expected
        assert await here.heard(guest) == [[]]
        assert sio.hub.namespaces[namespace].everyone[guest.sid].state is State.JOINED
