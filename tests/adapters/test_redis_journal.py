"""The journal on a real Redis: what a script promises in one step, and what a node makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py

from adapters.redis import journal as journals
from adapters.redis import open_journal
from adapters.redis.journal import RedisJournal
from adapters.redis.keys import Keys, token
from adapters.redis.message import DRAFT_LIMIT_BYTES, mark_volatile, seal_draft
from adapters.redis.scripts import LogLimits, Scripts
from adapters.redis.seal import Signer
from realtime.errors import LimitError, OutsideError, UsageError
from realtime.journal.positions import Position
from realtime.metrics import Metrics
from realtime.ports import NoticeKind
from realtime.settings import Settings
from realtime.testing.journal import JournalContract
from tests.adapters.journals import SECRETS, draft, following, journal, keep, read_all
from tests.redis_server import RedisServer

pytestmark = pytest.mark.process
KEYS = Keys("test", "/chat")
HEAD, LOG, ROOMS, IDS, IDS_OLD, MARKS = KEYS.of


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[Any]:
    with redis_py.Redis(port=redis_server.port, socket_timeout=5) as client:
        yield client


def copied(admin: Any) -> dict[bytes, bytes]:
    return {key: copy for key in KEYS.of if (copy := admin.dump(key)) is not None}


def put_back(admin: Any, copies: dict[bytes, bytes]) -> None:
    """As a restart from an older file does."""
    for key, copy in copies.items():
        admin.restore(key, 3_600_000, copy, replace=True)


def say(admin: Any, channel: bytes, message: bytes) -> None:
    """Publish as this server's scripts do."""
    sharded = admin.execute_command("COMMAND", "INFO", "SPUBLISH")
    admin.execute_command("SPUBLISH" if sharded and all(sharded) else "PUBLISH", channel, message)


class TestContract(JournalContract):
    @pytest.fixture(autouse=True)
    def _server(self, shared_redis: RedisServer) -> None:
        self._url = shared_redis.url

    def journal(self, node: str) -> RedisJournal:
        return journal(self._url, node, prefix=self.place)


@pytest.mark.asyncio
async def test_an_entry_reaches_whoever_watches_one_of_its_rooms(redis_server: RedisServer) -> None:
    a, b = journal(redis_server.url, "a"), journal(redis_server.url, "b")
    async with following(a) as here, following(b) as there:
        start = await b.watch("/chat", "lobby")
        await a.watch("/chat", "lobby")
        kept = [await keep(a, draft(1, "lobby")), await keep(a, draft(2, "other")), await keep(a, draft(3, "lobby"))]
        for follower in (here, there):
            await follower.until_count(2)
            assert follower.entries == [kept[0], kept[2]]
        assert [entry.previous for entry in kept] == [(0,), (0,), (1,)]
        assert start == Position(kept[0].position.epoch, 0)
        assert await read_all(b, start) == kept


@pytest.mark.asyncio
async def test_an_entry_for_several_watched_rooms_comes_in_once(redis_server: RedisServer) -> None:
    metrics = Metrics()
    async with following(journal(redis_server.url, "a", metrics=metrics)) as here:
        for room in ("one", "two", None):
            await here.journal.watch("/chat", room)
        first = await keep(here.journal, draft(1, "one", "two"))
        second = await keep(here.journal, draft(2, "two", "three", "one"))
        third = await keep(here.journal, draft(3))
        await here.until_count(3)
        assert here.entries == [first, second, third]
        assert (second.previous, third.previous) == ((1, 0, 1), (0,))
        assert metrics.bus_messages.value("in") == 3


@pytest.mark.asyncio
async def test_a_volatile_emission_comes_in_once_elsewhere_and_not_here(redis_server: RedisServer) -> None:
    a, b = journal(redis_server.url, "a"), journal(redis_server.url, "b")
    async with following(a) as here, following(b) as there:
        for node in (a, b):
            await node.watch("/chat", "one")
            await node.watch("/chat", "two")
        kept = await keep(a, draft(1, "one"))
        await a.tell(draft(2, "one", "two"))
        await a.tell(draft(3, "one"))
        last = await keep(a, draft(4, "two"))
        for follower in (here, there):
            await follower.until_heard(last)
        assert [told.draft.id[1] for told in there.told] == [2, 3]
        assert [told.newest for told in there.told] == [kept.position] * 2
        assert here.told == []


