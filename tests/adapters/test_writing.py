from __future__ import annotations

import asyncio
from operator import attrgetter
from typing import Any

import pytest

from adapters.writing import Writer
from realtime.encoding.codecs import Encoded, text
from tests.adapters.exchange import Backlog, Socket, until, within

pytestmark = pytest.mark.asyncio

FAREWELL = {"type": "websocket.close", "code": 1000, "reason": ""}


class Desk:
    """A writer and what stands on both of its sides."""

    def __init__(self, *waiting: Encoded) -> None:
        self.socket = Socket()
        self.link = Backlog(*waiting)
        self.lost = 0
        self.writer = Writer(self.socket.send, attrgetter("asgi"), self.link.take, self._lost)

    def _lost(self) -> None:
        self.lost += 1

    async def settle(self) -> None:
        await within(self.writer.settle(60))

    @property
    def said(self) -> list[Any]:
        return [each.get("text", each["type"]) for each in self.socket.sent]


async def test_what_is_written_is_sent_and_then_what_waits() -> None:
    desk = Desk(text("two"), text("three"))
    desk.writer.write(text("one"))
    await desk.settle()
    assert desk.said == ["one", "two", "three"]


async def test_it_may_be_written_to_again_and_again() -> None:
    desk = Desk()
    for number in range(3):
        desk.writer.write(text(str(number)))
        await desk.settle()
    assert desk.said == ["0", "1", "2"]


async def test_who_had_to_wait_is_told_so_and_asked_for_more_later() -> None:
    desk = Desk()
    desk.socket.reading.clear()
    assert desk.writer.write(text("one")) is False
    desk.link.waiting.append(text("two"))
    desk.socket.reading.set()
    await desk.settle()
    assert desk.said == ["one", "two"]


async def test_an_emission_with_attachments_stays_together() -> None:
    desk = Desk(text("after"))
    desk.writer.write(Encoded(((True, b"head"), (False, b"1"), (False, b"2"))))
    await desk.settle()
    assert desk.socket.frames == ["head", b"1", b"2", "after"]


async def test_the_farewell_comes_after_everything_that_waits_and_nothing_after_it() -> None:
    desk = Desk(text("two"))
    desk.socket.reading.clear()
    desk.writer.write(text("one"))
    desk.writer.say_farewell(FAREWELL)
    desk.link.waiting.append(text("three"))
    desk.writer.say_farewell({"type": "websocket.close", "code": 4501, "reason": "another"})
    assert desk.writer.ending
    desk.socket.reading.set()
    await desk.settle()
    desk.writer.write(text("four"))
    await desk.settle()
    assert desk.said == ["one", "two", "three", "websocket.close"]
    assert desk.socket.closed == (1000, "")


async def test_a_farewell_while_idle_takes_what_waits_along() -> None:
    desk = Desk(text("one"))
    desk.writer.say_farewell(FAREWELL)
    await desk.settle()
    assert desk.said == ["one", "websocket.close"]


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("after close"), ConnectionResetError()])
async def test_a_server_that_raises_means_that_the_client_is_gone(error: Exception) -> None:
    desk = Desk(text("two"))
    desk.socket.broken = error
    desk.writer.write(text("one"))
    await desk.settle()
    assert (desk.lost, desk.said) == (1, [])
    assert [each.asgi for each in desk.link.waiting] == [text("two").asgi], "nothing more was asked for"


async def test_a_mistake_of_ours_is_not_taken_for_a_client_that_left(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.link.take = None  # type: ignore[method-assign, assignment]
    writer = Writer(desk.socket.send, attrgetter("asgi"), lambda: desk.link.take(), desk._lost)
    writer.write(text("one"))
    await until(lambda: caplog.records)
    assert desk.lost == 0


async def test_stopping_drops_the_rest() -> None:
    desk = Desk(text("two"))
    desk.socket.reading.clear()
    desk.writer.write(text("one"))
    await until(lambda: desk.writer._task is not None)
    desk.writer.stop()
    await desk.settle()
    desk.socket.reading.set()
    desk.writer.write(text("three"))
    desk.writer.say_farewell(FAREWELL)
    await desk.settle()
    assert desk.said == []


async def test_settling_cuts_what_takes_too_long() -> None:
    desk = Desk()
    desk.socket.reading.clear()
    desk.writer.write(text("one"))
    await within(desk.writer.settle(0.01))
    desk.socket.reading.set()
    await desk.settle()
    assert desk.said == []


async def test_settling_with_nothing_to_do_returns_at_once() -> None:
    desk = Desk()
    async with asyncio.timeout(1):
        await desk.writer.settle(60)
    assert (desk.said, desk.lost) == ([], 0)
