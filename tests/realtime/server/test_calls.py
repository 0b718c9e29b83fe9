from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from socketio.exceptions import TimeoutError as StockTimeout

from realtime.errors import LimitError, wire_error
from realtime.server.calls import Answer, ClientGone, InboxFull


@pytest.mark.parametrize(
    ("args", "value"), [((), None), ((7,), 7), ((None,), None), ((1, 2), (1, 2)), (([1],), [1]), ((False,), False)]
)
@pytest.mark.asyncio
async def test_an_answer_is_what_python_socketio_makes_of_it(args: tuple[Any, ...], value: Any) -> None:
    answer = Answer()
    answer(*args)
    assert await answer.wait(5) == value


@pytest.mark.asyncio
async def test_a_client_that_is_gone_ends_the_wait_at_once_and_is_a_timeout_too() -> None:
    answer = Answer()
    answer.abandoned()
    with pytest.raises(ClientGone) as caught:
        await answer.wait(5)
    assert isinstance(caught.value, StockTimeout)


@pytest.mark.asyncio
async def test_an_answer_that_is_not_read_ends_the_wait_at_once_and_may_be_told_to_a_client() -> None:
    answer = Answer()
    answer.blocked()
    with pytest.raises(InboxFull) as caught:
        await answer.wait(5)
    assert isinstance(caught.value, StockTimeout)
    assert isinstance(caught.value, LimitError)
    message = "Too many events of this client wait: its answer is not read"
    assert wire_error(caught.value, "incident") == {"code": "inbox_full", "message": message}


@pytest.mark.parametrize("ends", [("abandoned", "blocked"), ("blocked", "abandoned")])
@pytest.mark.asyncio
async def test_a_room_fails_when_nobody_is_left_to_answer(ends: tuple[str, str]) -> None:
    answer, other = Answer(), Answer()
    for each in (answer, other):
        each.of(2)
        getattr(each, ends[0])()
    other("the second client")
    assert await other.wait(5) == "the second client"
    getattr(answer, ends[1])()
    with pytest.raises(InboxFull if ends[1] == "blocked" else ClientGone):
        await answer.wait(5)


@pytest.mark.asyncio
async def test_asked_of_nobody_here_it_waits_for_those_elsewhere() -> None:
    answer = Answer()
    answer.of(0)
    answer("from afar")
    assert await answer.wait(5) == "from afar"


@pytest.mark.asyncio
async def test_no_answer_is_python_socketios_timeout() -> None:
    answer = Answer()
    with pytest.raises(StockTimeout) as caught:
        await answer.wait(0.01)
    assert not isinstance(caught.value, ClientGone)
    answer("too late")
    answer.abandoned()


@pytest.mark.asyncio
async def test_the_first_word_counts() -> None:
    answer = Answer()
    answer("first")
    answer("second")
    answer.abandoned()
    assert await answer.wait(5) == "first"


@pytest.mark.asyncio
async def test_an_answer_may_come_from_another_thread() -> None:
    answer = Answer()
    thread = threading.Thread(target=answer, args=("from afar",))
    thread.start()
    assert await answer.wait(5) == "from afar"
    thread.join(5)


def test_an_answer_to_a_loop_that_is_closed_is_nothing() -> None:
    async def make() -> Answer:
        return Answer()

    answer = asyncio.run(make())
    answer("anybody there?")
    answer.abandoned()
    assert not answer._future.done()


def test_nobody_waits_and_nothing_complains() -> None:
    """An exception that is never retrieved would be logged when the future is collected."""
    complaints: list[dict[str, Any]] = []

    async def abandon() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        answer = Answer()
        answer.abandoned()
        done = asyncio.Event()
        asyncio.get_running_loop().call_soon(done.set)
        await asyncio.wait_for(done.wait(), 5)
        del answer
        gc.collect()

    asyncio.run(abandon())
    assert complaints == []
