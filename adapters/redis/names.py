"""The NameHolders port on Redis or Valkey: a sorted set for each name, its nodes scored by when they expire.

Expiry is by the server's clock, so nodes whose clocks differ agree. A node that is killed holds its names for
one ``ttl_seconds`` more, and no longer; a node that lives renews them three times as often.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from adapters.own_loop import OwnLoop
from adapters.redis.address import Address
from adapters.redis.shards import Shards
from realtime.errors import OutsideError
from realtime.eventloop.loops import end_tasks
from realtime.metrics import Metrics
from realtime.ports import NameHolders

RENEWALS: Final = 3
"""In one time to live: two may fail before a name is lost."""
RETRY_SECONDS: Final = 1.0
"""After a failure: Redis may have come back empty, and until the next renewal guests could take our names."""
BATCH: Final = 500
"""Names in one script; it stops Redis for about 2 ms."""
CLOSE_SECONDS: Final = 1.5

HOLD: Final = b"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ttl = tonumber(ARGV[2])
for _, key in ipairs(KEYS) do
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    redis.call('ZADD', key, now + ttl, ARGV[1])
    redis.call('PEXPIRE', key, ttl)
end
return #KEYS
"""
HELD: Final = b"""
local time = redis.call('TIME')
return redis.call('ZCOUNT', KEYS[1], '(' .. (time[1] * 1000 + math.floor(time[2] / 1000)), '+inf')
"""


def open_names(url: str, channel: str, metrics: Metrics) -> NameHolders:
    """Connects to nothing yet. Raises UsageError for a URL that cannot be read; it never repeats the URL."""
    return RedisNameHolders(url, prefix=channel, metrics=metrics)


class RedisNameHolders:
    """May be made outside any event loop and used from several, in several threads.

    Connections of this node are counted here; Redis knows only which nodes hold a name. What is asked of Redis
    goes through one thread with a loop of its own, in the order of the calls: the renewal must outlive the loop
    of whoever came first. Instances with one ``prefix`` see each other's names. Not closed at the interpreter's
    end, it closes itself.
    """

    def __init__(
        self, url: str, ttl_seconds: float = 90, *, prefix: str = "realtime", metrics: Metrics | None = None
    ) -> None:
        self._address = Address.parse(url)
        self._ttl = ttl_seconds
        self._key = f"{{{prefix}:names}}:"  # one hash tag: a script takes many names
        self._metrics = metrics or Metrics()
        self._node = secrets.token_hex(8).encode()
        self._counts: Counter[str] = Counter()
        self._announced: set[str] = set()
        refuse = partial(OutsideError, "The names are closed")
        self._own = OwnLoop("realtime-names", self._main, close_seconds=CLOSE_SECONDS, refuse=refuse)
        self._gate = self._own.gate  # so that questions are asked in the order in which the counts changed
        # What follows belongs to the thread's loop.
        self._shards: Shards
        self._doubt = asyncio.Event()

    async def hold(self, name: str) -> None:
        """As the port says. What could not be announced is announced as soon as Redis answers."""
        with self._gate:
            self._counts[name] += 1
            if name in self._announced:
                return
            asked = self._own.ask(lambda: self._announce([name]))
        await asyncio.shield(asyncio.wrap_future(asked))

    async def release(self, name: str) -> None:
        """As the port says; one too many does nothing."""
        with self._gate:
            if self._counts[name] > 1:
                self._counts[name] -= 1
                return
            known = self._counts.pop(name, 0) > 0
            self._announced.discard(name)
            if not known or self._own.closed:
                return
            asked = self._own.ask(lambda: self._withdraw(name))
        with suppress(OutsideError):
            await asyncio.shield(asyncio.wrap_future(asked))

    async def held(self, name: str) -> bool:
        """Answers, or raises OutsideError, within about a second. What this node holds it knows without Redis."""
        with self._gate:
            if self._counts.get(name):
                return True
            asked = self._own.ask(lambda: self._ask(b"EVAL", HELD, b"1", self._key_of(name)))
        return int(await asyncio.wrap_future(asked)) > 0

    async def close(self) -> None:
        """Gives this node's names back, where Redis answers within about a second. Repeats do nothing."""
        await self._own.close()

    # On our own loop.

    async def _main(self) -> None:
        self._shards = Shards(self._address, self._metrics)
        renewal = asyncio.create_task(self._renew())
        renewal.add_done_callback(lambda _: self._own.closing.set())  # should it fail, the loop ends with its error
        await self._own.closing.wait()
        await end_tasks(renewal)
        if not renewal.cancelled():
            renewal.result()
        with suppress(TimeoutError):
            await self._leave()
        await self._shards.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        if rest:
            await asyncio.wait(rest, timeout=CLOSE_SECONDS)

    async def _renew(self) -> None:
        """Say again what we hold: in time, and soon after something went wrong."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._ttl / RENEWALS):
                    await self._doubt.wait()
                    await asyncio.sleep(RETRY_SECONDS)
            self._doubt.clear()
            with self._gate:
                names = list(self._counts)
            with suppress(OutsideError):  # which leaves a doubt
                await self._announce(names)

    async def _announce(self, names: Sequence[str]) -> None:
        """Raises OutsideError."""
        ttl = str(int(self._ttl * 1000)).encode()
        for start in range(0, len(names), BATCH):
            with self._gate:  # what was released meanwhile must not come back after its ZREM
                batch = [name for name in names[start : start + BATCH] if self._counts[name]]
            if not batch:
                continue
            keys = [self._key_of(name) for name in batch]
            await self._ask(b"EVAL", HOLD, str(len(keys)).encode(), *keys, self._node, ttl)
            with self._gate:
                self._announced.update(name for name in batch if self._counts[name])

    async def _withdraw(self, name: str) -> None:
        """Raises OutsideError; what was not withdrawn expires."""
        await self._ask(b"ZREM", self._key_of(name), self._node)

    async def _leave(self) -> None:
        async with asyncio.timeout(CLOSE_SECONDS):
            await asyncio.gather(*map(self._withdraw, list(self._counts)), return_exceptions=True)

    async def _ask(self, *command: bytes) -> Any:
        try:
            return await self._shards.send(self._key.encode(), *command)
        except OutsideError:
            self._forget_announced()
            raise

    def _forget_announced(self) -> None:
        with self._gate:
            self._announced.clear()
            waiting = bool(self._counts)
        if waiting:
            self._doubt.set()

    def _key_of(self, name: str) -> bytes:
        return (self._key + name).encode("utf-8", "surrogatepass")
