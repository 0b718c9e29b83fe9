"""Contract tests are plain functions with an event loop of their own, so no plug-in of a test runner is needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Generic, TypeVar

from realtime.errors import OutsideError

PATIENCE_SECONDS: Final = 10.0
"""For anything that is expected to happen; far above what a working adapter needs."""

Result = TypeVar("Result")
Item = TypeVar("Item")


def alone(test: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any], None]:
    """To its end, or TimeoutError: an adapter that hangs must fail its test, not hang it."""

    def run(self: Any) -> None:
        asyncio.run(asyncio.wait_for(test(self), PATIENCE_SECONDS * 4))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Heard(Generic[Item]):
    """What an iteration says, in order, while the block of ``hearing`` lasts."""

    def __init__(self, items: AsyncIterator[Item]) -> None:
        self._items = items
        self._queue: asyncio.Queue[Item] = asyncio.Queue()
        self.task = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        async for item in self._items:
            self._queue.put_nowait(item)

    async def next(self, seconds: float = PATIENCE_SECONDS) -> Item:
        """The next, within so many seconds."""
        return await asyncio.wait_for(self._queue.get(), seconds)

    async def ended(self) -> None:
        """Returns when the iteration ended by itself."""
        await asyncio.wait_for(self.task, PATIENCE_SECONDS)


@asynccontextmanager
async def hearing(items: AsyncIterator[Item]) -> AsyncIterator[Heard[Item]]:
    heard = Heard(items)
    try:
        yield heard
    finally:
        heard.task.cancel()
        with suppress(asyncio.CancelledError):
            await heard.task


async def fails(work: Awaitable[object]) -> None:
    """It raises OutsideError."""
    try:
        await work
    except OutsideError:
        return
    raise AssertionError("a closed adapter did as if it were open")
