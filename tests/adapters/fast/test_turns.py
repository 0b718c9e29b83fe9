from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from adapters.fast.turns import LATE_BYTES, Speaker, turns_of

pytestmark = pytest.mark.asyncio


class Recorder:
    """A transport that writes down each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.closing


def speaker() -> tuple[Any, Recorder]:
    made, transport = Speaker(asyncio.get_running_loop()), Recorder()
    made._transport = cast(asyncio.Transport, transport)
    return made, transport


async def next_turn() -> None:
    """What was scheduled before this has run after it."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(done.set_result, None)
    await asyncio.wait_for(done, 1)


async def test_the_first_of_a_turn_leaves_at_once_and_the_others_together_at_its_end() -> None:
    one, transport = speaker()
    other, elsewhere = speaker()
    for number in b"abcd":
        one._say(bytes([number]))
    other._say(b"x")
    assert transport.writes == [b"a"]
    assert elsewhere.writes == [b"x"]
    await next_turn()
    assert transport.writes == [b"a", b"bcd"]
    assert elsewhere.writes == [b"x"]
    one._say(b"e")
    assert transport.writes == [b"a", b"bcd", b"e"]


async def test_what_is_put_leaves_now_after_what_was_kept() -> None:
    one, transport = speaker()
    for number in b"abc":
        one._say(bytes([number]))
    one._put(b"!")
    one._say(b"d")
    assert transport.writes == [b"a", b"bc", b"!"]
    await next_turn()
    assert transport.writes == [b"a", b"bc", b"!", b"d"]


async def test_an_answer_that_opens_a_turn_travels_with_what_follows() -> None:
    one, transport = speaker()
    one._open_turn(b"101")
    one._say(b"open")
    assert transport.writes == []
    await next_turn()
    assert transport.writes == [b"101open"]


async def test_no_more_is_kept_than_so_many_bytes() -> None:
    one, transport = speaker()
    one._say(b"a")
    one._say(bytes(LATE_BYTES))
    assert transport.writes == [b"a"]
    one._say(b"b")
    assert transport.writes == [b"a", bytes(LATE_BYTES) + b"b"]
    one._say(b"c")
    await next_turn()
    assert transport.writes[2:] == [b"c"]


async def test_nothing_is_written_to_a_transport_that_is_closing() -> None:
    one, transport = speaker()
    one._say(b"a")
    one._say(b"b")
    transport.closing = True
    await next_turn()
    assert transport.writes == [b"a"]


async def test_a_loop_has_its_own_turns() -> None:
    loop = asyncio.get_running_loop()
    assert turns_of(loop) is turns_of(loop)
    number = turns_of(loop).number
    speaker()[0]._say(b"a")
    await next_turn()
    assert turns_of(loop).number == number + 1
