"""examples/two_instances.py on a real Redis: what is said on one is heard on the other; Ctrl-C ends both."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.end_to_end.clients import chatter, raw
from tests.examples.program import python, running
from tests.redis_server import RedisServer
from tests.serving import ServerProcess, fetch, free_port

pytestmark = pytest.mark.process


def command(redis: RedisServer, *ports: int | str) -> list[str]:
    return python("two_instances.py", "--redis", redis.url, "--ports", *map(str, ports))


@pytest.mark.asyncio
async def test_two_are_one(redis_server: RedisServer, tmp_path: Path) -> None:
    other = free_port()
    with ServerProcess(tmp_path, command=command(redis_server, "{port}", other), ready="/health/ready") as both:
        await asyncio.to_thread(both.until, lambda: is_ready(other), 15)
        async with (
            chatter(both.url, "ann") as ann,
            chatter(f"http://127.0.0.1:{other}", "ben") as ben,
            raw(f"ws://127.0.0.1:{other}", "/ws/chat/cyd") as cyd,
        ):
            assert [str(client.client.eio.sid)[:2] for client in (ann, ben)] == ["a.", "b."]
            for name, sender in (("a", ann), ("b", ben)):  # one after the other: instances promise no order yet
                await sender.ask("message", {"room": "lobby", "text": f"hello from {name}"})
                for client in (ann, ben, cyd):
                    await client.until("message", text=f"hello from {name}")
        both.interrupt()
        assert await asyncio.to_thread(both.process.wait, 10) == 0
        assert not is_ready(both.port)
        assert not is_ready(other)
        assert {f"http://127.0.0.1:{port}/" for port in (both.port, other)} <= set(both.output().splitlines())


def is_ready(port: int) -> bool:
    try:
        return fetch(f"http://127.0.0.1:{port}/health/ready", timeout=1)[0] == 200
    except OSError:
        return False


@pytest.mark.asyncio
async def test_one_that_cannot_start_ends_the_other(redis_server: RedisServer, tmp_path: Path) -> None:
    """The port of the second is taken."""
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as holder:
        taken = holder.sockets[0].getsockname()[1]
        async with running(*command(redis_server, free_port(), taken), cwd=tmp_path) as program:
            assert await program.end() == 1