@pytest.mark.asyncio
async def test_what_is_not_watched_any_more_does_not_come_in(redis_server: RedisServer) -> None:
    async with following(journal(redis_server.url, "a")) as here:
        node = here.journal
        await node.watch("/chat", "one")
        await node.watch("/chat", "two")
        for number in range(20):  # on and off: the last word counts
            await node.unwatch("/chat", "one")
            await keep(node, draft(2 * number, "one"))
            await node.watch("/chat", "one")
            await here.until_heard(await keep(node, draft(2 * number + 1, "one")))
        await node.unwatch("/chat", "one")
        await keep(node, draft(100, "one"))
        last = await keep(node, draft(101, "two"))
        await here.until_heard(last)
        assert here.numbers() == [*range(1, 40, 2), 101]


@pytest.mark.asyncio
async def test_the_same_draft_again_gets_its_first_position(redis_server: RedisServer) -> None:
    a, again = journal(redis_server.url, "a"), journal(redis_server.url, "a")
    async with following(a) as here, following(again):
        await a.watch("/chat", None)
        kept = await asyncio.gather(*(keep(a, draft(number)) for number in range(50)))
        for entry in reversed(kept):  # also over another connection, and when newer ones were kept since
            assert await keep(again, entry.draft) == entry
        last = await keep(a, draft(50))
        await here.until_heard(last)
        assert here.numbers() == list(range(51))
        assert last.offset == 51


@pytest.mark.asyncio
async def test_a_number_that_comes_late_but_was_never_kept_is_kept(redis_server: RedisServer) -> None:
    """The write with 1 to 5 was lost on a broken link, the one with 6 arrived: their retry comes after it."""
    node = journal(redis_server.url, "a")
    try:
        six = await keep(node, draft(6))
        five = await keep(node, draft(5))
        assert (six.offset, five.offset) == (1, 2)
        assert await keep(node, draft(6)) == six
        assert await keep(node, draft(5)) == five
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_a_draft_that_comes_again_too_late_is_not_kept_twice(redis_server: RedisServer) -> None:
    """Its id is forgotten, so nobody knows: that is said, and not guessed."""
    node = journal(redis_server.url, "a", limits=LogLimits(ids=10))
    try:
        await node.newest("/chat")
        doubtful = draft(0)
        redis_server.freeze()
        with pytest.raises(OutsideError) as failure:  # carried out when Redis thaws, and this node cannot know
            await node.append(doubtful)
        assert failure.value.retry_after is not None
        redis_server.thaw()
        for number in range(1, 30):
            await node.append(draft(number))
        with pytest.raises(OutsideError, match="too late") as failure:
            await node.append(doubtful)
        assert failure.value.retry_after is None
        found = await read_all(node, Position((await node.newest("/chat")).epoch, 0))
        assert found is not None
        assert [entry.draft.id[1] for entry in found] == list(range(30))
    finally:
        redis_server.thaw()
        await node.close()


@pytest.mark.asyncio
async def test_an_old_draft_that_is_offered_for_the_first_time_is_kept(redis_server: RedisServer) -> None:
    """Its number is above the last one, so no id is needed to know it."""
    node = journal(redis_server.url, "a", limits=LogLimits(ids=10))
    try:
        for number in range(30):
            await keep(node, draft(number))
        assert (await keep(node, draft(1_000))).offset == 31
        with pytest.raises(OutsideError, match="too late"):
            await node.append(draft(3))
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_many_at_once_keep_their_order_and_share_writes(redis_server: RedisServer, admin: Any) -> None:
    async with following(journal(redis_server.url, "a")) as here:
        await here.journal.watch("/chat", "lobby")
        for start in range(0, 1_000, 200):
            kept = await asyncio.gather(*(keep(here.journal, draft(start + n, "lobby")) for n in range(200)))
            assert [entry.offset for entry in kept] == list(range(start + 1, start + 201))
        await here.until_count(1_000)
        assert here.numbers() == list(range(1_000))
    reads = int(admin.info("stats")["total_reads_processed"])
    assert reads < 200


