"""Who died while Redis was away, as those see it who lived on."""

from __future__ import annotations

import asyncio

import pytest

from adapters.redis.sessions import RedisSessions
from realtime.journal.resume import Record
from tests.adapters.journals import stubbornly
from tests.adapters.test_redis_sessions import LONG_SECONDS, record, sessions
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.process, pytest.mark.asyncio]


async def found(node: RedisSessions, name: str) -> Record:
    record = await stubbornly(lambda: node.look(f"pid of {name}"))
    assert record is not None
    return record


async def heard(node: RedisSessions, until_gaps: int = 0) -> None:
    """It has told Redis that it is there, and knows of so many times when it could not."""
    async with asyncio.timeout(15):
        while node._beats._failed or node._beats._last is None or len(node._beats._gaps) < until_gaps:
            await node._beats.beat()


def long_ago(server: RedisServer, node: RedisSessions) -> None:
    """It was heard of last ten seconds before."""
    assert node._beats._last is not None
    with server.admin() as admin:
        admin.set(node._beats._key(node._beats._node), node._beats._last - 10_000)


@pytest.mark.parametrize("frozen", [False, True])
async def test_what_a_node_has_left_that_died_while_redis_was_away_is_not_believed(frozen: bool) -> None:
    """It could not write down who had left, who was sent away, and who was in which room."""
    with RedisServer(keep=True) as server:
        survivor, dying, before, later = everybody = [sessions(server.url, name) for name in "abcd"]
        try:
            for node, name in ((survivor, "a"), (dying, "b"), (before, "c")):
                await node.keep([record(name, node=name)], LONG_SECONDS)
                await heard(node)
            await before.close()
            long_ago(server, before)
            assert (await found(survivor, "b")).incomplete is None
            if frozen:
                server.freeze()
            else:
                server.kill()
            await survivor._beats.beat()
            await dying.close()
            if frozen:
                server.thaw()
            else:
                server.start()
            await heard(survivor, 1)
            await stubbornly(lambda: later.keep([record("d", node="d")], LONG_SECONDS))
            await heard(later)
            believed = {name: (await found(survivor, name)).incomplete for name in "abcd"}
            assert believed == {"a": None, "b": "store", "c": None, "d": None}
            claimed = await stubbornly(lambda: survivor.claim("pid of b", "a"))
            assert claimed is not None
            assert claimed.incomplete == "store"
        finally:
            await asyncio.gather(*(node.close() for node in everybody))


async def test_of_whom_nothing_is_known_nothing_is_believed_either(redis_server: RedisServer) -> None:
    """Only where Redis was away at all."""
    node, other = sessions(redis_server.url, "a"), sessions(redis_server.url, "b")
    try:
        await other.keep([record("b", node="never heard of")], LONG_SECONDS)
        await heard(node)
        assert (await found(node, "b")).incomplete is None
        redis_server.freeze()
        await node._beats.beat()
        redis_server.thaw()
        await heard(node, 1)
        assert (await found(node, "b")).incomplete == "store"
    finally:
        await asyncio.gather(node.close(), other.close())
