"""The steps of a plan: where each value comes from, in which order, and how what was opened is closed again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any, Final, NamedTuple

from anyio import CancelScope
from starlette.requests import HTTPConnection

from realtime.eventloop.threads import in_thread, threaded_manager
from realtime.typed.signature import Kind, Parameter

Overrides = Mapping[Callable[..., Any], Callable[..., Any]]


@dataclass(slots=True)
class Call:
    """One event being handled."""

    args: Sequence[Any]
    """The payload arguments as they came."""
    connection: HTTPConnection
    """Over the scope of the handshake; make one for each connection, it keeps what it has parsed."""
    injected: Mapping[type, Any] = field(default_factory=dict)
    """By the class that was given as injectable."""
    overrides: Overrides = field(default_factory=dict)
    """FastAPI's ``app.dependency_overrides``."""
    cache: dict[Any, Any] = field(default_factory=dict)
    """Values of the connection (see ``per_connection``); lives as long as it does. Foreign keys are left alone."""


class Mode(Enum):
    VALUE = "is the value"
    AWAIT = "gives it when awaited"
    ENTER = "is an async context manager around it"


_AWAIT: Final = Mode.AWAIT  # a member looked up in its class costs more than the rest of a step
_ENTER: Final = Mode.ENTER


Fill = Callable[[Call, list[Any]], Any]
"""Makes a value from the call and the values so far."""
Runner = Callable[[Call], Coroutine[Any, Any, Any]]
Body = Callable[[Call, AsyncExitStack], Coroutine[Any, Any, Any]]


class Step(NamedTuple):
    """Puts one value into its slot."""

    slot: int
    mode: Mode
    fill: Fill


@dataclass(frozen=True, slots=True)
class Inputs:
    """Which slots a callable takes, and how."""

    positions: tuple[int, ...] = ()
    rest: int | None = None
    names: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, taken: Sequence[tuple[Parameter, int]]) -> Inputs:
        """From parameters and their slots, in the order of the signature."""
        return cls(
            tuple(slot for each, slot in taken if not each.keyword and not each.variadic),
            next((slot for each, slot in taken if each.variadic), None),
            tuple((each.name, slot) for each, slot in taken if each.keyword),
        )

    def caller(self, target: Callable[..., Any]) -> Fill:
        """Calls ``target`` with the values of its slots; what it returns is not looked at."""
        if self.rest is None and not self.names and len(self.positions) in _FEW:
            return _FEW[len(self.positions)](target, *self.positions)
        positions, rest, names = self.positions, self.rest, self.names

        def fill(_: Call, values: list[Any]) -> Any:
            more = () if rest is None else values[rest]
            return target(*[values[at] for at in positions], *more, **{name: values[at] for name, at in names})

        return fill


# Spelt out because these calls are most of the cost of resolving: 0.1 us where the general one takes 0.5.
_FEW: Final[dict[int, Callable[..., Fill]]] = {
    0: lambda target: lambda _, values: target(),
    1: lambda target, a: lambda _, values: target(values[a]),
    2: lambda target, a, b: lambda _, values: target(values[a], values[b]),
    3: lambda target, a, b, c: lambda _, values: target(values[a], values[b], values[c]),
}


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A value taken from the call itself. Leaves with the same key are taken once; None is like no other."""

    fill: Fill
    key: Hashable = None
    scoped: bool = False
    """Depends on the security scopes asked for above it."""
    overridden: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A dependency with what it depends on. Nodes with the same key share a value, unless ``use_cache`` says no."""

    key: Hashable
    target: Callable[..., Any]
    kind: Kind
    inputs: tuple[tuple[Parameter, Leaf | Node], ...]
    use_cache: bool = True
    held: bool = False
    """Its value belongs to the connection."""
    scoped: bool = False
    overridden: bool = False
    """It or something below it takes the place of something else."""


