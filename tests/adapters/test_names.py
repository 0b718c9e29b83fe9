from __future__ import annotations

import asyncio

import pytest

from adapters.memory import MemoryNameHolders
from adapters.names import open_name_holders
from adapters.redis.names import RedisNameHolders
from realtime.errors import UsageError
from realtime.metrics import Metrics


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379/0",
        "rediss://localhost:6379/0",
        "valkey://localhost",
        "redis+sentinel://localhost:26379/0/main",
    ],
)
def test_a_bus_on_redis_keeps_names_there(url: str) -> None:
    names = open_name_holders(url, "socketio", Metrics())
    assert isinstance(names, RedisNameHolders)
    asyncio.run(names.close())  # nothing was connected yet


def test_without_a_bus_names_are_kept_by_the_process(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(open_name_holders(None, "socketio", Metrics()), MemoryNameHolders)
    assert caplog.text == ""


def test_a_bus_that_keeps_no_names_leaves_them_to_the_process(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(open_name_holders("nats://localhost", "socketio", Metrics()), MemoryNameHolders)
    assert "keeps no names" in caplog.text


def test_a_bad_url_is_refused() -> None:
    with pytest.raises(UsageError):
        open_name_holders("redis://localhost:0x/0", "socketio", Metrics())
