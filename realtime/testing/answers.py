"""What every Answers adapter promises (`realtime.ports.Answers`), as tests. An adapter's test class inherits them.

class TestMyAnswers(AnswersContract):
    def answers(self) -> Answers:
        return open_my_answers(self.place)
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from realtime.errors import Refusal
from realtime.ports import Answers
from realtime.testing.alone import alone, fails


class AnswersContract:
    """Inherit, and say in ``answers`` how to make one. ``place`` differs from test to test."""

    place: str

    def setup_method(self) -> None:
        self.place = f"contract-{uuid.uuid4()}"

    def answers(self) -> Answers:
        """A new store at ``self.place``."""
        raise NotImplementedError

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Answers]:
        answers = self.answers()
        try:
            yield answers
        finally:
            await answers.close()

    @alone
    async def test_the_second_gets_the_answer_of_the_first(self) -> None:
        async with self._open() as answers:
            assert await answers.begin("key", b"body") is None
            await answers.finish("key", bytes(range(256)))
            assert await answers.begin("key", b"body") == bytes(range(256))
            assert await answers.begin("another", b"body") is None

    @alone
    async def test_of_many_at_once_one_begins_and_the_others_wait(self) -> None:
        async with self._open() as answers:
            asked = [asyncio.ensure_future(answers.begin("key", b"body")) for _ in range(10)]
            done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            assert [each.result() for each in done] == [None]
            assert len(waiting) == 9
            await answers.finish("key", b"answer")
            assert await asyncio.gather(*waiting) == [b"answer"] * 9

    @alone
    async def test_another_body_is_a_conflict(self) -> None:
        async with self._open() as answers:
            assert await answers.begin("key", b"body") is None
            for _ in range(2):
                assert await _refused(answers.begin("key", b"another")) == "idempotency_conflict"
                await answers.finish("key", b"answer")

    @alone
    async def test_what_failed_may_be_asked_again(self) -> None:
        async with self._open() as answers:
            assert await answers.begin("key", b"body") is None
            waiting = asyncio.ensure_future(answers.begin("key", b"body"))
            await asyncio.wait([waiting], timeout=0)
            await answers.abandon("key")
            await answers.abandon("key")
            await fails(waiting)
            assert await answers.begin("key", b"another body now") is None


async def _refused(work: Awaitable[object]) -> str | None:
    """The code of the Refusal that it raises."""
    try:
        await work
    except Refusal as error:
        return error.code
    return None