@pytest.mark.asyncio
async def test_redis_that_forgot_the_scripts_is_told_again(redis_server: RedisServer, admin: Any) -> None:
    node = journal(redis_server.url, "a")
    try:
        await keep(node, draft(0))
        admin.script_flush()
        kept = await asyncio.gather(*(keep(node, draft(number)) for number in range(1, 20)))
        assert sorted(entry.offset for entry in kept) == list(range(2, 21))
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_the_log_is_bounded_by_number(redis_server: RedisServer, admin: Any) -> None:
    node = journal(redis_server.url, "a", limits=LogLimits(entries=200))
    try:
        epoch = (await node.newest("/chat")).epoch
        for start in range(0, 1_000, 100):
            await asyncio.gather(*(keep(node, draft(start + n)) for n in range(100)))
        length = int(admin.xlen(LOG))
        assert 200 <= length <= 300
        assert await read_all(node, Position(epoch, 1_000 - length - 1)) is None
        assert await read_all(node, Position(epoch, 0)) is None
        found = await read_all(node, Position(epoch, 1_000 - length))
        assert found is not None
        assert len(found) == length
        assert await read_all(node, Position(epoch, 1_000)) == []
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_the_bounds_of_the_log_are_the_settings(redis_server: RedisServer, admin: Any) -> None:
    settings = Settings(log_limit_entries=200, redis_channel="bounded")
    node = open_journal(redis_server.url, "a", settings, Metrics())
    assert isinstance(node, RedisJournal)
    try:
        for start in range(0, 1_000, 100):
            await asyncio.gather(*(keep(node, draft(start + n)) for n in range(100)))
        (log,) = admin.keys("*:log")
        assert 200 <= int(admin.xlen(log)) <= 300
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_the_log_is_bounded_by_size_and_a_page_too(redis_server: RedisServer, admin: Any) -> None:
    node = journal(redis_server.url, "a", limits=LogLimits(size_bytes=4 << 20))
    try:
        epoch = (await node.newest("/chat")).epoch
        for number in range(60):
            await keep(node, draft(number, body=bytes(300_000)))
        assert 3 << 20 <= int(admin.memory_usage(LOG, samples=0)) <= 6 << 20
        first = int(admin.xrange(LOG, count=1)[0][0].split(b"-")[0])
        stretch = await node.since("/chat", Position(epoch, first - 1))
        assert stretch is not None
        assert 4 <= len(stretch.entries) <= 5
        assert stretch.more
        assert stretch.upto == Position(epoch, first - 1 + len(stretch.entries))
        assert await node.since("/chat", Position(epoch, first - 2)) is None
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_the_log_is_bounded_by_age(redis_server: RedisServer) -> None:
    """Nothing missed is nothing lost, however old; what is over the age is gone, and the numbers go on."""
    async with following(journal(redis_server.url, "a", limits=LogLimits(seconds=0.3))) as here:
        node = here.journal
        kept = [await keep(node, draft(number)) for number in range(5)]
        async with asyncio.timeout(10):
            while await node.since("/chat", Position(kept[0].position.epoch, 4)) is not None:
                pass
        assert await read_all(node, kept[-1].position) == []
        assert (await keep(node, draft(5))).offset == 6
        async with asyncio.timeout(10):  # also while there is traffic
            number = 6
            while await node.since("/chat", Position(kept[0].position.epoch, 5)) is not None:
                await keep(node, draft(number))
                number += 1


@pytest.mark.asyncio
async def test_a_forgotten_channel_is_no_silent_hole(redis_server: RedisServer, admin: Any) -> None:
    """Its previous offset is then a bound: whoever is complete up to there has missed nothing of it."""
    node = journal(redis_server.url, "a", limits=LogLimits(channels=2_000))
    try:
        await keep(node, draft(0, "quiet"))
        for start in range(1, 4_001, 200):
            await asyncio.gather(*(keep(node, draft(start + n, f"room {start + n}")) for n in range(200)))
        assert int(admin.zcard(ROOMS)) <= 2_000
        floor = int(admin.hget(HEAD, "f"))
        assert 1_000 <= floor <= 3_000
        last = await keep(node, draft(5_000, "quiet", "room 4000"))
        assert last.previous == (floor, 4_001)
        assert (await keep(node, draft(5_001, "quiet"))).previous == (last.offset,)
        assert await node.heads("/chat", ["quiet", "room 1", "room 4000"]) == {
            "quiet": last.offset + 1,
            "room 1": 0,
            "room 4000": last.offset,
        }
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_everything_in_redis_expires_and_nodes_are_forgotten(redis_server: RedisServer, admin: Any) -> None:
    limits = LogLimits(ids=600)
    nodes = [journal(redis_server.url, f"n{number}", limits=limits) for number in range(4)]
    try:
        for start in range(0, 2_400, 200):
            drafts = [draft(1, "lobby", node=f"n{start + n}") for n in range(200)]
            await asyncio.gather(*(keep(nodes[n % 4], one) for n, one in enumerate(drafts)))
        for key in admin.keys("*"):
            assert 0 < admin.pttl(key) <= limits.head_seconds * 1_000, key
        assert int(admin.hlen(IDS)) + int(admin.hlen(IDS_OLD)) <= 601
        assert len([field for field in admin.hkeys(HEAD) if field.startswith(b"n:")]) <= 1_300
        assert int(admin.llen(MARKS)) <= 100
    finally:
        await asyncio.gather(*(node.close() for node in nodes))


