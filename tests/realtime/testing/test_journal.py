"""The suite finds journals that break their promises."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from adapters.memory import MemoryJournal, MemoryLogs
from realtime.journal.positions import Draft, Entry, Position
from realtime.ports import Followed, Journal, Stretch
from realtime.testing.journal import JournalContract


class Forgetful(MemoryJournal):
    """Takes a repeated draft for a new one."""

    count = 0

    async def append(self, draft: Draft) -> Entry:
        self.count += 1
        return await super().append(draft._replace(id=(draft.id[0], draft.id[1] * 1_000 + self.count)))


class Partial(MemoryJournal):
    """Answers with what is there when something is gone."""

    async def since(self, namespace: str, position: Position, *, limit: int = 1_000) -> Stretch | None:
        found = await super().since(namespace, position, limit=limit)
        return found or Stretch([], await self.newest(namespace))


class Others(MemoryJournal):
    """Keeps a node's own entries from it."""

    async def _follow(self) -> AsyncIterator[Followed]:
        async for item in super().follow():
            if not isinstance(item, Entry) or item.draft.id[0] != self.node:
                yield item

    def follow(self) -> AsyncIterator[Followed]:
        return self._follow()


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Forgetful, "test_the_same_draft_twice_is_one_entry"),
        (Partial, "test_another_log_and_the_future_are_gone"),
        (Others, "test_nodes_hear_what_they_watch_in_one_order_their_own_too"),
    ],
)
def test_a_broken_promise_is_found(kind: type[MemoryJournal], test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.testing.alone.PATIENCE_SECONDS", 0.2)
    logs = MemoryLogs()

    class Suite(JournalContract):
        def journal(self, node: str) -> Journal:
            return kind(node, logs)

    suite = Suite()
    suite.setup_method()
    with pytest.raises((AssertionError, TimeoutError)):
        getattr(suite, test)()
