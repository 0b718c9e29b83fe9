"""What one node says keeps its order in the log, whichever of it Redis does not take, or takes without a word."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from adapters.redis.journal import RedisJournal
from adapters.redis.scripts import Script
from realtime.errors import OutsideError
from realtime.journal.positions import Draft, Entry, Position
from tests.adapters.journals import draft, journal, read_all, stubbornly
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.process, pytest.mark.asyncio]


def failing(
    node: RedisJournal, monkeypatch: pytest.MonkeyPatch, before: Callable[[int], bool], after: Callable[[int], bool]
) -> None:
    """Appends of these numbers do not reach Redis; the answers of those do not reach us."""
    run = node._shards.run

    async def sometimes(script: Script, keys: Sequence[bytes], *arguments: bytes) -> Any:
        number = int(arguments[2]) if script in [each.append for each in node._scripts] else -1
        if before(number):
            raise OutsideError("away", retry_after=0)
        answer = await run(script, keys, *arguments)
        if after(number):
            raise OutsideError("slow", retry_after=0)
        return answer

    monkeypatch.setattr(node._shards, "run", sometimes)


async def offered(node: RedisJournal, drafts: Sequence[Draft]) -> list[Entry | BaseException]:
    return await asyncio.gather(*(node.append(one) for one in drafts), return_exceptions=True)


async def test_what_is_behind_one_that_was_not_kept_is_not_kept_either(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = journal(redis_server.url, "a")
    try:
        start = await stubbornly(lambda: node.newest("/chat"))
        drafts = [draft(number, "lobby") for number in range(5)]
        with monkeypatch.context() as patched:
            failing(node, patched, lambda number: number == 2, lambda number: False)
            answers = await offered(node, drafts)
        assert [isinstance(answer, Entry) for answer in answers] == [True, True, False, False, False]
        for answer in answers[3:]:
            assert isinstance(answer, OutsideError)
            assert answer.retry_after is not None
        other = await offered(node, [draft(9, "lobby", node="b")])
        assert isinstance(other[0], Entry), "another node's is not held up"
        again = await offered(node, drafts[2:])
        assert [answer.offset for answer in again if isinstance(answer, Entry)] == [4, 5, 6]
        found = await read_all(node, start)
        assert found is not None
        assert [entry.draft.id for entry in found] == [("a", 0), ("a", 1), ("b", 9), ("a", 2), ("a", 3), ("a", 4)]
    finally:
        await node.close()


async def test_what_is_behind_one_that_is_refused_for_good_is_kept(redis_server: RedisServer) -> None:
    node = journal(redis_server.url, "a")
    try:
        long = draft(1, "lobby", body=bytes(17 << 20))
        drafts = [draft(0, "lobby"), long, draft(2, "lobby")]
        answers = await offered(node, drafts)
        assert [isinstance(answer, Entry) for answer in answers] == [True, False, True]
    finally:
        await node.close()


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_fails_the_order_is_that_of_the_numbers(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance, node = random.Random(seed), journal(redis_server.url, "a")
    try:
        start: Position = await stubbornly(lambda: node.newest("/chat"))
        failing(
            node,
            monkeypatch,
            lambda number: number >= 0 and chance.random() < 0.1,
            lambda number: number >= 0 and chance.random() < 0.1,
        )
        left = [draft(number, chance.choice(["lobby", "news"])) for number in range(60)]
        async with asyncio.timeout(30):
            while left:
                batch = left[: chance.randint(1, 15)]
                answers = await offered(node, batch)
                done = {one.id for one, answer in zip(batch, answers, strict=True) if isinstance(answer, Entry)}
                left = [one for one in left if one.id not in done]
        monkeypatch.undo()
        found = await read_all(node, start)
        assert found is not None
        assert [entry.draft.id[1] for entry in found] == list(range(60))
    finally:
        await node.close()
