"""The journal on a real Redis Cluster and behind a real Sentinel: slots that move, masters that die."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import pytest

from adapters.redis import open_bus
from adapters.redis.address import Address
from adapters.redis.answers import RedisAnswers
from adapters.redis.keys import Keys
from adapters.redis.names import RedisNameHolders
from adapters.redis.sessions import RedisSessions
from realtime.journal.positions import Entry, Position
from realtime.metrics import Metrics
from realtime.ports import Claimed, Notice, NoticeKind
from realtime.testing.alone import hearing as told
from realtime.testing.bus import hearing
from realtime.testing.sessions import record
from tests.adapters.journals import SECRETS, Follower, draft, following, journal, keep, read_all, stubbornly
from tests.redis_cluster import RedisCluster, redis_cluster
from tests.redis_server import RedisServer, Sentinel

__all__ = ["redis_cluster"]  # a fixture

pytestmark = pytest.mark.process
SPACES = [f"/space-{number}" for number in range(6)]
LONG_SECONDS = 40.0
"""For an election among processes on a busy machine."""


async def pour(node: Follower, namespace: str, enough: asyncio.Event) -> list[Entry]:
    """One entry after the other, each until it is answered."""
    kept: list[Entry] = []
    while not enough.is_set():
        one = draft(len(kept), "lobby", namespace=namespace)
        kept.append(await stubbornly(partial(node.journal.append, one), LONG_SECONDS))
    return kept


async def backs(follower: Follower, namespace: str) -> None:
    await follower.until(lambda: Notice(NoticeKind.BACK, namespace) in follower.heard, LONG_SECONDS)


def of(follower: Follower, namespace: str) -> list[Entry]:
    return [entry for entry in follower.entries if entry.draft.namespace == namespace]


def no_hole(live: list[Entry], healed: list[Entry], kept: list[Entry]) -> None:
    """What came live is part of what is in the log, in its order; and the log has everything that was answered."""
    offsets = [entry.offset for entry in live]
    assert offsets == sorted(set(offsets))
    assert set(live) <= set(healed)
    assert healed == kept


@pytest.mark.asyncio
async def test_namespaces_on_all_shards(redis_cluster: RedisCluster) -> None:
    """Entries, volatile emissions, pages and heads; and the keys of a namespace are in one slot."""
    assert len({redis_cluster.owner(Keys("test", space).log) for space in SPACES}) == 3
    metrics = Metrics()
    async with (
        following(journal(redis_cluster.url, "a")) as here,
        following(journal(redis_cluster.url, "b", metrics=metrics)) as there,
    ):
        starts = {space: await stubbornly(partial(there.journal.watch, space, "lobby")) for space in SPACES}
        kept = {
            space: [await keep(here.journal, draft(n, "lobby", "other", namespace=space)) for n in range(10)]
            for space in SPACES
        }
        await here.journal.tell(draft(100, "lobby", namespace=SPACES[0]))
        await there.until(lambda: len(there.entries) == 60 and len(there.told) == 1)
        for space in SPACES:
            assert of(there, space) == kept[space]
            assert await read_all(there.journal, starts[space], space) == kept[space]
            assert await there.journal.heads(space, ["lobby", "none"]) == {"lobby": 10, "none": 0}
        assert metrics.bus_up.value() == 1
        key = Keys("test", SPACES[1]).log
        await asyncio.to_thread(redis_cluster.move, key, (redis_cluster.owner(key) + 1) % 3)
        assert (await here.journal.newest(SPACES[1])).offset == 10  # told where it is now, it asks there
        await here.journal.ping()


@pytest.mark.asyncio
async def test_the_bus_and_the_names_in_a_cluster(redis_cluster: RedisCluster) -> None:
    """A plain channel is heard on every server; names are in one slot. Both outlive a server."""
    bus, names = open_bus(redis_cluster.url, "test", Metrics()), RedisNameHolders(redis_cluster.url, prefix="test")
    other = RedisNameHolders(redis_cluster.url, prefix="test")
    try:
        async with hearing(bus) as ears:
            await bus.publish(b"one")
            assert await ears.next() == b"one"
            await stubbornly(partial(names.hold, "alice"))
            assert await stubbornly(partial(other.held, "alice"))
            redis_cluster.nodes[redis_cluster.owner(b"{test:names}")].kill()
            await ears.connected()  # publishes until something is heard again
            assert await stubbornly(partial(other.held, "alice"), LONG_SECONDS)
    finally:
        await asyncio.gather(bus.close(), names.close(), other.close())


@pytest.mark.asyncio
async def test_sessions_and_answers_in_a_cluster(redis_cluster: RedisCluster) -> None:
    """Their keys are spread; a claim is told to the node that had the session, wherever both ask. A server may die."""
    options: dict[str, Any] = {"prefix": "test", "signing": SECRETS}
    address = Address.parse(redis_cluster.url)
    here, there = (RedisSessions(address, node, Metrics(), **options) for node in ("a", "b"))
    answers = RedisAnswers(address, Metrics(), **options)
    records = [record(str(number), "lobby") for number in range(100)]
    try:
        async with told(here.notices()) as notices:
            assert list(await stubbornly(partial(here.keep, records, 60.0))) == []
            assert await stubbornly(partial(there.leave, record("0").namespace, None, "lobby", 9)) == 100
            claimed = await stubbornly(partial(there.claim, "7", "b"))
            assert claimed is not None
            assert claimed.stays[0].until == 9
            assert await notices.next() == Claimed("7")
            assert await stubbornly(partial(answers.begin, "key", b"body")) is None
            await stubbornly(partial(answers.finish, "key", b"answer"))
            assert await stubbornly(partial(answers.begin, "key", b"body")) == b"answer"
            redis_cluster.nodes[0].kill()
            kept = await stubbornly(partial(here.keep, records, 60.0), LONG_SECONDS)
            assert list(kept) == ["7"]
            assert await stubbornly(partial(there.claim, "8", "b"), LONG_SECONDS) == records[8]
    finally:
        await asyncio.gather(here.close(), there.close(), answers.close())


@pytest.mark.asyncio
async def test_a_slot_moves_while_entries_are_on_their_way(redis_cluster: RedisCluster) -> None:
    space = SPACES[0]
    async with following(journal(redis_cluster.url, "a")) as here, following(journal(redis_cluster.url, "b")) as there:
        start = await stubbornly(partial(there.journal.watch, space, "lobby"))
        enough = asyncio.Event()
        pouring = asyncio.ensure_future(pour(here, space, enough))
        await there.until_count(20)
        key = Keys("test", space).log
        source = redis_cluster.owner(key)
        await asyncio.to_thread(redis_cluster.move, key, (source + 1) % 3)
        await backs(there, space)
        await there.until_count(len(there.entries) + 20)
        enough.set()
        kept = await pouring
        healed = await read_all(there.journal, start, space)
        assert healed is not None
        no_hole(of(there, space), healed, kept)
        assert [entry.offset for entry in kept] == list(range(1, len(kept) + 1))
        assert redis_cluster.owner(key) == (source + 1) % 3


@pytest.mark.asyncio
async def test_the_owner_of_a_slot_dies(redis_cluster: RedisCluster) -> None:
    """Its replica takes over. What it lagged behind is not passed over in silence: then there is a new epoch."""
    space = SPACES[0]
    other = next(
        name
        for name in SPACES
        if redis_cluster.owner(Keys("test", name).log) != redis_cluster.owner(Keys("test", space).log)
    )
    async with following(journal(redis_cluster.url, "a")) as here, following(journal(redis_cluster.url, "b")) as there:
        start = await stubbornly(partial(there.journal.watch, space, "lobby"))
        await stubbornly(partial(there.journal.watch, other, "lobby"))
        enough = asyncio.Event()
        pouring = asyncio.ensure_future(pour(here, space, enough))
        await there.until_count(50)
        redis_cluster.nodes[redis_cluster.owner(Keys("test", space).log)].kill()
        aside = await keep(here.journal, draft(1, "lobby", namespace=other))  # elsewhere nothing is felt
        await there.until_heard(aside)
        await backs(there, space)
        await there.until_count(len(there.entries) + 20)
        enough.set()
        judge(there, space, start, await pouring, await read_all(there.journal, start, space))
        assert of(there, other) == [aside]


@pytest.mark.asyncio
async def test_a_sentinel_makes_a_replica_the_master() -> None:
    with (
        RedisServer() as master,
        RedisServer("--replicaof", "127.0.0.1", str(master.port)) as replica,
        Sentinel(master, "main") as sentinel,
    ):
        await asyncio.to_thread(knows_replica, sentinel, replica)
        async with following(journal(sentinel.url, "a")) as here, following(journal(sentinel.url, "b")) as there:
            start = await stubbornly(partial(there.journal.watch, "/chat", "lobby"))
            enough = asyncio.Event()
            pouring = asyncio.ensure_future(pour(here, "/chat", enough))
            await there.until_count(50)
            master.kill()
            await backs(there, "/chat")
            await there.until_count(len(there.entries) + 20)
            enough.set()
            kept = await pouring
            assert len(kept) > 20
            judge(there, "/chat", start, kept, await read_all(there.journal, start))


def judge(there: Follower, space: str, start: Position, kept: list[Entry], healed: list[Entry] | None) -> None:
    """Either all is there, or the node was told that it is another log; never anything in between."""
    if NoticeKind.EPOCH in there.notices:
        assert healed is None
        assert kept[-1].position.epoch > start.epoch
    else:
        assert healed is not None
        no_hole(of(there, space), healed, kept)
    assert [entry.draft.id[1] for entry in kept] == list(range(len(kept)))


def knows_replica(sentinel: Sentinel, replica: RedisServer) -> None:
    """Until the replica is in step and the Sentinel has found it."""
    deadline = time.monotonic() + LONG_SECONDS
    with replica.admin() as there, sentinel.admin() as watcher:
        while there.info("replication").get("master_link_status") != "up" or str(replica.port) not in str(
            watcher.execute_command("SENTINEL", "REPLICAS", "main")
        ):
            assert time.monotonic() < deadline, "the Sentinel found no replica in step"
