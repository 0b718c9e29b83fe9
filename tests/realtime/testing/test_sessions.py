"""The suite finds stores that break their promises."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from adapters.memory import MemorySessions, MemoryStore
from realtime.journal.resume import Record
from realtime.ports import Sessions
from realtime.testing.sessions import SessionsContract


class Generous(MemorySessions):
    """Gives a record to everybody who asks."""

    async def claim(self, pid: str, node: str) -> Record | None:
        found = await super().claim(pid, node)
        if found is not None:
            self._store.owners.forget(pid)
            await self.keep([found], 60)
        return found


class Stubborn(MemorySessions):
    """Keeps what was forgotten."""

    async def keep(self, records: Sequence[Record], seconds: float, *, away: bool = False) -> Sequence[str]:
        for record in records:
            self._store.owners.forget(record.pid)
        return await super().keep(records, seconds, away=away)


class Forgetful(MemorySessions):
    """Takes whoever made a record for somebody who knows everything."""

    async def keep(self, records: Sequence[Record], seconds: float, *, away: bool = False) -> Sequence[str]:
        return await super().keep(records, seconds)


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Forgetful, "test_what_others_changed_stays_where_who_is_away_is_written_down"),
        (Generous, "test_of_many_claims_at_once_one_wins"),
        (Stubborn, "test_what_was_forgotten_does_not_come_back"),
        (Stubborn, "test_who_had_it_is_told_and_keeps_it_no_longer"),
    ],
)
def test_a_broken_promise_is_found(kind: type[MemorySessions], test: str) -> None:
    store = MemoryStore()

    class Suite(SessionsContract):
        def sessions(self, node: str) -> Sessions:
            return kind(node, store)

    suite = Suite()
    suite.setup_method()
    with pytest.raises(AssertionError):
        getattr(suite, test)()
