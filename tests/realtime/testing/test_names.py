"""The contract suites pass what keeps its promises, and each of their tests fails one that breaks them."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from threading import Lock
from typing import ClassVar

import pytest

import realtime.testing.names
from adapters.memory import MemoryNameHolders
from realtime.ports import NameHolders
from realtime.testing.names import NamesContract, SharedNamesContract


class MemoryNode:
    """Keeps the port ``NameHolders`` for all nodes of one place in this process."""

    places: ClassVar[dict[str, dict[MemoryNode, Counter[str]]]] = defaultdict(dict)
    lock = Lock()

    def __init__(self, place: str) -> None:
        self.nodes = self.places[place]

    async def hold(self, name: str) -> None:
        with self.lock:
            self.nodes.setdefault(self, Counter())[name] += 1

    async def release(self, name: str) -> None:
        with self.lock:
            held = self.nodes.get(self, Counter())
            if held[name] > 0:
                held[name] -= 1

    async def held(self, name: str) -> bool:
        with self.lock:
            return any(held[name] > 0 for held in self.nodes.values())

    async def close(self) -> None:
        with self.lock:
            self.nodes.pop(self, None)


class TestMemoryNode(SharedNamesContract):
    def names(self) -> NameHolders:
        return MemoryNode(self.place)


async def turn() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().call_soon(ended.set)
    await ended.wait()


class Countless(MemoryNode):
    async def hold(self, name: str) -> None:
        self.nodes.setdefault(self, Counter())[name] = 1


class Careless(MemoryNode):
    """Does not tell upper case from lower."""

    async def hold(self, name: str) -> None:
        await super().hold(name.lower())

    async def held(self, name: str) -> bool:
        return await super().held(name.lower())


class Indebted(MemoryNode):
    async def release(self, name: str) -> None:
        self.nodes.setdefault(self, Counter())[name] -= 1


class Racing(MemoryNode):
    """Reads, waits, and writes what it has read."""

    async def hold(self, name: str) -> None:
        count = self.nodes.setdefault(self, Counter())[name]
        await turn()
        self.nodes[self][name] = count + 1


class Forgetful(MemoryNode):
    """A caller that gives up was never counted, though it releases."""

    async def hold(self, name: str) -> None:
        await turn()
        await super().hold(name)


class Fussy(MemoryNode):
    closed = False

    async def close(self) -> None:
        assert not self.closed, "closed already"
        self.closed = True
        await super().close()


class Faithful(MemoryNode):
    """Belongs to the first event loop that used it."""

    loop: asyncio.AbstractEventLoop | None = None

    async def hold(self, name: str) -> None:
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise RuntimeError("attached to a different loop")
        await super().hold(name)


class Lonely(MemoryNode):
    async def held(self, name: str) -> bool:
        return self.nodes.get(self, Counter())[name] > 0


class Hasty(MemoryNode):
    """One node that lets go frees the name for all."""

    async def release(self, name: str) -> None:
        for held in self.nodes.values():
            held[name] = 0


class Meddling(MemoryNode):
    """Takes away what another node holds."""

    async def release(self, name: str) -> None:
        for held in self.nodes.values():
            if held[name] > 0:
                held[name] -= 1
                return


class Clinging(MemoryNode):
    async def close(self) -> None: ...


class Everywhere(MemoryNode):
    def __init__(self, place: str) -> None:
        super().__init__("everywhere")


BROKEN: list[tuple[Callable[[str], NameHolders], str]] = [
    (Countless, "test_a_name_is_held_until_its_last_connection_goes"),
    (Careless, "test_each_name_is_its_own"),
    (Indebted, "test_one_release_too_many_is_nothing"),
    (Racing, "test_holding_and_releasing_at_once_counts_right"),
    (Forgetful, "test_a_caller_that_gives_up_leaves_the_count_right"),
    (Fussy, "test_close_may_be_repeated_and_come_first"),
    (Faithful, "test_several_event_loops_at_a_time"),
    (Lonely, "test_a_name_held_on_one_node_is_held_on_all"),
    (lambda place: MemoryNameHolders(), "test_a_name_held_on_one_node_is_held_on_all"),
    (Hasty, "test_the_last_node_to_let_go_frees_the_name"),
    (Meddling, "test_a_release_on_another_node_takes_nothing_away"),
    (Clinging, "test_a_node_that_closes_gives_its_names_back"),
    (Everywhere, "test_another_place_has_names_of_its_own"),
]


@pytest.mark.parametrize(("broken", "test"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_adapter_fails(
    broken: Callable[[str], NameHolders], test: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realtime.testing.names, "WAIT_SECONDS", 1.0)

    class Suite(SharedNamesContract):
        def names(self) -> NameHolders:
            return broken(self.place)

    suite = Suite()
    suite.setup_method()
    with pytest.raises((AssertionError, TimeoutError)):
        getattr(suite, test)()


def test_every_promise_is_broken_once() -> None:
    promised = {*vars(NamesContract), *vars(SharedNamesContract)}
    assert {name for name in promised if name.startswith("test_")} == {test for _, test in BROKEN}
