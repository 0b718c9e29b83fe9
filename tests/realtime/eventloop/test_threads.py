from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

import anyio
import anyio.to_thread
import pytest

from realtime.eventloop.threads import in_thread, threaded_manager

language: ContextVar[str] = ContextVar("language")


class Blocked:
    """A function that blocks its thread until it is let go; ``started`` is set on the loop when it runs."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name
        self.loop = asyncio.get_running_loop()
        self.started = asyncio.Event()
        self.release = threading.Event()

    def __call__(self) -> None:
        self.loop.call_soon_threadsafe(self.started.set)
        assert self.release.wait(5)
        self.log.append(self.name)


@asynccontextmanager
async def running(function: Blocked) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(in_thread(function))
    try:
        async with asyncio.timeout(5):
            await function.started.wait()
            yield task
    finally:
        function.release.set()
        await asyncio.wait((task,), timeout=5)


@pytest.mark.asyncio
async def test_it_runs_beside_the_loop_with_the_context_of_its_caller() -> None:
    language.set("en")
    here = threading.get_ident()
    there, said = await in_thread(lambda *, function: (threading.get_ident(), function()), function=language.get)
    assert there != here
    assert said == "en"


@pytest.mark.asyncio
async def test_what_it_raises_is_raised_here() -> None:
    def fails(text: str) -> None:
        raise KeyError(text)

    with pytest.raises(KeyError, match="x"):
        await in_thread(fails, "x")


@pytest.mark.asyncio
async def test_a_cancellation_is_delivered_when_the_function_has_ended() -> None:
    log: list[str] = []
    function = Blocked(log, "ended")
    async with running(function) as task:
        for _ in range(2):  # a second one changes nothing
            task.cancel()
            await asyncio.wait((task,), timeout=0)
        assert not task.done()
        function.release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert log == ["ended"]


@pytest.mark.asyncio
async def test_a_cancellation_wins_over_what_the_function_raises() -> None:
    function = Blocked([], "")
    function.log = None  # type: ignore[assignment]  # makes it fail at its end
    async with running(function) as task:
        task.cancel()
        function.release.set()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.asyncio
async def test_a_function_that_still_waits_for_a_thread_never_runs_when_cancelled() -> None:
    limiter = anyio.to_thread.current_default_thread_limiter()
    limiter.total_tokens = 1
    log: list[str] = []
    first = Blocked(log, "first")
    async with running(first) as task:
        second = asyncio.create_task(in_thread(log.append, "second"))
        async with asyncio.timeout(5):
            while limiter.statistics().tasks_waiting == 0:
                await asyncio.wait((second,), timeout=0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        first.release.set()
        await task
    assert log == ["first"]


@pytest.mark.asyncio
async def test_a_cancelled_scope_of_anyio_waits_for_the_thread_too() -> None:
    log: list[str] = []
    function = Blocked(log, "ended")
    scope = anyio.CancelScope()

    async def cancel() -> None:
        await function.started.wait()
        scope.cancel()
        function.release.set()

    canceller = asyncio.create_task(cancel())
    with scope:
        await in_thread(function)
    await canceller
    assert log == ["ended"]


def manager(log: list[str]) -> Callable[[], Iterator[str]]:
    def steps() -> Iterator[str]:
        log.append("enter")
        try:
            yield "value"
        except BaseException as error:
            log.append(type(error).__name__)
            raise
        finally:
            log.append("leave")

    return steps


@pytest.mark.asyncio
async def test_a_blocking_generator_is_entered_and_left() -> None:
    log: list[str] = []
    async with threaded_manager(manager(log))() as value:
        log.append(value)
    assert log == ["enter", "value", "leave"]


@pytest.mark.asyncio
async def test_a_blocking_generator_sees_the_exception() -> None:
    log: list[str] = []
    with pytest.raises(KeyError):
        async with threaded_manager(manager(log))():
            raise KeyError("x")
    assert log == ["enter", "KeyError", "leave"]


@pytest.mark.asyncio
async def test_a_blocking_generator_may_swallow_the_exception() -> None:
    log: list[str] = []

    def swallows() -> Iterator[None]:
        try:
            yield
        except KeyError:
            log.append("swallowed")

    def fail() -> None:
        log.append("inside")
        raise KeyError("x")

    async with threaded_manager(swallows)():
        fail()
    assert log == ["inside", "swallowed"]


@pytest.mark.asyncio
async def test_leaving_needs_no_free_thread() -> None:
    anyio.to_thread.current_default_thread_limiter().total_tokens = 1
    log: list[str] = []
    async with threaded_manager(manager(log))():
        blocked = Blocked(log, "last")
        task = asyncio.create_task(in_thread(blocked))
        await asyncio.wait_for(blocked.started.wait(), 5)
    blocked.release.set()
    await asyncio.wait_for(task, 5)
    assert log == ["enter", "leave", "last"]


@pytest.mark.asyncio
async def test_a_generator_entered_while_being_cancelled_is_left_again() -> None:
    log: list[str] = []
    blocked = Blocked(log, "entered")

    def steps() -> Iterator[None]:
        blocked()
        try:
            yield
        finally:
            log.append("left")

    async def use() -> None:
        async with threaded_manager(steps)():
            log.append("used")

    task = asyncio.create_task(use())
    await asyncio.wait_for(blocked.started.wait(), 5)
    task.cancel()
    blocked.release.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert log == ["entered", "left"]
