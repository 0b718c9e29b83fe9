"""What every ``realtime.ports.History`` promises, as tests that any store can run.

Subclass ``HistoryContract``, mark the class for your runner of async tests, and give it a fixture
``history`` that yields an open, empty store and closes it afterwards:

    @pytest.mark.asyncio
    class TestMyStore(HistoryContract):
        @pytest_asyncio.fixture
        async def history(self, tmp_path):
            store = open_my_store(tmp_path)
            yield store
            await store.close()
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final, TypeVar

from realtime.errors import UsageError
from realtime.ports import History, Page, StoredMessage

WAIT_SECONDS: Final = 30.0
"""The most that one step may take; far more than any should."""

HOSTILE_TEXTS: Final = (
    "",
    " ",
    "NUL \x00 inside",
    "\x00",
    "half an emoji \ud83d",
    "\ude00 the other half, and both in the wrong order \ude00\ud83d",
    "both halves apart \ud83d\ude00",
    "an emoji \U0001f600, a family \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "every control character " + "".join(map(chr, range(32))) + "\x7f",
    "looks escaped \x1a0000 \x1ad83d \\x00 \\u0000 %00 &#0;",
    "'; DROP TABLE messages; -- \" ` $1 :name ? %s {0}",
    "line\r\nbreaks\u2028\u2029 and \u202e direction",
    "composed \u00e9, decomposed e\u0301",
    "noncharacters \ufffe\uffff\U0010ffff",
    "x" * 100_000,
)
HOSTILE_NAMES: Final = ("a", "A", "\u00e9", "e\u0301", "a%", "a_", "*", "'", '"', "a b", "\U0001f600", "@a:b")

Result = TypeVar("Result")


def message(number: int, *, room: str = "lobby", text: str | None = None, key: str | None = None) -> StoredMessage:
    """The ``number``-th message: a larger number is a newer message."""
    return StoredMessage(
        id=f"{number:026d}" if key is None else key,
        room=room,
        username=f"user {number % 7}",
        text=f"message {number}" if text is None else text,
        timestamp=f"2026-01-01T00:{number // 60 % 60:02d}:{number % 60:02d}.000000Z",
    )


def append_all(history: History, found: Iterable[StoredMessage]) -> None:
    for one in found:
        history.append(one)


async def soon(awaitable: Awaitable[Result]) -> Result:
    """The result, or TimeoutError: a store that hangs must fail its test, not hang it."""
    return await asyncio.wait_for(awaitable, WAIT_SECONDS)


async def elsewhere(work: Callable[[], Awaitable[Result]]) -> Result:
    """Run on a new event loop in a new thread, as each connection under Starlette's TestClient does."""
    return await soon(asyncio.to_thread(lambda: asyncio.run(_awaited(work))))


async def _awaited(work: Callable[[], Awaitable[Result]]) -> Result:
    return await work()


def ids(page: Page) -> list[str]:
    return [one.id for one in page.messages]


async def walk(history: History, room: str, limit: int) -> list[StoredMessage]:
    """Every message of the room, oldest first, page by page from the newest."""
    found: list[StoredMessage] = []
    before: str | None = None
    more = True
    while more:
        page = await soon(history.page(room, before=before, limit=limit))
        assert page.messages or not page.more, "an empty page cannot promise more"
        assert before is None or all(one.id < before for one in page.messages), "a page is older than its before"
        found[:0] = page.messages
        before, more = (page.messages[0].id if page.messages else None), page.more
    return found


