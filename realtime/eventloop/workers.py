"""Runs many short coroutines on few tasks: a handler that never waits costs no task of its own, and no loop turn.

Measured (CPython 3.11, uvloop): a task for each event is 3 to 4 µs and a turn of the loop; a shared worker 0.4 µs.
Rules: what is submitted starts in order. A job runs as if it were in the task of one worker from its first step to
its last, so ``asyncio.current_task()``, time-outs and cancel scopes hold. Whoever waits holds up nobody. A worker
whose job has changed its context variables takes no other job.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, Final

logger = logging.getLogger("realtime")

SPARE: Final = 32
"""Idle workers kept: one is 1 kB, and more than this are wanted only while many handlers wait at once."""
TURN: Final = 256
"""Jobs in a row before the loop may look at its sockets again, where nothing else is asked for."""

Work = Coroutine[Any, Any, None]
Then = Callable[[Any, Awaitable[None]], Work]
Handed = tuple[Work, Any, Then | None, Any]
"""A job that was begun: what it waits for, and what its rest is to be part of (see ``Workers.run``)."""

_current_task = asyncio.current_task
_enter_task = asyncio.tasks._enter_task  # documented: "Extending asyncio", task lifetime
_leave_task = asyncio.tasks._leave_task


class Workers:
    """Belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: int = TURN) -> None:
        """``turn``: jobs in a row before the loop may look at its sockets again."""
        self.loop = loop
        self.turn = turn
        self.ready: deque[Work] = deque()
        self.idle: list[Worker] = []
        self.resting = False
        """Has one worker done as much as a turn of the loop has room for? It goes on in the next, and alone."""
        self._workers: set[Worker] = set()
        self._called = False
        self._unfinished = 0
        self._finished: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        """Jobs that wait or run."""
        return self._unfinished

    @property
    def tasks(self) -> int:
        """Tasks that exist for them now, idle ones included."""
        return len(self._workers)

    def submit(self, work: Work) -> None:
        """Run this soon, after what was submitted before. It must not raise; if it does, that is logged."""
        self.ready.append(work)
        self._unfinished += 1
        if not self._called and not self.resting:
            self.call()

    def run(self, work: Work, then: Then | None = None, about: Any = None) -> bool:
        """Run this now, as far as it goes without waiting: True when that was all of it, or it failed.

        False: the rest of it goes on in the worker's task, inside ``then(about, rest)`` where that is given. Where
        running it now is not possible (others wait, no worker is idle) all of it is the rest, and is submitted.
        """
        if self.ready or not self.idle:
            self.submit(work if then is None else then(about, work))
            return False
        worker = self.idle.pop()
        task = worker.task
        self._unfinished += 1
        loop = self.loop
        caller = _current_task(loop)
        if caller is not None:
            _leave_task(loop, caller)
        _enter_task(loop, task)
        try:
            waits_for = worker.context.run(work.send, None)
        except StopIteration:
            self.finished()
            if worker.context == worker.clean and not task.cancelling():  # Worker.is_done, spelt out
                self.idle.append(worker)
            else:
                worker.wake(None)
            return True
        except BaseException as error:
            self.finished()
            worker.wake(None)
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise
            logger.error("a job failed", exc_info=error)
            return True
        else:
            worker.wake((work, waits_for, then, about))
            return False
        finally:
            _leave_task(loop, task)
            if caller is not None:
                _enter_task(loop, caller)

    async def settle(self, seconds: float, spared: int = 0) -> bool:
        """True once no more than ``spared`` jobs (the caller's own) are left, False when that takes longer."""
        until = self.loop.time() + seconds
        while self._unfinished > spared:
            left = until - self.loop.time()
            if left <= 0:
                return False
            self._finished = self.loop.create_future()
            await asyncio.wait((self._finished,), timeout=left)
        return True

    def finished(self) -> None:
        """One job less."""
        self._unfinished -= 1
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(None)

    def call(self) -> None:
        """Wake one worker, and look afterwards whether it has left something."""
        self._called = True
        if self.idle:
            self.idle.pop().wake(None, stay=True)
        else:
            worker = Worker(self)
            self._workers.add(worker)
            worker.task.add_done_callback(lambda _: self._workers.discard(worker))
        self.loop.call_soon(self._look)

    def _look(self) -> None:
        """Runs right after the worker that was woken: what is still there is there because a job waits."""
        self._called = False
        self.call_if_needed()

    def call_if_needed(self) -> None:
        """A worker ends, or waits, with jobs left over."""
        if self.ready and not self._called and not self.resting:
            self.call()

    async def rest(self) -> None:
        """For the worker that has done its part: the loop has its turn. It goes on first, and is looked after."""
        self.resting = True
        try:
            await asyncio.sleep(0)
        finally:
            self.resting = False
            if not self._called:
                self._called = True
                self.loop.call_soon(self._look)


