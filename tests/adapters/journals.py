"""Journals on a real Redis, and what a follower was told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

from adapters.redis.address import Address
from adapters.redis.journal import RedisJournal
from adapters.redis.scripts import LogLimits
from realtime.errors import OutsideError
from realtime.journal.positions import Draft, Entry, Position
from realtime.metrics import Metrics
from realtime.ports import Followed, Notice, NoticeKind, Told

Result = TypeVar("Result")
PATIENCE_SECONDS = 15.0
SECRETS = ("a secret of the tests, long enough",)


def journal(
    url: str,
    node: str,
    *,
    prefix: str = "test",
    metrics: Metrics | None = None,
    limits: LogLimits | None = None,
    signing: tuple[str, ...] = SECRETS,
) -> RedisJournal:
    return RedisJournal(Address.parse(url), node, metrics or Metrics(), prefix=prefix, signing=signing, limits=limits)


def draft(number: int, *rooms: str, node: str = "a", namespace: str = "/chat", body: bytes = b'["x"]') -> Draft:
    """For these rooms, or for everyone."""
    return Draft((node, number), namespace, rooms or None, (), "event", body, 1)


class Follower:
    """Everything that ``follow`` says, while its block lasts."""

    def __init__(self, journal: RedisJournal) -> None:
        self.journal = journal
        self.heard: list[Followed] = []
        self._more = asyncio.Event()
        self.task = asyncio.ensure_future(self._follow())

    async def _follow(self) -> None:
        async for item in self.journal.follow():
            self.heard.append(item)
            self._more.set()

    async def until(self, enough: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        async with asyncio.timeout(seconds):
            while not enough():
                self._more.clear()
                await self._more.wait()

    async def until_count(self, entries: int) -> None:
        await self.until(lambda: len(self.entries) >= entries)

    async def until_heard(self, entry: Entry) -> None:
        await self.until(lambda: entry in self.entries)

    @property
    def entries(self) -> list[Entry]:
        return [item for item in self.heard if isinstance(item, Entry)]

    @property
    def told(self) -> list[Told]:
        return [item for item in self.heard if isinstance(item, Told)]

    @property
    def notices(self) -> list[NoticeKind]:
        return [item.kind for item in self.heard if isinstance(item, Notice)]

    def numbers(self) -> list[int]:
        return [entry.draft.id[1] for entry in self.entries]


@asynccontextmanager
async def following(journal: RedisJournal) -> AsyncIterator[Follower]:
    """Ends the journal too."""
    follower = Follower(journal)
    try:
        yield follower
    finally:
        await journal.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await follower.task


async def stubbornly(ask: Callable[[], Awaitable[Result]], seconds: float = PATIENCE_SECONDS) -> Result:
    """Again and again until it is answered, as whoever has to deliver does."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(OutsideError):
                return await ask()


async def keep(journal: RedisJournal, draft: Draft) -> Entry:
    """Appended for sure: on a busy machine an answer may come too late, and then the same draft is offered again."""
    return await stubbornly(partial(journal.append, draft))


async def read_all(journal: RedisJournal, position: Position, namespace: str = "/chat") -> list[Entry] | None:
    """The log after a position, page by page."""
    found: list[Entry] = []
    while True:
        stretch = await stubbornly(partial(journal.since, namespace, position, limit=100))
        if stretch is None:
            return None
        found.extend(stretch.entries)
        position = stretch.upto
        if not stretch.more:
            return found
