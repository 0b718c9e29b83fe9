"""A server's way to the other nodes: one journal, a lane for each namespace that keeps what it says, one follower.

It lives on one event loop, that of whoever came first; others hand over what they have and wait. Where that loop has
ended (Starlette's TestClient gives each connection one), it goes on at the next one that asks, with a new journal.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from itertools import count
from threading import Lock, get_ident
from time import monotonic
from typing import Any, Final

from realtime.cluster.lane import Lane, Shared
from realtime.cluster.pulse import BusHooks
from realtime.errors import OutsideError
from realtime.eventloop.loops import end_on, end_tasks
from realtime.journal.mirror import Mirror
from realtime.journal.positions import Position
from realtime.metrics import Metrics
from realtime.ports import Journal
from realtime.rooms.emitted import BusState
from realtime.rooms.hub import Hub
from realtime.rooms.keeper import Keeper
from realtime.settings import Settings

logger = logging.getLogger("realtime.bus")

OpenJournal = Callable[[str], Journal]
"""``open(node)``: connects to nothing yet. Once for each event loop that the node comes to live on."""
HAND_OVER_SECONDS: Final = 1.0
"""At the end: what the last disconnect hooks said is handed over, if that takes no longer."""


class Backplane:
    """May be used from any thread."""

    def __init__(
        self,
        open_journal: OpenJournal,
        node: str,
        hub: Hub,
        settings: Settings,
        metrics: Metrics,
        dumps: Callable[[Any], str] | None = None,
        bus: BusHooks | None = None,
    ) -> None:
        self.node = node
        self.journal: Journal | None = None
        self.lanes: dict[str, Lane] = {}
        self._bus = bus or BusHooks()
        self.hooks = self._bus.hooks
        self._open = open_journal
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._lock = Lock()
        self._follower: asyncio.Task[None] | None = None
        self._lost = False
        numbers = count(1)
        self._shared = Shared(
            node=node, hub=hub, settings=settings, metrics=metrics, clock=monotonic, dumps=dumps,
            next_number=lambda: next(numbers), call=self.call, soon=self.soon, changed=self._changed,
        )  # fmt: skip
        self._metrics = metrics
        metrics.spool_messages.read = lambda: {(): float(sum(len(lane.outgoing.spool) for lane in self._all()))}
        metrics.spool_bytes.read = lambda: {(): float(sum(lane.outgoing.spool.size for lane in self._all()))}
        metrics.journal_lag.read = lambda: {(): self._lag()}

    # --- namespaces

    def keep(self, namespace: str) -> Keeper:
        """A namespace keeps what it says here, from now on."""
        settings = self._settings
        mirror = Mirror(
            secrets.token_hex(6),
            entries=settings.log_limit_entries,
            seconds=settings.log_limit_seconds,
            size_bytes=settings.log_limit_bytes,
        )
        keeper = Keeper(namespace, mirror, monotonic, self._shared.dumps)
        keeper.lane = lane = Lane(keeper, self._shared)
        self.lanes[namespace] = lane
        if self.journal is not None and self._lives():
            self.soon(lane.begin, self.journal)
        return keeper

    def lane(self, namespace: str) -> Lane | None:
        """None for a namespace that keeps nothing."""
        return self.lanes.get(namespace)

    async def newest(self, namespace: str) -> Position:
        """The end of its log, as the journal tells it. Raises OutsideError."""
        self.begin()
        journal = self.journal
        assert journal is not None
        position: Position = await self.call(lambda: journal.newest(namespace))
        return position

    @property
    def state(self) -> BusState:
        return BusState.AWAY if self._lost else BusState.UP

    async def check(self) -> None:
        """Raises OutsideError while this node goes on alone (its details are words for an operator), or the journal
        does not answer."""
        if self._lost:
            why = next((lane.outgoing.trouble for lane in self._all() if lane.alone), "")
            raise OutsideError("The bus is away", details=f"this instance goes on alone: {why}")
        self.begin()
        journal = self.journal
        assert journal is not None
        await self.call(journal.ping)

    # --- the loop it lives on

    def _lives(self) -> bool:
        return self._loop is not None and self._loop.is_running()

    def begin(self) -> None:
        """Live on the running event loop, unless it does on one that runs. Repeats do nothing."""
        if self._lives():
            return
        with self._lock:
            if self._lives():
                return
            self._loop, self._thread = asyncio.get_running_loop(), get_ident()
            journal = self.journal = self._open(self.node)
            # A context of its own: the first caller's request would otherwise be kept for good.
            context = Context()
            self._follower = context.run(lambda: asyncio.ensure_future(self._follow(journal)))
            for lane in self._all():
                context.run(lane.begin, journal)

    def soon(self, call: Callable[..., object], *args: Any) -> None:
        """Call this on our loop: at once where this is it, and where there is none yet."""
        loop = self._loop
        if loop is None or self._thread == get_ident():
            call(*args)
        else:
            with suppress(RuntimeError):  # it has ended; the next one begins with what there is then
                loop.call_soon_threadsafe(call, *args)

    async def call(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """What this answers on our loop. Raises OutsideError where that ends meanwhile."""
        self.begin()
        loop = self._loop
        assert loop is not None
        if loop is asyncio.get_running_loop():
            return await ask()

        async def answer() -> Any:
            return await ask()

        asked = answer()
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked, loop))
        except RuntimeError:
            asked.close()  # it was closed just now
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        raise OutsideError("The event loop that the bus lived on has ended", retry_after=0)

    async def _follow(self, journal: Journal) -> None:
        async for item in journal.follow():
            namespace = getattr(item, "namespace", None) or getattr(getattr(item, "draft", None), "namespace", None)
            for lane in self._all() if namespace is None else filter(None, (self.lanes.get(namespace),)):
                try:
                    lane.take(item)
                except Exception:  # a defect of ours: the next one may do better
                    logger.exception("something that came in for %s could not be delivered", lane.namespace)

    async def stop(self) -> None:
        """Hand over what there is, as long as that is quick, and let go of the journal. Repeats do nothing; begins anew
        where somebody emits again."""
        await end_on(self._loop, self._stop, 2 * HAND_OVER_SECONDS)

    async def _stop(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(HAND_OVER_SECONDS):
                await asyncio.gather(*(lane.outgoing.emptied() for lane in self._all() if not lane.alone))
        follower, journal = self._follower, self.journal
        self._follower = self.journal = self._loop = None
        for lane in self._all():
            await lane.end()
        if journal is not None:
            await journal.close()
        await end_tasks(follower)

    # --- numbers, and whether it is alone

    def _all(self) -> list[Lane]:
        return list(self.lanes.values())

    def _lag(self) -> float:
        since = [oldest for lane in self._all() if (oldest := lane.outgoing.spool.oldest()) is not None]
        return max(0.0, monotonic() - min(since)) if since else 0.0

    def _changed(self, lane: Lane) -> None:
        lost = any(each.alone for each in self._all())
        if lost == self._lost:
            return
        self._lost = lost
        self._metrics.bus_alone.set(int(lost))
        if lost:
            words = "the bus does not answer, or not as it should (%s): this instance goes on alone, beginning with %s"
            logger.warning(words, lane.outgoing.trouble, lane.namespace)
        else:
            logger.warning("the bus is back: what was said meanwhile is handed over")
        self._bus.report("log", lost)
