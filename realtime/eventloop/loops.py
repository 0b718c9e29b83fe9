"""One of something for each event loop: an application may run on several (Starlette's TestClient gives each
connection its own), and what belongs to one loop must not be used from another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

AGAIN_SECONDS: Final = 0.5
"""What a task that was cancelled has to end, before it is cancelled once more."""

Thing = TypeVar("Thing")


class PerLoop(Generic[Thing]):
    """Call it with a loop. What belonged to loops that are closed is let go."""

    def __init__(self, make: Callable[[asyncio.AbstractEventLoop], Thing]) -> None:
        self._make = make
        self._things: dict[asyncio.AbstractEventLoop, Thing] = {}

    def __call__(self, loop: asyncio.AbstractEventLoop) -> Thing:
        """The one of this loop, made when it is first asked for."""
        found = self._things.get(loop)
        if found is None:
            for old in [each for each in list(self._things) if each.is_closed()]:
                self._things.pop(old, None)
            found = self._things[loop] = self._make(loop)
        return found


async def end_on(
    loop: asyncio.AbstractEventLoop | None, end: Callable[[], Coroutine[Any, Any, None]], seconds: float
) -> None:
    """End what belongs to this loop there; where that is another one, wait no longer than this. Nothing happens for
    None, and for a loop that does not run any more."""
    if loop is None:
        return
    if loop is asyncio.get_running_loop():
        await end()
    elif loop.is_running():
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(end(), loop)), seconds)


async def end_tasks(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel these, again and again, until they have ended.

    Once is not always enough: ``asyncio.wait_for`` (before Python 3.12) loses a cancellation that comes in the turn in
    which what it waits for is done, and ``asyncio.gather`` makes an error of it where a part of it failed just then.
    """
    left = {task for task in tasks if task is not None}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_SECONDS)
