"""Sessions on a real Redis: the contract, and what a broken way and other writers may do."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as some

from adapters.redis.address import Address
from adapters.redis.keys import node_channel
from adapters.redis.seal import RefusedMessage, Signer
from adapters.redis.session_record import name_of, read_claimed, read_session, seal_record
from adapters.redis.session_scripts import CHANGES_LIMIT
from adapters.redis.sessions import RedisSessions
from realtime.errors import OutsideError
from realtime.journal.positions import Position
from realtime.journal.resume import Record, Stay
from realtime.metrics import Metrics
from realtime.ports import Claimed, Expired
from realtime.testing.alone import alone
from realtime.testing.sessions import SessionsContract
from tests.adapters.journals import SECRETS, stubbornly
from tests.redis_server import RedisServer

pytestmark = pytest.mark.process
SIGNER = Signer(SECRETS)
LONG_SECONDS = 600.0
Result = TypeVar("Result")


async def soon(awaitable: Awaitable[Result]) -> Result:
    return await asyncio.wait_for(awaitable, 15)


def sessions(url: str, node: str, *, metrics: Metrics | None = None, **options: Any) -> RedisSessions:
    given = {"prefix": "test", "signing": SECRETS, **options}
    return RedisSessions(Address.parse(url), node, metrics or Metrics(), **given)


async def hears(url: str, node: str, prefix: str = "test") -> None:
    """Until the node's channel has its subscriber."""
    channel = node_channel(prefix, node)
    client = Address.parse(url)
    probe = RedisSessions(client, "probe", Metrics(), prefix=prefix, signing=SECRETS)
    try:
        async with asyncio.timeout(10):
            while True:
                answer = await probe._shards.send(b"x", b"PUBSUB", b"NUMSUB", channel)
                if answer[1] > 0:
                    return
    finally:
        await probe.close()


class TestContract(SessionsContract):
    @pytest.fixture(autouse=True)
    def _server(self, shared_redis: RedisServer) -> None:
        self._url = shared_redis.url

    def sessions(self, node: str) -> RedisSessions:
        return sessions(self._url, node, prefix=self.place)


def record(name: str, *rooms: str, node: str = "a", namespace: str = "/chat", offset: int = 5) -> Record:
    """A client called so, in these rooms since the offset 1."""
    return Record(
        pid=f"pid of {name}",
        sid=f"sid of {name}",
        namespace=namespace,
        node=node,
        user=name,
        data=b'{"name": 1}',
        stays=tuple(Stay(room, 1) for room in rooms),
        base=Position("abc", 0),
        sent=Position("abc", 2),
        position=Position("abc", offset),
    )


async def _take(notices: AsyncIterator[Claimed | Expired], count: int) -> list[Claimed | Expired]:
    return [await anext(notices) for _ in range(count)]


