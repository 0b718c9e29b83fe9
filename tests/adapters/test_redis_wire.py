"""A link that is read as it comes, and what a publisher makes of it: nothing waits for the answer to another."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import exceptions

from adapters.redis import publisher as publishers
from adapters.redis.address import Address
from adapters.redis.connection import Connections
from adapters.redis.publisher import CommandRefused, Publisher
from adapters.redis.wire import Wire, packed
from realtime.errors import OutsideError
from realtime.metrics import Metrics
from tests.adapters.fast.tls import certificate
from tests.redis_server import RedisServer, redis_server, shared_redis

__all__ = ["certificate", "redis_server", "shared_redis"]  # fixtures
pytestmark = pytest.mark.process
SECONDS = 10.0


class Replies(list[Any]):
    """What a wire handed over."""

    def __init__(self) -> None:
        self._more = asyncio.Event()

    def take(self, reply: Any) -> None:
        self.append(reply)
        self._more.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(SECONDS):
            while len(self) < count:
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def wired(url: str, take: Callable[[Any], None]) -> AsyncIterator[Wire]:
    connections = Connections(Address.parse(url), "wire", size=1, retries=0)
    try:
        yield Wire(await connections.lend(), take)
    finally:
        await connections.close()


@asynccontextmanager
async def publishing(url: str) -> AsyncIterator[Publisher]:
    publisher = Publisher(Address.parse(url), Metrics())
    try:
        yield publisher
    finally:
        await publisher.close()


@asynccontextmanager
async def answering(answer: Callable[[list[bytes], asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that is told the words of each command; it has greeted its clients before."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readline():
                words = []
                for _ in range(int(head[1:])):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                if words[0] in (b"CLIENT", b"HELLO", b"SELECT"):
                    writer.write(b"+OK\r\n")
                else:
                    await answer(words, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()


@pytest.mark.asyncio
async def test_each_reply_is_handed_over_in_order_and_errors_too(shared_redis: RedisServer) -> None:
    replies = Replies()
    async with wired(shared_redis.url, replies.take) as wire:
        wire.write(packed(b"ECHO", b"a") + packed(b"NONSENSE") + packed(b"ECHO", b"b"))
        await replies.until(3)
        assert (replies[0], replies[2]) == (b"a", b"b")
        assert isinstance(replies[1], exceptions.ResponseError)
        assert not wire.ended.done()


@pytest.mark.asyncio
async def test_what_comes_while_it_is_paused_comes_afterwards(shared_redis: RedisServer) -> None:
    replies, others = Replies(), Replies()
    async with wired(shared_redis.url, replies.take) as wire, wired(shared_redis.url, others.take) as other:
        wire.pause()
        wire.write(packed(b"ECHO", b"late"))
        for number in range(1, 20):
            other.write(packed(b"PING"))
            await others.until(number)
        assert replies == []
        wire.resume()
        await replies.until(1)
        assert replies == [b"late"]


@pytest.mark.asyncio
async def test_it_ends_with_what_broke_it_and_hands_nothing_over_afterwards(redis_server: RedisServer) -> None:
    replies = Replies()
    async with wired(redis_server.url, replies.take) as wire:
        redis_server.kill()
        async with asyncio.timeout(SECONDS):
            assert isinstance(await wire.ended, exceptions.ConnectionError | OSError)
        wire.write(packed(b"PING"))
        wire.pause()
        wire.resume()
        wire.end(ValueError())
        assert replies == []


@pytest.mark.asyncio
async def test_who_cannot_take_a_reply_ends_it(shared_redis: RedisServer) -> None:
    replies = Replies()

    def take(reply: Any) -> None:
        replies.take(reply)
        raise ValueError("of no use")

    async with wired(shared_redis.url, take) as wire:
        wire.write(packed(b"ECHO", b"a") + packed(b"ECHO", b"b"))
        async with asyncio.timeout(SECONDS):
            assert str(await wire.ended) == "of no use"
        assert replies == [b"a"]


@pytest.mark.asyncio
async def test_a_link_that_is_closed_is_not_taken_over(shared_redis: RedisServer) -> None:
    connections = Connections(Address.parse(shared_redis.url), "wire", size=1, retries=0)
    try:
        link = await connections.lend()
        await connections.cut(link)
        with pytest.raises(exceptions.ConnectionError):
            Wire(link, lambda reply: None)
    finally:
        await connections.close()


@pytest.mark.asyncio
async def test_a_command_does_not_wait_for_the_answer_to_the_one_before() -> None:
    waiting: list[bytes] = []

    async def answer(words: list[bytes], writer: asyncio.StreamWriter) -> None:
        waiting.append(words[1])
        if len(waiting) == 3:  # only now, and all
            writer.write(b"".join(b"$1\r\n%b\r\n" % word for word in waiting))

    async with answering(answer) as url, publishing(url) as publisher:
        asked = []
        for word in (b"a", b"b", b"c"):
            asked.append(asyncio.ensure_future(publisher.send(b"ECHO", word)))
            async with asyncio.timeout(SECONDS):
                while word not in waiting:
                    await asyncio.wait(asked, timeout=0.001)
        assert await asyncio.gather(*asked) == [b"a", b"b", b"c"]


@pytest.mark.asyncio
async def test_so_many_are_under_way_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishers, "WINDOW_LIMIT", 2)
    seen: list[bytes] = []
    go = asyncio.Event()

    async def answer(words: list[bytes], writer: asyncio.StreamWriter) -> None:
        seen.append(words[1])
        if len(seen) == 2:
            await go.wait()
            writer.write(b"$1\r\n1\r\n$1\r\n2\r\n")
        elif len(seen) > 2:
            writer.write(b"$1\r\n%b\r\n" % words[1])

    async with answering(answer) as url, publishing(url) as publisher:
        asked = [asyncio.ensure_future(publisher.send(b"ECHO", b"%d" % number)) for number in range(1, 6)]
        async with asyncio.timeout(SECONDS):
            while len(seen) < 2:
                await asyncio.wait(asked, timeout=0.001)
        assert len(publisher._flying) == 2
        go.set()
        assert await asyncio.gather(*asked) == [b"1", b"2", b"3", b"4", b"5"]


@pytest.mark.asyncio
async def test_a_refusal_is_that_of_one_command(shared_redis: RedisServer) -> None:
    async with publishing(shared_redis.url) as publisher:
        before, refused, after = publisher.ask(b"PING"), publisher.ask(b"NONSENSE"), publisher.ask(b"PING")
        with pytest.raises(CommandRefused):
            await refused
        assert (await before, await after) == (b"PONG", b"PONG")


@pytest.mark.asyncio
async def test_what_was_not_written_when_the_link_broke_goes_over_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishers, "WINDOW_LIMIT", 1)

    async def answer(words: list[bytes], writer: asyncio.StreamWriter) -> None:
        if words[1] == b"cut":
            writer.close()
        else:
            writer.write(b"$1\r\n%b\r\n" % words[1])

    async with answering(answer) as url, publishing(url) as publisher:
        cut, after = publisher.ask(b"ECHO", b"cut"), publisher.ask(b"ECHO", b"x")
        with pytest.raises(OutsideError):
            await cut
        assert await after == b"x"


@pytest.mark.asyncio
async def test_a_link_that_was_unused_for_long_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """So what is sent over a link that is no more is not lost with it."""
    monkeypatch.setattr(publishers, "HEALTH_CHECK_SECONDS", -1)
    seen: list[bytes] = []

    async def answer(words: list[bytes], writer: asyncio.StreamWriter) -> None:
        seen.append(words[0])
        if seen == [b"PING"]:
            writer.close()
            monkeypatch.setattr(publishers, "HEALTH_CHECK_SECONDS", 15)  # the next link is a new one
        else:
            writer.write(b"+PONG\r\n" if words[0] == b"PING" else b"$1\r\nx\r\n")

    async with answering(answer) as url, publishing(url) as publisher:
        assert await publisher.send(b"ECHO", b"x") == b"x"
        assert seen[0] == b"PING"
        assert seen.count(b"ECHO") == 1


@pytest.mark.asyncio
async def test_who_gave_up_is_not_sent(redis_server: RedisServer) -> None:
    async with publishing(redis_server.url) as publisher:
        given_up, kept = publisher.ask(b"INCR", b"a"), publisher.ask(b"INCR", b"b")
        given_up.cancel()
        assert await kept == 1
        assert await publisher.send(b"GET", b"a") is None


@asynccontextmanager
async def behind_tls(port: int, certificate: tuple[Path, Path]) -> AsyncIterator[int]:
    """A port that speaks TLS and passes on what it hears."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, ours), pump(theirs, writer))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def test_it_reads_and_writes_over_tls_on_either_loop(shared_redis: RedisServer, certificate: tuple[Path, Path]) -> None:
    async def scenario() -> None:
        port = urlsplit(shared_redis.url).port
        assert port is not None
        async with behind_tls(port, certificate) as secure:
            url = f"rediss://127.0.0.1:{secure}/0?ssl_cert_reqs=none"
            async with publishing(url) as publisher:
                words = [b"%d" % number + bytes(100_000) for number in range(20)]
                assert await asyncio.gather(*(publisher.send(b"ECHO", word) for word in words)) == words

    asyncio.run(asyncio.wait_for(scenario(), 2 * SECONDS))
    uvloop = pytest.importorskip("uvloop", reason="it installs on few systems")
    uvloop.run(asyncio.wait_for(scenario(), 2 * SECONDS))


@pytest.mark.asyncio
async def test_a_server_that_is_no_master_any_more_is_left(redis_server: RedisServer) -> None:
    with closing(redis_server.admin()) as admin:
        async with publishing(redis_server.url) as publisher:
            before = await publisher.send(b"CLIENT", b"ID")
            admin.replicaof("127.0.0.1", 1)
            with pytest.raises(CommandRefused, match="it is a replica"):
                await publisher.send(b"SET", b"key", b"value")
            admin.replicaof("NO", "ONE")
            await publisher.send(b"SET", b"key", b"value")
            assert await publisher.send(b"CLIENT", b"ID") != before
