"""One subscription, kept alive: notices a dead link, comes back by itself, and says so once each way."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from redis import exceptions
from redis.backoff import EqualJitterBackoff

from adapters.redis.address import Address
from adapters.redis.connection import FAILURES, Connections, Link, describe
from adapters.redis.refusals import advice_for
from realtime.metrics import Metrics

log = logging.getLogger("realtime.bus")

MESSAGE_LIMIT_BYTES: Final = 16 << 20
"""Half of the output buffer (32 MB by default) at which Redis cuts every subscriber that the message is for."""
IDLE_SECONDS: Final = 2.5
"""Silence after which the link is pinged."""
PONG_SECONDS: Final = 2.0
"""Silence after the ping that means: dead. Together 4.5 s, whatever the traffic."""
STEADY_SECONDS: Final = 5.0
"""A link that lived shorter counts as one more failure, so a flapping server meets a growing delay."""


class Subscriber:
    """Reads one channel for one consumer, in one event loop.

    No task and no queue: the consumer's own call reads the socket. A consumer that is slow thereby
    stops the reading, and what waits for it is bounded by Redis's output buffer.
    """

    def __init__(self, address: Address, channel: str, metrics: Metrics) -> None:
        self._address = address
        self._channel = channel.encode()
        self._metrics = metrics
        # No retries inside: each break shall be seen, counted and waited for here.
        self._connections = Connections(address, "sub", size=1, retries=0)
        self._backoff = EqualJitterBackoff(cap=0.5, base=0.05)  # seconds: healed within two, whenever Redis is back
        self._failures = 0
        self._link: Link | None = None
        self._scope: asyncio.Timeout | None = None
        self._closed = False
        self._since: float | None = None
        self._lost: float | None = None
        self._told: set[str] = set()
        """What was logged of this break: each reason once."""
        self.stands = asyncio.Event()
        """Set while the channel is subscribed to, as far as is known."""

    async def receive(self) -> bytes | None:
        """The next message; None once closed. After a cancellation only ``close`` is left to call."""
        if self._closed:
            return None
        try:
            async with asyncio.timeout(None) as self._scope:
                return await self._receive()
        except TimeoutError:
            return None  # nobody but close() gives the scope an end
        finally:
            self._scope = None

    async def close(self) -> None:
        """End a waiting ``receive``, and the connection. Repeats do nothing."""
        self._closed = True
        if self._scope is not None:
            self._scope.reschedule(0)
        await self._connections.close()

    async def _receive(self) -> bytes:
        while True:
            try:
                link = self._link or await self._subscribe()
                message = _payload(await hear(link))
            except FAILURES as error:
                await self._lose(error)
            else:
                if message is not None and self._accept(message):
                    return message

    async def _subscribe(self) -> Link:
        self._link = link = await self._connections.lend()
        await link.write((b"SUBSCRIBE", self._channel))
        await link.read()
        self._metrics.bus_up.set(1)
        self.stands.set()
        now = asyncio.get_running_loop().time()
        if self._since is not None:
            self._metrics.bus_reconnects.add()
        if self._lost is not None:
            log.warning("The bus at %s is back after %.1f s", self._address.shown, now - self._lost)
        self._since, self._lost = now, None
        return link

    def _accept(self, message: bytes) -> bool:
        if len(message) > MESSAGE_LIMIT_BYTES:
            self._metrics.bus_refused.add("too_big")
            return False
        self._metrics.bus_messages.add("in")
        return True

    async def _lose(self, error: BaseException) -> None:
        """Cut the link, tell it once for each break, and wait a little longer each time."""
        link, self._link = self._link, None
        self.stands.clear()
        if link is not None:
            await self._connections.cut(link)
        now, what = asyncio.get_running_loop().time(), describe(error) + advice_for(error)
        if self._lost is not None and what not in self._told:  # the password was changed, say: it ends if somebody acts
            log.warning("The bus at %s is still lost: Redis %s", self._address.shown, what)
        self._told.add(what)
        if self._lost is None:
            self._lost, self._told = now, {what}
            self._metrics.bus_up.set(0)
            log.warning("The bus at %s is lost, and tried again: Redis %s", self._address.shown, what)
            if self._since is not None and now - self._since > STEADY_SECONDS:
                self._failures = 0
        await asyncio.sleep(self._backoff.compute(self._failures))
        self._failures += 1


async def hear(link: Link) -> Any:
    """What the server says next; a silent one is pinged. Raises one of FAILURES when the link is dead."""
    reply = await link.read(IDLE_SECONDS)
    if reply is None:
        await link.write((b"PING",))
        reply = await link.read(PONG_SECONDS)
        if reply is None:
            raise exceptions.TimeoutError("no answer to a ping")
    return reply


def _payload(reply: Any) -> bytes | None:
    """``[b"message", channel, payload]`` is what is wanted; confirmations and pongs come in between."""
    if isinstance(reply, list) and len(reply) == 3 and reply[0] == b"message" and isinstance(reply[2], bytes):
        return reply[2]
    return None