class HistoryContract:
    """One promise a test. Each starts with an empty store."""

    async def test_a_room_without_messages_is_an_empty_page(self, history: History) -> None:
        page = await soon(history.page("lobby"))
        assert list(page.messages) == []
        assert page.more is False

    async def test_a_page_sees_what_was_appended_just_before(self, history: History) -> None:
        for number in range(30):
            history.append(message(number))
            page = await soon(history.page("lobby"))
            assert list(page.messages) == [message(one) for one in range(number + 1)]

    async def test_a_page_is_the_same_when_everything_is_stored(self, history: History) -> None:
        append_all(history, map(message, range(30)))
        fresh = await soon(history.page("lobby", before=message(20).id, limit=7))
        await soon(history.flush())
        stored = await soon(history.page("lobby", before=message(20).id, limit=7))
        assert list(stored.messages) == list(fresh.messages) == [message(number) for number in range(13, 20)]
        assert stored.more is fresh.more is True

    async def test_more_is_true_exactly_when_older_messages_exist(self, history: History) -> None:
        append_all(history, map(message, range(5)))
        for limit, more in ((4, True), (5, False), (6, False)):
            page = await soon(history.page("lobby", limit=limit))
            assert (len(page.messages), page.more) == (min(limit, 5), more)

    async def test_pages_by_before_walk_through_everything_once(self, history: History) -> None:
        append_all(history, map(message, range(100)))
        for limit in (1, 7, 50, 200):
            assert await walk(history, "lobby", limit) == [message(number) for number in range(100)]

    async def test_an_unknown_before_answers_with_what_is_older(self, history: History) -> None:
        append_all(history, (message(number) for number in (1, 2, 4, 5)))
        assert ids(await soon(history.page("lobby", before=message(3).id))) == [message(1).id, message(2).id]
        assert ids(await soon(history.page("lobby", before=message(0).id))) == []
        assert len((await soon(history.page("lobby", before=message(9).id))).messages) == 4

    async def test_a_before_of_any_shape_is_an_answer(self, history: History) -> None:
        history.append(message(1))
        for before in ("", "\x00", "\ud83d", "%", "'", "é" * 10_000, "\U0010ffff"):
            page = await soon(history.page("lobby", before=before))
            assert ids(page) in ([], [message(1).id])

    async def test_pages_are_in_the_order_of_ids_whatever_the_order_of_arrival(self, history: History) -> None:
        append_all(history, (message(number) for number in (5, 1, 4, 2, 3)))
        assert ids(await soon(history.page("lobby"))) == [message(number).id for number in (1, 2, 3, 4, 5)]
        await soon(history.flush())
        assert ids(await soon(history.page("lobby"))) == [message(number).id for number in (1, 2, 3, 4, 5)]

    async def test_ids_sort_as_python_sorts_strings(self, history: History) -> None:
        names = ["0", "9", "A", "B", "Z", "_", "a", "b", "é", "z", "A-", "a-", "AA", "aa"]
        append_all(history, (message(0, key=name) for name in names))
        assert [one.id for one in await walk(history, "lobby", 3)] == sorted(names)
        await soon(history.flush())
        assert [one.id for one in await walk(history, "lobby", 3)] == sorted(names)

    async def test_rooms_are_told_apart_by_every_character(self, history: History) -> None:
        append_all(history, (message(n, room=name) for n, name in enumerate(HOSTILE_NAMES)))
        for stored in (False, True):
            for number, name in enumerate(HOSTILE_NAMES):
                page = await soon(history.page(name))
                assert list(page.messages) == [message(number, room=name)], (stored, name)
            await soon(history.flush())

    async def test_the_same_id_twice_is_kept_once_as_it_came_first(self, history: History) -> None:
        history.append(message(1, text="first"))
        await soon(history.flush())
        append_all(history, [message(1, text="second"), message(2), message(2)])
        await soon(history.flush())
        page = await soon(history.page("lobby"))
        assert list(page.messages) == [message(1, text="first"), message(2)]

    async def test_any_text_comes_back_as_it_was(self, history: History) -> None:
        hostile = [message(number, text=text) for number, text in enumerate(HOSTILE_TEXTS)]
        append_all(history, hostile)
        assert list((await soon(history.page("lobby"))).messages) == hostile
        await soon(history.flush())
        assert list((await soon(history.page("lobby"))).messages) == hostile

    async def test_a_thousand_at_once_are_all_kept(self, history: History) -> None:
        append_all(history, map(message, range(1_000)))
        await soon(history.flush())
        assert await walk(history, "lobby", 200) == [message(number) for number in range(1_000)]

    async def test_every_call_works_on_other_threads_and_loops(self, history: History) -> None:
        async def use(number: int) -> Page:
            history.append(message(number))
            await history.ping()
            await history.flush()
            return await history.page("lobby")

        for number in range(3):
            assert message(number) in (await elsewhere(partial(use, number))).messages
        assert len((await soon(use(3))).messages) == 4

    async def test_threads_may_append_at_once(self, history: History) -> None:
        def run(first: int) -> None:
            append_all(history, (message(first + number) for number in range(100)))

        threads = [threading.Thread(target=run, args=(first,)) for first in range(0, 400, 100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await soon(asyncio.to_thread(thread.join))
        await soon(history.flush())
        assert await walk(history, "lobby", 200) == [message(number) for number in range(400)]

    async def test_pages_may_be_asked_at_once_while_messages_come(self, history: History) -> None:
        append_all(history, map(message, range(50)))
        asked = [asyncio.ensure_future(history.page("lobby", limit=10)) for _ in range(20)]
        append_all(history, map(message, range(50, 100)))
        for page in await soon(asyncio.gather(*asked)):
            found = [int(key) for key in ids(page)]
            assert found == list(range(found[0], found[0] + 10)), "a page has no holes"

    async def test_a_cancelled_page_harms_nothing(self, history: History) -> None:
        history.append(message(1))
        asked = [asyncio.ensure_future(history.page("lobby")) for _ in range(5)]
        await soon(history.ping())
        for one in asked:
            one.cancel()
        await soon(asyncio.gather(*asked, return_exceptions=True))
        assert ids(await soon(history.page("lobby"))) == [message(1).id]

    async def test_flush_and_ping_of_an_empty_store_return(self, history: History) -> None:
        await soon(history.ping())
        await soon(history.flush())

    async def test_close_may_be_repeated_and_ends_the_taking(self, history: History) -> None:
        history.append(message(1))
        await soon(asyncio.gather(history.close(), history.close()))
        await soon(history.close())
        await elsewhere(history.close)
        assert _refusal(history) is not None

    async def test_close_of_a_store_that_was_never_used_returns(self, history: History) -> None:
        await soon(history.close())
        assert _refusal(history) is not None


def _refusal(history: History) -> UsageError | None:
    try:
        history.append(message(2))
    except UsageError as error:
        return error
    return None


__all__ = ["HistoryContract"]
