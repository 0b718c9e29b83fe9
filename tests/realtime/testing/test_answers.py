"""The suite finds stores that break their promises."""

from __future__ import annotations

import pytest

from adapters.memory import MemoryAnswers
from realtime.errors import OutsideError
from realtime.ports import Answers
from realtime.testing.answers import AnswersContract


class Careless(MemoryAnswers):
    """Does not look at the body."""

    async def begin(self, key: str, body: bytes) -> bytes | None:
        return await super().begin(key, b"")


def test_a_broken_promise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.memory.answers.FIRST_SECONDS", 0.05)

    class Suite(AnswersContract):
        def answers(self) -> Answers:
            return Careless()

    suite = Suite()
    suite.setup_method()
    with pytest.raises((AssertionError, OutsideError)):
        suite.test_another_body_is_a_conflict()
