"""The contract suite passes a store that keeps its promises, and each of its tests fails one that breaks them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from threading import Lock

import pytest
import pytest_asyncio

import realtime.testing.history
from realtime.errors import OutsideError, UsageError
from realtime.ports import History, Page, StoredMessage
from realtime.testing.history import HistoryContract


class MemoryHistory:
    """Keeps the port ``History`` as long as the process lives. May be used from several threads."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.rooms: dict[str, dict[str, StoredMessage]] = {}
        self.closed = False

    def append(self, message: StoredMessage) -> None:
        if self.closed:
            raise UsageError("closed")
        with self.lock:
            self.rooms.setdefault(message.room, {}).setdefault(message.id, message)

    async def page(self, room: str, *, before: str | None = None, limit: int = 50) -> Page:
        with self.lock:
            older = [one for one in self.sorted(self.rooms.get(room, {}).values()) if self.is_older(one, before)]
        return Page(older[-limit:], len(older) > limit)

    def sorted(self, found: Iterable[StoredMessage]) -> list[StoredMessage]:
        return sorted(found, key=lambda one: one.id)

    def is_older(self, message: StoredMessage, before: str | None) -> bool:
        return before is None or message.id < before

    async def ping(self) -> None: ...

    async def flush(self) -> None: ...

    async def close(self) -> None:
        self.closed = True


@pytest.mark.asyncio
class TestMemoryHistory(HistoryContract):
    @pytest_asyncio.fixture
    async def history(self) -> AsyncIterator[History]:
        store = MemoryHistory()
        yield store
        await store.close()


async def turns(count: int) -> None:
    for _ in range(count):
        ended = asyncio.Event()
        asyncio.get_running_loop().call_soon(ended.set)
        await ended.wait()


class Strict(MemoryHistory):
    async def page(self, room: str, *, before: str | None = None, limit: int = 50) -> Page:
        if room not in self.rooms:
            raise OutsideError("no such room")
        return await super().page(room, before=before, limit=limit)


class Late(MemoryHistory):
    """Shows what is flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[StoredMessage] = []

    def append(self, message: StoredMessage) -> None:
        self.waiting.append(message)

    async def flush(self) -> None:
        for message in self.waiting:
            super().append(message)


class TwoFaced(MemoryHistory):
    """Pages are one message shorter once they come from the store."""

    flushed = 0

    async def flush(self) -> None:
        self.flushed = 1

    async def page(self, room: str, *, before: str | None = None, limit: int = 50) -> Page:
        return await super().page(room, before=before, limit=limit - self.flushed)


class Hopeful(MemoryHistory):
    async def page(self, room: str, *, before: str | None = None, limit: int = 50) -> Page:
        page = await super().page(room, before=before, limit=limit)
        return replace(page, more=len(page.messages) == limit)


class Inclusive(MemoryHistory):
    def is_older(self, message: StoredMessage, before: str | None) -> bool:
        return before is None or message.id <= before


class Literal(MemoryHistory):
    """Knows only ids that it has."""

    async def page(self, room: str, *, before: str | None = None, limit: int = 50) -> Page:
        known = before if before in self.rooms.get(room, {}) else None
        return await super().page(room, before=known, limit=limit)


class Delicate(MemoryHistory):
    async def page(self, room: str, *, before: str | None = None, limit: int = 50) -> Page:
        if before is not None:
            before.encode()
        return await super().page(room, before=before, limit=limit)


class Unsorted(MemoryHistory):
    def sorted(self, found: Iterable[StoredMessage]) -> list[StoredMessage]:
        return list(found)


class Alphabetical(MemoryHistory):
    def sorted(self, found: Iterable[StoredMessage]) -> list[StoredMessage]:
        return sorted(found, key=lambda one: one.id.lower())


class Careless(MemoryHistory):
    """Does not tell upper case from lower."""

    def append(self, message: StoredMessage) -> None:
        super().append(replace(message, room=message.room.lower()))

    async def page(self, room: str, *, before: str | None = None, limit: int = 50) -> Page:
        return await super().page(room.lower(), before=before, limit=limit)


class Overwriting(MemoryHistory):
    def append(self, message: StoredMessage) -> None:
        self.rooms.get(message.room, {}).pop(message.id, None)
        super().append(message)


class Cleaning(MemoryHistory):
    def append(self, message: StoredMessage) -> None:
        super().append(replace(message, text=message.text.replace("\x00", "")))


class Small(MemoryHistory):
    def append(self, message: StoredMessage) -> None:
        super().append(message)
        room = self.rooms[message.room]
        if len(room) > 900:
            room.pop(min(room))


class Faithful(MemoryHistory):
    """Belongs to the event loop that made it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()

    async def ping(self) -> None:
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("attached to a different loop")


