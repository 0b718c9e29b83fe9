from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from realtime.errors import OutsideError
from realtime.testing.alone import alone, fails, hearing


class Suite:
    @alone
    async def test_that_hangs(self) -> None:
        """A promise."""
        await asyncio.get_running_loop().create_future()


def test_what_hangs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.testing.alone.PATIENCE_SECONDS", 0.01)
    assert Suite.test_that_hangs.__doc__ == "A promise."
    with pytest.raises(TimeoutError):
        Suite().test_that_hangs()


@pytest.mark.asyncio
async def test_hearing_takes_in_order_and_lets_go() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        yield 2

    async with hearing(numbers()) as heard:
        assert [await heard.next(), await heard.next()] == [1, 2]
        await heard.ended()


@pytest.mark.asyncio
async def test_what_should_fail_and_does_not() -> None:
    async def refuse() -> None:
        raise OutsideError

    async def work() -> None:
        return

    await fails(refuse())
    with pytest.raises(AssertionError):
        await fails(work())
