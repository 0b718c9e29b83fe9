"""What every NameHolders adapter promises (`realtime.ports.NameHolders`), as tests. An adapter's test class inherits.

    class TestMyNames(SharedNamesContract):
        def names(self) -> NameHolders:
            return open_my_names(self.place)

``NamesContract`` is for adapters of one process, ``SharedNamesContract`` for those whose nodes see each other.
The tests are plain functions with an event loop of their own, so no plug-in of a test runner is needed.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar

from realtime.ports import NameHolders

WAIT_SECONDS: Final = 10.0
"""The most that one step may take; far more than any should."""

NAMES: Final = (
    "alice",
    "Alice",
    "a" * 128,
    "é",
    "e\u0301",
    "*",
    "a?[b]",
    "a{b}c",
    "#$%&'\"\\",
    "a b",
    "..",
    "\U0001f600",
)
"""Names that may be had, and that a careless adapter mixes up with one another."""

Result = TypeVar("Result")


async def soon(awaitable: Awaitable[Result]) -> Result:
    """The result, or TimeoutError: an adapter that hangs must fail its test, not hang it."""
    return await asyncio.wait_for(awaitable, WAIT_SECONDS)


def _alone(test: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any], None]:
    """A test with an event loop of its own, which is closed afterwards (so what is left open is reported)."""

    def run(self: NamesContract) -> None:
        asyncio.run(test(self))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class NamesContract:
    """Inherit, and say in ``names`` how to make one. ``place`` differs from test to test."""

    place: str

    def setup_method(self) -> None:
        self.place = f"contract-{uuid.uuid4()}"

    def names(self) -> NameHolders:
        """A new node, not in any event loop yet."""
        raise NotImplementedError

    @asynccontextmanager
    async def _nodes(self, count: int = 1) -> AsyncIterator[list[NameHolders]]:
        async with AsyncExitStack() as stack:
            nodes = [self.names() for _ in range(count)]
            for node in nodes:
                stack.push_async_callback(node.close)
            yield nodes

    @_alone
    async def test_a_name_is_held_until_its_last_connection_goes(self) -> None:
        async with self._nodes() as [node]:
            assert not await soon(node.held("alice"))
            for _ in range(3):
                await soon(node.hold("alice"))
            for _ in range(3):
                assert await soon(node.held("alice"))
                await soon(node.release("alice"))
            assert not await soon(node.held("alice"))

    @_alone
    async def test_each_name_is_its_own(self) -> None:
        async with self._nodes() as [node]:
            for name in NAMES:
                await soon(node.hold(name))
                assert [other for other in NAMES if await soon(node.held(other))] == [name]
                await soon(node.release(name))

    @_alone
    async def test_one_release_too_many_is_nothing(self) -> None:
        async with self._nodes() as [node]:
            await soon(node.release("alice"))
            await soon(node.hold("alice"))
            assert await soon(node.held("alice"))
            await soon(node.release("alice"))
            await soon(node.release("alice"))
            await soon(node.hold("alice"))
            assert await soon(node.held("alice"))

    @_alone
    async def test_holding_and_releasing_at_once_counts_right(self) -> None:
        async with self._nodes() as [node]:
            await soon(node.hold("kept"))
            for _ in range(20):
                calls = [node.hold("kept"), node.release("kept"), node.hold("other"), node.release("other")]
                await soon(asyncio.gather(*calls))
            assert await soon(node.held("kept"))
            assert not await soon(node.held("other"))

    @_alone
    async def test_a_caller_that_gives_up_leaves_the_count_right(self) -> None:
        async with self._nodes() as [node]:
            await soon(node.hold("alice"))
            call = asyncio.ensure_future(node.hold("alice"))
            await asyncio.wait([call], timeout=0)
            call.cancel()
            await asyncio.wait([call], timeout=WAIT_SECONDS)
            await soon(node.release("alice"))
            assert await soon(node.held("alice"))

    @_alone
    async def test_close_may_be_repeated_and_come_first(self) -> None:
        node = self.names()
        await soon(node.close())
        await soon(node.close())
        await soon(node.release("alice"))

    def test_several_event_loops_at_a_time(self) -> None:
        """As under Starlette's TestClient without its lifespan: a loop and a thread for each connection."""
        node = self.names()
        meeting = threading.Barrier(2, timeout=WAIT_SECONDS)
        failures: list[BaseException] = []

        async def one(name: str) -> None:
            await soon(node.hold(name))
            await asyncio.to_thread(meeting.wait)
            assert await soon(node.held("one"))
            assert await soon(node.held("two"))
            await asyncio.to_thread(meeting.wait)
            await soon(node.release(name))
            await asyncio.to_thread(meeting.wait)
            assert not await soon(node.held("one"))

        def run(name: str) -> None:
            try:
                asyncio.run(one(name))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_SECONDS * 4)
        asyncio.run(node.close())
        assert not failures, failures


class SharedNamesContract(NamesContract):
    """For adapters whose nodes see each other; all nodes of one ``place`` do."""

    @_alone
    async def test_a_name_held_on_one_node_is_held_on_all(self) -> None:
        async with self._nodes(3) as [here, there, elsewhere]:
            await soon(here.hold("alice"))
            for node in (here, there, elsewhere):
                assert await soon(node.held("alice"))
                assert not await soon(node.held("bob"))

    @_alone
    async def test_the_last_node_to_let_go_frees_the_name(self) -> None:
        async with self._nodes(3) as [here, there, elsewhere]:
            await soon(here.hold("alice"))
            await soon(here.hold("alice"))
            await soon(there.hold("alice"))
            await soon(here.release("alice"))
            await soon(there.release("alice"))
            assert await soon(elsewhere.held("alice"))
            await soon(here.release("alice"))
            for node in (here, there, elsewhere):
                assert not await soon(node.held("alice"))

    @_alone
    async def test_a_release_on_another_node_takes_nothing_away(self) -> None:
        async with self._nodes(2) as [here, there]:
            await soon(here.hold("alice"))
            await soon(there.release("alice"))
            assert await soon(there.held("alice"))

    @_alone
    async def test_a_node_that_closes_gives_its_names_back(self) -> None:
        async with self._nodes(2) as [here, there]:
            for name in NAMES:
                await soon(here.hold(name))
            await soon(there.hold("alice"))
            assert [name for name in NAMES if await soon(there.held(name))] == list(NAMES)
            await soon(here.close())
            assert [name for name in NAMES if await soon(there.held(name))] == ["alice"]

    @_alone
    async def test_another_place_has_names_of_its_own(self) -> None:
        async with self._nodes() as [here]:
            await soon(here.hold("alice"))
            self.place += "-other"
            async with self._nodes() as [there]:
                assert not await soon(there.held("alice"))
