"""The store: callable from any thread and any event loop, writing behind on a loop of its own."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy.exc import DBAPIError

from adapters.own_loop import OwnLoop
from adapters.sql.database import Database, reason
from adapters.sql.waiting import Row, Waiting, storable, to_message, to_row
from realtime.errors import LimitError, OutsideError, RealtimeError, UsageError
from realtime.metrics import Metrics
from realtime.ports import Page, StoredMessage

logger = logging.getLogger("realtime.history")

PAGE_LIMIT: Final = 10_000
CLOSE_SECONDS: Final = 2.0
"""How long ``close`` tries to write what waits: a server has 3 s in all from SIGTERM to its exit."""
FIRST_RETRY_SECONDS: Final = 0.05
LAST_RETRY_SECONDS: Final = 4.0

Result = TypeVar("Result")


class SqlHistory:
    """``realtime.ports.History`` over one database.

    A page merges what still waits into what is stored, so it does not wait for the writer. While the
    database takes no writes, messages wait here in order and ``ping`` raises; each is written once,
    however often a batch has to be tried. A row that the database refuses is left out and counted.
    Cancelling ``page``, ``ping`` or ``flush`` ends the waiting; a question on its way is not interrupted.
    Not closed at the interpreter's end, it closes itself.
    """

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self._database = database
        self._waiting = Waiting()
        self._metrics = metrics
        metrics.history_pending.read = lambda: {(): float(len(self._waiting))}
        for dropped in ("history_full", "history_unwritable", "history_lost"):
            metrics.drops.add(dropped, amount=0)
        refuse = partial(UsageError, "The message store is closed")
        self._own = OwnLoop("realtime-history", self._main, close_seconds=CLOSE_SECONDS, refuse=refuse)
        # What follows belongs to the store's own loop.
        self._calls: set[asyncio.Task[Any]] = set()
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._progress = asyncio.Condition()
        self._attempt = 0
        self._failed_attempt = 0
        self._down_since: float | None = None

    def append(self, message: StoredMessage) -> None:
        """Raises LimitError (``history_full``) when too many wait, UsageError after ``close``."""
        row = to_row(message)
        with self._own.gate:
            loop = self._own.begun()
            try:
                if self._waiting.put(row):
                    loop.call_soon_threadsafe(self._wake.set)
            except LimitError:
                self._metrics.drops.add("history_full")
                raise

    async def page(self, room: str, *, before: str | None = None, limit: int = 50) -> Page:
        """As the port says; also UsageError when ``limit`` is not between 1 and 10,000, or after ``close``."""
        if not 1 <= limit <= PAGE_LIMIT:
            raise UsageError(f"limit must be between 1 and {PAGE_LIMIT}, not {limit}")
        room, before = storable(room), None if before is None else storable(before)
        # Taken before the question is asked: what is written in between is then in both, never in neither.
        waiting = self._waiting.of_room(room, before)
        stored = await self._call(partial(self._database.select, room, before, limit + 1))
        rows = {row["id"]: row for row in [*waiting, *stored]}
        newest = sorted(rows)[-limit:]
        return Page([to_message(rows[key]) for key in newest], more=len(rows) > limit)

    async def ping(self) -> None:
        """Raises OutsideError when the database does not answer, or did not take the last batch."""
        await self._call(self._ping)

    async def flush(self) -> None:
        """Raises OutsideError when a write that began after the call fails; the messages go on waiting.

        A refusal is known at once; a database that stays silent is given 10 s for a batch.
        """
        await self._call(partial(self._flush, self._waiting.added))

    async def close(self) -> None:
        """Tries for at most 2 s to write what waits; says in the log how many were lost, and counts them.

        Takes at most 3 s. Two callers at once both wait for the end.
        """
        await self._own.close()

    async def _call(self, question: Callable[[], Awaitable[Result]]) -> Result:
        with self._own.gate:
            future = self._own.ask(lambda: self._answer(question))
        return await asyncio.wrap_future(future)

    # On the store's own loop.

    async def _main(self) -> None:
        writer = asyncio.create_task(self._write())
        await self._own.closing.wait()
        self._wake.set()
        self._hurry.set()
        await asyncio.wait({writer, *self._calls}, timeout=CLOSE_SECONDS)
        if lost := len(self._waiting):
            self._metrics.drops.add("history_lost", amount=lost)
            logger.error("The message store closed with %d messages not written", lost)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in {writer, *self._calls}:
            task.cancel()
        if rest:
            await asyncio.wait(rest)
        await self._database.close()

    async def _answer(self, question: Callable[[], Awaitable[Result]]) -> Result:
        """Ask in a task of its own: a caller that goes away must not cost a connection."""
        task = asyncio.ensure_future(question())
        self._calls.add(task)
        task.add_done_callback(self._answered)
        await asyncio.wait({task})
        if task.cancelled():
            raise OutsideError("The message store is closing")
        error = task.exception()
        if error is None or isinstance(error, RealtimeError):
            return task.result()
        raise OutsideError("The message store does not answer", retry_after=1.0) from error

    def _answered(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # seen: the caller may be gone, and the loop would complain

    async def _ping(self) -> None:
        if self._down_since is not None:
            raise OutsideError("The message store does not take messages", retry_after=1.0)
        await self._database.ping()

    async def _flush(self, target: int) -> None:
        begun = self._attempt
        self._hurry.set()
        async with self._progress:
            await self._progress.wait_for(lambda: self._waiting.finished >= target or self._failed_attempt > begun)
        if self._waiting.finished < target:
            raise OutsideError("The message store does not take messages", retry_after=1.0)

    async def _write(self) -> None:
        while True:
            while rows := self._waiting.take():
                await self._store(rows)
            if self._own.closed:
                return
            await self._wake.wait()
            self._wake.clear()

    async def _store(self, rows: Sequence[Row]) -> None:
        """Write this batch, however long it takes."""
        pause = FIRST_RETRY_SECONDS
        while True:
            self._attempt += 1
            try:
                return await self._stored(await self._database.insert(rows))
            except Exception as error:  # whatever it is, the messages are kept and tried again
                await self._failed(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.5, 1)):
                    await self._hurry.wait()
            self._hurry.clear()
            pause = min(2 * pause, LAST_RETRY_SECONDS)

    async def _failed(self, error: Exception) -> None:
        if self._down_since is None:
            self._down_since = time.monotonic()
            logger.warning("The message store does not take messages (%s); they wait", reason(error))
        async with self._progress:
            self._failed_attempt = self._attempt
            self._progress.notify_all()

    async def _stored(self, refused: Sequence[DBAPIError]) -> None:
        if self._down_since is not None:
            logger.info("The message store takes messages again after %.1f s", time.monotonic() - self._down_since)
            self._down_since = None
        if refused:
            self._metrics.drops.add("history_unwritable", amount=len(refused))
            logger.error("The message store refused %d messages (%s)", len(refused), reason(refused[0]))
        async with self._progress:
            self._waiting.finish()
            self._progress.notify_all()
