from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
import socketio

from adapters.redis import open_bus
from adapters.redis.address import Address
from adapters.redis.publisher import Publisher
from adapters.redis.subscriber import MESSAGE_LIMIT_BYTES
from realtime.errors import LimitError, OutsideError, UsageError
from realtime.metrics import Metrics
from realtime.ports import Bus
from realtime.testing.bus import BusContract, hearing
from tests.behaviour.stage import until
from tests.redis_server import RedisServer, Sentinel, redis_server, shared_redis

__all__ = ["redis_server", "shared_redis"]  # fixtures

CHANNEL = "socketio"
SECRET = "s3cr:t/pass"
ENOUGH_SECONDS = 1.5
"""The bound of a publish or ping is about a second; the rest is for a busy machine."""


class TestContract(BusContract):
    @pytest.fixture(autouse=True)
    def _server(self, shared_redis: RedisServer) -> None:
        self._url = shared_redis.url

    def bus(self) -> Bus:
        return open_bus(self._url, self.channel, Metrics())


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[redis_py.Redis]:
    with redis_py.Redis(port=redis_server.port, socket_timeout=5) as client:
        yield client


@asynccontextmanager
async def opened(url: str, metrics: Metrics | None = None, channel: str = CHANNEL) -> AsyncIterator[Bus]:
    bus = open_bus(url, channel, metrics or Metrics())
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def seconds_at_most(limit: float) -> AsyncIterator[None]:
    started = time.monotonic()
    async with asyncio.timeout(10):
        yield
    assert time.monotonic() - started < limit


def clients(admin: redis_py.Redis, role: str) -> list[dict[str, str]]:
    return [each for each in admin.client_list() if each["name"] == f"realtime-rooms:{os.getpid()}:{role}"]


async def gone(admin: redis_py.Redis, role: str) -> None:
    """The server has seen that our connections are closed; it looks at its sockets in an order of its own."""
    async with asyncio.timeout(5):
        while clients(admin, role):
            await asyncio.wait([asyncio.ensure_future(asyncio.to_thread(admin.ping))])


@pytest.mark.asyncio
async def test_messages_of_one_publisher_arrive_in_order(shared_redis: RedisServer) -> None:
    messages = [str(number).encode() for number in range(1_000)]
    async with opened(shared_redis.url) as here, opened(shared_redis.url) as there, hearing(there) as ears:
        await asyncio.gather(*(here.publish(message) for message in messages))
        assert await ears.take(len(messages)) == messages


@pytest.mark.asyncio
async def test_a_socket_in_the_file_system_carries_a_bus(tmp_path: Path) -> None:
    with RedisServer("--unixsocket", str(tmp_path / "redis.sock")):
        async with opened(f"unix://{tmp_path}/redis.sock") as here, hearing(here) as ears:
            await here.publish(b"by the file system")
            assert await ears.next() == b"by the file system"


@pytest.mark.asyncio
async def test_what_is_published_in_one_loop_turn_shares_a_connection(
    redis_server: RedisServer, admin: redis_py.Redis
) -> None:
    async with opened(redis_server.url) as bus:
        await asyncio.gather(*(bus.publish(b"x") for _ in range(500)))
        assert len(clients(admin, "pub")) == 1
    await gone(admin, "pub")


@pytest.mark.asyncio
async def test_messages_and_breaks_are_counted(redis_server: RedisServer, admin: redis_py.Redis) -> None:
    metrics = Metrics()
    async with opened(redis_server.url, metrics) as bus:
        assert metrics.bus_up.value() == 0
        async with hearing(bus) as ears:
            assert metrics.bus_up.value() == 1
            out, heard = metrics.bus_messages.value("out"), metrics.bus_messages.value("in")
            await bus.publish(b"one")
            assert await ears.next() == b"one"
            assert metrics.bus_messages.value("out") == out + 1
            assert metrics.bus_messages.value("in") >= heard + 1
            assert metrics.bus_reconnects.value() == 0
        assert metrics.bus_up.value() == 0