class Worker:
    """One task and its context."""

    __slots__ = ("_handed", "_parked", "_pool", "_stay", "clean", "context", "task")

    def __init__(self, pool: Workers) -> None:
        self._pool = pool
        self._parked: asyncio.Future[None] | None = None
        self._handed: Handed | None = None
        self._stay = True
        self.context: Context = copy_context()
        self.clean: Context = self.context.copy()
        self.task: asyncio.Task[None] = pool.loop.create_task(self._work(), context=self.context)

    def wake(self, handed: Handed | None, stay: bool = False) -> None:
        """Go on with a job that was begun; with None look for jobs, or end unless it may ``stay``."""
        self._handed = handed
        self._stay = stay or handed is not None
        assert self._parked is not None
        if not self._parked.done():  # a loop that shuts down has cancelled it
            self._parked.set_result(None)

    def is_done(self) -> bool:
        """A job has left its context variables behind, or swallowed the cancellation of a loop that shuts down
        (``asyncio.wait_for`` does, before 3.12): this worker takes no other."""
        return self.context != self.clean or self.task.cancelling() > 0

    async def _work(self) -> None:
        pool, done = self._pool, 0
        while self._stay:
            while pool.ready and not pool.resting:
                await self._finish(pool.ready.popleft())
                if self.is_done():
                    pool.call_if_needed()
                    return
                done += 1
                if done % pool.turn == 0:
                    await pool.rest()
            if len(pool.idle) >= SPARE:
                return
            await self._park()
            handed, self._handed = self._handed, None
            if handed is not None:
                await self._finish(_rest(*handed))
                if self.is_done():
                    pool.call_if_needed()
                    return

    async def _park(self) -> None:
        """Until woken. Cancelled while a job was just handed over, it is the job that is cancelled."""
        self._parked = self._pool.loop.create_future()
        self._pool.idle.append(self)
        try:
            await self._parked
        except asyncio.CancelledError:
            if self in self._pool.idle:
                self._pool.idle.remove(self)
            if self._handed is None:
                raise
            handed, self._handed = self._handed, None
            await self._finish(_rest(*handed, cancelled=True))
            raise

    async def _finish(self, work: Awaitable[None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            # Perhaps the job cancelled its task, perhaps the loop is shutting down: this worker ends either way.
            self._pool.call_if_needed()
            raise
        except Exception:
            logger.exception("a job failed")
        finally:
            self._pool.finished()


def _rest(work: Work, waits_for: Any, then: Then | None, about: Any, cancelled: bool = False) -> Awaitable[None]:
    rest = _Begun(work, waits_for, cancelled)
    return rest if then is None else then(about, rest)


class _Begun:
    """The rest of a coroutine whose first step ran outside: awaits what it waits for, in its place."""

    __slots__ = ("_cancelled", "_waits_for", "_work")

    def __init__(self, work: Work, waits_for: Any, cancelled: bool = False) -> None:
        self._work = work
        self._waits_for = waits_for
        self._cancelled = cancelled

    def __await__(self) -> Generator[Any, Any, None]:
        work, waits_for = self._work, self._waits_for
        try:
            if self._cancelled:
                waits_for = work.throw(asyncio.CancelledError())
            while True:
                try:
                    sent = yield waits_for
                except BaseException as error:
                    waits_for = work.throw(error)
                else:
                    waits_for = work.send(sent)
        except StopIteration:
            return
