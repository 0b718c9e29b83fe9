"""One namespace's subscription: its channels come and go, it survives breaks, and it says when it was broken.

A connection for each namespace: in a Cluster it goes where the namespace lives, and a break concerns it alone.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Final

from redis import exceptions
from redis.backoff import EqualJitterBackoff

from adapters.redis.address import Address
from adapters.redis.connection import FAILURES, Connections, Link, describe
from adapters.redis.inflow import Inflow
from adapters.redis.publisher import PATIENCE_SECONDS, RETRY_SECONDS
from adapters.redis.refusals import advice_for
from adapters.redis.shards import Shards
from adapters.redis.subscriber import IDLE_SECONDS, PONG_SECONDS, STEADY_SECONDS
from adapters.redis.wire import Wire, packed
from realtime.errors import LimitError, OutsideError
from realtime.eventloop.loops import end_tasks

log = logging.getLogger("realtime.bus")

CHANNELS_LIMIT: Final = 200_000
"""Of one namespace on one node; Redis needs about 200 bytes for each."""
_AT_ONCE: Final = 500
"""Channels in one command."""


class Ear:
    """Hears the channels it is told to. Belongs to the event loop of its first ``watch``.

    ``hear(channel, message)`` is called for each message; ``broken()`` once when the subscription breaks or cannot
    be made, and ``back()`` once when all its channels stand again: what was published in between was not heard.
    """

    def __init__(
        self,
        shards: Shards,
        key: bytes,
        inflow: Inflow[Any],
        *,
        hear: Callable[[bytes, bytes], None],
        broken: Callable[[], None],
        back: Callable[[], None],
    ) -> None:
        self._shards, self._key, self._inflow = shards, key, inflow
        self._hear, self._broken, self._back = hear, broken, back
        self._wished: dict[bytes, None] = {}
        self._standing: set[bytes] = set()
        self._missing: set[bytes] = set()
        """Asked for when the connection was made, and not confirmed yet."""
        self._waiting: dict[bytes, Future[None]] = {}
        self._leaving: Counter[bytes] = Counter()
        self._link: Link | None = None
        self._wire: Wire | None = None
        self._word = b""
        self._address: Address | None = None
        self._connections: Connections | None = None
        self._backoff = EqualJitterBackoff(cap=0.5, base=0.05)  # seconds: healed within two, whenever Redis is back
        self._failures = 0
        self._since: float | None = None
        self._lost: float | None = None
        self._told: set[str] = set()
        """What was logged of this break: each reason once."""
        self._full = asyncio.Event()
        """There is no room for what comes: the reading waits."""
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def up(self) -> bool:
        """Everything that is wished was subscribed to, and the link lives."""
        return self._since is not None and self._lost is None

    async def watch(self, *channels: bytes) -> None:
        """Returns when all stand. Raises OutsideError when that takes too long (they are wished all the same)."""
        if self._closed:
            raise OutsideError("The bus is closed")
        new = [channel for channel in channels if channel not in self._wished]
        if len(self._wished) + len(new) > CHANNELS_LIMIT:
            raise LimitError(f"A node hears at most {CHANNELS_LIMIT} channels of one namespace")
        loop = asyncio.get_running_loop()
        missing = [channel for channel in channels if channel not in self._standing]
        for channel in missing:
            if channel not in self._waiting:
                self._waiting[channel] = loop.create_future()
        waiting = [self._waiting[channel] for channel in missing]
        self._start()
        self._wished.update(dict.fromkeys(new))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                self._say(self._word, new)
                for each in waiting:
                    await asyncio.shield(each)
        except TimeoutError:
            raise OutsideError("Redis did not answer in time", retry_after=RETRY_SECONDS) from None

    async def unwatch(self, *channels: bytes) -> None:
        """Nothing of them is heard from now on. Never raises."""
        gone = [channel for channel in channels if channel in self._wished]
        for channel in gone:
            del self._wished[channel]
            self._standing.discard(channel)
            self._missing.discard(channel)
            waiting = self._waiting.pop(channel, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
            if self._wire is not None:
                self._leaving[channel] += 1
        self._say(self._word.replace(b"SUB", b"UNSUB"), gone)

    async def close(self) -> None:
        """Ends the connection; whoever waits gets OutsideError. Repeats do nothing."""
        self._closed = True
        await end_tasks(self._task)
        while self._waiting:
            _, waiting = self._waiting.popitem()
            if not waiting.done():
                waiting.set_exception(OutsideError("The bus is closed"))
                waiting.exception()  # nobody need be waiting any more

    def _start(self) -> None:
        if self._task is None:
            # A context of its own: the first caller's request would otherwise be kept for good.
            self._task = asyncio.get_running_loop().create_task(self._run(), name="redis ear", context=Context())

    async def _run(self) -> None:
        try:
            while True:
                try:
                    await self._listen()
                except (*FAILURES, OutsideError) as error:
                    await self._lose(error)
                except Exception as error:
                    log.exception("A subscription failed")  # a defect, ours or redis-py's: it goes on
                    await self._lose(error)
        finally:
            self._link = self._wire = None
            if self._connections is not None:
                await self._connections.close()

    async def _listen(self) -> None:
        """Subscribe to what is wished, then hear. Ends with one of FAILURES or OutsideError."""
        wire = await self._subscribe()
        clock = asyncio.get_running_loop().time
        while True:
            await self._inflow.room()
            wire.resume()
            if await self._over(wire, wire.heard_at + IDLE_SECONDS - clock()):
                raise wire.ended.result()
            if clock() < wire.heard_at + IDLE_SECONDS or self._inflow.full:
                continue
            asked = wire.heard_at
            wire.write(packed(b"PING"))
            if await self._over(wire, PONG_SECONDS):
                raise wire.ended.result()
            if wire.heard_at == asked:
                raise exceptions.TimeoutError("no answer to a ping")

    async def _over(self, wire: Wire, seconds: float) -> bool:
        """Waits for so long, or until the link broke, or there is no room for more."""
        self._full.clear()
        ended, full = wire.ended, asyncio.ensure_future(self._full.wait())
        try:
            await asyncio.wait((ended, full), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            full.cancel()
        return ended.done()

    async def _subscribe(self) -> Wire:
        address = await self._shards.address_of(self._key)
        self._word = b"SSUBSCRIBE" if await self._shards.sharded(self._key) else b"SUBSCRIBE"
        if address is not self._address or self._connections is None:
            if self._connections is not None:
                await self._connections.close()
            # No retries inside: each break shall be seen, counted and waited for here.
            self._address, self._connections = address, Connections(address, "sub", size=1, retries=0)
        self._link = link = await self._connections.lend()
        self._wire = wire = Wire(link, self._reply)
        self._missing = set(self._wished)
        self._leaving.clear()
        self._say(self._word, list(self._wished))
        if not self._missing:
            self._stands()
        return wire

    def _reply(self, reply: Any) -> None:
        if isinstance(reply, list) and len(reply) == 3:
            self._take(*reply)
            if not self._missing and not self.up:
                self._stands()
            if self._inflow.full and self._wire is not None:
                self._wire.pause()
                self._full.set()
        elif isinstance(reply, Exception):
            raise reply

    def _take(self, kind: Any, channel: Any, payload: Any) -> None:
        """A message, or a confirmation. Raises ConnectionError when the server takes a channel away."""
        if kind in (b"message", b"smessage"):
            if channel in self._wished and channel not in self._leaving:  # else it was said before the last wish
                self._hear(channel, payload)
        elif kind in (b"subscribe", b"ssubscribe"):
            if self._leaving[channel] > 0:
                return  # of an earlier wish: its end and then the new beginning are still on their way
            self._missing.discard(channel)
            if channel in self._wished:
                self._standing.add(channel)
                waiting = self._waiting.pop(channel, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(None)
        elif kind in (b"unsubscribe", b"sunsubscribe"):
            if self._leaving[channel] <= 0:
                raise exceptions.ConnectionError("the slot has moved")
            self._leaving[channel] -= 1
            if not self._leaving[channel]:
                del self._leaving[channel]

    def _stands(self) -> None:
        now = asyncio.get_running_loop().time()
        lost, self._lost, self._since = self._lost, None, now
        if lost is not None:
            log.warning("The subscription at %s is back after %.1f s", self._shown, now - lost)
            self._back()

    async def _lose(self, error: BaseException) -> None:
        """Cut the link, tell it once for each break, and wait a little longer each time."""
        link, self._link, self._wire = self._link, None, None
        self._standing.clear()
        self._shards.distrust()
        if link is not None and self._connections is not None:
            await self._connections.cut(link)
        what = error.message if isinstance(error, OutsideError) else f"Redis {describe(error)}{advice_for(error)}"
        if self._lost is not None and what not in self._told:
            log.warning("The subscription at %s is still lost: %s", self._shown, what)
        self._told.add(what)
        if self._lost is None:
            self._told = {what}
            now = asyncio.get_running_loop().time()
            if self._since is not None and now - self._since > STEADY_SECONDS:
                self._failures = 0
            self._lost = now
            log.warning("The subscription at %s is lost, and tried again: %s", self._shown, what)
            self._broken()
        await asyncio.sleep(self._backoff.compute(self._failures))
        self._failures += 1

    @property
    def _shown(self) -> str:
        return self._address.shown if self._address is not None else "Redis"

    def _say(self, word: bytes, channels: Sequence[bytes]) -> None:
        """Where the way breaks, the reading finds out, and comes back with all that is wished then."""
        if self._wire is not None:
            for start in range(0, len(channels), _AT_ONCE):
                self._wire.write(packed(word, *channels[start : start + _AT_ONCE]))
