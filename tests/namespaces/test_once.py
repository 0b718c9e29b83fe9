from __future__ import annotations

import asyncio
from typing import Any

import pytest

from adapters.memory import MemoryAnswers
from namespaces.once import once
from realtime import Fail, OutsideError

pytestmark = pytest.mark.asyncio


class Work:
    """Counts how often it is done."""

    def __init__(self) -> None:
        self.done = 0
        self.gate = asyncio.Event()

    async def __call__(self) -> dict[str, Any]:
        self.done += 1
        await asyncio.wait_for(self.gate.wait(), 5)
        return {"number": self.done, "text": "é"}


async def test_it_is_done_once_and_answered_twice() -> None:
    answers, work = MemoryAnswers(), Work()
    both = [asyncio.ensure_future(once(answers, ("a", None, True), {"b": 1}, work)) for _ in range(2)]
    await asyncio.wait(both, timeout=0)
    work.gate.set()
    assert await asyncio.gather(*both) == [{"number": 1, "text": "é"}] * 2
    assert await once(answers, ("a", None, False), {"b": 1}, work) == {"number": 2, "text": "é"}
    with pytest.raises(Fail) as conflict:
        await once(answers, ("a", None, True), {"b": 2}, work)
    assert conflict.value.code == "idempotency_conflict"


async def test_what_failed_is_done_again() -> None:
    async def fail() -> dict[str, Any]:
        raise OutsideError("away")

    answers, work = MemoryAnswers(), Work()
    work.gate.set()
    with pytest.raises(OutsideError):
        await once(answers, ("a",), None, fail)
    assert (await once(answers, ("a",), None, work))["number"] == 1
