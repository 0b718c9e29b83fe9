"""How late the event loop runs its timers: what a blocking handler does to everybody else, as a number.

In the same turn it is looked whether descriptors are left.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from realtime.metrics import Metrics
from realtime.telemetry.descriptors import Descriptors

logger = logging.getLogger("realtime")

INTERVAL_SECONDS: Final = 0.5
WARN_SECONDS: Final = 1.0
"""A loop this late keeps every client waiting; worth a log line."""


async def watch(metrics: Metrics) -> None:
    """Runs until cancelled; sets the gauge once an interval."""
    loop = asyncio.get_running_loop()
    descriptors = Descriptors(metrics)
    while True:
        due = loop.time() + INTERVAL_SECONDS
        await asyncio.sleep(INTERVAL_SECONDS)
        late = max(0.0, loop.time() - due)
        metrics.loop_lag_seconds.set(late)
        if late >= WARN_SECONDS:
            logger.warning("the event loop stood still for %.1f s: something in this process blocks it", late)
        descriptors.look(loop.time())
