from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from starlette.requests import HTTPConnection

from realtime.typed.signature import EMPTY, Kind, Parameter
from realtime.typed.steps import Call, Flow, Inputs, Leaf, Node, cleaning, once, take

CONNECTION = HTTPConnection({"type": "websocket", "query_string": b"", "headers": []})


def call(cache: dict[Any, Any] | None = None) -> Call:
    return Call((), CONNECTION, cache={} if cache is None else cache)


def parameter(name: str, *, keyword: bool = False, variadic: bool = False) -> Parameter:
    return Parameter(name, Any, EMPTY, keyword, variadic)


def leaf(value: Any, key: str | None = None) -> Leaf:
    return Leaf(lambda _, values: value, key)


async def joined(*parts: str, **named: str) -> str:
    return "+".join([*parts, *named.values()])


def node(key: str, *sources: Leaf | Node, target: Any = joined, kind: Kind = Kind.ASYNC, **more: Any) -> Node:
    inputs = tuple((parameter(f"p{at}"), source) for at, source in enumerate(sources))
    return Node(key, target, kind, inputs, **more)


async def values_of(flow: Flow, call: Call) -> list[Any]:
    values: list[Any] = [None] * flow.size
    async with AsyncExitStack() as stack:
        await take(flow.steps, call, values, stack)
    return values


@pytest.mark.parametrize("count", range(6))
def test_a_callable_gets_its_slots_in_order(count: int) -> None:
    fill = Inputs(tuple(reversed(range(count)))).caller(lambda *values: values)
    assert fill(call(), list(range(count))) == tuple(reversed(range(count)))


def test_a_callable_gets_the_rest_and_its_names() -> None:
    taken = [(parameter("a"), 2), (parameter("rest", variadic=True), 0), (parameter("n", keyword=True), 1)]
    fill = Inputs.of(taken).caller(lambda *values, **named: (values, named))
    assert fill(call(), [["x", "y"], 1, "a"]) == (("a", "x", "y"), {"n": 1})
    fill = Inputs.of(taken[2:]).caller(lambda *values, **named: (values, named))
    assert fill(call(), [None, 1]) == ((), {"n": 1})


@pytest.mark.asyncio
async def test_what_is_needed_is_taken_first_and_once() -> None:
    shared = node("shared", leaf("s", "s"))
    top = node("top", shared, leaf("s", "s"), node("middle", shared))
    flow = Flow()
    slot = flow.slot_of(top)
    assert (await values_of(flow, call()))[slot] == "s+s+s"
    assert flow.size == len(flow.steps) == 4
    assert flow.slot_of(top) == slot


@pytest.mark.asyncio
async def test_a_node_without_cache_is_taken_again_and_serves_those_that_share() -> None:
    flow = Flow(1)
    fresh, shared = node("k", leaf("a"), use_cache=False), node("k", leaf("a"))
    slots = [flow.slot_of(each) for each in (fresh, fresh, shared)]
    assert slots[0] != slots[1]
    assert slots[2] == slots[0]
    assert await values_of(flow, call()) == [None, "a", "a", "a", "a"]


def test_dependencies_are_taken_before_leaves() -> None:
    flow = Flow()
    assert flow.slots_of([leaf("a"), node("n"), leaf("b")]) == [1, 0, 2]


@pytest.mark.asyncio
async def test_every_kind_of_callable_gives_its_value() -> None:
    async def agenerator() -> AsyncIterator[str]:
        yield "async generator"

    def generator() -> Iterator[str]:
        yield "generator"

    async def function() -> str:
        return "async"

    flow = Flow()
    flow.slots_of(
        [
            node("1", target=function),
            node("2", target=lambda: "sync", kind=Kind.SYNC),
            node("3", target=dict, kind=Kind.CLASS),
            node("4", target=agenerator, kind=Kind.ASYNC_GENERATOR),
            node("5", target=generator, kind=Kind.GENERATOR),
        ]
    )
    assert await values_of(flow, call()) == ["async", "sync", {}, "async generator", "generator"]


