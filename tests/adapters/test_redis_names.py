"""Names on a real Redis: the contract, and what happens when a node or Redis itself falls silent."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import redis as redis_py

from adapters.names import open_name_holders
from adapters.redis.names import RedisNameHolders
from realtime.errors import OutsideError, UsageError
from realtime.metrics import Metrics
from realtime.ports import NameHolders
from realtime.testing.names import SharedNamesContract
from tests.redis_server import RedisServer
from tests.serving import ROOT

PATIENCE_SECONDS = 10.0
ENOUGH_SECONDS = 1.5
"""An answer is due within about a second; the rest is for a busy machine."""


class TestContract(SharedNamesContract):
    @pytest.fixture(autouse=True)
    def _server(self, shared_redis: RedisServer) -> None:
        self._url = shared_redis.url

    def names(self) -> NameHolders:
        return open_name_holders(self._url, self.place, Metrics())


@asynccontextmanager
async def opened(url: str, ttl_seconds: float = 90) -> AsyncIterator[RedisNameHolders]:
    names = RedisNameHolders(url, ttl_seconds)
    try:
        yield names
    finally:
        await names.close()


async def until(question: Callable[[], Awaitable[bool]]) -> None:
    """Ask until the answer is yes; what is asked about changes inside another process."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(OutsideError):
                if await question():
                    return


@pytest.mark.asyncio
async def test_a_held_name_outlives_its_time_to_live(redis_server: RedisServer) -> None:
    async with opened(redis_server.url, 0.6) as here, opened(redis_server.url, 0.6) as there:
        await here.hold("alice")
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            assert await there.held("alice")


@pytest.mark.asyncio
async def test_the_names_of_a_killed_node_become_free(redis_server: RedisServer) -> None:
    code = (
        "import asyncio, sys\n"
        "from adapters.redis.names import RedisNameHolders\n"
        "async def main():\n"
        f"    await RedisNameHolders({redis_server.url!r}, 2).hold('alice')\n"
        "    print('held', flush=True)\n"
        "    await asyncio.to_thread(sys.stdin.read)\n"
        "asyncio.run(main())\n"
    )
    async with opened(redis_server.url, 2) as here:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await process.stdout.readline() == b"held\n"
            assert await here.held("alice")
        finally:
            process.kill()
            await process.wait()

        async def free() -> bool:
            return not await here.held("alice")

        await until(free)


@pytest.mark.asyncio
async def test_nothing_stays_in_redis(redis_server: RedisServer) -> None:
    async with opened(redis_server.url) as here, opened(redis_server.url) as there:
        for name in ("alice", "bob"):
            await here.hold(name)
            await there.hold(name)
        with redis_py.Redis(port=redis_server.port, socket_timeout=5) as admin:
            assert {admin.pttl(key) // 1000 for key in admin.keys("*")} <= {89, 90}  # each expires by itself
            await here.release("alice")
            await there.release("alice")
            await here.close()
            await there.close()
            assert admin.keys("*") == []


@pytest.mark.asyncio
async def test_while_redis_is_frozen_there_is_an_answer_in_time(redis_server: RedisServer) -> None:
    async with opened(redis_server.url, 2) as names:
        await names.hold("mine")
        redis_server.freeze()
        try:
            started = time.monotonic()
            with pytest.raises(OutsideError):
                await names.held("somebody")
            assert time.monotonic() - started < ENOUGH_SECONDS
            assert await names.held("mine")  # known without Redis
            with pytest.raises(OutsideError):
                await names.hold("late")
            await names.release("mine")
        finally:
            redis_server.thaw()
        async with opened(redis_server.url) as other:
            await until(lambda: other.held("late"))  # counted, and announced afterwards


@pytest.mark.hostile("G2", on="bus")
@pytest.mark.asyncio
async def test_a_redis_that_comes_back_empty_is_told_again(redis_server: RedisServer) -> None:
    async with opened(redis_server.url) as names, opened(redis_server.url) as other:
        await names.hold("alice")
        redis_server.kill()
        with pytest.raises(OutsideError):
            await names.held("bob")
        redis_server.start()
        await until(lambda: other.held("alice"))


@pytest.mark.asyncio
async def test_closing_while_redis_is_frozen_takes_no_longer_than_it_may(redis_server: RedisServer) -> None:
    names = RedisNameHolders(redis_server.url)
    await names.hold("alice")
    redis_server.freeze()
    try:
        started = time.monotonic()
        await names.close()
        assert time.monotonic() - started < 3
        with pytest.raises(OutsideError):
            await names.hold("bob")
    finally:
        redis_server.thaw()


@pytest.mark.asyncio
async def test_a_renewal_that_breaks_ends_the_loop_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: asyncio.Future[threading.ExceptHookArgs] = asyncio.get_running_loop().create_future()
    loop = ended.get_loop()
    monkeypatch.setattr(threading, "excepthook", lambda args: loop.call_soon_threadsafe(ended.set_result, args))
    names = RedisNameHolders("redis://127.0.0.1:1/0")

    async def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(names, "_renew", broken)
    with names._own.gate:
        names._own.begun()
    assert (await asyncio.wait_for(ended, PATIENCE_SECONDS)).exc_type is ZeroDivisionError


def test_a_bad_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(UsageError) as failure:
        RedisNameHolders("redis://:p#w@host:6379/0")
    assert "p#w" not in str(failure.value)
