"""What one client was asked and has not answered yet: acknowledgements by number, bounded."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

logger = logging.getLogger("realtime")

CALLBACK_LIMIT: Final = 1_000
"""Acknowledgements one client may owe; the oldest is given up first."""

Callback = Callable[..., Any]
"""Called with what the client answered, and may be a coroutine function. Its method ``abandoned``, where it has one,
is called instead when no answer will come, and ``blocked`` when none can come for now."""


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

    def block(self) -> None:
        """Nothing is read from the client any more: whoever minds is told so now, and hears no late answer."""
        for id, callback in self._callbacks.items():
            blocked = getattr(callback, "blocked", None)
            if blocked is not None:
                self._callbacks[id] = _too_late  # the client has done no wrong when it answers
                blocked()

    def abandon(self) -> None:
        """The client is gone: no answer will come."""
        while self._callbacks:
            _abandon(self._callbacks.popitem()[1])


def block(clients: Iterable[Asked | None]) -> None:
    """Nothing is read from these any more: an answer may lie behind events that wait for the one who asked."""
    for asked in clients:
        if asked is not None:
            asked.block()


def _abandon(callback: Callback) -> None:
    abandoned = getattr(callback, "abandoned", None)
    if abandoned is not None:
        abandoned()


def _too_late(*_: Any) -> None:
    """The callback of an answer that nobody waits for any more."""


async def _finish(result: Awaitable[Any]) -> None:
    try:
        await result
    except Exception:
        logger.exception("an acknowledgement callback failed")
