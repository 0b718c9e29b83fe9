"""The journal while Redis is killed, frozen, emptied or put back, and while its connections are cut."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from functools import partial

import pytest
import redis as redis_py

from adapters.redis.address import Address
from adapters.redis.connection import Connections
from adapters.redis.journal import RedisJournal
from realtime.errors import OutsideError
from realtime.journal.positions import Draft, Entry, Position
from realtime.metrics import Metrics
from realtime.ports import NoticeKind
from tests.adapters.journals import (
    PATIENCE_SECONDS,
    Follower,
    draft,
    following,
    journal,
    read_all,
    stubbornly,
)
from tests.redis_server import RedisServer

pytestmark = pytest.mark.process


@pytest.fixture
def keeping_server() -> Iterator[RedisServer]:
    """What it answered is on its disk."""
    with RedisServer(keep=True) as server:
        yield server


async def heal(follower: Follower, position: Position, namespace: str = "/chat") -> list[Entry] | None:
    """As the core does once the way is back: wait for the word, then read on from the last position."""
    await follower.until(lambda: NoticeKind.BACK in follower.notices)
    return await read_all(follower.journal, position, namespace)


async def pour(node: RedisJournal, enough: asyncio.Event) -> list[Entry]:
    kept: list[Entry] = []
    while not enough.is_set():
        kept += await keep_appending(node, [draft(len(kept), "lobby")])
    return kept


def was_back(follower: Follower, times: int) -> bool:
    return follower.notices.count(NoticeKind.BACK) == times


async def keep_appending(node: RedisJournal, drafts: list[Draft]) -> list[Entry]:
    """One after the other, each until it is answered: the same draft again, never a new one."""
    return [await stubbornly(partial(node.append, one)) for one in drafts]


@pytest.mark.asyncio
async def test_killed_and_back_with_its_data(keeping_server: RedisServer) -> None:
    """Nothing is lost, nothing is there twice, and the epoch stays."""
    metrics = Metrics()
    a = journal(keeping_server.url, "a")
    async with following(journal(keeping_server.url, "b", metrics=metrics)) as there:
        start = await there.journal.watch("/chat", "lobby")
        first = await keep_appending(a, [draft(number, "lobby") for number in range(5)])
        await there.until_count(5)
        appending = asyncio.ensure_future(keep_appending(a, [draft(number, "lobby") for number in range(5, 400)]))
        await there.until(lambda: len(there.entries) > 30)
        keeping_server.kill()
        await there.until(lambda: NoticeKind.BROKEN in there.notices)
        assert metrics.bus_up.value() == 0
        keeping_server.start()
        kept = first + await appending
        assert [entry.offset for entry in kept] == list(range(1, 401))
        assert {entry.position.epoch for entry in kept} == {start.epoch}
        healed = await heal(there, start)
        assert healed == kept
        assert [entry.previous for entry in kept] == [(number,) for number in range(400)]
        assert NoticeKind.EPOCH not in there.notices
        assert metrics.bus_up.value() == 1
    await a.close()


@pytest.mark.asyncio
async def test_restarted_empty(redis_server: RedisServer) -> None:
    """Another epoch, also for a node that only listens; what is offered again is kept anew."""
    a = journal(redis_server.url, "a")
    async with following(journal(redis_server.url, "b")) as there:
        start = await there.journal.watch("/chat", "lobby")
        old = await keep_appending(a, [draft(number, "lobby") for number in range(5)])
        await there.until_count(5)
        redis_server.kill()
        redis_server.start()
        assert await heal(there, old[-1].position) is None
        assert there.notices == [NoticeKind.BROKEN, NoticeKind.EPOCH, NoticeKind.BACK]
        again = await keep_appending(a, [entry.draft for entry in old])
        assert [entry.offset for entry in again] == [1, 2, 3, 4, 5]
        assert again[0].position.epoch > start.epoch
        await there.until_count(10)
        assert there.entries[5:] == again
    await a.close()


@pytest.mark.parametrize("seen_by_appender", [True, False])
@pytest.mark.asyncio
async def test_restarted_from_an_older_copy(keeping_server: RedisServer, seen_by_appender: bool) -> None:
    """What a node has seen is not there any more, whether or not the next to append knows it."""
    a, other = journal(keeping_server.url, "a"), journal(keeping_server.url, "c")
    async with following(journal(keeping_server.url, "b")) as there:
        await there.journal.watch("/chat", "lobby")
        await keep_appending(a, [draft(number, "lobby") for number in range(5)])
        keeping_server.stop()
        copy = keeping_server.folder.with_name(keeping_server.folder.name + "-copy")
        shutil.copytree(keeping_server.folder, copy)
        keeping_server.start()
        await there.until(lambda: NoticeKind.BACK in there.notices)
        newer = await keep_appending(a, [draft(number, "lobby") for number in range(5, 10)])
        await there.until(lambda: there.numbers()[-1:] == [9])
        keeping_server.kill()
        shutil.rmtree(keeping_server.folder)
        shutil.move(copy, keeping_server.folder)
        keeping_server.start()
        writer, name = (a, "a") if seen_by_appender else (other, "c")
        await keep_appending(writer, [draft(number, "lobby", node=name) for number in range(20, 30)])
        await there.until(lambda: NoticeKind.EPOCH in there.notices)
        end = await stubbornly(lambda: there.journal.newest("/chat"))
        assert end.epoch > newer[-1].position.epoch
        for entry in newer:  # no place of the old log is taken for one of the new
            assert await read_all(there.journal, entry.position) is None
    await asyncio.gather(a.close(), other.close())


@pytest.mark.asyncio
async def test_frozen_for_a_while(redis_server: RedisServer) -> None:
    """Calls end in time; what was written before is carried out later, and its retry finds it."""
    async with following(journal(redis_server.url, "a")) as here:
        start = await here.journal.watch("/chat", None)
        await here.journal.append(draft(0))
        redis_server.freeze()
        try:
            async with asyncio.timeout(2.5):  # about a second, and a busy machine
                offered = [here.journal.append(draft(number)) for number in range(1, 51)]
                answers = await asyncio.gather(*offered, return_exceptions=True)
            assert {type(answer) for answer in answers} == {OutsideError}
            await here.until(lambda: NoticeKind.BROKEN in here.notices)
        finally:
            redis_server.thaw()
        kept = await keep_appending(here.journal, [draft(number) for number in range(1, 51)])
        assert [entry.offset for entry in kept] == list(range(2, 52))
        healed = await heal(here, start)
        assert healed is not None
        assert [entry.draft.id[1] for entry in healed] == list(range(51))


@pytest.mark.asyncio
async def test_every_connection_is_cut_again_and_again(redis_server: RedisServer) -> None:
    """CLIENT KILL while entries are on their way: live and read together they are complete and in order."""
    a = journal(redis_server.url, "a")
    with redis_py.Redis(port=redis_server.port, socket_timeout=5) as admin:
        async with following(journal(redis_server.url, "b")) as there:
            start = await there.journal.watch("/chat", "lobby")
            enough = asyncio.Event()
            appending = asyncio.ensure_future(pour(a, enough))
            for round_number in range(1, 4):
                await there.until_count(len(there.entries) + 30)
                for kind in ("pubsub", "normal"):
                    admin.client_kill_filter(_type=kind, skipme=True)
                await there.until(partial(was_back, there, round_number))
            enough.set()
            kept = await appending
            assert [entry.offset for entry in kept] == list(range(1, len(kept) + 1))
            healed = await read_all(there.journal, start)
            assert healed == kept
            offsets = [entry.offset for entry in there.entries]
            assert offsets == sorted(set(offsets))
            assert there.notices.count(NoticeKind.BROKEN) == 3
            assert NoticeKind.EPOCH not in there.notices
    await a.close()


@pytest.mark.asyncio
async def test_what_is_watched_while_redis_is_away_is_watched_when_it_is_back(redis_server: RedisServer) -> None:
    a = journal(redis_server.url, "a")
    async with following(journal(redis_server.url, "b")) as there:
        redis_server.stop()
        for room in ("one", "two", "three"):
            with pytest.raises(OutsideError):
                await there.journal.watch("/chat", room)
        await there.journal.unwatch("/chat", "two")
        redis_server.start()
        await there.until(lambda: NoticeKind.BACK in there.notices)
        await keep_appending(a, [draft(number, room) for number, room in enumerate(("one", "two", "three"))])
        await there.until_count(2)
        assert there.numbers() == [0, 2]
        await there.journal.watch("/chat", "one")
        assert there.notices == [NoticeKind.BROKEN, NoticeKind.BACK]
    await a.close()


@pytest.mark.asyncio
async def test_many_channels_stand_again(redis_server: RedisServer) -> None:
    a = journal(redis_server.url, "a")
    async with following(journal(redis_server.url, "b")) as there:
        rooms = [f"room {number}" for number in range(1_500)]
        await asyncio.gather(*(there.journal.watch("/chat", room) for room in rooms[:750]))
        await asyncio.gather(*(there.journal.watch("/chat", room) for room in rooms[750:]))
        redis_server.kill()
        redis_server.start()
        await there.until(lambda: NoticeKind.BACK in there.notices)
        for number in (0, 749, 1_499):
            await stubbornly(partial(a.append, draft(number, rooms[number])))
        await there.until_count(3)
        assert there.numbers() == [0, 749, 1_499]
    await a.close()


@pytest.mark.asyncio
async def test_a_follower_that_is_slow_stops_the_reading(redis_server: RedisServer) -> None:
    """What waits here is bounded; the rest waits in Redis, whose own bound then cuts the subscription."""
    here = journal(redis_server.url, "a")
    try:
        start = await here.watch("/chat", None)
        for number in range(60):
            await here.append(draft(number, body=bytes(1_000_000)))
        async with asyncio.timeout(PATIENCE_SECONDS):
            follower = Follower(here)
            await follower.until(lambda: NoticeKind.BACK in follower.notices or len(follower.entries) == 60)
            healed = await read_all(here, start)
        assert healed is not None
        assert [entry.draft.id[1] for entry in healed] == list(range(60))
        assert follower.numbers() == sorted(set(follower.numbers()))
    finally:
        await here.close()
    await follower.task


@pytest.mark.asyncio
async def test_closing_while_redis_is_frozen_leaves_nothing_open(redis_server: RedisServer) -> None:
    async with following(journal(redis_server.url, "a")) as here:
        await here.journal.watch("/chat", None)
        redis_server.freeze()
        try:
            waiting = [
                asyncio.ensure_future(call)
                for call in (here.journal.append(draft(1)), here.journal.watch("/chat", "x"))
            ]
            await asyncio.wait(waiting, timeout=0.01)
            async with asyncio.timeout(2):
                await here.journal.close()
                answers = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(answer) for answer in answers] == [OutsideError] * 2
        finally:
            redis_server.thaw()


@pytest.mark.asyncio
async def test_a_link_that_was_cut_is_not_opened_again_by_a_write(redis_server: RedisServer) -> None:
    """Nobody would know of that connection, and so nobody would close it."""
    connections = Connections(Address.parse(redis_server.url), "cut", size=1, retries=0)
    try:
        link = await connections.lend()
        await connections.cut(link)
        with pytest.raises(redis_py.ConnectionError, match="closed"):
            await link.write((b"PING",))
    finally:
        await connections.close()
