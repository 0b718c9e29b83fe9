"""Who remembers answers of requests that may come twice: this process, and what stands behind the URL of the bus."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

from realtime.errors import OutsideError, UsageError
from realtime.plug import find
from realtime.ports import Answers
from realtime.settings import Settings
from realtime.telemetry.seldom import Seldom

logger = logging.getLogger("realtime.answers")

REST_SECONDS: Final = 1.0
"""After a failure the store is not asked: each question to one that is frozen takes a second of somebody's time."""
ALONE: Final = "answers_alone"
"""Counted in ``metrics.drops``: answers that another instance would not find."""


def open_answers(settings: Settings, metrics: Any, *, alone: bool = False) -> Answers:
    """The adapter called ``answers+SCHEME`` for the scheme of the bus's URL, with this process's memory in front.

    ``alone``: while the store is away, go on with what this process remembers, rather than refuse. Without a URL, and
    for a bus whose author wrote no such store, answers are known to this process alone.
    """
    if settings.redis_url is None:
        return _of_this_process()
    try:
        open_shared = find(f"answers+{urlsplit(settings.redis_url).scheme}")
    except UsageError:
        logger.warning("this bus keeps no answers: a request repeated on another instance is done again")
        return _of_this_process()

    def make() -> Answers:
        store: Answers = open_shared(settings.redis_url, settings.node or "", settings, metrics)
        return store

    return SharedAnswers(make, _of_this_process(), metrics, alone=alone)


class SharedAnswers:
    """Keeps the port ``Answers``, for all event loops of a process; each has a store of its own, made when first used.

    Whoever asks twice here is answered from memory. Two questions for the store go with a new key, and none with one
    that is known here. Where the store is away and ``alone`` is not wanted, ``begin`` raises OutsideError: nothing was
    done, and the same key may be sent again.
    """

    def __init__(self, make: Callable[[], Answers], own: Answers, metrics: Any, *, alone: bool) -> None:
        self._make = make
        self._spare: Answers | None = make()
        """Made at once, so that a URL that cannot be read is told at the start. The first loop gets it."""
        self._stores: dict[asyncio.AbstractEventLoop, Answers] = {}
        self._own = own
        self._metrics = metrics
        self._goes_on = alone
        self._shared: set[str] = set()
        """Begun, and the store knows of it: one for each request at work."""
        self._rests_until = 0.0
        self._closed = False
        self._seldom = Seldom()

    async def begin(self, key: str, body: bytes) -> bytes | None:
        answer = await self._own.begin(key, body)
        if answer is not None:
            return answer
        try:
            answer = await self._ask(key, body)
        except BaseException:
            await self._own.abandon(key)
            raise
        if answer is not None:
            await self._own.finish(key, answer)
        return answer

    async def finish(self, key: str, answer: bytes) -> None:
        await self._own.finish(key, answer)
        if key not in self._shared:
            return
        self._shared.discard(key)
        try:
            await self._store().finish(key, answer)
        except OutsideError as error:
            self._metrics.drops.add(ALONE)
            self._note(error)
            raise

    async def abandon(self, key: str) -> None:
        await self._own.abandon(key)
        if key in self._shared and not self._closed:
            self._shared.discard(key)
            await self._store().abandon(key)

    async def close(self) -> None:
        self._closed = True
        stores, self._stores = self._stores, {}
        for loop, store in stores.items():
            if loop is asyncio.get_running_loop():
                await store.close()
            elif loop.is_running():  # one that is not has closed it by itself
                closing = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(store.close(), loop))
                await asyncio.wait([closing], timeout=REST_SECONDS)
        await self._own.close()

    async def _ask(self, key: str, body: bytes) -> bytes | None:
        """What the store says. None also where this node is to go on alone."""
        if monotonic() >= self._rests_until:
            try:
                answer = await self._store().begin(key, body)
            except OutsideError as error:
                if error.code != OutsideError.code:
                    raise  # it is there, and somebody else is at work
                self._note(error)
            else:
                if answer is None:
                    self._shared.add(key)
                return answer
        if not self._goes_on:
            raise OutsideError("Whether this was asked before cannot be known now", retry_after=REST_SECONDS)
        self._metrics.drops.add(ALONE)
        return None

    def _store(self) -> Answers:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        found = self._stores.get(loop)
        if self._closed:
            raise OutsideError("The store of answers is closed")
        if found is None:
            for gone in [known for known in self._stores if known.is_closed()]:
                del self._stores[gone]
            found, self._spare = self._spare or self._make(), None
            self._stores[loop] = found
        return found

    def _note(self, error: OutsideError) -> None:
        self._rests_until = monotonic() + REST_SECONDS
        left_out = self._seldom.left_out("away", monotonic())
        if left_out is not None:
            does = "each instance goes on with its own" if self._goes_on else "requests that may come twice are refused"
            logger.warning("the store of answers is away: %s (%s)", does, error.message)


def _of_this_process() -> Answers:
    answers: Answers = find("answers+memory")()
    return answers
