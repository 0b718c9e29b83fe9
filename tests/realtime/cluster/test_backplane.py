from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from realtime import BusState, Namespace
from tests.realtime.living import SECONDS
from tests.realtime.nodes import SPACE, MemoryLogs, Node, heard, node, until


@pytest.mark.asyncio
async def test_from_another_thread_what_is_said_goes_the_same_way() -> None:
    logs = MemoryLogs()
    async with node("a", logs) as a, node("b", logs) as b:
        ann, ben = await a.client("den"), await b.client("den")
        emitted: Any = await asyncio.to_thread(lambda: asyncio.run(a.emit("hello", "den")))
        assert (emitted, emitted.durable) == (1, True)
        await until(lambda: heard(ann) and heard(ben))
        assert await asyncio.to_thread(lambda: asyncio.run(a.server.heard(SPACE, "den")))
        await asyncio.to_thread(lambda: asyncio.run(a.emit("typing", "den", volatile=True)))
        await until(lambda: len(heard(ben)) == 2)
        assert len(a.journals) == 1, "it lives on the loop of whoever came first"


def test_where_its_loop_has_ended_it_goes_on_at_the_next() -> None:
    """Starlette's TestClient gives each connection a loop of its own."""
    logs = MemoryLogs()
    a = Node("a", logs)

    async def one(words: str) -> str:
        client = await a.client("den")
        assert (await a.emit(words, "den")).durable is True
        await until(lambda: heard(client))
        client.disconnect(SPACE)
        client.wire.cut()
        return heard(client)[-1]

    for number in range(3):
        assert asyncio.run(one(f"hello {number}")) == f"hello {number}"
    assert len(a.journals) == 3
    assert logs.log(SPACE).last == 3
    asyncio.run(a.server.shutdown())


def test_what_waited_when_its_loop_ended_is_handed_over_by_the_next() -> None:
    logs = MemoryLogs()
    a = Node("a", logs, bus_patience_seconds=30)

    async def speak() -> None:
        a.server._initialize()
        a.journal.away = True
        speaking = asyncio.ensure_future(a.emit("hello", "den"))
        await until(lambda: len(a.lane.outgoing.spool) == 1)
        speaking.cancel()

    asyncio.run(speak())
    assert logs.log(SPACE).last == 0

    async def go_on() -> None:
        await a.emit("again", "den")
        await a.server.shutdown()

    asyncio.run(go_on())
    assert logs.log(SPACE).last == 2


@pytest.mark.asyncio
async def test_at_the_end_what_was_said_is_handed_over_and_afterwards_it_serves_again() -> None:
    logs = MemoryLogs()
    async with node("a", logs) as a, node("b", logs) as b:
        ben = await b.client("den")
        speaking = asyncio.ensure_future(a.emit("last words", "den"))
        await until(lambda: len(a.lane.outgoing.spool) == 1)
        await a.server.shutdown()
        assert (await speaking).durable is True
        await until(lambda: heard(ben))
        assert (await a.emit("hello again", "den")).bus is BusState.UP
        await until(lambda: len(heard(ben)) == 2)
        assert len(a.journals) == 2


@pytest.mark.asyncio
async def test_the_end_does_not_wait_for_a_bus_that_is_away() -> None:
    async with node("a", MemoryLogs(), bus_patience_seconds=30) as a:
        a.journal.away = True
        speaking = asyncio.ensure_future(a.emit("hello", "den"))
        await until(lambda: len(a.lane.outgoing.spool) == 1)
        async with asyncio.timeout(SECONDS):
            await a.server.shutdown()
        assert (await speaking).durable is False


@pytest.mark.asyncio
async def test_hooks_may_be_coroutines_and_one_that_fails_is_in_nobodys_way(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    async def slow() -> None:
        told.append("slow")
        raise ValueError("a mistake of its own")

    def broken() -> None:
        raise ValueError("a mistake")

    async with node("a", MemoryLogs(), bus_patience_seconds=0.01) as a:
        assert a.server.backplane is not None
        a.server.backplane.hooks["bus_lost"] += [broken, slow, lambda: told.append("plain")]
        a.journal.away = True
        await a.emit("hello")
        await until(lambda: len(told) == 2)
        assert sorted(told) == ["plain", "slow"]
        await until(lambda: caplog.text.count("a hook of the bus failed") == 2)


@pytest.mark.asyncio
async def test_numbers_of_the_way_out() -> None:
    async with node("a", MemoryLogs(), bus_patience_seconds=0.05) as a:
        metrics = a.server.metrics
        assert (metrics.spool_messages.value(), metrics.spool_bytes.value(), metrics.journal_lag.value()) == (0, 0, 0)
        a.journal.away = True
        speaking = asyncio.ensure_future(a.emit("hello"))
        await until(lambda: metrics.journal_lag.value() > 0)
        assert metrics.spool_messages.value() == 1
        assert metrics.spool_bytes.value() > 500
        await speaking
        assert metrics.journal_lag.value() == 0, "it was delivered"
        assert metrics.spool_messages.value() == 1, "and is still to be handed over"
        assert metrics.bus_alone.value() == 1


@pytest.mark.asyncio
async def test_an_emission_that_nobody_waits_for_any_more_is_made_all_the_same() -> None:
    async with node("a", MemoryLogs(), bus_patience_seconds=30) as a:
        ann = await a.client("den")
        a.journal.away = True
        speaking = asyncio.ensure_future(a.emit("hello", "den"))
        await until(lambda: len(a.lane.outgoing.spool) == 1)
        speaking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await speaking
        a.journal.away = False
        await until(lambda: heard(ann))


def test_what_was_handed_to_a_loop_that_ends_is_not_waited_for_for_ever() -> None:
    """A connection of TestClient that goes takes its loop with it; whoever else speaks meanwhile is answered."""
    a = Node("a", MemoryLogs(), bus_patience_seconds=30)
    there, gone = threading.Event(), threading.Event()

    async def live() -> None:
        a.server._initialize()
        a.journal.away = True
        there.set()
        await until(gone.is_set)

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()

    async def speak() -> Any:
        assert there.wait(SECONDS)
        speaking = asyncio.ensure_future(a.emit("hello"))
        await until(lambda: len(a.lane.outgoing.spool) == 1)
        gone.set()
        return await speaking

    try:
        emitted = asyncio.run(speak())
    finally:
        gone.set()
        thread.join(SECONDS)
    assert (emitted, emitted.durable, emitted.bus) == (0, False, BusState.AWAY)
    assert asyncio.run(a.emit("again")).durable is True


def test_a_namespace_may_be_included_between_two_loops() -> None:
    a = Node("a", MemoryLogs())
    assert asyncio.run(a.emit("hello")).durable is True
    a.server.include(Namespace("/later", recovery=True))

    async def speak() -> Any:
        return await a.server.emit("said", "hello", namespace="/later")

    assert asyncio.run(speak()).durable is True
