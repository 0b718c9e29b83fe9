"""python-socketio's own writers (``RedisManager(url, write_only=True)``), heard on a channel of their own.

What comes there is not signed, so it is read strictly, and a writer can speak to clients and do nothing else. Each
instance hears the channel and tells its own clients; nobody gives such an event a place in a log that instances share,
so it reaches who is there.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from time import monotonic
from typing import Any, Final

from realtime.encoding.stock_messages import RefusedWriting, Writing, WritingLimits, read_message, writing_of
from realtime.errors import UsageError
from realtime.metrics import Gauge, Metrics
from realtime.plug import find_bus
from realtime.ports import Bus
from realtime.rooms.hub import Hub
from realtime.settings import Settings
from realtime.telemetry.seldom import Seldom

logger = logging.getLogger("realtime.writers")

AT_ONCE: Final = 32
"""Messages that have come already are handed out in one turn; then everybody else has one."""
STOP_SECONDS: Final = 1.0
WORDS: Final = {
    "pickle": "pickle, which python-socketio wrote before 5.14 and which is never opened: bring the writer up to date",
    "method": "something else than an event to emit, which is all that writers may do here",
    "callback": "a wish for an acknowledgement, which only a server can have",
}
"""What the log says of a reason; the others are not what python-socketio writes."""


class Writers:
    """Listens from ``start`` to ``stop``, on the event loop of whoever starts it."""

    def __init__(self, bus: Bus, hub: Hub, metrics: Metrics, limits: WritingLimits) -> None:
        self._bus = bus
        self._hub = hub
        self._metrics = metrics
        self._limits = limits
        self._task: asyncio.Task[None] | None = None
        self._seldom = Seldom()

    def start(self) -> None:
        """Repeats do nothing."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._listen(), name="writers")

    async def stop(self) -> None:
        """Repeats do nothing."""
        task, self._task = self._task, None
        await self._bus.close()
        if task is not None:
            task.cancel()
            await asyncio.wait((task,), timeout=STOP_SECONDS)

    async def _listen(self) -> None:
        heard = 0
        async for message in self._bus.listen():
            self.hear(message)
            heard += 1
            if heard % AT_ONCE == 0:
                await asyncio.sleep(0)

    def hear(self, message: bytes) -> None:
        """Tell the clients of this instance, or refuse. Raises nothing, whatever the bytes are."""
        try:
            self._tell(writing_of(read_message(message, self._limits)))
        except RefusedWriting as refused:
            self._refuse(refused.reason)
        except UsageError:
            self._refuse("data")  # JSON that cannot be written again
        except Exception:
            logger.exception("a message of a writer could not be passed on")
            self._metrics.bus_refused.add("failed")

    def _tell(self, writing: Writing) -> None:
        if writing.namespace in self._hub.namespaces:  # no client here: it may be a name that nobody has ever heard
            self._hub.deliver(writing.namespace, writing.event, writing.args, writing.rooms, writing.skip)

    def _refuse(self, reason: str) -> None:
        self._metrics.bus_refused.add(reason)
        left_out = self._seldom.left_out(reason, monotonic())
        if left_out is not None:
            words = WORDS.get(reason, f"what python-socketio does not write ({reason})")
            logger.warning("refused on the writers' channel: %s (%d more like it before)", words, left_out)


def open_writers(settings: Settings, hub: Hub, metrics: Metrics) -> Writers | None:
    """As the settings say; None where nobody is to be heard. Connects to nothing yet.

    Raises UsageError for a channel without a Redis, and for a URL that cannot be read.
    """
    if settings.writers_channel is None:
        return None
    if settings.redis_url is None:
        raise UsageError("REALTIME_WRITERS_CHANNEL is set, but not REALTIME_REDIS_URL: where would they write?")
    bus: Bus = find_bus(settings.redis_url)(settings.redis_url, settings.writers_channel, _aside(metrics))
    limits = WritingLimits(settings.json_depth_limit, settings.json_element_limit)
    return Writers(bus, hub, metrics, limits)


def _aside(metrics: Metrics) -> Any:
    """The same numbers, but for the gauge that says whether the instances hear each other."""
    found = copy.copy(metrics)
    found.bus_up = Gauge("realtime_bus_up", "")
    return found
