"""The load generator's own event loop: the fastest there is, and no garbage collector at work while it measures."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any, TypeVar

try:
    import uvloop
except ImportError:  # the standard loop does the same work, slower
    uvloop = None  # type: ignore[assignment]

Result = TypeVar("Result")


def run_quietly(work: Coroutine[Any, Any, Result]) -> Result:
    """Blocks until it is done. Pauses of the garbage collector would be taken for the server's, so it rests."""
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop else None) as runner:
            return runner.run(work)
    finally:
        gc.enable()
