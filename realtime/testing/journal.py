"""What every Journal adapter promises (`realtime.ports.Journal`), as tests. An adapter's test class inherits them.

class TestMyJournal(JournalContract):
    def journal(self, node: str) -> Journal:
        return open_my_journal(self.place, node)
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from realtime.journal.positions import Channel, Draft, Entry, Position
from realtime.ports import Followed, Journal, Told
from realtime.testing.alone import Heard, alone, fails, hearing

NAMESPACE = "/contract"


def draft(node: str, number: int, *rooms: str, namespace: str = NAMESPACE) -> Draft:
    """For these rooms, or for everyone."""
    return Draft((node, number), namespace, rooms or None, (), "event", b'["x"]', 1)


async def entries(heard: Heard[Followed], count: int) -> list[Entry]:
    """The next so many entries; whatever else comes is passed over."""
    found: list[Entry] = []
    while len(found) < count:
        item = await heard.next()
        if isinstance(item, Entry):
            found.append(item)
    return found


class JournalContract:
    """Inherit, and say in ``journal`` how to make one. ``place`` differs from test to test."""

    place: str

    def setup_method(self) -> None:
        self.place = f"contract-{uuid.uuid4()}"

    def journal(self, node: str) -> Journal:
        """A new journal of this node at ``self.place``; those of one test share their logs."""
        raise NotImplementedError

    @asynccontextmanager
    async def _open(self, *nodes: str) -> AsyncIterator[list[Journal]]:
        async with AsyncExitStack() as stack:
            journals = [self.journal(node) for node in nodes]
            for journal in journals:
                stack.push_async_callback(journal.close)
            yield journals

    @alone
    async def test_offsets_grow_by_one_whoever_appends(self) -> None:
        async with self._open("a", "b") as (here, there):
            start = await here.newest(NAMESPACE)
            assert start.offset == 0
            first = await here.append(draft("a", 1, "x"))
            second = await there.append(draft("b", 1, "x"))
            third = await here.append(draft("a", 2))
            assert [each.offset for each in (first, second, third)] == [1, 2, 3]
            assert len({each.position.epoch for each in (first, second, third)}) == 1
            assert await there.newest(NAMESPACE) == third.position
            assert (await here.newest("/another")).offset == 0

    @alone
    async def test_what_is_begun_in_an_order_is_kept_in_that_order(self) -> None:
        async with self._open("a") as (here,):
            for start in (1, 101):
                kept = await asyncio.gather(*(here.append(draft("a", start + n, f"r{n % 3}")) for n in range(100)))
                assert [each.offset for each in kept] == list(range(start, start + 100))

    @alone
    async def test_previous_names_the_entry_of_the_channel_before(self) -> None:
        async with self._open("a") as (journal,):
            targets = [("x",), ("y",), ("y", "x"), (), ("x",), ()]
            kept = [await journal.append(draft("a", number, *rooms)) for number, rooms in enumerate(targets, 1)]
            assert [each.previous for each in kept] == [(0,), (0,), (2, 1), (0,), (3,), (4,)]
            assert await journal.heads(NAMESPACE, ["x", "y", None, "z"]) == {"x": 5, "y": 3, None: 6, "z": 0}

    @alone
    async def test_the_same_draft_twice_is_one_entry(self) -> None:
        async with self._open("a") as (journal,):
            found = await asyncio.gather(*(journal.append(draft("a", 7, "x")) for _ in range(10)))
            assert len({each.position for each in found}) == 1
            assert (await journal.newest(NAMESPACE)).offset == 1

    @alone
    async def test_everything_is_as_it_was(self) -> None:
        kept = Draft(
            ("a", 1), NAMESPACE, ("é x", "{y}", "a" * 128), ("sid1", "sid2"), "näme\n",
            '["é",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]'.encode(), 3, (bytes(range(256)), b""),
        )  # fmt: skip
        async with self._open("a", "b") as (here, there):
            entry = await here.append(kept)
            assert entry.draft == kept
            found = await there.since(NAMESPACE, entry.position._replace(offset=0))
            assert found is not None
            assert list(found.entries) == [entry]

    @alone
    async def test_the_log_is_read_in_pages(self) -> None:
        async with self._open("a") as (journal,):
            kept = [await journal.append(draft("a", number, "x")) for number in range(1, 8)]
            start = kept[0].position._replace(offset=0)
            page = await journal.since(NAMESPACE, start, limit=3)
            assert page is not None
            assert (list(page.entries), page.upto, page.more) == (kept[:3], kept[2].position, True)
            rest = await journal.since(NAMESPACE, page.upto)
            assert rest is not None
            assert (list(rest.entries), rest.upto, rest.more) == (kept[3:], kept[-1].position, False)
            end = await journal.since(NAMESPACE, kept[-1].position)
            assert end is not None
            assert list(end.entries) == []

    @alone
    async def test_another_log_and_the_future_are_gone(self) -> None:
        async with self._open("a") as (journal,):
            entry = await journal.append(draft("a", 1))
            assert await journal.since(NAMESPACE, Position("another", 0)) is None
            assert await journal.since(NAMESPACE, entry.position._replace(offset=2)) is None

    @alone
    async def test_nodes_hear_what_they_watch_in_one_order_their_own_too(self) -> None:
        async with self._open("a", "b") as (here, there), hearing(here.follow()) as one, hearing(there.follow()) as two:
            channels: list[Channel] = ["x", "y", None]
            for channel in channels:
                await here.watch(NAMESPACE, channel)
                await there.watch(NAMESPACE, channel)
            targets = [(), ("x",), ("z",), ("y", "x"), ("y",)]
            work = [
                journal.append(draft(node, number, *rooms))
                for number, rooms in enumerate(targets * 5, 1)
                for node, journal in (("a", here), ("b", there))
            ]
            kept = sorted(await asyncio.gather(*work), key=lambda entry: entry.offset)
            assert [entry.offset for entry in kept] == list(range(1, len(kept) + 1))
            wanted = [entry for entry in kept if entry.draft.rooms != ("z",)]
            for heard in (one, two):
                found: dict[Position, Entry] = {}
                order: list[Entry] = []
                while len(found) < len(wanted):
                    (entry,) = await entries(heard, 1)
                    if entry.position not in found:  # one for two channels may come twice
                        order.append(entry)
                    found[entry.position] = entry
                assert order == wanted

    @alone
    async def test_several_channels_are_watched_and_given_up_at_once(self) -> None:
        async with self._open("a", "b") as (here, there), hearing(there.follow()) as heard:
            channels: list[Channel] = ["x", None, *(f"room-{number}" for number in range(600))]
            start = await there.watch(NAMESPACE, *channels)
            assert start == await here.newest(NAMESPACE)
            for number, rooms in enumerate([("x",), ("room-599",), ("y",), ()], 1):
                await here.append(draft("a", number, *rooms))
            assert [entry.draft.id[1] for entry in await entries(heard, 3)] == [1, 2, 4]
            await there.unwatch(NAMESPACE, *channels[1:])
            for number, rooms in enumerate([("room-599",), (), ("x",)], 5):
                await here.append(draft("a", number, *rooms))
            assert [entry.draft.id[1] for entry in await entries(heard, 1)] == [7]

    @alone
    async def test_after_what_watch_answers_nothing_is_missed(self) -> None:
        async with self._open("a", "b") as (here, there), hearing(here.follow()) as heard:
            appending = asyncio.ensure_future(_append(there, 50))
            position = await here.watch(NAMESPACE, "x")
            kept = await appending
            wanted = [entry.offset for entry in kept if entry.offset > position.offset]
            found: set[int] = set()
            while not found.issuperset(wanted):
                found |= {entry.offset for entry in await entries(heard, 1)}

    @alone
    async def test_what_is_not_watched_any_more_does_not_come(self) -> None:
        async with self._open("a", "b") as (here, there), hearing(here.follow()) as heard:
            for channel in ("x", "y"):
                await here.watch(NAMESPACE, channel)
            await here.unwatch(NAMESPACE, "x")
            await here.unwatch(NAMESPACE, "x")
            await there.append(draft("b", 1, "x"))
            last = await there.append(draft("b", 2, "y"))
            assert await entries(heard, 1) == [last]

    @alone
    async def test_what_is_only_told_is_told_to_the_others_and_not_kept(self) -> None:
        async with self._open("a", "b") as (here, there), hearing(here.follow()) as one, hearing(there.follow()) as two:
            await here.watch(NAMESPACE, "x")
            await there.watch(NAMESPACE, "x")
            said = draft("a", 1, "x")
            await here.tell(said)
            last = await here.append(draft("a", 2, "x"))
            assert last.offset == 1
            heard = await two.next()
            while not isinstance(heard, Told):
                heard = await two.next()
            assert heard.draft == said
            own = await one.next()
            while not isinstance(own, Entry | Told):
                own = await one.next()
            assert own == last

    @alone
    async def test_closing(self) -> None:
        journal = self.journal("a")
        async with hearing(journal.follow()) as heard:
            await journal.ping()
            await journal.close()
            await journal.close()
            await heard.ended()
        await fails(journal.ping())
        await fails(journal.append(draft("a", 1)))
        await fails(journal.newest(NAMESPACE))


async def _append(journal: Journal, count: int) -> list[Entry]:
    return [await journal.append(draft("b", number, "x")) for number in range(1, count + 1)]