class Threaded(MemoryHistory):
    """Hears the thread that made it."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()

    def append(self, message: StoredMessage) -> None:
        if threading.get_ident() == self.thread:
            super().append(message)


class Gappy(MemoryHistory):
    """Two who look at once disturb each other."""

    looking = 0

    async def page(self, room: str, *, before: str | None = None, limit: int = 50) -> Page:
        self.looking += 1
        await turns(1)
        disturbed = self.looking > 1
        self.looking -= 1
        page = await super().page(room, before=before, limit=limit + 2)
        kept = [*page.messages[:1], *page.messages[2:]] if disturbed else page.messages
        return Page(kept[-limit:] if not disturbed else kept[:limit], page.more)


class Touchy(MemoryHistory):
    """Who gives up breaks it for all."""

    broken = False

    async def page(self, room: str, *, before: str | None = None, limit: int = 50) -> Page:
        if self.broken:
            raise OutsideError("broken")
        try:
            await turns(20)
        except asyncio.CancelledError:
            self.broken = True
            raise
        return await super().page(room, before=before, limit=limit)


class Waiting(MemoryHistory):
    """Flushes when there is something to flush."""

    async def flush(self) -> None:
        while not self.rooms:
            await turns(1)


class Once(MemoryHistory):
    async def close(self) -> None:
        if self.closed:
            raise OutsideError("closed already")
        self.closed = True


class Undead(MemoryHistory):
    async def close(self) -> None: ...


class Fussy(MemoryHistory):
    async def close(self) -> None:
        if not self.rooms:
            raise OutsideError("never opened")
        await super().close()


BROKEN: list[tuple[type[MemoryHistory], str]] = [
    (Strict, "test_a_room_without_messages_is_an_empty_page"),
    (Late, "test_a_page_sees_what_was_appended_just_before"),
    (TwoFaced, "test_a_page_is_the_same_when_everything_is_stored"),
    (Hopeful, "test_more_is_true_exactly_when_older_messages_exist"),
    (Inclusive, "test_pages_by_before_walk_through_everything_once"),
    (Literal, "test_an_unknown_before_answers_with_what_is_older"),
    (Delicate, "test_a_before_of_any_shape_is_an_answer"),
    (Unsorted, "test_pages_are_in_the_order_of_ids_whatever_the_order_of_arrival"),
    (Alphabetical, "test_ids_sort_as_python_sorts_strings"),
    (Careless, "test_rooms_are_told_apart_by_every_character"),
    (Overwriting, "test_the_same_id_twice_is_kept_once_as_it_came_first"),
    (Cleaning, "test_any_text_comes_back_as_it_was"),
    (Small, "test_a_thousand_at_once_are_all_kept"),
    (Faithful, "test_every_call_works_on_other_threads_and_loops"),
    (Threaded, "test_threads_may_append_at_once"),
    (Gappy, "test_pages_may_be_asked_at_once_while_messages_come"),
    (Touchy, "test_a_cancelled_page_harms_nothing"),
    (Waiting, "test_flush_and_ping_of_an_empty_store_return"),
    (Once, "test_close_may_be_repeated_and_ends_the_taking"),
    (Undead, "test_close_may_be_repeated_and_ends_the_taking"),
    (Fussy, "test_close_of_a_store_that_was_never_used_returns"),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("broken", "test"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
async def test_a_broken_store_fails(broken: type[MemoryHistory], test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime.testing.history, "WAIT_SECONDS", 1.0)
    with pytest.raises((AssertionError, TimeoutError, OutsideError, RuntimeError, UnicodeEncodeError)):
        await getattr(HistoryContract(), test)(broken())


def test_every_promise_is_broken_once() -> None:
    assert {name for name in vars(HistoryContract) if name.startswith("test_")} == {test for _, test in BROKEN}