class Flow:
    """Puts leaves and nodes in the order in which they have to be taken, each with its slot."""

    def __init__(self, size: int = 0) -> None:
        """The first ``size`` slots are somebody else's."""
        self.size = size
        self.steps: list[Step] = []
        self._slots: dict[Hashable, int] = {}

    def slot_of(self, source: Leaf | Node) -> int:
        known = None if source.key is None else self._slots.get(source.key)
        if known is not None and (isinstance(source, Leaf) or source.use_cache):
            return known
        if isinstance(source, Leaf):
            slot = self._append(Mode.VALUE, source.fill)
        elif source.held:
            slot = self._append(Mode.AWAIT, once(("realtime.per_connection", source.key), _apart(source)))
        else:
            slot = self.append_call(source)
        self._slots.setdefault(source.key, slot)
        return slot

    def slots_of(self, sources: Sequence[Leaf | Node]) -> list[int]:
        """One slot for each. Dependencies are taken before leaves, so that an unknown client is told just that."""
        slots = [-1] * len(sources)
        for at in sorted(range(len(sources)), key=lambda at: isinstance(sources[at], Leaf)):
            slots[at] = self.slot_of(sources[at])
        return slots

    def append_call(self, node: Node) -> int:
        """The call of a dependency after all that it needs."""
        slots = self.slots_of([source for _, source in node.inputs])
        taken = [(parameter, slot) for (parameter, _), slot in zip(node.inputs, slots, strict=True)]
        mode, target = _mode_of(node.kind, node.target)
        return self._append(mode, Inputs.of(taken).caller(target))

    def _append(self, mode: Mode, fill: Fill) -> int:
        self.steps.append(Step(self.size, mode, fill))
        self.size += 1
        return self.size - 1


def once(key: object, compute: Runner) -> Fill:
    """Computes a value at the connection's first need; two events at once wait for the same computation."""

    async def fill(call: Call, _: list[Any]) -> Any:
        held = call.cache.get(key)
        if held is None:
            held = call.cache[key] = _Held()
        if held.value is _MISSING:
            async with held.lock:
                if held.value is _MISSING:
                    held.value = await compute(call)
        return held.value

    return fill


def cleaning(body: Body, steps: Sequence[Step]) -> Runner:
    """The body, and then whatever its steps have entered is left: last in, first out, seeing the exception."""
    if not any(step.mode is Mode.ENTER for step in steps):
        nothing = AsyncExitStack()
        return lambda call: body(call, nothing)

    async def run(call: Call) -> Any:
        stack = AsyncExitStack()
        try:
            result = await body(call, stack)
        except BaseException as error:
            # A dependency that swallows the exception does not make a success of the event.
            with CancelScope(shield=isinstance(error, asyncio.CancelledError)):
                await stack.__aexit__(type(error), error, error.__traceback__)
            raise
        await stack.aclose()
        return result

    return run


async def take(steps: Sequence[Step], call: Call, values: list[Any], stack: AsyncExitStack) -> None:
    """Fill the slots; what has to be left again is left by ``stack``."""
    for slot, mode, fill in steps:
        value = fill(call, values)
        if mode is _AWAIT:
            value = await value
        elif mode is _ENTER:
            value = await stack.enter_async_context(value)
        values[slot] = value


def _apart(node: Node) -> Runner:
    """Computes a node's value with slots and clean-up of its own."""
    flow = Flow()
    slot = flow.append_call(node)
    steps, size = tuple(flow.steps), flow.size

    async def compute(call: Call, stack: AsyncExitStack) -> Any:
        values: list[Any] = [None] * size
        await take(steps, call, values, stack)
        return values[slot]

    return cleaning(compute, steps)


def _mode_of(kind: Kind, target: Callable[..., Any]) -> tuple[Mode, Callable[..., Any]]:
    match kind:
        case Kind.ASYNC:
            return Mode.AWAIT, target
        case Kind.SYNC:
            return Mode.AWAIT, partial(in_thread, target)
        case Kind.CLASS:
            return Mode.VALUE, target
        case Kind.ASYNC_GENERATOR:
            return Mode.ENTER, asynccontextmanager(target)
        case Kind.GENERATOR:
            return Mode.ENTER, threaded_manager(target)


_MISSING: Final = object()


class _Held:
    __slots__ = ("lock", "value")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.value: Any = _MISSING
