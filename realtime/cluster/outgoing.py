"""What goes out of one namespace, on one node: through the spool to the journal, in order; and where the journal does
not answer for too long, nowhere for now, and the node goes on alone.

Belongs to one event loop. What is offered goes out in order, in the next turn of the loop, whether what went before it
is answered or not, as long as everything is; the journal keeps nothing that would overtake what it did not keep. What
was not answered is offered again, as it was, before anything behind it: so each publisher's order holds, however often
the way breaks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Final, Protocol

from realtime.errors import OutsideError, RealtimeError
from realtime.journal.positions import Draft, Entry
from realtime.journal.spool import Item, Spool
from realtime.metrics import Metrics
from realtime.ports import Journal
from realtime.settings import Settings
from realtime.telemetry.seldom import Seldom

logger = logging.getLogger("realtime.bus")

WINDOW_MESSAGES: Final = 500
WINDOW_BYTES: Final = 1 << 19
"""Under way at a time, half of what goes into one write: what breaks in the middle of it is offered again."""
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
        self._emptied = asyncio.Event()
        self._failing_since: float | None = None
        self.trouble = ""
        """Why it goes on alone, or did last."""
        self._seldom = Seldom()
        self._answers = True
        self._troubled: BaseException | None = None
        """Why something that is under way was not answered: nothing goes out until all of it is."""
        self._asked: dict[int, asyncio.Future[Entry]] = {}
        self._asked_bytes = 0
        self._stirred = False
        self._again: asyncio.TimerHandle | None = None
        self._context = Context()
        """What goes out is not sent in the name of who said it, nor keeps that."""
        self._telling: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self._begun = False

    def begin(self, journal: Journal) -> None:
        """On this journal, and on this event loop, from now on."""
        self.journal = journal
        self._loop = asyncio.get_running_loop()
        self._emptied = asyncio.Event()
        self._timer = self._again = None
        self._telling.clear()
        self._asked.clear()
        self._asked_bytes = 0
        self._stirred, self._troubled = False, None
        self._begun, self._context = True, Context()
        self.spool.put_back()
        self.stir()
        self._watch_patience()

    def end(self) -> None:
        """Nothing waits any more: what nobody here has heard is delivered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._begun = False
        for told in self._telling:
            told.cancel()
        for asked in self._asked.values():
            asked.cancel()
        self._asked.clear()
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
        told = asyncio.ensure_future(self.journal.tell(draft))
        self._telling.add(told)
        told.add_done_callback(self._told)

    def _told(self, told: asyncio.Future[None]) -> None:
        self._telling.discard(told)
        error = None if told.cancelled() else told.exception()
        if error is not None:
            self._metrics.drops.add("bus")
            if not isinstance(error, RealtimeError):
                logger.error("a volatile emission could not be handed over", exc_info=error)

    def stir(self) -> None:
        """Perhaps something can go out now."""
        if self._begun and not self._stirred and self._again is None:
            self._stirred = True
            self._loop.call_soon(self._send, context=self._context)

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

    def _send(self) -> None:
        """What is ready, as far as the window goes; one alone where the last ones were not answered, to see whether it
        is worth while."""
        self._stirred = False
        window = (WINDOW_MESSAGES if self._answers else 1) - len(self._asked)
        if self._troubled is not None or not self._begun or window <= 0 or self._asked_bytes >= WINDOW_BYTES:
            return
        ready = 0
        for item in self.spool.waiting(window):
            if not (item.delivered or self._to.is_ready(item)):
                break
            ready += 1
        for item in self.spool.take(ready, WINDOW_BYTES - self._asked_bytes) if ready else ():
            asked = asyncio.ensure_future(self.journal.append(item.draft))
            self._asked[item.number] = asked
            self._asked_bytes += item.size
            asked.add_done_callback(partial(self._answer_came, item), context=self._context)

    def _answer_came(self, item: Item, asked: asyncio.Future[Entry]) -> None:
        if self._asked.get(item.number) is not asked:
            return  # of a journal that was let go of
        del self._asked[item.number]
        self._asked_bytes -= item.size
        failure = self._take_answer(item, asked)
        self._troubled = self._troubled or failure
        if self._troubled is None:
            self._answers, self._failing_since = True, None
            if self.alone:
                self._come_back()
        if self._asked:
            if self._troubled is None and not self.spool.idle:
                self.stir()
            return
        self.spool.put_back()
        if not self.spool:
            self._emptied.set()
        if self._troubled is not None:
            self._answers = False
            self.failed(self._troubled)
            self._troubled = None
            self._again = self._loop.call_later(RETRY_SECONDS, self._try_again, context=self._context)
        else:
            self.stir()

    def _try_again(self) -> None:
        self._again = None
        self.stir()

    def _take_answer(self, item: Item, task: asyncio.Future[Entry]) -> BaseException | None:
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
