from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from realtime.loops import PerLoop


@pytest.fixture
def loops() -> Iterator[tuple[asyncio.AbstractEventLoop, asyncio.AbstractEventLoop]]:
    pair = asyncio.new_event_loop(), asyncio.new_event_loop()
    yield pair
    for loop in pair:
        loop.close()


def test_each_loop_has_its_own_and_keeps_it(
    loops: tuple[asyncio.AbstractEventLoop, asyncio.AbstractEventLoop],
) -> None:
    one, other = loops
    per_loop: PerLoop[list[asyncio.AbstractEventLoop]] = PerLoop(lambda loop: [loop])
    assert per_loop(one) == [one]
    assert per_loop(other) == [other]
    assert per_loop(one) is per_loop(one)


def test_what_belonged_to_a_closed_loop_is_let_go(
    loops: tuple[asyncio.AbstractEventLoop, asyncio.AbstractEventLoop],
) -> None:
    one, other = loops
    made: list[object] = []

    def make(loop: asyncio.AbstractEventLoop) -> object:
        made.append(loop)
        return object()

    per_loop = PerLoop(make)
    per_loop(one)
    one.close()
    per_loop(other)
    per_loop(one)
    assert made == [one, other, one]