@pytest.mark.asyncio
async def test_a_log_that_is_behind_what_a_node_has_seen_gets_a_new_epoch(
    redis_server: RedisServer, admin: Any
) -> None:
    async with following(journal(redis_server.url, "a")) as here, following(journal(redis_server.url, "b")) as there:
        await there.journal.watch("/chat", None)
        old = [await keep(here.journal, draft(number)) for number in range(3)]
        copies = copied(admin)
        old += [await keep(here.journal, draft(number)) for number in range(3, 5)]
        await there.until_count(5)
        put_back(admin, copies)
        new = await keep(here.journal, draft(5))
        assert new.offset == 1
        assert new.position.epoch > old[0].position.epoch
        assert new.previous == (0,)
        assert await read_all(there.journal, old[2].position) is None
        assert (await keep(here.journal, draft(4))).offset == 2  # offered again: by its id it is new here
        await there.until(lambda: NoticeKind.EPOCH in there.notices)
        assert [each.offset for each in await read_all(there.journal, new.position._replace(offset=0)) or ()] == [1, 2]
        await there.until_heard(await keep(here.journal, draft(6)))


@pytest.mark.parametrize("first", ["check", "append", "page"])
@pytest.mark.asyncio
async def test_a_log_that_went_back_and_on_with_other_entries_is_noticed(
    redis_server: RedisServer, admin: Any, first: str
) -> None:
    """A node that had not seen the end appended first, so numbers alone look right."""
    a, b = journal(redis_server.url, "a"), journal(redis_server.url, "b")
    try:
        old = await keep(a, draft(0))
        for number in range(1, 4):
            await keep(a, draft(number))
        copies = copied(admin)
        seen = await keep(a, draft(4))
        put_back(admin, copies)
        other = await keep(b, draft(1, node="b"))
        later = await keep(b, draft(2, node="b"))
        assert other.position == seen.position
        if first == "append":
            assert (await keep(a, draft(5))).position.epoch > later.position.epoch
        elif first == "page":
            assert await a.since("/chat", old.position) is not None
        assert (await a.newest("/chat")).epoch > later.position.epoch
    finally:
        await asyncio.gather(a.close(), b.close())


