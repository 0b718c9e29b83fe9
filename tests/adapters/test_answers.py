"""Answers for several instances: what is remembered where, and what happens while the store is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from adapters import answers as module
from adapters.answers import ALONE, SharedAnswers, open_answers
from adapters.memory import MemoryAnswers
from realtime.errors import OutsideError, UsageError
from realtime.metrics import Metrics
from realtime.ports import Answers
from realtime.settings import Settings
from realtime.testing.answers import AnswersContract
from tests.redis_server import RedisServer


class Store(MemoryAnswers):
    """What several instances share, and may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.asked = 0

    async def begin(self, key: str, body: bytes) -> bytes | None:
        self._check()
        return await super().begin(key, body)

    async def finish(self, key: str, answer: bytes) -> None:
        self._check()
        await super().finish(key, answer)

    def _check(self) -> None:
        self.asked += 1
        if self.away:
            raise OutsideError("away")


def instance(store: Answers, *, alone: bool = False) -> tuple[SharedAnswers, Metrics]:
    metrics = Metrics()
    return SharedAnswers(lambda: store, MemoryAnswers(), metrics, alone=alone), metrics


def settings(**changes: Any) -> Settings:
    return Settings(_env_prefix="NOBODY_SETS_THESE_", **changes)


class TestBothTogether(AnswersContract):
    def answers(self) -> Answers:
        return instance(Store())[0]


class TestWhileTheStoreIsAway(AnswersContract):
    def answers(self) -> Answers:
        store = Store()
        store.away = True
        return instance(store, alone=True)[0]


@pytest.mark.process
class TestOnRedis(AnswersContract):
    @pytest.fixture(autouse=True)
    def _server(self, shared_redis: RedisServer) -> None:
        self._url = shared_redis.url

    def answers(self) -> Answers:
        return open_answers(settings(redis_url=self._url, redis_channel=self.place), Metrics())


@pytest.mark.asyncio
async def test_another_instance_gives_the_same_answer_and_this_one_asks_nobody() -> None:
    store = Store()
    (here, _), (there, _) = instance(store), instance(store)
    assert await here.begin("key", b"body") is None
    waiting = asyncio.ensure_future(there.begin("key", b"body"))
    await asyncio.wait([waiting], timeout=0)
    await here.finish("key", b"answer")
    assert await asyncio.wait_for(waiting, 5) == b"answer"
    asked = store.asked
    for _ in range(2):
        assert await here.begin("key", b"body") == await there.begin("key", b"body") == b"answer"
    assert store.asked == asked


@pytest.mark.asyncio
async def test_who_is_not_to_go_on_alone_is_refused_and_may_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    (here, metrics), (there, _) = instance(store), instance(store)
    store.away = True
    with pytest.raises(OutsideError, match="cannot be known") as refused:
        await here.begin("key", b"body")
    assert (refused.value.code, refused.value.retry_after) == ("unavailable", 1.0)
    store.away = False
    with pytest.raises(OutsideError, match="cannot be known"):
        await here.begin("another", b"body")
    assert store.asked == 1, "one that has just failed is left in peace for a second"
    monkeypatch.setattr(module, "monotonic", later(time.monotonic, 1.1))
    assert await here.begin("key", b"another body now") is None
    await here.finish("key", b"answer")
    assert await there.begin("key", b"another body now") == b"answer"
    assert metrics.drops.value(ALONE) == 0


@pytest.mark.asyncio
async def test_who_may_goes_on_alone_and_what_was_known_before_is_known_still(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    (here, metrics), (there, _) = instance(store, alone=True), instance(store, alone=True)
    assert await here.begin("before", b"") is None
    await here.finish("before", b"answer")
    store.away = True
    assert await here.begin("before", b"") == b"answer"
    for key in ("first", "second"):
        assert await here.begin(key, b"") is None
        await here.finish(key, b"answer")
        assert await here.begin(key, b"") == b"answer"
    assert store.asked == 3
    assert metrics.drops.value(ALONE) == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    store.away = False
    monkeypatch.setattr(module, "monotonic", later(time.monotonic, 1.1))
    assert await here.begin("third", b"") is None
    await here.finish("third", b"answer")
    assert await there.begin("third", b"") == b"answer", "it is asked again"


@pytest.mark.asyncio
async def test_what_went_alone_and_failed_may_be_asked_again() -> None:
    store = Store()
    store.away = True
    here, _ = instance(store, alone=True)
    assert await here.begin("key", b"") is None
    await here.abandon("key")
    assert await here.begin("key", b"another body") is None
    await here.finish("key", b"answer")
    assert await here.begin("key", b"another body") == b"answer"
    assert store.asked == 1


@pytest.mark.asyncio
async def test_nothing_is_remembered_of_a_request_that_is_over() -> None:
    here, _ = instance(Store())
    for key in ("done", "failed", "at work"):
        assert await here.begin(key, b"") is None
    await here.finish("done", b"answer")
    await here.abandon("failed")
    assert here._shared == {"at work"}


@pytest.mark.asyncio
async def test_an_answer_that_cannot_be_shared_is_known_here_and_counted() -> None:
    store = Store()
    here, metrics = instance(store)
    assert await here.begin("key", b"") is None
    store.away = True
    with pytest.raises(OutsideError):
        await here.finish("key", b"answer")
    assert await here.begin("key", b"") == b"answer"
    assert metrics.drops.value(ALONE) == 1


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.asyncio
async def test_somebody_elses_work_is_waited_for_and_not_done_again(alone: bool) -> None:
    """The store answers: it is not away, and to go on alone would be to do it twice."""
    store = Store()
    (here, metrics), (there, _) = instance(store, alone=alone), instance(store, alone=alone)
    assert await here.begin("key", b"") is None
    waiting = asyncio.ensure_future(there.begin("key", b""))
    await asyncio.wait([waiting], timeout=0)
    await here.abandon("key")
    with pytest.raises(OutsideError) as pending:
        await asyncio.wait_for(waiting, 5)
    assert pending.value.code == "pending"
    assert metrics.drops.value(ALONE) == 0


@pytest.mark.process
def test_event_loops_have_stores_of_their_own(shared_redis: RedisServer) -> None:
    """As under TestClient: each connection has a loop, and what one has done the next one knows."""
    shared = open_answers(settings(redis_url=shared_redis.url, redis_channel="own-loops"), Metrics())
    another = open_answers(settings(redis_url=shared_redis.url, redis_channel="own-loops"), Metrics())

    async def work(key: str) -> None:
        assert await shared.begin(key, b"") is None
        await shared.finish(key, b"answer")

    async def ask(key: str) -> bytes | None:
        return await another.begin(key, b"")

    async def close() -> None:
        await shared.close()
        await another.close()

    for key in ("one", "two"):
        asyncio.run(work(key))
        assert asyncio.run(ask(key)) == b"answer"
    asyncio.run(close())
    with pytest.raises(OutsideError):
        asyncio.run(ask("three"))


def test_without_a_bus_answers_are_known_to_the_process(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(open_answers(settings(), Metrics()), MemoryAnswers)
    assert caplog.text == ""


def test_a_bus_that_keeps_none_leaves_them_to_the_process(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(open_answers(settings(redis_url="nats://localhost"), Metrics()), MemoryAnswers)
    assert "keeps no answers" in caplog.text


def test_a_bad_url_is_refused_at_the_start() -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        open_answers(settings(redis_url="redis://localhost:0x/0"), Metrics())


def later(clock: Callable[[], float], seconds: float) -> Callable[[], float]:
    return lambda: clock() + seconds
