"""The Bus port on Redis or Valkey for instances that share a key: each message is sealed, and no other is heard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from adapters.redis.bus import RedisBus
from adapters.redis.seal import RefusedMessage, Signer
from realtime.metrics import Metrics

_KIND: Final = b"B"


class SignedBus:
    """Holds a ``RedisBus``, and promises what it does. What nobody of ours has said is counted by reason."""

    def __init__(self, bus: RedisBus, signer: Signer, metrics: Metrics) -> None:
        self._bus = bus
        self._signer = signer
        self._metrics = metrics

    async def publish(self, message: bytes) -> None:
        """As ``RedisBus.publish``; the seal takes 50 bytes of the limit."""
        await self._bus.publish(self._signer.seal(_KIND, None, (message,)))

    async def listen(self) -> AsyncIterator[bytes]:
        async for sealed in self._bus.listen():
            try:
                _, parts = self._signer.open(_KIND, sealed)
            except RefusedMessage as refused:
                self._metrics.bus_refused.add(refused.reason)
                continue
            for part in parts:
                yield part

    async def ping(self) -> None:
        await self._bus.ping()

    async def close(self) -> None:
        await self._bus.close()
