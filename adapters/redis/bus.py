"""The Bus port on Redis or Valkey: plain PUBLISH and SUBSCRIBE on one channel, the one python-socketio uses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

from adapters.redis.address import Address
from adapters.redis.publisher import Publisher
from adapters.redis.subscriber import MESSAGE_LIMIT_BYTES, Subscriber
from realtime.errors import LimitError, OutsideError, UsageError
from realtime.metrics import Metrics
from realtime.ports import Bus


def open_bus(url: str, channel: str, metrics: Metrics) -> Bus:
    """Connects to nothing yet. Raises UsageError for a URL that cannot be read; it never repeats the URL."""
    return RedisBus(Address.parse(url), channel, metrics)


class RedisBus:
    """May be made outside any event loop and used from several, in several threads.

    Each loop gets connections of its own: one for publishing (kept while the loop lives) and one for
    each ``listen``. They close with ``close`` or with their loop, whichever comes first.
    """

    def __init__(self, address: Address, channel: str, metrics: Metrics) -> None:
        self._address = address
        self._channel = channel
        self._metrics = metrics
        self._guard = threading.Lock()
        self._publishers: dict[asyncio.AbstractEventLoop, Publisher] = {}
        self._subscribers: dict[Subscriber, asyncio.AbstractEventLoop] = {}
        self._closed = False

    async def publish(self, message: bytes) -> None:
        """Returns when Redis has it. Concurrent calls of one loop share a write, and keep their order.

        Raises OutsideError within about a second (it may still arrive if the link broke just then),
        LimitError when it is longer than MESSAGE_LIMIT_BYTES.
        """
        if not isinstance(message, bytes):
            raise UsageError(f"A bus message is bytes, not {type(message).__name__}")
        if len(message) > MESSAGE_LIMIT_BYTES:
            raise LimitError(f"A bus message has {len(message)} bytes, over {MESSAGE_LIMIT_BYTES}", code="too_big")
        await self._publisher().send(b"PUBLISH", self._channel.encode(), message)
        self._metrics.bus_messages.add("out")

    async def listen(self) -> AsyncIterator[bytes]:
        """What anybody publishes from the subscription on; each call has a subscription of its own.

        What is published while the link is broken is not seen. ``metrics.bus_up`` is 1 while it stands.
        Ends with ``close``. Raises OutsideError when the bus is closed already.
        """
        subscriber = self._enrol()
        try:
            while (message := await subscriber.receive()) is not None:
                yield message
        finally:
            self._strike_off(subscriber)
            await subscriber.close()

    async def ping(self) -> None:
        """Takes the way that messages take. Raises OutsideError within about a second."""
        await self._publisher().send(b"PING")

    async def close(self) -> None:
        """Ends every ``listen``; what is being published fails with OutsideError. Repeats do nothing."""
        with self._guard:
            self._closed = True
            parts: list[tuple[asyncio.AbstractEventLoop, Publisher | Subscriber]] = [
                *self._publishers.items(),
                *((loop, subscriber) for subscriber, loop in self._subscribers.items()),
            ]
            self._publishers.clear()
            self._subscribers.clear()
        await asyncio.gather(*(_close(loop, part) for loop, part in parts))
        self._metrics.bus_up.set(0)

    def _publisher(self) -> Publisher:
        loop = asyncio.get_running_loop()
        found = self._publishers.get(loop)
        if found is not None:
            return found
        with self._guard:
            self._check_open()
            for gone in [known for known in self._publishers if known.is_closed()]:
                del self._publishers[gone]
            return self._publishers.setdefault(loop, Publisher(self._address, self._metrics))

    def _enrol(self) -> Subscriber:
        with self._guard:
            self._check_open()
            subscriber = Subscriber(self._address, self._channel, self._metrics)
            self._subscribers[subscriber] = asyncio.get_running_loop()
            return subscriber

    def _strike_off(self, subscriber: Subscriber) -> None:
        with self._guard:
            self._subscribers.pop(subscriber, None)
            if not self._subscribers:
                self._metrics.bus_up.set(0)

    def _check_open(self) -> None:
        if self._closed:
            raise OutsideError("The bus is closed")


async def _close(loop: asyncio.AbstractEventLoop, part: Publisher | Subscriber) -> None:
    """Close where it lives. A loop that no longer runs has closed it by itself."""
    if loop is asyncio.get_running_loop():
        await part.close()
    elif loop.is_running():
        closing: asyncio.Future[Any] = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(part.close(), loop))
        await asyncio.wait([closing], timeout=1.0)
