"""What other nodes may have to know of this node's clients: kept in the session store, while they are connected too.

A record is written when a client is let in, when it enters or leaves a room, when it is cut off, and every so often in
between, many in one go. So the sudden death of a node loses nobody: whoever shows the pid elsewhere is claimed there.
Nobody waits for the store except those who asked for it; while it is away what is to be written waits, one record for
each client. Who is not to come back waits likewise (``_over``); if the node dies meanwhile, nobody knows of it,
and the adapter has to see to it that what such a node has left is not believed.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Any, Final, TypeVar

from realtime.errors import CloseCode, OutsideError
from realtime.eventloop.loops import end_on, end_tasks
from realtime.journal.away import Absent
from realtime.journal.positions import Position
from realtime.journal.resume import Record
from realtime.journal.trail import Trail
from realtime.metrics import Metrics
from realtime.names import Reason
from realtime.ports import Claimed, Sessions
from realtime.recovery.absence import Absence
from realtime.rooms.hub import Hub
from realtime.session.session import Member, State
from realtime.telemetry.seldom import Seldom

logger = logging.getLogger("realtime")

BATCH: Final = 500
"""Records made and written in one go: about 20 ms of this node's time, in parts of a hundred for the store."""
REFRESH_SECONDS: Final = 20.0
"""How often a record is written again while nothing happens, so that data that was changed meanwhile survives too."""
TICK_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 1.0
"""What a client waits at most until its new room is written down."""
FORGET_LIMIT: Final = 100_000
"""Sessions that have ended and are still to be crossed out; beyond it they end by themselves, in their time."""
SECONDS_STEP: Final = 5.0
"""Records of who is away are written together when their times differ by less."""

OpenSessions = Callable[[str], Sessions]
"""``open(node)``: connects to nothing yet."""
Newest = Callable[[str], Awaitable[Position]]
"""The end of a namespace's log, as the journal tells it."""
Answer = TypeVar("Answer")


