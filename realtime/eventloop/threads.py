"""Blocking functions beside the event loop: nothing they use is taken away while they run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread
from anyio import CancelScope, CapacityLimiter

T = TypeVar("T")


async def in_thread(function: Callable[..., T], /, *args: Any, **named: Any) -> T:
    """Run ``function`` in the thread pool that FastAPI uses (40 threads unless the application changed it).

    Cancelled before a thread took it up, it never runs; after that the cancellation is delivered when the
    function has ended, so that whatever it uses can be cleaned up safely.
    """
    return await _hand_over(partial(function, *args, **named))


async def _hand_over(function: Callable[[], T], limiter: CapacityLimiter | None = None) -> T:
    begun = threading.Lock()  # taken once, by the thread or by the cancellation: whoever is first

    def job() -> T | None:
        return function() if begun.acquire(blocking=False) else None

    work = asyncio.ensure_future(anyio.to_thread.run_sync(job, limiter=limiter))
    cancelled: asyncio.CancelledError | None = None
    with CancelScope(shield=True):
        while not work.done():
            try:
                await asyncio.wait((work,))
            except asyncio.CancelledError as error:
                cancelled = error
                if begun.acquire(blocking=False):
                    work.cancel()
    if cancelled is None:
        return work.result()  # type: ignore[return-value]  # only a cancellation leaves the job out
    if not work.cancelled():
        work.exception()  # seen here, or asyncio complains that nobody did
    raise cancelled


def threaded_manager(function: Callable[..., Iterator[Any]]) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """``contextlib.contextmanager`` for a generator function whose two halves may block."""
    return asynccontextmanager(partial(_enter_and_leave, function))


async def _enter_and_leave(function: Callable[..., Iterator[Any]], /, *args: Any, **named: Any) -> AsyncIterator[Any]:
    generator: Any = function(*args, **named)
    manager = contextmanager(lambda: generator)()
    # Leaving must not wait for a free thread: those in the pool may be waiting for what it gives back.
    limiter = CapacityLimiter(1)
    try:
        value = await in_thread(manager.__enter__)
    except asyncio.CancelledError:
        await _hand_over(generator.close, limiter)
        raise
    try:
        yield value
    except BaseException as error:
        if not await _hand_over(partial(manager.__exit__, type(error), error, error.__traceback__), limiter):
            raise
    else:
        await _hand_over(partial(manager.__exit__, None, None, None), limiter)
