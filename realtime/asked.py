"""What one client was asked and has not answered yet: acknowledgements by number, bounded."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

logger = logging.getLogger("realtime")

CALLBACK_LIMIT: Final = 1_000
"""Acknowledgements one client may owe; the oldest is given up first."""

Callback = Callable[..., Any]
"""Called with what the client answered, and may be a coroutine function. Its method ``abandoned``, where it has one,
is called instead when no answer will come."""


class Asked:
    """Belongs to one membership. Ids begin at 1 and are never used twice."""

    __slots__ = ("_callbacks", "_last", "_on_drop")

    def __init__(self, on_drop: Callable[[str], None]) -> None:
        self._callbacks: dict[int, Callback] = {}
        self._last = 0
        self._on_drop = on_drop

    def __len__(self) -> int:
        return len(self._callbacks)

    def expect(self, callback: Callback) -> int:
        """The id under which the client's answer will be handed to ``callback``."""
        if len(self._callbacks) >= CALLBACK_LIMIT:
            _abandon(self._callbacks.pop(next(iter(self._callbacks))))
            self._on_drop("callback")
        self._last += 1
        self._callbacks[self._last] = callback
        return self._last

    def answer(self, id: int, args: Sequence[Any], start: Callable[[Coroutine[Any, Any, None]], None]) -> bool:
        """The client answered; False when nobody waits for it. What the callback raises is logged."""
        callback = self._callbacks.pop(id, None)
        if callback is None:
            return False
        try:
            result = callback(*args)
        except Exception:
            logger.exception("an acknowledgement callback failed")
        else:
            if isinstance(result, Awaitable):
                start(_finish(result))
        return True

    def abandon(self) -> None:
        """The client is gone: no answer will come."""
        while self._callbacks:
            _abandon(self._callbacks.popitem()[1])


def _abandon(callback: Callback) -> None:
    abandoned = getattr(callback, "abandoned", None)
    if abandoned is not None:
        abandoned()


async def _finish(result: Awaitable[Any]) -> None:
    try:
        await result
    except Exception:
        logger.exception("an acknowledgement callback failed")
