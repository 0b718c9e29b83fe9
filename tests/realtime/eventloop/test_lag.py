from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from realtime.eventloop import lag
from realtime.eventloop.lag import watch
from realtime.metrics import Gauge, Metrics


class Watched(Gauge):
    """A gauge that tells when it is set."""

    def __init__(self) -> None:
        super().__init__("lag", "")
        self.news = asyncio.Event()

    def set(self, value: float, *labels: str) -> None:
        super().set(value, *labels)
        self.news.set()


@contextmanager
def watching() -> Iterator[Watched]:
    metrics = Metrics()
    metrics.loop_lag_seconds = gauge = Watched()
    task = asyncio.ensure_future(watch(metrics))
    try:
        yield gauge
    finally:
        task.cancel()


async def next_value(gauge: Watched) -> float:
    gauge.news.clear()
    await asyncio.wait_for(gauge.news.wait(), 5)
    return gauge.value()


@pytest.mark.hostile("H6")
@pytest.mark.asyncio
async def test_a_handler_that_blocks_is_a_number_and_a_log_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lag, "INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr(lag, "WARN_SECONDS", 0.1)
    with watching() as gauge:
        assert await next_value(gauge) < 5
        caplog.clear()
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass
        assert await next_value(gauge) >= 0.2
        assert "the event loop stood still" in caplog.text


@pytest.mark.asyncio
async def test_it_ends_when_it_is_cancelled() -> None:
    task = asyncio.ensure_future(watch(Metrics()))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert task.cancelled()
