"""Two `realtime serve` on one Redis: what is sent twice, to the one and to the other, happens once."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.clients import chatter, event_stream
from tests.end_to_end.test_two_instances import Pair, start_pair
from tests.redis_server import RedisServer

pytestmark = pytest.mark.process


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield start_pair(stack, tmp_path, stack.enter_context(RedisServer()))


async def post(url: str, topic: str, key: str | None, message: str = "paid") -> tuple[int, Any, str | None]:
    """Status, body, and Retry-After."""
    headers = {"content-type": "application/json"} | ({} if key is None else {"idempotency-key": key})
    body = json.dumps({"title": "Order", "message": message}).encode()
    request = urllib.request.Request(f"{url}/notify/{topic}", body, headers)

    def ask() -> tuple[int, Any, str | None]:
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return answer.status, json.load(answer), None
        except urllib.error.HTTPError as error:
            return error.code, json.load(error), error.headers.get("retry-after")

    return await asyncio.to_thread(ask)


@pytest.mark.asyncio
async def test_a_key_is_good_on_every_instance(pair: Pair) -> None:
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(event_stream(each.url, "orders")) for each in (pair.a, pair.b)]
        first = await post(pair.a.url, "orders", "order-7")
        assert first[0] == 200
        for server in (pair.b, pair.a):
            assert await post(server.url, "orders", "order-7") == first
        status, refusal, _ = await post(pair.b.url, "orders", "order-7", "another body")
        assert (status, refusal["code"]) == (409, "idempotency_conflict")
        at_once = await asyncio.gather(*(post(each.url, "orders", "order-8") for each in (pair.a, pair.b) * 5))
        assert len({answer["id"] for _, answer, _ in at_once}) == 1
        last = await post(pair.b.url, "orders", None)
        for reader in readers:
            await reader.until("notification", id=last[1]["id"])
            assert reader.count("notification") == 3, "order-7, order-8 and the last"


@pytest.mark.asyncio
async def test_a_client_id_is_good_on_every_instance(pair: Pair) -> None:
    """As when a client that saw no acknowledgement comes back elsewhere and says it again."""
    message = {"room": "hall", "text": "once", "client_id": "m-1"}
    async with chatter(pair.a.url, "ann", "hall") as here, chatter(pair.b.url, "ann", "hall") as there:
        said = await here.ask("message", message)
        assert await there.ask("message", message) == said
        other = await there.ask("message", message | {"client_id": "m-2"})
        assert other["id"] != said["id"]
        for client in (here, there):
            await client.until("message", id=other["id"])
            assert client.count("message") == 2


@pytest.mark.asyncio
async def test_while_redis_is_away_a_key_is_refused_and_a_client_id_goes_on(pair: Pair) -> None:
    message = {"room": "hall", "text": "once", "client_id": "m-1"}
    async with chatter(pair.a.url, "ann", "hall") as ann:
        before = await ann.ask("message", message)
        kept = await post(pair.a.url, "orders", "order-1")
        pair.redis.kill()
        assert await ann.ask("message", message) == before, "this instance knows it still"
        assert await post(pair.a.url, "orders", "order-1") == kept
        status, refusal, retry_after = await post(pair.a.url, "orders", "order-2")
        assert (status, refusal["code"], retry_after) == (503, "unavailable", "1")
        assert (await post(pair.a.url, "orders", None))[0] == 200
        said = await ann.ask("message", message | {"client_id": "m-2"})
        assert {**said, "durable": None} == {
            **await ann.ask("message", message | {"client_id": "m-2"}),
            "durable": None,
        }
        await ann.until("message", id=said["id"])
        assert ann.count("message") == 2
        pair.redis.start()
        async with asyncio.timeout(10):
            while (answer := await post(pair.a.url, "orders", "order-2"))[0] == 503:
                pass
        assert answer[0] == 200
        assert await post(pair.b.url, "orders", "order-2") == answer