@pytest.mark.asyncio
async def test_what_comes_live_from_a_log_that_went_back_does_not_hide_it(
    redis_server: RedisServer, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes in between the return of a subscription and the first comparison."""
    compared = asyncio.Event()
    compare_one = RedisJournal._compare_one

    async def compare_later(self: RedisJournal, stream: Any) -> None:
        await compared.wait()
        await compare_one(self, stream)

    monkeypatch.setattr(RedisJournal, "_compare_one", compare_later)
    a = journal(redis_server.url, "a")
    async with following(journal(redis_server.url, "b")) as there:
        await there.journal.watch("/chat", None)
        for number in range(4):
            await keep(a, draft(number))
        copies = copied(admin)
        await keep(a, draft(4))
        await there.until_count(5)
        put_back(admin, copies)
        admin.client_kill_filter(_type="pubsub", skipme=True)
        await there.until(lambda: NoticeKind.BROKEN in there.notices)
        other = journal(redis_server.url, "c")
        later = await keep(other, draft(0, node="c"))
        for number in range(1, 10_000):
            later = await keep(other, draft(number, node="c"))
            if len(there.entries) > 8:
                break
        compared.set()
        await there.until(lambda: NoticeKind.EPOCH in there.notices)
        assert (await there.journal.newest("/chat")).epoch > later.position.epoch
        await other.close()
    await a.close()


@pytest.mark.asyncio
async def test_keys_that_were_taken_away_by_themselves(redis_server: RedisServer, admin: Any) -> None:
    """A Redis that evicts: what is left is not taken for a whole log."""
    node = journal(redis_server.url, "a")
    try:
        first = [await keep(node, draft(number, "lobby")) for number in range(5)][-1]
        admin.delete(ROOMS)
        entry = await keep(node, draft(5, "lobby"))
        assert (entry.offset, entry.previous) == (6, (5,))  # anything may lie below
        assert (await keep(node, draft(6, "other"))).previous == (5,)
        admin.delete(LOG)
        assert await read_all(node, first.position) is None
        assert (await keep(node, draft(7))).offset == 8
        admin.hset(HEAD, "o", 3)
        other = journal(redis_server.url, "b")  # has seen nothing, so only the stream tells
        anew = await keep(other, draft(1, node="b"))
        await other.close()
        assert (anew.offset, anew.previous) == (1, (0,))
        assert anew.position.epoch > entry.position.epoch
        assert await read_all(node, Position(anew.position.epoch, 0)) == [anew]
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_epochs_grow_also_where_the_clock_of_redis_is_behind(redis_server: RedisServer, admin: Any) -> None:
    node = journal(redis_server.url, "a")
    try:
        await keep(node, draft(1))
        admin.hset(HEAD, "e", "0fffffffffff" + "aaaaaaaa")  # begun far in the future
        first = await keep(node, draft(2))
        assert first.position.epoch.startswith("0fffffffffff")
        admin.delete(HEAD)
        second = await keep(node, draft(3))
        assert second.position.epoch.startswith("100000000000")
        assert second.offset == 1
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_a_node_that_was_away_does_not_begin_a_new_log(redis_server: RedisServer) -> None:
    """It has seen less, or an older epoch: that says nothing about this log."""
    a, b = journal(redis_server.url, "a"), journal(redis_server.url, "b")
    try:
        await keep(b, draft(1, node="b"))
        last = [await keep(a, draft(number)) for number in range(10)][-1]
        assert (await keep(b, draft(2, node="b"))).position == Position(last.position.epoch, last.offset + 1)
        assert (await keep(a, draft(10))).position.epoch == last.position.epoch
    finally:
        await asyncio.gather(a.close(), b.close())


@pytest.mark.asyncio
async def test_a_lost_last_message_is_found(
    redis_server: RedisServer, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept but never published to this node, and nothing comes after it that would show the hole."""
    monkeypatch.setattr(journals, "CHECK_SECONDS", 0.2)  # 3 there: that it comes by itself is what counts
    async with following(journal(redis_server.url, "a")) as here, following(journal(redis_server.url, "b")) as there:
        await there.journal.watch("/chat", "lobby")
        await there.journal.watch("/chat", "other")
        await keep(here.journal, draft(1, "lobby"))
        await there.until_count(1)
        publish = Scripts(LogLimits(), sharded=True)
        silent = publish.append.text.replace(b"redis.call('SPUBLISH', log .. channels[i], message)", b"")
        assert silent != publish.append.text
        admin.eval(silent, 6, *KEYS.of, _sealed(2, "lobby"), "a", 2, 0, "", 0, "", "01234567", "", token("lobby"))
        await there.until(lambda: bool(there.notices))
        assert there.notices == [NoticeKind.BEHIND]
        found = await read_all(there.journal, there.entries[-1].position)
        assert found is not None
        assert [entry.draft.id[1] for entry in found] == [2]


def _sealed(number: int, *rooms: str) -> bytes:
    return seal_draft(Signer(SECRETS), draft(number, *rooms))


@pytest.mark.asyncio
async def test_what_nobody_of_ours_signed_is_counted_and_dropped(redis_server: RedisServer, admin: Any) -> None:
    metrics = Metrics()
    async with following(journal(redis_server.url, "a", metrics=metrics)) as here:
        await here.journal.watch("/chat", None)
        first = await keep(here.journal, draft(1))
        channel = KEYS.channel(token(None))
        junk = [
            b"",
            b'{"method": "emit"}',
            b"\x80\x04pickle",
            b"E" + first.position.epoch.encode() + b" 2 1\n\xabR\x09x",
        ]
        for message in [*junk, b"V\n\xabR\x01" + bytes(60)]:
            say(admin, channel, message)
        stranger = journal(redis_server.url, "b", signing=("another secret",))
        await keep(stranger, draft(2, node="b"))
        await stranger.close()
        last = await keep(here.journal, draft(3))
        await here.until_heard(last)
        assert here.entries == [first, last]
        assert await read_all(here.journal, first.position._replace(offset=2)) == [last]
        assert await here.journal.since("/chat", first.position) is None, "perhaps it was for somebody who comes back"
        counted = {reason: metrics.bus_refused.value(reason) for reason in ("unsigned", "version", "signature")}
        assert counted == {"unsigned": 3, "version": 1, "signature": 3}


@pytest.mark.asyncio
async def test_what_is_repeated_by_somebody_without_a_key_has_no_effect(redis_server: RedisServer, admin: Any) -> None:
    """A genuine draft in a place of the stranger's choice: in another room's channel, later, in another log."""
    a, metrics = journal(redis_server.url, "a"), Metrics()
    async with following(journal(redis_server.url, "b", metrics=metrics)) as there:
        for room in ("one", "two"):
            await there.journal.watch("/chat", room)
        kept = [await keep(a, draft(number, "one")) for number in range(3)]
        await there.until_count(3)
        epoch = kept[0].position.epoch.encode()
        later = b"f" * 12 + b"x" * 8
        for head in (b"E%b 2 1" % epoch, b"E%b 9000 3" % epoch, b"E%b 1 0" % later, b"E%b 9000 0" % later):
            say(admin, KEYS.channel(token("one")), head + b"\n" + _sealed(1, "one"))
            say(admin, KEYS.channel(token("two")), head + b"\n" + _sealed(1, "one"))
        kept += [await keep(a, draft(number, "one")) for number in range(3, 6)]
        kept.append(await keep(there.journal, draft(1, "two", node="b")))
        await there.until_heard(kept[-1])
        assert there.entries == kept
        assert {each.position.epoch.encode() for each in kept} == {epoch}, "no log has begun anew"
        assert [each.offset for each in kept] == list(range(1, 8))
        assert (metrics.bus_refused.value("channel"), metrics.bus_refused.value("repeated")) == (4, 1)
        assert NoticeKind.EPOCH not in there.notices
    await a.close()


@pytest.mark.asyncio
async def test_a_volatile_emission_that_is_repeated_is_refused(redis_server: RedisServer, admin: Any) -> None:
    metrics = Metrics()
    sealed = [mark_volatile(seal_draft(Signer(SECRETS), draft(number, "one"), kept=False)) for number in range(3)]
    async with following(journal(redis_server.url, "b", metrics=metrics)) as there:
        for room in ("one", "two"):
            await there.journal.watch("/chat", room)
        for message in (*sealed[1:], *sealed):
            say(admin, KEYS.channel(token("one")), message)
        say(admin, KEYS.channel(token("two")), sealed[2])
        await there.until_heard(await keep(there.journal, draft(9, "one", node="b")))
        assert [told.draft.id[1] for told in there.told] == [1, 2]
        assert (metrics.bus_refused.value("repeated"), metrics.bus_refused.value("channel")) == (3, 1)


@pytest.mark.asyncio
async def test_a_false_notice_of_a_new_log_is_looked_into_and_not_believed(
    redis_server: RedisServer, admin: Any
) -> None:
    async with following(journal(redis_server.url, "a")) as here:
        await here.journal.watch("/chat", None)
        first = await keep(here.journal, draft(1))
        say(admin, KEYS.channel(token(None)), b"Nzzzzzzzzzzzzzzzzzzzz\n")
        last = await keep(here.journal, draft(2))
        await here.until_heard(last)
        assert last.position == Position(first.position.epoch, 2)
        assert here.notices == []


@pytest.mark.asyncio
async def test_bounds_of_what_is_asked(redis_server: RedisServer) -> None:
    node = journal(redis_server.url, "a")
    try:
        with pytest.raises(LimitError) as failure:
            await keep(node, draft(1, body=bytes(DRAFT_LIMIT_BYTES)))
        assert failure.value.code == "too_big"
        kept = await keep(node, draft(2, body=bytes(DRAFT_LIMIT_BYTES - 1_000)))
        assert await read_all(node, Position(kept.position.epoch, 0)) == [kept]
        assert await node.since("/chat", Position(kept.position.epoch, (1 << 63) - 1)) is None
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_a_closed_journal_says_so(redis_server: RedisServer) -> None:
    async with following(journal(redis_server.url, "a")) as here:
        node: RedisJournal = here.journal
        await node.watch("/chat", None)
        await node.close()
        await node.close()
        assert here.heard == []
        for call in (node.append(draft(1)), node.newest("/chat"), node.watch("/chat", "x"), node.ping()):
            with pytest.raises(OutsideError):
                await call
        await node.unwatch("/chat", None)


@pytest.mark.asyncio
async def test_closing_what_was_never_used() -> None:
    unused = journal("redis://127.0.0.1:1", "a")
    await unused.close()
    with pytest.raises(OutsideError, match="closed"):
        await unused.newest("/chat")


def test_a_journal_without_a_secret_is_refused() -> None:
    with pytest.raises(UsageError, match="secret"):
        journal("redis://127.0.0.1:1", "a", signing=())


@pytest.mark.asyncio
async def test_a_user_who_may_not_load_scripts(redis_server: RedisServer, admin: Any) -> None:
    may = {"keys": ["*"], "channels": ["*"], "commands": ["+@all", "-script"]}
    admin.acl_setuser("poor", enabled=True, passwords=["+pw"], **may)
    node = journal(f"redis://poor:pw@127.0.0.1:{redis_server.port}", "a")
    try:
        assert [(await keep(node, draft(number))).offset for number in range(3)] == [1, 2, 3]
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_a_refusal_that_passes_says_so(redis_server: RedisServer, admin: Any) -> None:
    """Full memory ends when somebody acts; a missing permission does not end by being asked again. What is said is
    offered again all the same: who hears it is not to depend on when somebody acts."""
    admin.acl_setuser("poor", enabled=True, passwords=["+pw"], keys=["*empty*"], channels=["*"], commands=["+@all"])
    node, poor = journal(redis_server.url, "a"), journal(f"redis://poor:pw@127.0.0.1:{redis_server.port}", "b")
    try:
        first = await keep(node, draft(1))
        admin.config_set("maxmemory", 1)
        for call in (node.append(draft(2)), poor.newest("/empty")):
            with pytest.raises(OutsideError) as failure:
                await call
            assert failure.value.retry_after is not None
        admin.config_set("maxmemory", 0)
        assert (await keep(node, draft(2))).position == Position(first.position.epoch, 2)
        for call, again in ((poor.newest("/chat"), False), (poor.append(draft(1, node="b")), True)):
            with pytest.raises(OutsideError, match="no permission") as failure:
                await call
            assert (failure.value.retry_after is not None) is again
    finally:
        await asyncio.gather(node.close(), poor.close())


@pytest.mark.asyncio
async def test_servers_without_sharded_channels(redis_server: RedisServer, admin: Any) -> None:
    """Redis before 7, and users who may not use them: plain channels carry everything."""
    admin.acl_setuser(
        "old", enabled=True, passwords=["+pw"], keys=["*"], channels=["*"], commands=["+@all", "-command"]
    )
    url = f"redis://old:pw@127.0.0.1:{redis_server.port}"
    async with following(journal(url, "a")) as here, following(journal(url, "b")) as there:
        await there.journal.watch("/chat", "lobby")
        assert admin.pubsub_numsub(KEYS.channel(token("lobby"))) == [(KEYS.channel(token("lobby")), 1)]
        kept = await keep(here.journal, draft(1, "lobby"))
        await here.journal.tell(draft(2, "lobby"))
        await there.until(lambda: len(there.heard) == 2)
        assert there.entries == [kept]


@pytest.mark.asyncio
async def test_what_a_changed_password_refuses_may_be_offered_again(redis_server: RedisServer, admin: Any) -> None:
    """Else what is said until an operator has acted would be lost for every other instance."""
    node = journal(redis_server.url, "a")
    try:
        first = await keep(node, draft(1))
        admin.config_set("requirepass", "another")
        admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        failures: list[OutsideError] = []
        while not failures or "password" not in failures[-1].message:  # the first may find its link cut
            assert len(failures) < 5, failures
            with pytest.raises(OutsideError) as failure:
                await node.append(draft(2))
            failures.append(failure.value)
        assert failures[-1].retry_after is not None
        admin.config_set("requirepass", "")
        assert (await keep(node, draft(2))).position == Position(first.position.epoch, 2)
    finally:
        await node.close()
