"""One event loop's way into Redis: what is sent within one loop turn leaves in one write, in order, and no write waits
for the answers to the one before it."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

from redis import exceptions

from adapters.redis.address import Address
from adapters.redis.connection import FAILURES, HEALTH_CHECK_SECONDS, Connections, describe
from adapters.redis.refusals import Fault, code_of, fault_of
from adapters.redis.wire import Wire, packed
from realtime.errors import OutsideError
from realtime.eventloop.loops import end_tasks
from realtime.metrics import Metrics

log = logging.getLogger("realtime.bus")

PATIENCE_SECONDS: Final = 1.0
"""From the call to the answer, connecting included. A publisher is a handler that a client waits for."""
RETRY_SECONDS: Final = 1.0
WINDOW_LIMIT: Final = 1_000
"""Commands that were written and not answered."""
WINDOW_LIMIT_BYTES: Final = 1 << 20
"""Of such commands; the one that passes it is still written."""
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


class Order:
    """A command, and what is done with its answer: ``take(reply)`` or ``fail(error)``, one of them once. Whoever does
    not want it any more cancels ``answer``."""

    __slots__ = ("answer", "command", "due", "fail", "take", "written_at")

    def __init__(
        self,
        command: bytes,
        answer: Future[Any],
        take: Callable[[Any], None] | None = None,
        fail: Callable[[OutsideError], None] | None = None,
    ) -> None:
        """``command`` as it is written (``wire.packed``). ``take`` and ``fail`` are the answer's own where there are
        none; they are called while it is not done, and end it themselves."""
        self.command = command
        self.answer = answer
        self.take = take or answer.set_result
        self.fail = fail or answer.set_exception
        self.due = self.written_at = 0.0


class Publisher:
    """Commands leave on one connection of its own, in order; answers come in the same order.

    Nothing is written twice: a command whose link broke before the answer may have been carried out,
    and the bus promises at most once. Belongs to the loop it is first used in; its task ends with that
    loop (cancelled by whoever winds the loop up) and then closes the connection.
    """

    def __init__(self, address: Address, metrics: Metrics) -> None:
        self._address = address
        self._metrics = metrics
        self._waiting: deque[Order] = deque()
        self._waiting_bytes = 0
        self._flying: deque[Order] = deque()
        """Written, and not answered."""
        self._flying_bytes = 0
        self._wake = asyncio.Event()
        self._wire: Wire | None = None
        self._probed = False
        """A link that was unused for long is asked first whether it is there; until it says so, nothing is written."""
        self._due: asyncio.TimerHandle | None = None
        self._stirred = False
        self._task: asyncio.Task[None] | None = None
        self._over = False
        self._context = Context()
        """What is written for one request is not done in its name, nor keeps it."""

    async def send(self, *command: bytes) -> Any:
        """The answer to one command, within PATIENCE_SECONDS.

        Raises CommandRefused, and otherwise OutsideError; whether the command was carried out is then open,
        except that one which was still waiting never is. Cancellation likewise.
        """
        return await self.ask(*command)

    def ask(self, *command: bytes) -> Future[Any]:
        """The same without waiting. Raises OutsideError where nothing more can wait."""
        order = Order(packed(*command), asyncio.get_running_loop().create_future())
        self.put(order)
        return order.answer

    def post(self, *command: bytes) -> None:
        """Send it ahead of the next ``send``, and do not wait; its failure is nobody's. Raises OutsideError."""
        self.ask(*command).add_done_callback(_look_away)

    def put(self, order: Order) -> None:
        """Behind everything else; answered within PATIENCE_SECONDS. Raises OutsideError where nothing more can wait."""
        if self._over:
            raise OutsideError("The bus is closed")
        size = len(order.command)
        if self._waiting_bytes + size > BACKLOG_LIMIT_BYTES:
            self._metrics.drops.add("bus_backlog")
            raise _failure("is too slow for what is published")
        loop = order.answer.get_loop()
        order.due = loop.time() + PATIENCE_SECONDS
        self._waiting.append(order)
        self._waiting_bytes += size
        if self._due is None:
            self._due = loop.call_at(order.due, self._look, context=self._context)
        if not self._stirred:
            self._stirred = True
            loop.call_soon(self._write, context=self._context)
        if self._task is None:
            self._task = loop.create_task(self._run(), name="redis publisher", context=Context())

    async def close(self) -> None:
        """What is on its way fails with OutsideError. Repeats do nothing."""
        self._over = True
        await end_tasks(self._task)

    # --- writing and hearing

    def _write(self) -> None:
        """What waits, as far as the window goes."""
        self._stirred = False
        wire = self._wire
        if wire is None or wire.ended.done():
            self._wake.set()
            return
        now = asyncio.get_running_loop().time()
        if not self._flying and now - wire.heard_at > HEALTH_CHECK_SECONDS and not self._probed:
            self._probe(wire, now)
        if self._probed:
            return
        parts: list[bytes] = []
        waiting, flying = self._waiting, self._flying
        while waiting and len(flying) < WINDOW_LIMIT and self._flying_bytes < WINDOW_LIMIT_BYTES:
            order = waiting.popleft()
            self._waiting_bytes -= len(order.command)
            if not order.answer.done():  # else its caller has given up, and it is never carried out
                order.written_at = now
                flying.append(order)
                self._flying_bytes += len(order.command)
                parts.append(order.command)
        if parts:
            wire.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def _probe(self, wire: Wire, now: float) -> None:
        order = Order(packed(b"PING"), ignored())
        order.due = now + PATIENCE_SECONDS
        order.written_at = now
        self._probed = True
        self._flying.append(order)
        self._flying_bytes += len(order.command)
        wire.write(order.command)

    def _took(self, reply: Any) -> None:
        """An answer. Raises what says that the link is of no use."""
        if not self._flying:
            raise exceptions.InvalidResponse("an answer to nothing")
        if isinstance(reply, Exception) and not isinstance(reply, exceptions.ResponseError):
            raise reply
        order = self._flying.popleft()
        self._flying_bytes -= len(order.command)
        self._probed = False
        if not order.answer.done():
            if isinstance(reply, exceptions.ResponseError):
                order.fail(CommandRefused(reply))
            else:
                order.take(reply)
        if isinstance(reply, exceptions.ResponseError) and code_of(reply) == "READONLY" and self._wire is not None:
            self._wire.end(exceptions.ConnectionError("is not the master any more"))  # who is, is asked anew
        if self._waiting and not self._stirred:
            self._stirred = True
            asyncio.get_running_loop().call_soon(self._write, context=self._context)

    def _look(self) -> None:
        """What was not answered in time fails; and where what was written was not, the link is given up."""
        self._due = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for order in self._flying:
            if order.due > now:
                break
            _fail(order, _failure("did not answer in time"))
        while self._waiting and (self._waiting[0].due <= now or self._waiting[0].answer.done()):
            order = self._waiting.popleft()
            self._waiting_bytes -= len(order.command)
            _fail(order, _failure("did not answer in time"))
        if self._flying and self._wire is not None and now >= self._flying[0].written_at + PATIENCE_SECONDS:
            self._wire.end(exceptions.TimeoutError("no answer"))
        times = [order.due for order in self._flying if order.due > now][:1]
        times += [order.written_at + PATIENCE_SECONDS for order in list(self._flying)[:1]]
        times += [order.due for order in list(self._waiting)[:1]]
        if times:
            self._due = loop.call_at(max(now + 0.001, min(times)), self._look, context=self._context)

    # --- the link

    async def _run(self) -> None:
        connections = Connections(self._address, "pub", size=2, retries=3)
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self._waiting:
                    await self._live(connections)
        finally:
            self._over = True
            self._wire = None
            self._fail_all(OutsideError("The bus is closed"), waiting=True)
            if self._due is not None:
                self._due.cancel()
            await connections.close()

    async def _live(self, connections: Connections) -> None:
        """Connect, and write until the link breaks. What was not written by then waits for the next one."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                link = await connections.lend()
        except Exception as error:
            self._fail_all(_explained(error), waiting=True)
            return
        broken: BaseException
        try:
            self._wire = wire = Wire(link, self._took)
            self._write()
            broken = await wire.ended
        except Exception as error:  # a defect, ours or redis-py's: the next link may do better
            broken = error
        finally:
            self._wire = None
            self._probed = False
            await connections.cut(link)
        self._fail_all(_explained(broken), waiting=False)
        if self._waiting:
            self._wake.set()

    def _fail_all(self, error: OutsideError, *, waiting: bool) -> None:
        flying, self._flying, self._flying_bytes = self._flying, deque(), 0
        if waiting:
            flying.extend(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
        for order in flying:
            _fail(order, error)


def ignored() -> Future[Any]:
    """An answer whose failure is nobody's."""
    answer: Future[Any] = asyncio.get_running_loop().create_future()
    answer.add_done_callback(_look_away)
    return answer


def _fail(order: Order, error: OutsideError) -> None:
    if not order.answer.done():
        order.fail(error)


def _look_away(answer: Future[Any]) -> None:
    if not answer.cancelled():
        answer.exception()


def _explained(error: BaseException) -> OutsideError:
    if isinstance(error, _OF_NO_USE):
        return LoginRefused(f"Redis {describe(error)}")
    if isinstance(error, FAILURES):
        return _failure(describe(error))
    log.error("The bus could not publish", exc_info=error)  # a defect, ours or redis-py's: the next one may do better
    return _failure("could not be asked")


def _failure(sentence: str) -> OutsideError:
    return OutsideError(f"Redis {sentence}", retry_after=RETRY_SECONDS)