@pytest.mark.asyncio
async def test_a_subscriber_that_is_cut_comes_back_and_says_so_once(
    redis_server: RedisServer, admin: redis_py.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    async with opened(redis_server.url, metrics) as bus, hearing(bus) as ears:
        assert admin.client_kill_filter(_type="pubsub") == 1
        await ears.connected()
        await bus.publish(b"after")
        assert await ears.next() == b"after"
        assert metrics.bus_reconnects.value() == 1
        assert metrics.bus_up.value() == 1
    lost, back = [record.getMessage() for record in caplog.records if record.name == "realtime.bus"]
    assert "lost" in lost
    assert "back" in back


@pytest.mark.asyncio
async def test_a_publisher_that_was_cut_while_idle_publishes_again(
    redis_server: RedisServer, admin: redis_py.Redis
) -> None:
    async with opened(redis_server.url) as bus, hearing(bus) as ears:
        for client in clients(admin, "pub"):
            admin.client_kill_filter(_id=client["id"])
        await ears.connected()
        await bus.publish(b"after")
        assert await ears.next() == b"after"


@pytest.mark.hostile("G2", on="bus")
@pytest.mark.asyncio
async def test_redis_killed_and_started_again(redis_server: RedisServer) -> None:
    metrics = Metrics()
    async with opened(redis_server.url, metrics) as bus, hearing(bus) as ears:
        redis_server.kill()
        for _ in range(2):
            async with seconds_at_most(ENOUGH_SECONDS):
                with pytest.raises(OutsideError) as failure:
                    await bus.publish(b"nobody hears this")
                assert failure.value.retry_after is not None
            with pytest.raises(OutsideError):
                await bus.ping()
        redis_server.start()
        await ears.connected()
        assert (metrics.bus_up.value(), metrics.bus_reconnects.value()) == (1, 1)
        await bus.ping()
        await bus.publish(b"back")
        assert await ears.next() == b"back"


@pytest.mark.hostile("G2", on="bus")
@pytest.mark.asyncio
async def test_redis_frozen_for_a_moment(redis_server: RedisServer) -> None:
    async with opened(redis_server.url) as bus, hearing(bus) as ears:
        redis_server.freeze()
        try:
            async with seconds_at_most(ENOUGH_SECONDS):
                results = await asyncio.gather(*(bus.publish(b"x") for _ in range(50)), return_exceptions=True)
            assert all(isinstance(result, OutsideError) for result in results)
            async with seconds_at_most(ENOUGH_SECONDS):
                with pytest.raises(OutsideError, match="did not answer in time"):
                    await bus.ping()
        finally:
            redis_server.thaw()
        await ears.connected()
        await bus.publish(b"thawed")
        while await ears.next() == b"x":  # written before the freeze was noticed: may still arrive
            pass


@pytest.mark.asyncio
async def test_a_frozen_link_is_noticed_without_traffic(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing tells a subscriber that its server is frozen; the ping has to."""
    told = asyncio.Event()
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.set()  # type: ignore[method-assign]
    logging.getLogger("realtime.bus").addHandler(handler)
    metrics = Metrics()
    try:
        async with opened(redis_server.url, metrics) as bus, hearing(bus) as ears:
            redis_server.freeze()
            async with seconds_at_most(6):
                await told.wait()
            assert metrics.bus_up.value() == 0
            redis_server.thaw()
            await ears.connected()
            assert (metrics.bus_up.value(), metrics.bus_reconnects.value()) == (1, 1)
    finally:
        logging.getLogger("realtime.bus").removeHandler(handler)


@pytest.mark.asyncio
async def test_a_listener_that_starts_before_redis(redis_server: RedisServer) -> None:
    redis_server.stop()
    metrics = Metrics()
    async with opened(redis_server.url, metrics) as bus:
        listening = asyncio.ensure_future(anext(bus.listen()))
        with pytest.raises(OutsideError):
            await bus.ping()
        redis_server.start()
        async with asyncio.timeout(10):
            while not listening.done():
                with suppress(OutsideError):
                    await bus.publish(b"first")
                await asyncio.wait([listening], timeout=0.05)
        assert listening.result() == b"first"
        assert metrics.bus_reconnects.value() == 0  # a first connection is no reconnection


@pytest.mark.hostile("G2", on="bus")
@pytest.mark.asyncio
async def test_a_refused_port_fails_at_once_and_clearly(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        async with opened(f"redis://user:{SECRET.replace('/', '%2F')}@127.0.0.1:{taken.getsockname()[1]}/0") as bus:
            listening = asyncio.ensure_future(anext(bus.listen()))
            async with seconds_at_most(ENOUGH_SECONDS):
                with pytest.raises(OutsideError, match="Redis cannot be reached") as failure:
                    await bus.publish(b"x")
            assert "Connection refused" in str(failure.value)
            assert failure.value.as_dict()["code"] == "unavailable"
            await bus.close()
            with pytest.raises(StopAsyncIteration):
                await listening
    assert SECRET not in caplog.text
    assert "cannot be reached" in caplog.text


@pytest.mark.asyncio
async def test_a_wrong_password_is_said_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with RedisServer(password="right") as server:
        async with opened(server.url) as bus:
            await bus.ping()
        async with opened(f"redis://:wrong-{SECRET.replace('/', '%2F')}@127.0.0.1:{server.port}") as bus:
            listening = asyncio.ensure_future(anext(bus.listen()))
            with pytest.raises(OutsideError, match="refused the user or the password") as failure:
                await bus.publish(b"x")
            assert failure.value.retry_after is None
            await bus.close()
            with pytest.raises(StopAsyncIteration):
                await listening
        async with opened(f"redis://127.0.0.1:{server.port}") as bus:
            with pytest.raises(OutsideError, match="refused the user or the password"):
                await bus.ping()
    assert SECRET not in caplog.text
    assert SECRET not in str(failure.value) + repr(failure.value.__cause__)


@pytest.mark.asyncio
async def test_a_user_who_may_not_publish_is_told_so(redis_server: RedisServer, admin: redis_py.Redis) -> None:
    admin.acl_setuser("reader", enabled=True, passwords=["+pw"], commands=["+ping", "+@connection"])
    async with opened(f"redis://reader:pw@127.0.0.1:{redis_server.port}") as bus:
        await bus.ping()
        with pytest.raises(OutsideError, match="no permission"):
            await bus.publish(b"x")
        await bus.ping()


@pytest.mark.hostile("G1", on="bus")
@pytest.mark.asyncio
async def test_too_big_is_refused_going_out_and_dropped_coming_in(
    redis_server: RedisServer, admin: redis_py.Redis
) -> None:
    metrics = Metrics()
    async with opened(redis_server.url, metrics) as bus, hearing(bus) as ears:
        with pytest.raises(LimitError) as failure:
            await bus.publish(bytes(MESSAGE_LIMIT_BYTES + 1))
        assert failure.value.code == "too_big"
        admin.publish(CHANNEL, bytes(MESSAGE_LIMIT_BYTES + 1))
        await ears.connected()  # two such messages at once are more than Redis's output buffer takes
        await bus.publish(bytes(MESSAGE_LIMIT_BYTES))
        assert len(await ears.next()) == MESSAGE_LIMIT_BYTES
        assert metrics.bus_refused.value("too_big") == 1
        assert metrics.bus_reconnects.value() == 0


@pytest.mark.asyncio
async def test_a_frozen_server_does_not_fill_the_memory(redis_server: RedisServer) -> None:
    metrics = Metrics()
    big = bytes(MESSAGE_LIMIT_BYTES)
    async with opened(redis_server.url, metrics) as bus:
        await bus.ping()
        redis_server.freeze()
        try:
            async with seconds_at_most(2 * ENOUGH_SECONDS):
                results = await asyncio.gather(*(bus.publish(big) for _ in range(10)), return_exceptions=True)
            assert [type(result) for result in results] == [OutsideError] * 10
            assert metrics.drops.value("bus_backlog") == 7
        finally:
            redis_server.thaw()
        await bus.ping()


def test_closing_while_the_server_is_frozen_leaves_nothing_open(redis_server: RedisServer) -> None:
    """A socket that is closed politely stays as long as it has bytes that nobody reads."""

    async def scenario() -> None:
        bus = open_bus(redis_server.url, CHANNEL, Metrics())
        async with hearing(bus):
            redis_server.freeze()
            with pytest.raises(OutsideError):
                await bus.publish(bytes(MESSAGE_LIMIT_BYTES))
            waiting = asyncio.ensure_future(bus.publish(b"on its way"))
            await asyncio.wait([waiting], timeout=0)
            async with seconds_at_most(1):
                await bus.close()
            with pytest.raises(OutsideError, match="closed"):
                await waiting

    try:
        asyncio.run(scenario())
        gc.collect()  # what was left open is reported here, as an error
    finally:
        redis_server.thaw()


@pytest.mark.asyncio
async def test_only_bytes_are_published(shared_redis: RedisServer) -> None:
    async with opened(shared_redis.url) as bus:
        with pytest.raises(UsageError, match="bytes, not str"):
            await bus.publish("text")  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_a_closed_bus_does_not_listen(shared_redis: RedisServer) -> None:
    bus = open_bus(shared_redis.url, CHANNEL, Metrics())
    await bus.close()
    with pytest.raises(OutsideError):
        await anext(bus.listen())


@pytest.mark.asyncio
async def test_close_between_two_messages_ends_the_connection(redis_server: RedisServer, admin: redis_py.Redis) -> None:
    """The consumer is busy with a message and asks for none: close() must not wait for it."""
    async with opened(redis_server.url) as bus:
        messages = bus.listen()
        first = asyncio.ensure_future(anext(messages))
        async with asyncio.timeout(5):
            while not first.done():
                await bus.publish(b"first")
                await asyncio.wait([first], timeout=0.05)
        await bus.close()
        await gone(admin, "sub")
        with pytest.raises(StopAsyncIteration):
            await anext(messages)


@pytest.mark.asyncio
async def test_what_python_socketio_writes_is_heard(shared_redis: RedisServer) -> None:
    writer = socketio.RedisManager(shared_redis.url, write_only=True)
    async with opened(shared_redis.url) as bus, hearing(bus) as ears:
        await asyncio.to_thread(writer.emit, "news", {"a": 1}, namespace="/chat", room="lobby")
        message = json.loads(await ears.next())
    writer.redis.close()
    assert (message["method"], message["event"], message["room"]) == ("emit", "news", "lobby")


@pytest.mark.asyncio
async def test_other_ways_to_the_same_server() -> None:
    with RedisServer("--unixsocket", "redis.sock") as server, Sentinel(server, "main") as sentinel:
        async with opened(server.url) as plain, hearing(plain) as ears:
            for url in (
                f"valkey://127.0.0.1:{server.port}",
                f"redis://localhost:{server.port}/3?socket_timeout=1",
                f"unix://{server.folder}/redis.sock?db=1",
                sentinel.url,
            ):
                async with opened(url) as bus, hearing(bus):
                    await bus.publish(url.encode())
                    assert await ears.next() == url.encode()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://", "redis://localhost:6379/0"),
        ("redis://:pw@host:1/2", "redis://host:1/2"),
        ("rediss://user:pw@host", "rediss://host:6379/0"),
        ("valkey://user:pw@[::1]:1", "valkey://[::1]:1/0"),
        ("redis://host/?password=pw&db=7", "redis://host:6379/7"),
        ("unix://user:pw@/run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("redis+sentinel://user:pw@a:1,b:2/3/main", "redis+sentinel://a:1,b:2/3/main"),
        ("redis+cluster://user:pw@a:1,b:2", "redis+cluster://a:1,b:2"),
        ("rediss+cluster://:pw@[::1]:1/0?ssl_cert_reqs=none", "rediss+cluster://[::1]:1"),
        ("valkey+cluster://a:1", "valkey+cluster://a:1"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    address = Address.parse(url)
    assert address.shown == shown
    assert "pw" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://pw@host",
        "pw",
        "",
        "redis://:p#w@host:6379/0",
        "redis://:pw/x@host:6379/0",
        "redis://:pw?x@host:6379/0",
        "redis://host:pw/0",
        "redis://host:99999/0",
        "redis://host/pw",
        "redis://host/0?decode_responses=pw",
        "redis://host/0?socket_timeout=pw",
        "redis://host/0?pw",
        "rediss://host/0?ssl_pw=1",
        "rediss://host/0?ssl_cert_reqs=pw",
        "unix://:pw@",
        "redis+sentinel://:pw@host:1/0",
        "redis+sentinel://:pw@host/0/main",
        "redis+sentinel://:pw@host:1/pw/main",
        "redis+sentinel://:pw@host:1/0/main?x=pw",
        "redis+sentinel://:pw@:1/0/main",
        "redis+cluster://:pw@host/0",
        "redis+cluster://:pw@host:1/3",
        "redis+cluster://:pw@host:1?db=3",
        "redis+cluster://:pw@host:1,pw",
        "redis+cluster://:pw@host:99999",
        "redis+cluster://host:1?pw=1",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UsageError) as failure:
        open_bus(url, CHANNEL, Metrics())
    assert "pw" not in str(failure.value)
    assert failure.value.__suppress_context__ or failure.value.__context__ is None


@pytest.mark.asyncio
async def test_a_password_that_was_changed_meanwhile_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer() as server:
        async with opened(server.url) as bus:
            await bus.ping()
            listening = asyncio.ensure_future(anext(bus.listen()))
            admin = server.admin()
            try:
                await until(lambda: admin.pubsub_numsub(CHANNEL)[0][1])
                admin.config_set("requirepass", "another")
                admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                await until(lambda: "refused the user or the password" in caplog.text)
                assert caplog.text.count("is lost") == caplog.text.count("is still lost") == 1
            finally:
                admin.close()
                listening.cancel()


@pytest.mark.asyncio
async def test_a_publisher_whose_cancellation_is_swallowed_closes_all_the_same() -> None:
    publisher = Publisher(Address.parse("redis://127.0.0.1:1"), Metrics())
    begun = asyncio.Event()

    async def live(connections: Any) -> None:
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Future()

    publisher._live = live  # type: ignore[method-assign]
    sending = asyncio.ensure_future(publisher.send(b"PING"))
    await begun.wait()
    await asyncio.wait_for(publisher.close(), 5)
    with pytest.raises(OutsideError):
        await asyncio.wait_for(sending, 5)
