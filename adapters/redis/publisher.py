"""One event loop's way into Redis: what is sent within one loop turn leaves in one write, in order."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections import deque
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final

from redis import exceptions

from adapters.redis.address import Address
from adapters.redis.connection import FAILURES, Connections, Link, describe
from adapters.redis.refusals import Fault, fault_of
from realtime.errors import OutsideError
from realtime.loops import end_tasks
from realtime.metrics import Metrics

log = logging.getLogger("realtime.bus")

PATIENCE_SECONDS: Final = 1.0
"""From the call to the answer, connecting included. A publisher is a handler that a client waits for."""
RETRY_SECONDS: Final = 1.0
BATCH_LIMIT: Final = 1_000
"""Commands in one write."""
BATCH_LIMIT_BYTES: Final = 1 << 20
"""A write ends after the command that passes this; so one big message delays few others."""
BACKLOG_LIMIT_BYTES: Final = 64 << 20
"""Waiting to be written. At PATIENCE_SECONDS each, a frozen server could otherwise take all memory."""

_OF_NO_USE: Final = (exceptions.AuthenticationError, exceptions.AuthorizationError)
"""Failures that asking again does not change."""


class CommandRefused(OutsideError):
    """Redis answered with an error: the command was not carried out, or its script ended in the middle."""

    def __init__(self, error: exceptions.ResponseError) -> None:
        self.fault = fault_of(error)
        passing = self.fault is Fault.PASSING
        super().__init__(f"Redis {describe(error)}", retry_after=RETRY_SECONDS if passing else None)
        self.error = error


class LoginRefused(OutsideError):
    """Redis took neither the user nor the password: of no use to ask again before an operator has acted."""

    fault = Fault.LASTING


@dataclass(slots=True)
class _Order:
    command: tuple[bytes, ...]
    size: int
    answer: Future[Any]


class Publisher:
    """Gathers commands and writes them as pipelines, one at a time, on a connection of its own.

    Nothing is written twice: a command whose link broke before the answer may have been carried out,
    and the bus promises at most once. Belongs to the loop it is first used in; its task ends with that
    loop (cancelled by whoever winds the loop up) and then closes the connection.
    """

    def __init__(self, address: Address, metrics: Metrics) -> None:
        self._address = address
        self._metrics = metrics
        self._waiting: deque[_Order] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._over = False

    async def send(self, *command: bytes) -> Any:
        """The answer to one command, within PATIENCE_SECONDS.

        Raises CommandRefused, and otherwise OutsideError; whether the command was carried out is then open,
        except that one which was still waiting never is. Cancellation likewise.
        """
        order = self._enqueue(command)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await order.answer
        except TimeoutError:
            raise _failure("did not answer in time") from None

    def post(self, *command: bytes) -> None:
        """Send it ahead of the next ``send``, and do not wait; its failure is nobody's. Raises OutsideError."""
        self._enqueue(command).answer.add_done_callback(_look_away)

    def _enqueue(self, command: tuple[bytes, ...]) -> _Order:
        if self._over:
            raise OutsideError("The bus is closed")
        size = sum(map(len, command))
        if self._waiting_bytes + size > BACKLOG_LIMIT_BYTES:
            self._metrics.drops.add("bus_backlog")
            raise _failure("is too slow for what is published")
        order = _Order(command, size, asyncio.get_running_loop().create_future())
        self._waiting.append(order)
        self._waiting_bytes += size
        self._wake.set()
        if self._task is None:
            # A context of its own: the first publisher's request would otherwise be kept for good.
            self._task = asyncio.get_running_loop().create_task(self._run(), name="redis publisher", context=Context())
        return order

    async def close(self) -> None:
        """What is on its way fails with OutsideError. Repeats do nothing."""
        self._over = True
        await end_tasks(self._task)

    async def _run(self) -> None:
        connections = Connections(self._address, "pub", size=2, retries=3)
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while batch := self._take():
                    await self._exchange(connections, batch)
        finally:
            self._over = True
            while batch := self._take():
                _fail(batch, OutsideError("The bus is closed"))
            await connections.close()

    def _take(self) -> list[_Order]:
        """The next write; those whose caller has given up are left out, and so never carried out."""
        batch: list[_Order] = []
        size = 0
        while self._waiting and len(batch) < BATCH_LIMIT and size < BATCH_LIMIT_BYTES:
            order = self._waiting.popleft()
            self._waiting_bytes -= order.size
            if not order.answer.done():
                batch.append(order)
                size += order.size
        return batch

    async def _exchange(self, connections: Connections, batch: list[_Order]) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), connections.connection() as link:
                await link.write(*(order.command for order in batch))
                for order in batch:
                    await _answer(link, order)
        except _OF_NO_USE as error:
            _fail(batch, LoginRefused(f"Redis {describe(error)}"))
        except FAILURES as error:
            _fail(batch, _failure(describe(error)))
        except Exception:
            log.exception("The bus could not publish")  # a defect, ours or redis-py's: the next batch may do better
            _fail(batch, _failure("could not be asked"))
        finally:
            _fail(batch, OutsideError("The bus is closed"))  # cancelled; otherwise all are answered by now


async def _answer(link: Link, order: _Order) -> None:
    """One answer for one command; a refusal of this one leaves the link and the others alone."""
    try:
        reply = await link.read()
    except exceptions.ResponseError as error:
        _fail([order], CommandRefused(error))
    else:
        if not order.answer.done():
            order.answer.set_result(reply)


def _fail(orders: list[_Order], error: OutsideError) -> None:
    for order in orders:
        if not order.answer.done():
            order.answer.set_exception(error)


def _look_away(answer: Future[Any]) -> None:
    if not answer.cancelled():
        answer.exception()


def _failure(sentence: str) -> OutsideError:
    return OutsideError(f"Redis {sentence}", retry_after=RETRY_SECONDS)
