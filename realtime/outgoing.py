"""What goes out of one namespace, on one node: through the spool to the journal, in order; and where the journal does
not answer for too long, nowhere for now, and the node goes on alone.

Belongs to one event loop, on which it has one task. What a batch was not answered is offered again, as it was, before
anything behind it: so each publisher's order holds, however often the way breaks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from realtime.errors import OutsideError, RealtimeError
from realtime.metrics import Metrics
from realtime.ports import Journal
from realtime.positions import Draft, Entry
from realtime.seldom import Seldom
from realtime.settings import Settings
from realtime.spool import Item, Spool

logger = logging.getLogger("realtime.bus")

BATCH_MESSAGES: Final = 500
BATCH_BYTES: Final = 1 << 19
"""Offered together, half of what goes into one write: what breaks in the middle of it is offered again as a whole."""
RETRY_SECONDS: Final = 0.25
TELLING_LIMIT: Final = 1_000
"""Volatile emissions on their way to other nodes; more are dropped."""


class Sender(Protocol):
    """Who is told what came of it."""

    def confirmed(self, item: Item) -> None: ...

    def refused(self, item: Item, error: BaseException) -> None:
        """It will never be kept."""

    def given_up(self, item: Item) -> None:
        """It was delivered here, and is too much to be handed over."""

    def deliver_alone(self, item: Item) -> None: ...

    def is_ready(self, item: Item) -> bool:
        """Would it come in here, if it was kept now?"""

    def changed(self, alone: bool) -> None:
        """It goes on alone, or is back."""


class Outgoing:
    """Times are those of the loop."""

    def __init__(self, sender: Sender, settings: Settings, metrics: Metrics, clock: Callable[[], float]) -> None:
        self.spool = Spool(settings.spool_limit_messages, settings.spool_limit_bytes, settings.spool_policy)
        self.alone = False
        """The journal has not answered for longer than the patience: nothing waits for it."""
        self.journal: Journal
        self._to = sender
        self._patience = settings.bus_patience_seconds
        self._metrics = metrics
        self._clock = clock
        self._go = asyncio.Event()
        self._emptied = asyncio.Event()
        self._failing_since: float | None = None
        self.trouble = ""
        """Why it goes on alone, or did last."""
        self._seldom = Seldom()
        self._answers = True
        self._telling: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    def begin(self, journal: Journal) -> list[asyncio.Task[None]]:
        """On this journal from now on. The caller ends the tasks."""
        self.journal = journal
        self._loop = asyncio.get_running_loop()
        self._go, self._emptied = asyncio.Event(), asyncio.Event()
        self._timer = None
        self.spool.put_back()
        self.stir()
        self._watch_patience()
        return [self._loop.create_task(self._run())]

    def end(self) -> None:
        """Nothing waits any more: what nobody here has heard is delivered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._telling:
            task.cancel()
        for item in self.spool.undelivered():
            self._to.deliver_alone(item)

    async def emptied(self) -> None:
        """Returns when everything is confirmed."""
        while self.spool:
            self._emptied.clear()
            await self._emptied.wait()

    # --- from outside

    def offer(self, item: Item) -> None:
        """It goes out behind everything else; alone, it is delivered here at once."""
        if not self.alone and not self.spool.has_room(item):
            self._go_alone("more waits than the spool takes")
        if self.alone:
            self._to.deliver_alone(item)
        for each in self.spool.put(item):
            self._to.given_up(each)
        self.stir()
        if self._timer is None and not self.alone:
            self._watch_patience()

    def tell(self, draft: Draft) -> None:
        """A volatile one, for others alone: at once, or not at all."""
        if self.alone or len(self._telling) >= TELLING_LIMIT:
            self._metrics.drops.add("bus")
            return
        task = self._loop.create_task(self._tell(draft))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, draft: Draft) -> None:
        try:
            await self.journal.tell(draft)
        except RealtimeError:
            self._metrics.drops.add("bus")

    def stir(self) -> None:
        """Perhaps something can go out now."""
        self._go.set()

    def failed(self, error: BaseException) -> None:
        """The journal did not answer, or not as it should."""
        self.trouble = error.message if isinstance(error, RealtimeError) else "a defect, which the log shows"
        if self._failing_since is None:
            self._failing_since = self._clock()
            self._watch_patience()

    def answered(self) -> None:
        """It does."""
        self._failing_since = None
        self.stir()
        if self.alone and not self.spool:
            self._come_back()

    # --- patience

    def came_in(self, item: Item, entry: Entry) -> None:
        """It came in with what others say; its answer is late, or was lost."""
        if item.entry is None:
            self.spool.confirm(item, entry, self._clock())
        self.spool.come_out(item)

    def _watch_patience(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        since = [each for each in (self.spool.oldest(), self._failing_since) if each is not None]
        if since and not self.alone:
            wait = max(0.0, min(since) + self._patience - self._clock())
            self._timer = self._loop.call_later(wait, self._lose_patience)

    def _lose_patience(self) -> None:
        self._timer = None
        since = [each for each in (self.spool.oldest(), self._failing_since) if each is not None]
        if since and not self.alone:
            if self._clock() >= min(since) + self._patience:
                self._go_alone("the bus does not answer")
            else:
                self._watch_patience()

    def _go_alone(self, why: str) -> None:
        """Deliver here what nobody has heard yet; it goes out all the same, when it can."""
        self.alone = True
        if self._failing_since is None:
            self.trouble = why
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._to.changed(True)
        waiting = self.spool.undelivered()
        logger.debug("going on alone: %s; %d were waiting", why, len(waiting))
        for item in waiting:
            self._to.deliver_alone(item)
        self.stir()

    def _come_back(self) -> None:
        self.alone = False
        self._to.changed(False)
        self._watch_patience()

    # --- the way out

    async def _run(self) -> None:
        while True:
            await self._go.wait()
            self._go.clear()
            while batch := self._next_batch():
                if not await self._append(batch):
                    await asyncio.sleep(RETRY_SECONDS)

    def _next_batch(self) -> list[Item]:
        """What goes out together; one alone where the last ones were not answered, to see whether it is worth while."""
        ready = 0
        for item in self.spool.waiting(BATCH_MESSAGES if self._answers else 1):
            if not self._is_ready(item):
                break
            ready += 1
        return self.spool.take(ready, BATCH_BYTES) if ready else []

    def _is_ready(self, item: Item) -> bool:
        return item.delivered or self._to.is_ready(item)

    async def _append(self, batch: list[Item]) -> bool:
        """False where some of it has to be offered again."""
        asked = [self._loop.create_task(self.journal.append(item.draft)) for item in batch]
        try:
            await asyncio.wait(asked)
        except BaseException:
            for task in asked:
                task.cancel()
            raise
        failures = [self._take_answer(item, task) for item, task in zip(batch, asked, strict=True)]
        failure = next(filter(None, failures), None)
        answered = failure is None
        self.spool.put_back()
        if not self.spool:
            self._emptied.set()
        self._answers = answered
        if failure is None:
            self._failing_since = None
            if self.alone:
                self._come_back()
        else:
            self.failed(failure)
        return answered

    def _take_answer(self, item: Item, task: asyncio.Task[Entry]) -> BaseException | None:
        """Why it has to be offered again."""
        error = OutsideError("The bus is closed") if task.cancelled() else task.exception()
        if item.entry is not None:
            return None  # it came in before the answer did
        if error is None:
            self.spool.confirm(item, task.result(), self._clock())
            self._to.confirmed(item)
        elif isinstance(error, OutsideError) and error.retry_after is not None:
            return error
        else:
            self._tell_refused(item, error)
            self.spool.refuse(item)
            self._to.refused(item, error)
        return None

    def _tell_refused(self, item: Item, error: BaseException) -> None:
        if not isinstance(error, RealtimeError):  # a defect, ours or the journal's: the next one may do better
            logger.error("an emission could not be handed over", exc_info=error)
            return
        more = self._seldom.left_out(type(error).__name__, self._clock())
        if more is not None:
            words = "an emission of %s is for this instance's clients alone, and no other's (%d more since then): %s"
            logger.warning(words, item.draft.namespace, more, error.message)
