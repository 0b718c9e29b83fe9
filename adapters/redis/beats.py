"""Which nodes may have died with something unwritten: each tells Redis every so often that it is there.

While Redis is away a node cannot write who left, who was sent away and whose rooms changed; it does so later. If it
dies before that, what lies in Redis of its clients is not true any more, and nobody else knows better. But a node that
lives on knows when Redis was away, and whose last word came just before: of those nothing is believed. What it cannot
see is a node that died after it alone was cut off from Redis.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from adapters.redis.keys import place
from adapters.redis.scripts import Script
from adapters.redis.shards import Shards
from realtime.errors import OutsideError

KEPT_SECONDS: Final = 3_600
"""Longer than any session waits."""
MARGIN_MS: Final = 1_500
"""Between the last words of two nodes before Redis went away; each speaks twice as often."""
GAPS_LIMIT: Final = 20

# KEYS: a node's own; ARGV: how long in ms → the time in ms, by Redis's clock as all times here
_BEAT: Final = Script.of("""
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('SET', KEYS[1], now, 'PX', ARGV[1])
return now
""")


class Beats:
    """One node's view."""

    def __init__(self, shards: Shards, prefix: str, node: str) -> None:
        self._shards, self._prefix, self._node = shards, prefix, node
        self._last: int | None = None
        self._failed = False
        self._gaps: deque[tuple[int, int]] = deque(maxlen=GAPS_LIMIT)

    async def beat(self) -> None:
        """I am here. Never raises for trouble of Redis: that is what is remembered."""
        try:
            now = int(await self._shards.run(_BEAT, (self._key(self._node),), b"%d" % (KEPT_SECONDS * 1_000)))
        except OutsideError:
            self._failed = True
            return
        if self._failed and self._last is not None:
            self._gaps.append((self._last, max(self._last, now)))  # by another clock perhaps, after a fail-over
        self._last, self._failed = now, False

    async def may_have_missed(self, node: str) -> bool:
        """Was this node heard of last when Redis went away? Raises OutsideError."""
        if not self._gaps or node == self._node:
            return False
        key = self._key(node)
        last = await self._shards.send(key, b"GET", key)
        return last is None or any(start - MARGIN_MS <= int(last) <= end for start, end in self._gaps)

    def _key(self, node: str) -> bytes:
        return place(self._prefix, "beat", node)
