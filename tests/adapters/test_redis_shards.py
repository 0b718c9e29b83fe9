"""Where commands go, with servers that only listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from adapters.redis.address import Address
from adapters.redis.shards import Shards
from realtime.errors import OutsideError
from realtime.metrics import Metrics


@asynccontextmanager
async def deaf_server() -> AsyncIterator[tuple[int, asyncio.Event]]:
    """Its port, and whether anybody came: it takes everything and answers nothing."""
    came = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], came
    finally:
        server.close()


@pytest.mark.asyncio
async def test_what_was_on_its_way_to_a_server_that_has_left_the_cluster_may_be_offered_again() -> None:
    """Else the first emission after the death of a slot's owner would never be handed over."""
    async with deaf_server() as (port, came):
        shards = Shards(Address.parse("redis+cluster://127.0.0.1:1"), Metrics())
        await shards._take(("127.0.0.1", 1), [[0, 16_383, [b"127.0.0.1", port]]])
        sending = asyncio.ensure_future(shards.send(b"key", b"PING"))
        await asyncio.wait_for(came.wait(), 5)
        await shards._take(("127.0.0.1", 1), [[0, 16_383, [b"127.0.0.1", 1]]])
        with pytest.raises(OutsideError) as failure:
            await asyncio.wait_for(sending, 5)
        assert failure.value.retry_after is not None
        await shards.close()


@pytest.mark.asyncio
async def test_what_was_on_its_way_when_all_was_closed_is_not_offered_again() -> None:
    async with deaf_server() as (port, came):
        shards = Shards(Address.parse(f"redis://127.0.0.1:{port}"), Metrics())
        sending = asyncio.ensure_future(shards.send(b"key", b"PING"))
        await asyncio.wait_for(came.wait(), 5)
        await shards.close()
        with pytest.raises(OutsideError, match="closed") as failure:
            await asyncio.wait_for(sending, 5)
        assert failure.value.retry_after is None
