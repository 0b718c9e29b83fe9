"""A link to Redis, without Redis."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.redis.address import Address
from adapters.redis.connection import Connections, Link


class Slow:
    """Writes as redis-py does, and is not done before it is told."""

    def __init__(self) -> None:
        self.is_connected = True
        self._writer = None
        self.waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begun = asyncio.Event()

    def pack_commands(self, commands: Any) -> list[bytes]:
        return [b"".join(command) for command in commands]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self.begun.set()
        await asyncio.wait_for(self.waiting, 5)

    async def check_health(self) -> None:
        self.begun.set()
        await asyncio.wait_for(self.waiting, 5)


@pytest.mark.asyncio
async def test_a_cancellation_that_comes_when_the_write_is_done_is_not_lost() -> None:
    connection = Slow()
    writing = asyncio.ensure_future(Link(connection).write((b"PING",)))
    await connection.begun.wait()
    connection.waiting.set_result(None)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing


@pytest.mark.asyncio
async def test_whoever_is_cancelled_while_it_is_lent_a_connection_gives_it_back() -> None:
    connection, released = Slow(), []

    async def get() -> Slow:
        return connection

    async def release(given: Slow) -> None:
        released.append(given)

    connections = Connections(Address.parse("redis://127.0.0.1:1"), "pub", size=1, retries=0)
    connections._pool = SimpleNamespace(get_connection=get, release=release)
    lending = asyncio.ensure_future(connections.lend())
    await connection.begun.wait()
    connection.waiting.set_result(None)
    lending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lending
    assert released == [connection]
