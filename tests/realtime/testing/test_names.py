"""The suite notices an adapter that breaks a promise: each of these breaks one, and fails at least one test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from adapters.memory import MemoryNameHolders
from realtime.ports import NameHolders
from realtime.testing.names import NamesContract, SharedNamesContract


class Forgetful(MemoryNameHolders):
    async def hold(self, name: str) -> None:
        """Counts no second connection."""
        if not await self.held(name):
            await super().hold(name)


class Clinging(MemoryNameHolders):
    async def release(self, name: str) -> None:
        """Never lets go."""


class Careless(MemoryNameHolders):
    async def hold(self, name: str) -> None:
        await super().hold(name.lower())

    async def release(self, name: str) -> None:
        await super().release(name.lower())

    async def held(self, name: str) -> bool:
        return await super().held(name.lower())


class Negative(MemoryNameHolders):
    async def release(self, name: str) -> None:
        """One too many counts below zero."""
        self._held[name] -= 1

    async def held(self, name: str) -> bool:
        return self._held[name] > 0


class CloseOnce(MemoryNameHolders):
    closed = False

    async def close(self) -> None:
        assert not self.closed
        self.closed = True


def failures(kind: type[MemoryNameHolders], contract: type[NamesContract]) -> Iterator[str]:
    class Suite(contract):  # type: ignore[misc, valid-type]
        def names(self) -> NameHolders:
            return kind()

    for name in dir(Suite):
        if name.startswith("test_"):
            suite = Suite()
            suite.setup_method()
            try:
                getattr(suite, name)()
            except AssertionError:
                yield name


@pytest.mark.parametrize("kind", [Forgetful, Clinging, Careless, Negative, CloseOnce])
def test_a_broken_promise_is_noticed(kind: type[MemoryNameHolders]) -> None:
    assert list(failures(kind, NamesContract))


def test_nothing_is_noticed_where_nothing_is_broken() -> None:
    assert list(failures(MemoryNameHolders, NamesContract)) == []


def test_nodes_that_do_not_see_each_other_are_noticed() -> None:
    assert set(failures(MemoryNameHolders, SharedNamesContract)) == {
        "test_a_name_held_on_one_node_is_held_on_all",
        "test_a_node_that_closes_gives_its_names_back",
        "test_a_release_on_another_node_takes_nothing_away",
        "test_the_last_node_to_let_go_frees_the_name",
    }
