"""What is dropped on the way from and to clients: counted at once, told to the application in batches.

A flood of drops costs a dictionary addition each; the application's function is called at most once for each client
and batch, in a turn of its own, never from the fan-out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from inspect import iscoroutinefunction
from threading import get_ident
from typing import Any, Final, Protocol

from realtime.errors import UsageError
from realtime.eventloop.loops import PerLoop
from realtime.metrics import Counter

logger = logging.getLogger("realtime")

BATCH_SECONDS: Final = 0.1
"""Ten calls a second for one client are more than anybody looks at, and cost nothing."""


class Client(Protocol):
    """Whose it was: what is asked of a session."""

    id: str
    loop: asyncio.AbstractEventLoop
    thread: int
    wire: Any
    members: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dropped:
    """What one client lost within a tenth of a second."""

    id: str
    """The connection's."""
    wire: str
    """``websocket``, ``polling``, …; empty where it has none yet."""
    sids: Mapping[str, str]
    """Its sid in each namespace that it was in."""
    reasons: Mapping[str, int]
    """How many, for each reason: the labels of the metric ``realtime_drops_total``."""


Hook = Callable[[Dropped], object]


class Drops:
    """Counts for one server. ``hook`` is a plain function of the application; what it raises is logged.

    Raises UsageError for a coroutine function: there is nobody who would wait for it.
    """

    def __init__(self, counter: Counter, hook: Hook | None = None) -> None:
        if iscoroutinefunction(hook):
            raise UsageError("on_drop must be a plain function, not a coroutine function")
        self._counter = counter
        self._hook = hook
        self._batches: PerLoop[_Batch] = PerLoop(lambda loop: _Batch(loop, self._tell))

    def add(self, client: Client, reason: str) -> None:
        """One frame, event or acknowledgement of this client's was dropped. From any thread."""
        self._counter.add(reason)
        if self._hook is None or client.loop.is_closed():
            return
        batch = self._batches(client.loop)
        if client.thread == get_ident():
            batch.add(client, reason)
        else:
            with suppress(RuntimeError):  # closed in this moment
                client.loop.call_soon_threadsafe(batch.add, client, reason)

    def _tell(self, batch: list[Dropped]) -> None:
        assert self._hook is not None
        failed: Exception | None = None
        for dropped in batch:
            try:
                self._hook(dropped)
            except Exception as error:
                failed = error
        if failed is not None:
            logger.error("on_drop failed", exc_info=failed)  # once for each batch: drops come in floods


class _Batch:
    """Belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tell: Callable[[list[Dropped]], None]) -> None:
        self._loop = loop
        self._tell = tell
        self._clients: dict[str, tuple[Dropped, dict[str, int]]] = {}

    def add(self, client: Client, reason: str) -> None:
        found = self._clients.get(client.id)
        if found is None:
            if not self._clients:
                self._loop.call_later(BATCH_SECONDS, self._end)
            reasons: dict[str, int] = {}
            wire = "" if client.wire is None else str(client.wire.name)
            sids = {namespace: member.sid for namespace, member in client.members.items()}
            found = self._clients[client.id] = (Dropped(client.id, wire, sids, reasons), reasons)
        found[1][reason] = found[1].get(reason, 0) + 1

    def _end(self) -> None:
        clients, self._clients = self._clients, {}
        self._tell([dropped for dropped, _ in clients.values()])
