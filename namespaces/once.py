"""What is asked twice under one key is done once, and answered twice with the same."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from realtime import Answers, OutsideError, json_bytes, read_json


async def once(
    answers: Answers, key: tuple[Any, ...], body: Any, work: Callable[[], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    """The answer of ``work``, or the one that it gave before; the second of two at once waits for the first.

    Raises what ``work`` does (then the key is free again), Fail ``idempotency_conflict`` for the key of another body,
    OutsideError when the first one is not answered in time.
    """
    name = hashlib.sha256(json_bytes(key)).hexdigest()
    before = await answers.begin(name, hashlib.sha256(json_bytes(body)).digest())
    if before is not None:
        found: dict[str, Any] = read_json(before.decode())
        return found
    try:
        answer = await work()
    except BaseException:
        await answers.abandon(name)
        raise
    with suppress(OutsideError):  # it is done; that another instance may do it again is the lesser harm
        await answers.finish(name, json_bytes(answer))
    return answer