@pytest.mark.asyncio
async def test_a_held_value_is_computed_once_with_its_own_clean_up() -> None:
    log: list[str] = []

    async def opened() -> AsyncIterator[str]:
        log.append("open")
        yield "session"
        log.append("close")

    async def user(session: str) -> str:
        log.append("user")
        return f"user of {session}"

    held = node("user", node("opened", target=opened, kind=Kind.ASYNC_GENERATOR), target=user, held=True)
    cache: dict[Any, Any] = {"foreign": 1}
    for _ in range(2):
        flow = Flow()
        slot = flow.slot_of(held)
        assert (await values_of(flow, call(cache)))[slot] == "user of session"
        assert log == ["open", "user", "close"]
    assert cache["foreign"] == 1


@pytest.mark.asyncio
async def test_two_events_wait_for_one_computation_and_a_failure_is_not_kept() -> None:
    computed: list[int] = []
    go = asyncio.Event()

    async def compute(_: Call) -> int:
        computed.append(1)
        await go.wait()
        if len(computed) == 1:
            raise KeyError("first")
        return len(computed)

    fill, cache = once("key", compute), {}  # type: ignore[var-annotated]
    tasks = [asyncio.ensure_future(fill(call(cache), [])) for _ in range(3)]
    await asyncio.wait(tasks, timeout=0)
    go.set()
    first, *others = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert isinstance(first, KeyError)
    assert others == [2, 2]


def stepping(log: list[str], *names: str, swallow: bool = False) -> Flow:
    def maker(name: str) -> Any:
        async def generator() -> AsyncIterator[str]:
            log.append(f"open {name}")
            try:
                yield name
            except BaseException as error:
                log.append(f"{name} saw {type(error).__name__}")
                if not swallow:
                    raise
            finally:
                await anyio.lowlevel.checkpoint()  # an await, which a cancelled scope would not allow unshielded
                log.append(f"close {name}")

        return generator

    flow = Flow()
    flow.slots_of([node(name, target=maker(name), kind=Kind.ASYNC_GENERATOR) for name in names])
    return flow


async def run(flow: Flow, end: Any) -> Any:
    async def body(call: Call, stack: AsyncExitStack) -> Any:
        await take(flow.steps, call, [None] * flow.size, stack)
        return await end()

    return await cleaning(body, flow.steps)(call())


@pytest.mark.asyncio
async def test_clean_up_runs_last_in_first_out_before_the_result_is_out() -> None:
    log: list[str] = []

    async def end() -> str:
        log.append("body")
        return "result"

    assert await run(stepping(log, "a", "b"), end) == "result"
    assert log == ["open a", "open b", "body", "close b", "close a"]


@pytest.mark.asyncio
@pytest.mark.parametrize("swallow", [False, True])
async def test_an_exception_is_seen_and_cannot_be_swallowed(swallow: bool) -> None:
    log: list[str] = []

    async def end() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await run(stepping(log, "a", "b", swallow=swallow), end)
    seen = [] if swallow else ["a saw KeyError"]
    assert log == ["open a", "open b", "b saw KeyError", "close b", *seen, "close a"]


@pytest.mark.asyncio
async def test_clean_up_runs_when_the_task_is_cancelled() -> None:
    log: list[str] = []
    waiting = asyncio.Event()

    async def end() -> None:
        waiting.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run(stepping(log, "a"), end))
    await asyncio.wait_for(waiting.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert log == ["open a", "a saw CancelledError", "close a"]


@pytest.mark.asyncio
async def test_clean_up_runs_when_an_anyio_scope_is_cancelled() -> None:
    log: list[str] = []
    with anyio.CancelScope() as scope:

        async def end() -> None:
            scope.cancel()
            await anyio.lowlevel.checkpoint()

        await run(stepping(log, "a"), end)
    assert scope.cancelled_caught
    assert log == ["open a", "a saw CancelledError", "close a"]
