"""What namespaces and sockets ask of their server; most is shown where it is used (test_namespace, test_context)."""

from __future__ import annotations

import pytest

from realtime import Emitted, Namespace, Server
from realtime.testing import MemoryClient
from tests.realtime.living import settings_for
from tests.realtime.nodes import SPACE, MemoryLogs, node


@pytest.mark.asyncio
async def test_an_emission_of_a_namespace_says_what_came_of_it() -> None:
    server = Server(settings=settings_for())
    board, plain = server.include(Namespace("/board", recovery=True)), server.include(Namespace("/plain"))
    for space in ("/board", "/plain"):
        await MemoryClient(server).connect(space)
    kept, gone, other = await board.emit("note"), await board.emit("note", volatile=True), await plain.emit("note")
    assert [(int(each), each.bus, each.durable) for each in (kept, gone, other)] == [
        (1, "none", True), (1, "none", None), (1, "none", None)
    ]  # fmt: skip
    assert kept.offset == board.offset
    assert isinstance(await server.emit("note", namespace="/plain", callback=print, to="nobody"), Emitted)


@pytest.mark.asyncio
async def test_without_a_bus_everything_is_heard() -> None:
    assert await Server(settings=settings_for()).heard("/", "a")


@pytest.mark.asyncio
async def test_with_one_what_is_watched_is_heard_and_other_namespaces_are_none_of_its_business() -> None:
    async with node("a", MemoryLogs()) as a:
        await a.client("den")
        assert await a.server.heard(SPACE, "den")
        assert not await a.server.heard(SPACE, "nook")
        assert await a.server.heard("/other", "den")