class SessionStore:
    """Lives on one event loop, that of whoever came first; may be asked from any."""

    def __init__(
        self,
        open_sessions: OpenSessions,
        absence: Absence,
        hub: Hub,
        metrics: Metrics,
        newest: Newest,
    ) -> None:
        self._open = open_sessions
        self._absence = absence
        self._hub = hub
        self._metrics = metrics
        self._newest = newest
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sessions: Sessions
        self._tasks: list[asyncio.Task[None]] = []
        self._due: OrderedDict[str, float] = OrderedDict()
        """Members whose records are written again, by pid, and when."""
        self._changed: dict[str, Member] = {}
        self._writing: dict[str, Member] = {}
        """Of these the records are on their way."""
        self._left: dict[str, None] = {}
        self._over: dict[str, None] = {}
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._wanted = asyncio.Event()
        self._failing = False
        """The store did not answer when it was asked last."""
        self._seldom = Seldom()

    @property
    def _lease(self) -> float:
        """For how long a record is good while its client is connected: after the death of a node it has its window."""
        return self._absence.window + 2 * self._refresh

    @property
    def _refresh(self) -> float:
        return min(REFRESH_SECONDS, self._absence.window / 3)

    # --- the loop it lives on

    def begin(self) -> None:
        """Live on the running event loop, unless it does on one that runs. Repeats do nothing."""
        if self._loop is not None and self._loop.is_running():
            return
        loop = self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._sessions = self._open(self._absence.node)
        # Contexts of their own: the first caller's request would otherwise be kept for good.
        works = (self._write(self._wanted), self._listen(self._sessions))
        self._tasks = [loop.create_task(work, context=Context()) for work in works]

    async def _call(self, ask: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        self.begin()
        loop = self._loop
        assert loop is not None
        if loop is asyncio.get_running_loop():
            return await ask()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ask(), loop))

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has ended; the next one begins with what there is then
                loop.call_soon_threadsafe(self._wanted.set)

    # --- what happens to this node's clients

    def changed(self, member: Member) -> None:
        """It was let in, or is in other rooms. From any thread."""
        trail: Trail = member.trail
        self._over.pop(trail.pid, None)
        self._changed[trail.pid] = member
        self._wake()

    async def kept(self, member: Member) -> None:
        """Returns when what changed is written, or the store takes too long over it."""
        if self._failing or member.trail is None or self._is_written(member.trail.pid):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._call(lambda: self._until_written(member.trail.pid))

    def _is_written(self, pid: str) -> bool:
        return pid not in self._changed and pid not in self._writing

    async def _until_written(self, pid: str) -> None:
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((pid, written))
        self._wanted.set()
        await written

    def left(self, pid: str) -> None:
        """It was cut off and is away now. From any thread."""
        self._changed.pop(pid, None)
        self._due.pop(pid, None)
        self._left[pid] = None
        self._wake()

    def ended(self, pid: str) -> None:
        """It does not come back. From any thread."""
        for table in (self._changed, self._due, self._left):
            table.pop(pid, None)
        if len(self._over) < FORGET_LIMIT:
            self._over[pid] = None
        else:
            self._metrics.drops.add("sessions")
        self._wake()

    # --- who comes back

    async def look(self, pid: str) -> Record | None:
        """What is known of this client; it stays where it is. Raises OutsideError."""
        return await self._call(lambda: self._sessions.look(pid))

    async def claim(self, absent: Absent) -> Record | None:
        """Nobody else can go on as this client from now on. None: somebody does. Raises OutsideError."""

        async def take() -> Record | None:
            record = absent.record
            if record.pid in self._left:  # what is written of it is older
                if await self._sessions.keep([record], self._absence.window, away=True):
                    return None
                self._left.pop(record.pid, None)
            return await self._sessions.claim(record.pid, self._absence.node)

        return await self._call(take)

    # --- clients that are away, wherever they were

    async def enter(self, namespace: str, sid: str, room: str) -> None:
        """It is put into a room. Trouble of the store is counted, and logged now and then."""

        async def enter() -> None:
            await self._sessions.enter(namespace, sid, room, (await self._newest(namespace)).offset)

        await self._try(enter)

    async def leave(self, namespace: str, sid: str | None, room: str) -> None:
        """It (or everybody) is taken out of a room."""

        async def leave() -> None:
            await self._sessions.leave(namespace, sid, room, (await self._newest(namespace)).offset)

        await self._try(leave)

    async def dismiss(self, namespace: str, sid: str) -> None:
        """Whoever is away under this sid is not to come back."""

        async def forget() -> None:
            await self._sessions.forget_sid(namespace, sid)

        await self._try(forget)

    async def forget(self, namespace: str, target: str) -> None:
        """Whoever is away and in this room, or has this sid, is not to come back."""

        async def forget() -> None:
            await self._sessions.forget_room(namespace, target)

        await self._try(forget)

    async def _try(self, ask: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await self._call(ask)
        except OutsideError as error:
            self._metrics.drops.add("sessions")
            self._tell(error)

    def _tell(self, error: OutsideError) -> None:
        more = self._seldom.left_out("store", asyncio.get_running_loop().time())
        if more is not None:
            logger.warning("the session store does not answer (%d more since then): %s", more, error.message)

    # --- writing

    async def _write(self, wanted: asyncio.Event) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(TICK_SECONDS, self._refresh / 2)):
                    await wanted.wait()
            wanted.clear()
            self._mark_due(asyncio.get_running_loop().time())
            try:
                while self._over or self._left or self._changed:
                    await self._write_some()
                self._failing = False
            except OutsideError as error:
                self._failing = True
                self._tell(error)
                self._answer(lambda pid: True)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:  # a defect of ours: the next one may do better
                logger.exception("sessions could not be written")
                await asyncio.sleep(RETRY_SECONDS)

    def _mark_due(self, now: float) -> None:
        while self._due and next(iter(self._due.values())) <= now:
            pid, _ = self._due.popitem(last=False)
            member = self._absence.live.get(pid)
            if member is not None:
                self._changed.setdefault(pid, member)

    async def _write_some(self) -> None:
        over = _first(self._over)
        if over:
            await self._sessions.forget(over)
            for pid in over:
                self._over.pop(pid, None)
        for seconds, records in self._records_of_away(_first(self._left)):
            await self._keep(records, seconds, away=True)
            for record in records:
                self._left.pop(record.pid, None)
        members = {pid: self._changed[pid] for pid in _first(self._changed)}
        for pid in members:
            self._changed.pop(pid, None)
        records, self._writing = self._records_of(members), members
        try:
            await self._keep(records, self._lease)
        except BaseException:
            for pid, member in members.items():
                if pid in self._absence.live:
                    self._changed.setdefault(pid, member)
            raise
        finally:
            self._writing = {}
        when = asyncio.get_running_loop().time() + self._refresh
        for record in records:
            if record.pid in self._absence.live:
                self._due[record.pid] = when
                self._due.move_to_end(record.pid)
        self._answer(self._is_written)

    def _answer(self, is_done: Callable[[str], bool]) -> None:
        """Who waits need not wait any longer."""
        self._waiting, waiting = [], self._waiting
        for pid, written in waiting:
            if not is_done(pid):
                self._waiting.append((pid, written))
            elif not written.done():
                written.set_result(None)

    def _records_of_away(self, pids: Iterable[str]) -> list[tuple[float, list[Record]]]:
        now = self._absence.clock()
        found: dict[float, list[Record]] = {}
        for pid in pids:
            absent = self._absence.away.find(pid)
            if absent is None:
                self._left.pop(pid, None)
                continue
            step = min(SECONDS_STEP, self._absence.window / 10)
            seconds = max(1, math.ceil((absent.until - now) / step)) * step
            found.setdefault(seconds, []).append(absent.record)
        return list(found.items())

    def _records_of(self, members: dict[str, Member]) -> list[Record]:
        records = []
        for pid, member in members.items():
            if member.state is not State.JOINED or self._absence.live.get(pid) is not member:
                continue
            with self._hub.changing:
                # What is written of it is not true any more, but the pid is still its own.
                records.append(self._absence.record_of(member) or self._absence.stand_in_of(member))
        return records

    async def _keep(self, records: Sequence[Record], seconds: float, *, away: bool = False) -> None:
        for pid in await self._sessions.keep(records, seconds, away=away) if records else ():
            self._is_taken(pid)

    # --- what others do

    async def _listen(self, sessions: Sessions) -> None:
        async for notice in sessions.notices():
            if isinstance(notice, Claimed):
                # Perhaps it is here again by now, and the news is old: to write it tells whose it is.
                member = self._absence.live.get(notice.pid)
                if member is not None:
                    self.changed(member)
                elif self._absence.away.find(notice.pid) is not None:
                    self.left(notice.pid)
            else:
                self._absence.has_expired(notice.record)

    def _is_taken(self, pid: str) -> None:
        """Another node has this client, or it was sent away while it was gone: nobody is it here any more."""
        self._absence.away.claim(pid)
        self._left.pop(pid, None)
        self._due.pop(pid, None)
        member = self._absence.live.pop(pid, None)
        if member is not None:
            trail: Trail = member.trail
            trail.taken = trail.kept = True
            self._metrics.recoveries.add("elsewhere")
            member.session.close(CloseCode.REPLACED, "replaced by another connection", Reason.REPLACED)

    # --- the end

    async def stop(self) -> None:
        """Write down what there is, as long as that is quick, and let go. What was written stays: this node's clients
        may come back elsewhere. Repeats do nothing."""
        await end_on(self._loop, self._stop, 2 * PATIENCE_SECONDS)

    async def _stop(self) -> None:
        self._loop = None
        tasks, self._tasks = self._tasks, []
        await end_tasks(*tasks)
        with suppress(TimeoutError, OutsideError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while self._over or self._left or self._changed:
                    await self._write_some()
        await self._sessions.close()


def _first(table: dict[str, Any]) -> list[str]:
    return list(table)[:BATCH]
