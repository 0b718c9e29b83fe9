"""examples/two_instances.py on a real Redis: what is said on one is heard on the other; Ctrl-C ends both."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.end_to_end.clients import chatter, raw
from tests.examples.program import Program, python, running
from tests.redis_server import RedisServer
from tests.serving import free_port

pytestmark = pytest.mark.process


def command(redis: RedisServer, *ports: int) -> list[str]:
    return python("two_instances.py", "--redis", redis.url, "--ports", *map(str, ports))


async def is_up(program: Program, count: int = 2) -> None:
    """Both have said that they listen, in whatever order."""
    for _ in range(count):
        await program.until("Uvicorn running on")


@pytest.mark.asyncio
async def test_two_are_one(redis_server: RedisServer, tmp_path: Path) -> None:
    a, b = free_port(), free_port()
    async with running(*command(redis_server, a, b), cwd=tmp_path) as program:
        await is_up(program)
        async with (
            chatter(f"http://127.0.0.1:{a}", "ann") as ann,
            chatter(f"http://127.0.0.1:{b}", "ben") as ben,
            raw(f"ws://127.0.0.1:{b}", "/ws/chat/cyd") as cyd,
        ):
            assert [str(client.client.eio.sid)[:2] for client in (ann, ben)] == ["a.", "b."]
            await ann.ask("message", {"room": "lobby", "text": "hello from a"})
            await ben.ask("message", {"room": "lobby", "text": "hello from b"})
            for client in (ann, ben, cyd):
                for name in "ab":
                    await client.until("message", text=f"hello from {name}")
        program.interrupt()
        assert await program.end() == 0
        assert {f"http://127.0.0.1:{port}/" for port in (a, b)} <= set(program.lines)
        await asyncio.gather(*(_nobody_listens(port) for port in (a, b)))


@pytest.mark.asyncio
async def test_one_that_cannot_start_ends_the_other(redis_server: RedisServer, tmp_path: Path) -> None:
    """The port of the second is taken."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        taken = server.sockets[0].getsockname()[1]
        async with running(*command(redis_server, free_port(), taken), cwd=tmp_path) as program:
            assert await program.end() == 1


async def _nobody_listens(port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
