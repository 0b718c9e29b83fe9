"""Whether other instances are within reach, for whoever wants to know: noticed by the lanes of namespaces that keep
what they say, and by asking the bus now and then, for an application may have no such namespace."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from realtime.errors import OutsideError

logger = logging.getLogger("realtime.bus")

BUS_HOOKS: Final = ("bus_lost", "bus_regained")
"""Called when the bus has not answered for longer than the patience, and when it does again."""
PULSE_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 0.25
ANSWER_SECONDS: Final = 1.5
"""What an answer may take; adapters give up after about a second."""
Hook = Callable[[], object]


class BusHooks:
    """Each change is told once, wherever it is noticed first: it is lost until everybody who missed it has it back."""

    def __init__(self) -> None:
        self.hooks: dict[str, list[Hook]] = {name: [] for name in BUS_HOOKS}
        self._lost: set[str] = set()
        self._running: set[asyncio.Future[Any]] = set()

    def report(self, who: str, lost: bool) -> None:
        """Somebody misses the bus, or has it. Repeats do nothing. Hooks run on the event loop where this is called."""
        before = bool(self._lost)
        (self._lost.add if lost else self._lost.discard)(who)
        if bool(self._lost) != before:
            for hook in self.hooks["bus_lost" if lost else "bus_regained"]:
                self._run(hook)

    def _run(self, hook: Hook) -> None:
        try:
            made = hook()
            if asyncio.iscoroutine(made):
                running = asyncio.ensure_future(made)
                self._running.add(running)
                running.add_done_callback(self._ended)
        except Exception:
            logger.exception("a hook of the bus failed")

    def _ended(self, running: asyncio.Future[Any]) -> None:
        self._running.discard(running)
        if not running.cancelled() and running.exception() is not None:
            logger.error("a hook of the bus failed", exc_info=running.exception())


async def feel(
    ping: Callable[[], Awaitable[None]],
    patience: float,
    report: Callable[[bool], None],
    *,
    every: float = PULSE_SECONDS,
    again: float = RETRY_SECONDS,
) -> None:
    """Ask for ever, and report True when nothing was answered for longer than the patience, False when something is.
    Times in seconds."""
    clock = asyncio.get_running_loop().time
    since: float | None = None
    while True:
        asked = clock()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await ping()
        except Exception as error:
            if since is None and not isinstance(error, OutsideError | TimeoutError):
                logger.error("the bus could not be asked", exc_info=error)
            since = asked if since is None else since
            if clock() >= since + patience:
                report(True)
            await asyncio.sleep(min(again, max(0.0, since + patience - clock()) or again))
        else:
            since = None
            report(False)
            await asyncio.sleep(every)