class TestFurther:
    """More of what the port promises."""

    @pytest.fixture(autouse=True)
    def _server(self, shared_redis: RedisServer) -> None:
        self._url = shared_redis.url
        self.place = f"further-{uuid.uuid4()}"

    @asynccontextmanager
    async def _nodes(self, *names: str) -> AsyncIterator[list[RedisSessions]]:
        nodes = [sessions(self._url, name, prefix=self.place) for name in names]
        try:
            yield nodes
        finally:
            await asyncio.gather(*(node.close() for node in nodes))

    @alone
    async def test_a_record_comes_back_as_it_was(self) -> None:
        odd = record("odd", "", "é", "a b", "a\nb", "%0A", "x" * 500, "\U0001f600", namespace="/a\nb")
        stays = (*odd.stays, Stay("left", 2, 7), Stay("asked", 3, None, True))
        odd = odd._replace(data=b'{"deep": [{"a": "\xc3\xa9"}]}', stays=stays, incomplete="lost_bus")
        async with self._nodes("a") as [node]:
            for kept in (record("plain"), odd):
                assert not await soon(node.keep([kept], LONG_SECONDS))
                assert await soon(node.claim(kept.pid, "a")) == kept

    @alone
    async def test_what_is_kept_last_counts(self) -> None:
        async with self._nodes("a") as [node]:
            for offset in (5, 9, 12):
                assert not await soon(node.keep([record("alice", "lobby", offset=offset)], LONG_SECONDS))
            assert await soon(node.claim("pid of alice", "a")) == record("alice", "lobby", offset=12)

    @alone
    async def test_many_are_kept_at_once(self) -> None:
        records = [record(str(number), "lobby") for number in range(1_000)]
        async with self._nodes("a") as [node]:
            assert not await soon(node.keep(records, LONG_SECONDS))
            assert not await soon(node.keep([], LONG_SECONDS))
            for number in (0, 500, 999):
                assert await soon(node.claim(records[number].pid, "a")) == records[number]

    @alone
    async def test_nobody_has_an_unknown_session(self) -> None:
        async with self._nodes("a") as [node]:
            for pid in ("", "pid of alice", "é", "x" * 10_000):
                assert await soon(node.claim(pid, "a")) is None

    @alone
    async def test_of_two_claims_one_wins(self) -> None:
        async with self._nodes("a") as [node]:
            for number in range(10):
                kept = record(str(number))
                await soon(node.keep([kept], LONG_SECONDS))
                claims = await soon(asyncio.gather(*(node.claim(kept.pid, "a") for _ in range(5))))
                assert [claim for claim in claims if claim is not None] == [kept]

    @alone
    async def test_whoever_claimed_and_keeps_it_may_be_claimed_from(self) -> None:
        async with self._nodes("a") as [node]:
            for _ in range(3):
                assert not await soon(node.keep([record("alice")], LONG_SECONDS))
                assert await soon(node.claim("pid of alice", "a")) == record("alice")
                assert await soon(node.claim("pid of alice", "a")) is None

    @alone
    async def test_what_is_forgotten_does_not_come_back(self) -> None:
        """Not even by a keep that was on its way when the client left."""
        async with self._nodes("a") as [node]:
            await soon(node.keep([record("alice"), record("bob")], LONG_SECONDS))
            await soon(node.forget(["pid of alice", "nobody"]))
            assert list(await soon(node.keep([record("alice"), record("bob")], LONG_SECONDS))) == ["pid of alice"]
            assert await soon(node.claim("pid of alice", "a")) is None
            assert await soon(node.claim("pid of bob", "a")) == record("bob")

    @alone
    async def test_a_session_that_nobody_keeps_expires_and_is_told(self) -> None:
        async with self._nodes("a") as [node]:
            notices = node.notices()
            told = asyncio.ensure_future(_take(notices, 2))
            kept = [record("alice"), record("bob"), record("carol"), record("dave")]
            await soon(node.keep(kept, 0.3))
            await soon(node.keep(kept[1:2], LONG_SECONDS))
            await soon(node.forget([kept[2].pid]))
            await soon(node.claim(kept[3].pid, "elsewhere"))
            assert set(await soon(told)) == {Expired(kept[0]), Claimed(kept[3].pid)}
            assert await soon(node.claim(kept[0].pid, "a")) is None
            assert await soon(node.claim(kept[1].pid, "a")) == kept[1]

    @alone
    async def test_rooms_are_entered_and_left_for_a_client_that_is_away(self) -> None:
        async with self._nodes("a") as [node]:
            await soon(node.keep([record("alice", "lobby"), record("bob")], LONG_SECONDS))
            assert await soon(node.enter("/chat", "sid of alice", "news", 7))
            assert await soon(node.enter("/chat", "sid of alice", "news", 8))  # it is in it already
            assert await soon(node.leave("/chat", "sid of alice", "lobby", 9)) == 1
            assert await soon(node.leave("/chat", "sid of alice", "lobby", 10)) == 0
            assert await soon(node.enter("/chat", "sid of alice", "lobby", 11))
            assert not await soon(node.enter("/chat", "sid of nobody", "news", 7))
            assert not await soon(node.enter("/other", "sid of alice", "news", 7))
            found = await soon(node.claim("pid of alice", "a"))
            assert found is not None
            assert found.stays == (Stay("lobby", 1, 9), Stay("news", 7), Stay("lobby", 11))
            assert await soon(node.claim("pid of bob", "a")) == record("bob")

    @alone
    async def test_a_room_is_left_by_each(self) -> None:
        async with self._nodes("a") as [node]:
            kept = [record(str(number), *(["lobby"] if number % 2 else ["lob", "by"])) for number in range(10)]
            other = record("other", "lobby", namespace="/other")
            await soon(node.keep([*kept, other], LONG_SECONDS))
            await soon(node.enter("/chat", "sid of 0", "lobby", 6))
            assert await soon(node.leave("/chat", None, "lobby", 8)) == 6
            assert await soon(node.leave("/chat", None, "lobby", 9)) == 0
            zero, one = [await soon(node.claim(kept[number].pid, "a")) for number in (0, 1)]
            assert zero is not None
            assert one is not None
            assert zero.stays == (Stay("lob", 1), Stay("by", 1), Stay("lobby", 6, 8))
            assert one.stays == (Stay("lobby", 1, 8),)
            assert await soon(node.claim(other.pid, "a")) == other

    @alone
    async def test_a_room_is_forgotten_with_all_in_it(self) -> None:
        async with self._nodes("a") as [node]:
            kept = [record("alice", "lobby"), record("bob", "lobby", "news"), record("carol", "news")]
            other = record("dave", "lobby", namespace="/other")
            await soon(node.keep([*kept, other], LONG_SECONDS))
            assert await soon(node.forget_room("/chat", "lobby")) == 2
            assert await soon(node.forget_room("/chat", "sid of carol")) == 1  # everybody has a room of that name
            assert await soon(node.forget_room("/chat", "lobby")) == 0
            assert [await soon(node.claim(one.pid, "a")) for one in kept] == [None] * 3
            assert await soon(node.claim(other.pid, "a")) == other

    @alone
    async def test_a_keep_says_in_which_rooms_the_client_is(self) -> None:
        """Whoever has the client knows better than what was noted for it."""
        async with self._nodes("a") as [node]:
            await soon(node.keep([record("alice", "lobby")], LONG_SECONDS))
            await soon(node.enter("/chat", "sid of alice", "news", 7))
            await soon(node.keep([record("alice", "own")], LONG_SECONDS))
            assert await soon(node.leave("/chat", None, "news", 9)) == 0
            assert await soon(node.leave("/chat", None, "lobby", 9)) == 0
            assert await soon(node.claim("pid of alice", "a")) == record("alice", "own")

    @alone
    async def test_a_client_comes_back_on_another_node_and_the_first_is_told(self) -> None:
        async with self._nodes("a", "b") as [here, there]:
            await soon(here.keep([record("alice", "lobby"), record("bob")], LONG_SECONDS))
            notices = here.notices()
            told = asyncio.ensure_future(anext(notices))
            assert await soon(there.claim("pid of alice", "b")) == record("alice", "lobby")
            assert await soon(told) == Claimed("pid of alice")
            kept = record("alice", "lobby", node="b", offset=9)
            assert not await soon(there.keep([kept], LONG_SECONDS))
            late = [record("alice", "lobby", offset=20), record("bob", offset=20)]
            assert list(await soon(here.keep(late, LONG_SECONDS))) == ["pid of alice"]
            assert await soon(there.claim("pid of alice", "b")) == kept

    @alone
    async def test_of_many_claims_on_many_nodes_one_wins(self) -> None:
        names = ["a", "b", "c", "d"]
        async with self._nodes(*names) as nodes:
            for number in range(10):
                kept = record(str(number))
                await soon(nodes[0].keep([kept], LONG_SECONDS))
                claims = [node.claim(kept.pid, name) for node, name in zip(nodes, names, strict=True) for _ in range(3)]
                won = [claim for claim in await soon(asyncio.gather(*claims)) if claim is not None]
                assert won == [kept]

    @alone
    async def test_rooms_are_changed_from_any_node(self) -> None:
        async with self._nodes("a", "b", "c") as [here, there, elsewhere]:
            await soon(here.keep([record("alice", "lobby")], LONG_SECONDS))
            assert await soon(there.enter("/chat", "sid of alice", "news", 7))
            assert await soon(there.leave("/chat", None, "lobby", 8)) == 1
            found = await soon(elsewhere.claim("pid of alice", "c"))
            assert found is not None
            assert found.stays == (Stay("lobby", 1, 8), Stay("news", 7))

    @alone
    async def test_a_node_that_closes_leaves_its_clients_sessions(self) -> None:
        async with self._nodes("a", "b") as [here, there]:
            await soon(here.keep([record("alice")], LONG_SECONDS))
            await soon(here.close())
            assert await soon(there.claim("pid of alice", "b")) == record("alice")

    @alone
    async def test_another_place_has_sessions_of_its_own(self) -> None:
        async with self._nodes("a") as [here]:
            await soon(here.keep([record("alice")], LONG_SECONDS))
            self.place += "-other"
            async with self._nodes("a") as [there]:
                assert await soon(there.claim("pid of alice", "a")) is None


