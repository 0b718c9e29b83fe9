"""Idempotency keys on a real Redis: the contract, and what Redis and other nodes may do meanwhile."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from pydantic import SecretStr

from adapters.redis import answers as module
from adapters.redis import signing_keys
from adapters.redis.address import Address
from adapters.redis.answers import WINDOW_SECONDS, RedisAnswers
from realtime.errors import OutsideError, Refusal, UsageError
from realtime.journal.positions import Entry, Position
from realtime.metrics import Metrics
from realtime.plug import REDIS, find
from realtime.settings import BUILT_IN_SECRET, Settings
from realtime.testing.answers import AnswersContract
from tests.adapters.journals import SECRETS, draft, journal, keep, read_all, stubbornly
from tests.redis_server import RedisServer

pytestmark = pytest.mark.process


def answers(
    url: str, prefix: str = "test", metrics: Metrics | None = None, seconds: float = WINDOW_SECONDS
) -> RedisAnswers:
    return RedisAnswers(Address.parse(url), metrics or Metrics(), prefix=prefix, signing=SECRETS, seconds=seconds)


class TestContract(AnswersContract):
    @pytest.fixture(autouse=True)
    def _server(self, shared_redis: RedisServer) -> None:
        self._url = shared_redis.url

    def answers(self) -> RedisAnswers:
        return answers(self._url, self.place)


@pytest.mark.asyncio
async def test_of_many_on_many_nodes_one_works(redis_server: RedisServer) -> None:
    nodes = [answers(redis_server.url) for _ in range(4)]
    workers = 0

    async def ask(node: RedisAnswers) -> bytes:
        nonlocal workers
        answer = await node.begin("key", b"body")
        if answer is None:
            workers += 1
            await node.finish("key", b"answer")
            return b"answer"
        return answer

    try:
        asked = [ask(node) for node in nodes for _ in range(10)]
        assert await asyncio.gather(*asked) == [b"answer"] * 40
        assert workers == 1
        for node in nodes:
            with pytest.raises(Refusal, match="another body"):
                await node.begin("key", b"other")
    finally:
        await asyncio.gather(*(node.close() for node in nodes))


@pytest.mark.parametrize("key", ["", "A", "é", "e\u0301", "a{b}c", "\n", "x" * 5_000, "\U0001f600", "\ud800"])
@pytest.mark.asyncio
async def test_every_key_is_its_own(shared_redis: RedisServer, key: str) -> None:
    prefix = f"own-{uuid.uuid4()}"
    here, there = answers(shared_redis.url, prefix), answers(shared_redis.url, prefix)
    try:
        assert await here.begin("a", b"") is None
        await here.finish("a", b"of a")
        assert await here.begin(key, b"body") is None
        await here.finish(key, bytes(range(256)))
        assert await there.begin(key, b"body") == bytes(range(256))
        assert await there.begin("a", b"") == b"of a"
    finally:
        await asyncio.gather(here.close(), there.close())


@pytest.mark.asyncio
async def test_after_its_window_a_key_is_new(redis_server: RedisServer) -> None:
    node = answers(redis_server.url, seconds=0.3)
    try:
        assert await node.begin("key", b"body") is None
        await node.finish("key", b"answer")
        assert await node.begin("key", b"body") == b"answer"
        async with asyncio.timeout(10):
            while await node.begin("key", b"body") == b"answer":
                pass
        await node.finish("key", b"another answer")
        assert await node.begin("key", b"body") == b"another answer"
    finally:
        await node.close()


@pytest.mark.parametrize("kind", ["journal", "sessions", "answers"])
@pytest.mark.parametrize("scheme", [scheme for scheme in REDIS if scheme != "unix"])
def test_a_url_finds_what_is_behind_it(kind: str, scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:1" + ("/0/main" if "sentinel" in scheme else "")
    opened = find(f"{kind}+{scheme}")(url, "a", Settings(), Metrics())
    assert hasattr(opened, "close")
    with pytest.raises(UsageError, match="cannot be read"):
        find(f"{kind}+{scheme}")(f"{scheme}://:pw@127.0.0.1:pw", "a", Settings(), Metrics())


def test_keys_that_are_no_secret_are_refused_in_production() -> None:
    assert signing_keys(Settings()) == [BUILT_IN_SECRET]
    assert signing_keys(Settings(bus_keys=SecretStr("one, other,"))) == ["one", "other"]
    with pytest.raises(UsageError, match="REALTIME_BUS_KEYS is not set"):
        signing_keys(Settings(environment="production"))
    with pytest.raises(UsageError, match="everybody knows"):
        signing_keys(Settings(environment="production", bus_keys=SecretStr(BUILT_IN_SECRET)))
    with pytest.raises(UsageError, match="key 2 has 5 bytes, at least 32"):
        signing_keys(Settings(environment="production", bus_keys=SecretStr("x" * 40 + ",short")))
    assert signing_keys(Settings(environment="production", bus_keys=SecretStr("x" * 32))) == ["x" * 32]


@pytest.mark.asyncio
async def test_a_key_is_rotated_under_way(redis_server: RedisServer) -> None:
    """What was kept with either key is read at each step, by whoever has come further and by whoever has not."""
    steps = [("old",), ("old", "new"), ("new", "old"), ("new",)]
    metrics = Metrics()
    logs = [journal(redis_server.url, str(place), signing=keys, metrics=metrics) for place, keys in enumerate(steps)]
    stores = [
        RedisAnswers(Address.parse(redis_server.url), metrics, prefix="test", signing=keys, seconds=WINDOW_SECONDS)
        for keys in steps
    ]
    kept: list[Entry] = []
    try:
        for place, (log, store) in enumerate(zip(logs[:3], stores[:3], strict=True)):
            kept.append(await keep(log, draft(1, node=str(place))))
            assert await store.begin(f"of {place}", b"body") is None
            await store.finish(f"of {place}", b"answer")
            start = Position(kept[0].position.epoch, 0)
            for other in range(max(0, place - 1), place + 2):  # one instance after the other is restarted
                assert await read_all(logs[other], start if other < 3 else kept[1].position) == kept[2 * (other == 3) :]
                assert await stores[other].begin(f"of {place}", b"body") == b"answer"
        assert metrics.bus_refused.value("signature") == 0
        assert await read_all(logs[3], kept[1].position) == [kept[2]], "once what the old one signed has aged out"
        assert await stores[3].begin("of 2", b"body") == b"answer"
        beginning = Position(kept[0].position.epoch, 0)
        assert await read_all(logs[3], beginning) is None, "taken away too early: gone, and not passed over"
        assert metrics.bus_refused.value("signature") > 0
    finally:
        await asyncio.gather(*(log.close() for log in logs), *(store.close() for store in stores))


@pytest.mark.asyncio
async def test_a_node_that_was_killed_holds_a_key_for_a_while(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORK_SECONDS", 0.3)
    dead, living = answers(redis_server.url), answers(redis_server.url)
    try:
        assert await dead.begin("key", b"body") is None
        with pytest.raises(OutsideError, match="failed"):
            await living.begin("key", b"body")
        assert await living.begin("key", b"body") is None  # after that while
        with redis_server.admin() as admin:
            [key] = admin.keys("*")
            before = admin.get(key)
            await dead.finish("key", b"too late")  # it is not the dead one's any more
            assert admin.get(key) == before
        await living.finish("key", b"answer")
        assert await dead.begin("key", b"body") == b"answer"
    finally:
        await asyncio.gather(dead.close(), living.close())


@pytest.mark.asyncio
async def test_waiting_has_an_end(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.2)
    here, there = answers(redis_server.url), answers(redis_server.url)
    try:
        assert await here.begin("key", b"body") is None
        with pytest.raises(OutsideError, match="not answered yet") as failure:
            await there.begin("key", b"body")
        assert failure.value.retry_after is not None
    finally:
        await asyncio.gather(here.close(), there.close())


@pytest.mark.asyncio
async def test_redis_away(redis_server: RedisServer) -> None:
    node = answers(redis_server.url)
    try:
        assert await node.begin("key", b"body") is None
        redis_server.stop()
        with pytest.raises(OutsideError):
            await node.finish("key", b"answer")
        with pytest.raises(OutsideError):
            await node.begin("other", b"body")
        await node.abandon("other")
        redis_server.start()
        assert await stubbornly(lambda: node.begin("key", b"body")) is None
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_everything_expires_and_no_key_shows_what_a_client_sent(redis_server: RedisServer) -> None:
    node = answers(redis_server.url)
    try:
        for number in range(3):
            await node.begin(f"secret {number}", b"body")
        await node.finish("secret 1", b"answer")
        await node.abandon("secret 2")
        with redis_server.admin() as admin:
            keys = admin.keys("*")
            assert len(keys) == 2
            assert all(0 < admin.pttl(key) <= 600_000 and b"secret" not in key for key in keys)
    finally:
        await node.close()


@pytest.mark.asyncio
async def test_what_somebody_else_put_there_is_no_answer(redis_server: RedisServer) -> None:
    metrics = Metrics()
    node = answers(redis_server.url, metrics=metrics)
    try:
        await node.begin("key", b"body")
        with redis_server.admin() as admin:
            [key] = admin.keys("*")
            admin.set(key, b"junk")
            with pytest.raises(OutsideError, match="no answer of ours"):
                await node.begin("key", b"body")
        assert metrics.bus_refused.value("unsigned") == 1
        await node.finish("never begun", b"x")
    finally:
        await node.close()
