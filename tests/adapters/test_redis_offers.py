"""What a node says on its way into a real Redis: without a task where nothing has to be found out, in order anyway."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis as redis_py

from adapters.redis import stream as streams
from adapters.redis.keys import token
from adapters.redis.message import read_message, seal_draft
from realtime.errors import LimitError, OutsideError
from realtime.journal.positions import Entry, Position
from realtime.metrics import Metrics
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


@pytest.mark.asyncio
async def test_what_is_known_to_be_our_own_is_not_read_again(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    def reading(signer: Any, namespace: str, data: bytes) -> Any:
        read.append(data)
        return read_message(signer, namespace, data)

    a, b = journal(redis_server.url, "a"), journal(redis_server.url, "b")
    async with following(a) as here, following(b) as there:
        for node in (a, b):
            await node.watch("/chat", "lobby", "hall")
        await keep(a, draft(0, "lobby"))
        await here.until_count(1)
        await there.until_count(1)
        monkeypatch.setattr(streams, "read_message", reading)
        kept = await asyncio.gather(*(keep(a, draft(number, "lobby", "hall")) for number in range(1, 101)))
        for follower in (here, there):
            await follower.until_count(101)
            assert follower.entries[1:] == kept
    assert len(read) < 399, "twice for each that b heard, and for a as long as the answer was not there"


@pytest.mark.asyncio
async def test_a_message_in_the_place_of_our_own_is_read_where_it_is_another(redis_server: RedisServer) -> None:
    metrics = Metrics()
    async with following(journal(redis_server.url, "a", metrics=metrics)) as here:
        node = here.journal
        await node.watch("/chat", "lobby")
        first = await keep(node, draft(0, "lobby"))
        await here.until_count(1)
        stream = node._streams["/chat"]
        sealed = seal_draft(stream._shared.signer, draft(1, "lobby"))
        expected = Entry(draft(1, "lobby"), Position(first.position.epoch, 2), (1,))
        stream.expect_own(expected, sealed)
        head = f"E{first.position.epoch} 2 1\n".encode()
        channel = stream.keys.channel(token("lobby"))
        stream._hear(channel, head + b"not what was offered")
        assert metrics.bus_refused.value("unsigned") == 1
        stream.expect_own(expected, sealed)
        stream._hear(stream.keys.channel(token("hall")), head + sealed)
        assert metrics.bus_refused.value("channel") == 1
        stream.expect_own(expected, sealed)
        stream._hear(channel, head + sealed)
        await here.until_count(2)
        assert here.entries == [first, expected]
        assert not stream._own
        stream.expect_own(expected, sealed)
        assert not stream._own, "it was here before"
        stream.expect_own(expected._replace(position=Position(first.position.epoch, 3)), bytes(streams.OWN_BYTES + 1))
        assert not stream._own