@pytest.mark.asyncio
async def test_nothing_shows_a_secret_and_everything_expires(redis_server: RedisServer) -> None:
    node = sessions(redis_server.url, "a")
    try:
        await node.keep([record("alice", "lobby"), record("bob")], 60)
        await node.enter("/chat", "sid of bob", "lobby", 7)
        await node.claim("pid of alice", "b")
        await node.forget(["pid of bob"])
        with redis_server.admin() as admin:
            keys = admin.keys("*")
            assert len(keys) >= 4
            for key in keys:
                assert b"pid of" not in key
                assert 0 < admin.pttl(key) <= (3_600_000 if b":beat:" in key else 300_000), key
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_the_oldest_go_when_there_are_too_many(redis_server: RedisServer) -> None:
    metrics = Metrics()
    node = sessions(redis_server.url, "a", metrics=metrics, limit=160)
    try:
        await node.keep([record(f"old {number}") for number in range(500)], 60)
        await node.keep([record(f"new {number}") for number in range(20)], 120)
        dropped = metrics.drops.value("sessions")
        assert dropped >= 340
        with redis_server.admin() as admin:
            assert len(admin.keys("*:p:*")) == 520 - dropped <= 160
            assert sum(admin.hlen(key) for key in admin.keys("*:sids")) == 520 - dropped
        found = await asyncio.gather(*(node.claim(f"pid of new {number}", "a") for number in range(20)))
        assert all(found)
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_what_has_expired_leaves_nothing_behind(redis_server: RedisServer) -> None:
    node = sessions(redis_server.url, "a")
    try:
        await node.keep([record(str(number), "lobby") for number in range(100)], 0.05)
        with redis_server.admin() as admin:
            async with asyncio.timeout(10):
                while sum(admin.hlen(key) for key in admin.keys("*:who")) > 16:
                    await node.keep([record(f"other {number}", "lobby") for number in range(16)], 0.05)
                    await asyncio.to_thread(admin.ping)
            assert 0 < sum(admin.hlen(key) for key in admin.keys("*:who")) <= 16
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_too_many_changes_cannot_be_proved_complete(redis_server: RedisServer) -> None:
    node = sessions(redis_server.url, "a")
    try:
        await node.keep([record("alice")], LONG_SECONDS)
        for start in range(0, CHANGES_LIMIT + 1, 20):  # each asks all buckets, and has a second for it
            rooms = [f"room {start + n}" for n in range(20)]
            await asyncio.gather(*(stubbornly(partial(node.enter, "/chat", "sid of alice", room, 7)) for room in rooms))
        found = await stubbornly(partial(node.claim, "pid of alice", "a"))
        assert found is not None
        assert found.incomplete == "changes"
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_redis_away_for_a_moment(redis_server: RedisServer) -> None:
    """Calls fail in time; what cannot be asked about is not told to have expired."""
    here, there = sessions(redis_server.url, "a"), sessions(redis_server.url, "b")
    told: list[Claimed | Expired] = []

    async def listen() -> None:
        notices = here.notices()
        while (notice := await anext(notices, None)) is not None:
            told.append(notice)

    listening = asyncio.ensure_future(listen())
    try:
        await here.keep([record("alice")], 0.2)
        redis_server.freeze()
        with pytest.raises(OutsideError):
            await here.keep([record("bob")], LONG_SECONDS)
        with pytest.raises(OutsideError):
            await there.claim("pid of alice", "b")
        assert told == []
        redis_server.thaw()
        async with asyncio.timeout(15):
            while not told:
                await stubbornly(lambda: here._shards.send(b"x", b"PING"))
        assert told == [Expired(record("alice"))]
        assert not await stubbornly(lambda: here.keep([record("bob")], LONG_SECONDS))
        await hears(redis_server.url, "a")
        assert await stubbornly(lambda: there.claim("pid of bob", "b")) == record("bob")
        async with asyncio.timeout(15):
            while len(told) < 2:
                await stubbornly(lambda: here._shards.send(b"x", b"PING"))
        assert told[1] == Claimed("pid of bob")
    finally:
        redis_server.thaw()
        await asyncio.gather(here.close(), there.close())
        await soon(listening)


