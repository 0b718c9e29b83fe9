"""The queue in front of a follower: its bounds, its order, its end."""

from __future__ import annotations

import asyncio

import pytest

from adapters.redis.inflow import Inflow


@pytest.mark.asyncio
async def test_what_is_put_is_taken_in_order() -> None:
    inflow: Inflow[int] = Inflow()
    waiting = asyncio.ensure_future(inflow.take())
    await asyncio.wait([waiting], timeout=0)
    for number in range(5):
        inflow.push(number)
    assert await waiting == 0
    assert [await inflow.take() for _ in range(4)] == [1, 2, 3, 4]


@pytest.mark.parametrize(("items", "size_bytes"), [(3, 1_000), (100, 30)])
@pytest.mark.asyncio
async def test_readers_wait_for_room_in_number_and_bytes(items: int, size_bytes: int) -> None:
    inflow: Inflow[int] = Inflow(items, size_bytes)
    for number in range(3):
        await inflow.room()
        inflow.push(number, 10)
    assert inflow.full
    readers = [asyncio.ensure_future(inflow.room()) for _ in range(2)]
    done, _ = await asyncio.wait(readers, timeout=0.02)
    assert not done
    assert await inflow.take() == 0
    async with asyncio.timeout(5):
        await asyncio.gather(*readers)
    assert not inflow.full


@pytest.mark.asyncio
async def test_closing_lets_everybody_go() -> None:
    full: Inflow[int] = Inflow(1)
    full.push(1)
    empty: Inflow[int] = Inflow()
    waiting = [asyncio.ensure_future(full.room()), asyncio.ensure_future(empty.take())]
    await asyncio.wait(waiting, timeout=0)
    for inflow in (full, empty, full):
        inflow.close()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*waiting) == [None, None]
        assert await full.take() is None
        await full.room()
