"""What python-socketio's writers say, and whatever else may be said on their channel."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import socketio
from fastapi import FastAPI

from realtime import Metrics, Realtime, Server, UsageError
from realtime import app as app_module
from realtime.cluster.writers import AT_ONCE, Writers, open_writers
from realtime.encoding.stock_messages import WritingLimits
from realtime.rooms.hub import Hub
from realtime.settings import Settings
from realtime.testing import MemoryClient
from tests.realtime.living import SECONDS, settings_for, within
from tests.redis_server import RedisServer

pytestmark = pytest.mark.asyncio


class Air:
    """A bus of one listener."""

    def __init__(self, *messages: bytes) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        for message in messages:
            self.queue.put_nowait(message)
        self.closed = 0

    async def publish(self, message: bytes) -> None: ...

    async def listen(self) -> AsyncIterator[bytes]:
        while (message := await self.queue.get()) is not None:
            yield message

    async def ping(self) -> None: ...

    async def close(self) -> None:
        self.closed += 1
        self.queue.put_nowait(None)


def emission(event: str, *args: Any, **fields: Any) -> bytes:
    return json.dumps({"method": "emit", "event": event, "data": list(args), "namespace": "/", **fields}).encode()


def node(*messages: bytes) -> tuple[Server, Writers, Air]:
    server = Server(settings=settings_for(), metrics=Metrics(), namespaces=["/", "/chat"])
    air = Air(*messages)
    return server, Writers(air, server.hub, server.metrics, WritingLimits()), air


async def test_what_is_written_reaches_the_clients_it_is_for() -> None:
    server, writers, air = node()
    ann, ben = MemoryClient(server), MemoryClient(server)
    await ann.connect("/")
    sid = await ben.connect("/")
    await server.enter_room(sid, "hall")
    writers.start()
    writers.start()
    for message in (
        emission("told", 1, room="hall"),
        emission("told", 2, skip_sid=[sid]),
        emission("told", 3, room=sid),
        emission("told", 4, room="nobody"),
        emission("fence"),
    ):
        air.queue.put_nowait(message)
    for client, numbers in ((ann, [2]), (ben, [1, 3])):
        await client.event("/", "fence")
        assert [args[1] for _, args in client.events if args[0] == "told"] == numbers
    await within(writers.stop())
    await within(writers.stop())
    assert air.closed == 2


async def test_the_rest_goes_on_whatever_comes(caplog: pytest.LogCaptureFixture) -> None:
    server, writers, _ = node()
    client = MemoryClient(server)
    await client.connect("/")
    junk: list[tuple[bytes, str]] = [
        (b"\x80\x04cos\n_exit\n(I17\ntR.", "pickle"),
        (b"\x80\x04.", "pickle"),
        (b"nonsense", "malformed"),
        (b"[" * 1_000_000, "malformed"),
        (emission("disconnect"), "event"),
        (emission("told", room={"a": 1}), "room"),
        (json.dumps({"method": "disconnect", "sid": "x"}).encode(), "method"),
        (emission("told", callback=["x", "/", 1]), "callback"),
    ]
    for _ in range(20):
        for message, _ in junk:
            writers.hear(message)
    writers.hear(emission("told", 1))
    assert await client.event("/", "told") == 1
    assert len([args for _, args in client.events if args[0] == "told"]) == 1
    for reason in {reason for _, reason in junk}:
        count = sum(1 for _, each in junk if each == reason)
        assert server.metrics.bus_refused.value(reason) == 20 * count, reason
    told = [record.getMessage() for record in caplog.records if record.name == "realtime.writers"]
    assert len(told) == len({reason for _, reason in junk}), "a line for each reason, not for each message"
    assert any("5.14" in line for line in told)
    assert not any("nonsense" in line for line in told)


async def test_names_that_nobody_has_heard_leave_nothing_behind() -> None:
    server, writers, _ = node()
    client = MemoryClient(server)
    await client.connect("/")
    for number in range(100):
        writers.hear(emission("told", 1, namespace=f"/made-up-{number}"))
    writers.hear(emission("told", 2, room="made up"))
    assert set(server.metrics.emissions.values) == {("/",)}
    assert set(server.hub.namespaces) == {"/"}
    assert len(server.hub.namespaces["/"]) == 0


async def test_an_error_of_ours_is_told_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    server, writers, _ = node()
    client = MemoryClient(server)
    await client.connect("/")

    def fail(*args: Any, **options: Any) -> int:
        raise RuntimeError("on purpose")

    deliver, server.hub.deliver = server.hub.deliver, fail  # type: ignore[method-assign]
    writers.hear(emission("told", 1))
    assert server.metrics.bus_refused.value("failed") == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    server.hub.deliver = deliver  # type: ignore[method-assign]
    writers.hear(emission("told", 2))
    assert await client.event("/", "told") == 2


async def test_a_flood_leaves_turns_to_others() -> None:
    server, writers, air = node()
    await MemoryClient(server).connect("/")
    turns = 0
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def somebody_else() -> None:
        nonlocal turns
        turns += 1
        if air.queue.empty():
            over.set()
        else:
            loop.call_soon(somebody_else)

    for number in range(AT_ONCE * 50):
        air.queue.put_nowait(emission("told", number))
    writers.start()
    loop.call_soon(somebody_else)
    await within(over.wait())
    assert turns >= 40
    await within(writers.stop())


# ── as the settings say ──────────────────────────────────────────────────────────────────────────


def settings(**changes: Any) -> Settings:
    return Settings(_env_prefix="NOBODY_SETS_THESE_", **changes)


async def test_nobody_is_heard_unless_a_channel_is_named() -> None:
    assert open_writers(settings(redis_url="redis://localhost:1"), Hub(Metrics()), Metrics()) is None


@pytest.mark.parametrize("redis_url", [None, "redis://localhost:0x", "localhost", "nats://localhost"])
async def test_a_channel_needs_a_redis(redis_url: str | None) -> None:
    with pytest.raises(UsageError):
        open_writers(settings(redis_url=redis_url, writers_channel="socketio"), Hub(Metrics()), Metrics())


@pytest.mark.parametrize("signs", [True, False])
async def test_a_plain_bus_on_the_channel_hears_them_itself(signs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not signs:
        monkeypatch.setattr(app_module, "find_signed_bus", lambda url: None)
    shared = {"redis_url": "redis://localhost:1", "redis_channel": "mine"}
    for channel, is_open in ((None, False), ("mine", signs), ("socketio", True)):
        realtime = Realtime(FastAPI(), settings=settings_for(**shared, writers_channel=channel))
        assert (realtime.writers is not None) is is_open
    with pytest.raises(UsageError, match="REALTIME_WRITERS_CHANNEL is set"):
        Realtime(FastAPI(), settings=settings_for(writers_channel="socketio"))


async def test_the_gauge_of_the_bus_is_not_theirs(shared_redis: RedisServer) -> None:
    """A node that hears writers need not hear other nodes, and the other way round."""
    metrics = Metrics()
    mine = settings(redis_url=shared_redis.url, writers_channel=f"writers-{uuid.uuid4()}")
    writers = open_writers(mine, Hub(metrics), metrics)
    assert writers is not None
    writers.start()
    writer = socketio.AsyncRedisManager(shared_redis.url, channel=mine.writers_channel, write_only=True)
    async with asyncio.timeout(SECONDS):
        while not metrics.bus_messages.value("in"):
            await writer.emit("told", 1)
    assert metrics.bus_up.values == {}
    await writer.redis.aclose()
    await within(writers.stop())