@pytest.mark.asyncio
async def test_what_nobody_of_ours_signed_is_counted_and_dropped(redis_server: RedisServer) -> None:
    metrics = Metrics()
    node = sessions(redis_server.url, "a", metrics=metrics)
    notices = node.notices()
    told = asyncio.ensure_future(anext(notices))
    try:
        await node.keep([record("alice"), record("bob")], LONG_SECONDS)
        await hears(redis_server.url, "a")
        with redis_server.admin() as admin:
            for junk in (b"", b"junk", b"\xabR\x01" + bytes(40), SIGNER.seal(b"S", None), SIGNER.seal(b"C", None)):
                admin.publish(node_channel("test", "a"), junk)
            [key] = admin.keys("*:p:" + name_of("pid of alice")[1].decode())
            admin.hset(key, "r", b"junk")
        assert await node.claim("pid of alice", "a") is None
        await node.claim("pid of bob", "b")
        assert await soon(told) == Claimed("pid of bob")
        counted = {reason: metrics.bus_refused.value(reason) for reason in ("unsigned", "signature", "garbled")}
        assert counted == {"unsigned": 3, "signature": 1, "garbled": 2}
    finally:
        await node.close()


@given(some.dictionaries(some.sampled_from([b"r", b"c", b"1", b"2", b"s"]), some.binary(max_size=60)))
def test_arbitrary_fields_are_refused_and_nothing_else(fields: dict[bytes, bytes]) -> None:
    with pytest.raises(RefusedMessage):
        read_session(SIGNER, fields, "pid")


