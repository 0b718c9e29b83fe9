"""What a node says on its way into a real Redis: without a task where nothing has to be found out, in order anyway."""

from __future__ import annotations

import asyncio

import pytest
import redis as redis_py

from realtime.errors import LimitError, OutsideError
from tests.adapters.journals import draft, following, journal, keep, read_all
from tests.redis_server import RedisServer, redis_server, shared_redis

__all__ = ["redis_server", "shared_redis"]  # fixtures
pytestmark = pytest.mark.process


@pytest.mark.asyncio
async def test_the_first_ones_find_out_what_the_others_know(redis_server: RedisServer) -> None:
    node = journal(redis_server.url, "a")
    try:
        before = asyncio.all_tasks()
        first = [asyncio.ensure_future(node.append(draft(number))) for number in range(20)]
        assert len(asyncio.all_tasks() - before) >= 20, "each by a task, which asks for what is not known"
        assert [entry.offset for entry in await asyncio.gather(*first)] == list(range(1, 21))
        before = asyncio.all_tasks()
        others = [asyncio.ensure_future(node.append(draft(number))) for number in range(20, 40)]
        told = asyncio.ensure_future(node.tell(draft(40)))
        assert asyncio.all_tasks() == before
        assert [entry.offset for entry in await asyncio.gather(*others)] == list(range(21, 41))
        await told
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_what_redis_has_forgotten_is_sent_again_and_what_is_offered_meanwhile_stays_behind_it(
    redis_server: RedisServer,
) -> None:
    node = journal(redis_server.url, "a")
    with redis_py.Redis(port=redis_server.port, socket_timeout=5) as admin:
        try:
            start = await node.newest("/chat")
            await keep(node, draft(0))
            admin.script_flush()
            offered = [asyncio.ensure_future(node.append(draft(number))) for number in range(1, 10)]
            await asyncio.wait(offered, return_when=asyncio.FIRST_COMPLETED)
            offered += [asyncio.ensure_future(node.append(draft(number))) for number in range(10, 20)]
            await asyncio.wait(offered)
            refused = [each for each in offered if each.exception() is not None]
            found = await read_all(node, start)
            assert found is not None
            numbers = [entry.draft.id[1] for entry in found]
            assert numbers == sorted(numbers), "what came too early was refused, not kept in the wrong place"
            assert len(numbers) + len(refused) == 20
        finally:
            await node.close()


@pytest.mark.asyncio
async def test_who_gives_up_is_in_nobodys_way(redis_server: RedisServer) -> None:
    node = journal(redis_server.url, "a")
    try:
        await keep(node, draft(0))
        given_up = asyncio.ensure_future(node.append(draft(1)))
        given_up.cancel()
        await asyncio.wait([given_up])
        kept = await node.append(draft(2))
        assert kept.offset == 2
        assert (await node.append(draft(1))).offset == 3, "it was not sent"
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_a_failure_is_in_the_answer_and_never_raised_at_once(redis_server: RedisServer) -> None:
    node = journal(redis_server.url, "a")
    try:
        too_long = node.append(draft(1, *map(str, range(1_001))))
        with pytest.raises(LimitError):
            await too_long
        untold = node.tell(draft(1, *map(str, range(1_001))))
        with pytest.raises(LimitError):
            await untold
    finally:
        await node.close()
    for call in (node.append(draft(2)), node.tell(draft(3))):
        with pytest.raises(OutsideError):
            await call


@pytest.mark.asyncio
async def test_what_is_under_way_when_it_is_closed_fails(redis_server: RedisServer) -> None:
    node = journal(redis_server.url, "a")
    await keep(node, draft(0))
    redis_server.freeze()
    try:
        known = asyncio.ensure_future(node.append(draft(1)))
        told = asyncio.ensure_future(node.tell(draft(2, "one", "two")))
        await asyncio.wait([known], timeout=0.01)
        await node.close()
        answers = await asyncio.gather(known, told, return_exceptions=True)
        assert [type(answer) for answer in answers] == [OutsideError] * 2
    finally:
        redis_server.thaw()


@pytest.mark.asyncio
async def test_a_volatile_one_for_several_rooms_comes_in_once(shared_redis: RedisServer) -> None:
    a, b = journal(shared_redis.url, "a", prefix="offers"), journal(shared_redis.url, "b", prefix="offers")
    async with following(a), following(b) as there:
        await b.watch("/chat", "one", "two")
        await a.newest("/chat")
        await a.tell(draft(1, "one", "two"))
        await a.tell(draft(2, "two"))
        await there.until(lambda: len(there.told) >= 2)
        assert [told.draft.id[1] for told in there.told] == [1, 2]
