"""The Bus port on Redis or Valkey for instances that share a key: each message is sealed, and no other is heard.

Under the seal stand the channel, who says it and its number there: a message that was recorded and is published once
more, on this channel or on another, is refused by everybody who has heard it or a later one of the same sender.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from itertools import count
from typing import Any, Final

from adapters.redis.bus import RedisBus
from adapters.redis.heard import Heard, Verdict
from adapters.redis.seal import RefusedMessage, Signer
from realtime.eventloop.loops import PerLoop
from realtime.metrics import Metrics

_KIND: Final = b"B"


class _Sender:
    """Of one event loop, for its messages leave in their order."""

    def __init__(self, loop: object) -> None:
        self.name = secrets.token_hex(8)
        self.numbers = count(1)


class SignedBus:
    """Holds a ``RedisBus``, and promises what it does. What nobody of ours has said is counted by reason."""

    def __init__(self, bus: RedisBus, signer: Signer, metrics: Metrics, channel: str) -> None:
        self._bus = bus
        self._signer = signer
        self._metrics = metrics
        self._channel = channel
        self._senders: PerLoop[_Sender] = PerLoop(_Sender)

    async def publish(self, message: bytes) -> None:
        """As ``RedisBus.publish``; the seal takes about 100 bytes of the limit."""
        sender = self._senders(asyncio.get_running_loop())
        header = [self._channel, sender.name, next(sender.numbers)]
        await self._bus.publish(self._signer.seal(_KIND, header, (message,)))

    async def listen(self) -> AsyncIterator[bytes]:
        heard = Heard()
        async for sealed in self._bus.listen():
            try:
                header, parts = self._signer.open(_KIND, sealed)
                self._check(heard, header)
            except RefusedMessage as refused:
                self._metrics.bus_refused.add(refused.reason)
                continue
            for part in parts:
                yield part

    def _check(self, heard: Heard, header: Any) -> None:
        """Raises RefusedMessage for what was said elsewhere, or came in before."""
        try:
            channel, sender, number = header
        except (TypeError, ValueError):
            raise RefusedMessage("version") from None
        if [type(each) for each in header] != [str, str, int]:
            raise RefusedMessage("garbled")
        if channel != self._channel:
            raise RefusedMessage("channel")
        if heard.take(sender, number) is not Verdict.NEW:
            raise RefusedMessage("repeated")

    async def ping(self) -> None:
        await self._bus.ping()

    async def close(self) -> None:
        await self._bus.close()
