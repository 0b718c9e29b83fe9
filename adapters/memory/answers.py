"""Answers of requests that may come twice, in one process."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from threading import Lock
from time import monotonic
from typing import Final

from realtime.errors import OutsideError, Refusal
from realtime.journal.recent import Recent

KEYS: Final = 10_000
"""The newest are remembered."""
WINDOW_SECONDS: Final = 600.0
FIRST_SECONDS: Final = 10.0
"""What the first request with a key may take before those that wait for its answer are told to come again."""


class MemoryAnswers:
    """Keeps the port ``Answers`` for one process. May be used from several threads and event loops."""

    def __init__(self, keys: int = KEYS, seconds: float = WINDOW_SECONDS) -> None:
        self._answers: Recent[tuple[bytes, Future[bytes]]] = Recent(keys, seconds)
        self._lock = Lock()

    async def begin(self, key: str, body: bytes) -> bytes | None:
        with self._lock:
            before = self._answers.get(key, monotonic())
            if before is None:
                self._answers.put(key, (body, Future()), monotonic())
                return None
        if before[0] != body:
            raise Refusal("idempotency_conflict", "This Idempotency-Key came with another body before")
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(before[1])), FIRST_SECONDS)
        except TimeoutError:
            raise OutsideError(
                "The first request with this key is not answered yet", code="pending", retry_after=1
            ) from None

    async def finish(self, key: str, answer: bytes) -> None:
        found = self._answers.get(key, monotonic())
        if found is not None and not found[1].done():
            found[1].set_result(bytes(memoryview(answer)))  # a copy: what orjson makes holds on to 4 KiB

    async def abandon(self, key: str) -> None:
        with self._lock:
            found = self._answers.get(key, monotonic())
            self._answers.forget(key)
        if found is not None and not found[1].done():
            found[1].set_exception(
                OutsideError("The first request with this key failed", code="pending", retry_after=1)
            )

    async def close(self) -> None:
        """Nothing is held."""
