"""The bus of instances that share a key, on a real Redis: the contract, and what others say on its channel."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from pydantic import SecretStr

from adapters.redis import open_signed_bus
from adapters.redis.address import Address
from adapters.redis.bus import RedisBus
from adapters.redis.seal import Signer
from realtime.errors import LimitError, UsageError
from realtime.metrics import Metrics
from realtime.ports import Bus
from realtime.settings import Settings
from realtime.testing.bus import BusContract, Ears
from tests.redis_server import RedisServer

pytestmark = pytest.mark.process


def bus(url: str, channel: str, keys: str = "a key of the tests", metrics: Metrics | None = None) -> Bus:
    settings = Settings(_env_prefix="NOBODY_SETS_THESE_", bus_keys=SecretStr(keys))
    return open_signed_bus(url, channel, settings, metrics or Metrics())


class TestContract(BusContract):
    @pytest.fixture(autouse=True)
    def _server(self, shared_redis: RedisServer) -> None:
        self._url = shared_redis.url

    def bus(self) -> Bus:
        return bus(self._url, self.channel)


@pytest.mark.asyncio
async def test_what_nobody_of_ours_has_signed_is_counted_and_not_heard(shared_redis: RedisServer) -> None:
    channel, metrics = f"signed-{uuid.uuid4()}", Metrics()
    here = bus(shared_redis.url, channel, metrics=metrics)
    stranger = bus(shared_redis.url, channel, "another key")
    ears = Ears(here)
    try:
        await ears.connected()
        with shared_redis.admin() as admin:
            for junk in (b"", b'{"method": "disconnect"}', b"\x80\x04pickle", b"\xabR\x09x"):
                assert admin.publish(channel, junk) == 1
        await stranger.publish(b"of a stranger")
        await here.publish(b"ours")
        assert await ears.next() == b"ours"
        counted = {reason: metrics.bus_refused.value(reason) for reason in ("unsigned", "version", "signature")}
        assert counted == {"unsigned": 3, "version": 1, "signature": 1}
    finally:
        await asyncio.gather(here.close(), stranger.close())


@pytest.mark.asyncio
async def test_what_is_repeated_by_somebody_without_a_key_is_not_heard_again(shared_redis: RedisServer) -> None:
    channel, other, metrics = f"signed-{uuid.uuid4()}", f"signed-{uuid.uuid4()}", Metrics()
    here, elsewhere = bus(shared_redis.url, channel, metrics=metrics), bus(shared_redis.url, other)
    spies = [RedisBus(Address.parse(shared_redis.url), each, Metrics()) for each in (channel, other)]
    ears, recorded, there = Ears(here), Ears(spies[0]), Ears(spies[1])
    try:
        for each in (ears, recorded, there):
            await each.connected()
        for said in (b"one", b"two"):
            await here.publish(said)
            assert await ears.next() == said
        await elsewhere.publish(b"said elsewhere")
        with shared_redis.admin() as admin:
            for message in [await recorded.next(), await recorded.next(), await there.next()]:
                admin.publish(channel, message)
            admin.publish(channel, Signer(["a key of the tests"]).seal(b"B", None, (b"of a version before",)))
            admin.publish(channel, Signer(["a key of the tests"]).seal(b"B", [channel, 1, "x"], (b"garbled",)))
        await here.publish(b"three")
        assert await ears.next() == b"three"
        counted = {each: metrics.bus_refused.value(each) for each in ("repeated", "channel", "version", "garbled")}
        assert counted == {"repeated": 2, "channel": 1, "version": 1, "garbled": 1}
    finally:
        await asyncio.gather(*(each.close() for each in (here, elsewhere, *spies)))


@pytest.mark.asyncio
async def test_it_is_as_long_as_a_message_may_be(shared_redis: RedisServer) -> None:
    here = bus(shared_redis.url, "too-long")
    with pytest.raises(LimitError):
        await here.publish(bytes(16 << 20))
    await here.close()


def test_production_wants_a_key() -> None:
    settings = Settings(_env_prefix="NOBODY_SETS_THESE_", environment="production")
    with pytest.raises(UsageError, match="REALTIME_BUS_KEYS"):
        open_signed_bus("redis://localhost:1", "any", settings, Metrics())