@given(
    some.dictionaries(
        some.sampled_from([b"c", b"1", b"2"]), some.binary(max_size=4) | some.just(SIGNER.seal(b"R", [1]))
    )
)
def test_arbitrary_changes_are_refused_or_read(fields: dict[bytes, bytes]) -> None:
    kept = record("alice", "lobby")
    try:
        found = read_session(SIGNER, {b"r": seal_record(SIGNER, kept), **fields}, kept.pid)
    except RefusedMessage as refused:
        assert refused.reason in ("unsigned", "version", "signature", "garbled")
    else:
        assert found._replace(incomplete=None) == kept


@given(some.binary(max_size=100))
def test_arbitrary_notices_are_refused(data: bytes) -> None:
    with pytest.raises(RefusedMessage):
        read_claimed(SIGNER, data)


@pytest.mark.parametrize("header", [None, [], ["sid"] * 7, [1, "/chat", "a", "u", [], [["e", 1]] * 3, None]])
def test_a_record_of_another_form(header: object) -> None:
    sealed = SIGNER.seal(b"S", header, (b"pid", b"{}"))
    with pytest.raises(RefusedMessage) as refusal:
        read_session(SIGNER, {b"r": sealed, b"c": b"0"}, "pid")
    assert refusal.value.reason == "garbled"


@pytest.mark.asyncio
async def test_who_lies_here_for_a_short_time_takes_nobody_else_out_of_the_rooms(redis_server: RedisServer) -> None:
    node = sessions(redis_server.url, "a")
    try:
        bucket = name_of("pid of alice")[0]
        names = (f"short {number}" for number in range(10_000))
        short = next(name for name in names if name_of(f"pid of {name}")[0] == bucket)
        await soon(node.keep([record("alice", "lobby")], LONG_SECONDS))
        await soon(node.keep([record(short)], 0.05))
        key = node._keys[bucket][0]
        assert await soon(node._shards.send(key, b"PTTL", key)) > 1_000 * LONG_SECONDS
        assert await soon(node.forget_room("/chat", "lobby")) == 1
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_clients_with_much_data_are_written_all_the_same(redis_server: RedisServer) -> None:
    """Else nobody's session would be: what was not taken together is tried again together."""
    node = sessions(redis_server.url, "a")
    try:
        data = b'"%b"' % (b"x" * 200_000)
        records = [record(str(number))._replace(data=data) for number in range(500)]
        assert not await soon(node.keep(records, LONG_SECONDS))
        found = await soon(node.look(records[-1].pid))
        assert found is not None
        assert found.data == data
    finally:
        await node.close()
