"""The Answers port on Redis or Valkey: who asks first works, who asks again gets the same answer."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from adapters.redis.address import Address
from adapters.redis.keys import place
from adapters.redis.scripts import Script
from adapters.redis.seal import RefusedMessage, Signer
from adapters.redis.shards import Shards
from realtime.errors import OutsideError, Refusal
from realtime.metrics import Metrics

WORK_SECONDS: Final = 15.0
"""For whoever asked first; a node that was killed holds a key so long."""
WAIT_SECONDS: Final = 10.0
"""For those who ask meanwhile."""
WINDOW_SECONDS: Final = 600.0
LOOK_SECONDS: Final = 0.05
_KIND: Final = b"A"

# ARGV: what is to lie there where nothing does, for how many ms → what lay there
_TAKE: Final = Script.of(
    """
local found = redis.call('GET', KEYS[1])
if not found then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return found
"""
)

# ARGV: what must lie there, what is to lie there instead (nothing: nothing), for how many ms
_REPLACE: Final = Script.of(
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""
)


class RedisAnswers:
    """Belongs to the event loop it is first used in. What lies in Redis is signed, and expires."""

    def __init__(
        self,
        address: Address,
        metrics: Metrics,
        *,
        prefix: str,
        signing: Sequence[str],
        seconds: float = WINDOW_SECONDS,
    ) -> None:
        self._metrics = metrics
        self._signer = Signer(signing)
        self._shards = Shards(address, metrics)
        self._prefix = prefix
        self._seconds = seconds
        self._begun: dict[str, tuple[bytes, bytes]] = {}
        """By key: the digest, and what lies in Redis. One for each request at work."""

    async def begin(self, key: str, body: bytes) -> bytes | None:
        at = self._at(key)
        working = self._signer.seal(_KIND, "working", (body, secrets.token_bytes(8)))
        hold = b"%d" % (1000 * min(self._seconds, WORK_SECONDS))
        found = await self._shards.run(_TAKE, (at,), working, hold)
        if found is None:
            self._begun[key] = (body, working)
            return None
        ends = asyncio.get_running_loop().time() + WAIT_SECONDS
        while asyncio.get_running_loop().time() < ends:
            if found is None:
                raise OutsideError("The first request with this key failed", code="pending", retry_after=1)
            if (answer := self._read(found, body)) is not None:
                return answer
            await asyncio.sleep(LOOK_SECONDS)
            found = await self._shards.send(at, b"GET", at)
        raise OutsideError("The first request with this key is not answered yet", code="pending", retry_after=1)

    async def finish(self, key: str, answer: bytes) -> None:
        """One that comes after WORK_SECONDS finds the key expired or another's, and is kept by nobody."""
        begun = self._begun.pop(key, None)
        if begun is not None:
            sealed = self._signer.seal(_KIND, "answer", (begun[0], answer))
            await self._shards.run(_REPLACE, (self._at(key),), begun[1], sealed, b"%d" % (1000 * self._seconds))

    async def abandon(self, key: str) -> None:
        begun = self._begun.pop(key, None)
        if begun is not None:
            with suppress(OutsideError):  # it expires
                await self._shards.run(_REPLACE, (self._at(key),), begun[1], b"", b"0")

    async def close(self) -> None:
        await self._shards.close()

    def _at(self, key: str) -> bytes:
        """A digest: keys come from clients, as long as they like."""
        return place(self._prefix, "answer", hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest())

    def _read(self, found: bytes, body: bytes) -> bytes | None:
        """The answer; None while it is worked on. Raises Refusal for another request, OutsideError for no answer."""
        try:
            header, parts = self._signer.open(_KIND, found)
            state, digest, answer = header, *parts
        except RefusedMessage as refused:
            self._metrics.bus_refused.add(refused.reason)
            raise OutsideError("What lies under this key is no answer of ours") from None
        except ValueError:
            self._metrics.bus_refused.add("garbled")
            raise OutsideError("What lies under this key is no answer of ours") from None
        if digest != body:
            raise Refusal("idempotency_conflict", "This Idempotency-Key came with another body before")
        return answer if state == "answer" else None
