"""The journal of one process: its logs in memory, for as many nodes as live in it (tests have several)."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from threading import RLock
from time import monotonic
from typing import Any, Final

from adapters.memory.mailbox import Mailbox
from realtime.errors import OutsideError
from realtime.journal.log import Log
from realtime.journal.positions import Channel, Draft, Entry, Position
from realtime.ports import Followed, Notice, NoticeKind, Stretch, Told

BROKEN_AND_BACK: Final = (Notice(NoticeKind.BROKEN), Notice(NoticeKind.BACK))


class MemoryLogs:
    """What the nodes share: one log for each namespace. ``bounds`` are those of ``Log``."""

    def __init__(self, clock: Callable[[], float] = monotonic, **bounds: Any) -> None:
        self.clock = clock
        self.lock = RLock()
        self.nodes: list[MemoryJournal] = []
        self._bounds = bounds
        self._logs: dict[str, Log] = {}

    def log(self, namespace: str) -> Log:
        log = self._logs.get(namespace)
        if log is None:
            watched = self._watched(namespace)
            log = self._logs[namespace] = Log(secrets.token_hex(6), watched=watched, **self._bounds)
        return log

    def _watched(self, namespace: str) -> Callable[[Channel], bool]:
        return lambda channel: any((namespace, channel) in node.watched for node in self.nodes)

    def begin_anew(self) -> None:
        """Everything is lost, as when a server of logs starts empty."""
        with self.lock:
            self._logs.clear()
            for node in self.nodes:
                node.hear(Notice(NoticeKind.EPOCH))


class MemoryJournal:
    """Keeps the port ``Journal``. May be used from several threads and event loops; ``follow`` on one at a time."""

    def __init__(self, node: str, logs: MemoryLogs | None = None) -> None:
        self.node = node
        self.watched: set[tuple[str, Channel]] = set()
        self._logs = logs or MemoryLogs()
        self._mailbox: Mailbox[Followed] = Mailbox(lambda: list(BROKEN_AND_BACK))
        self._closed = False
        self._logs.nodes.append(self)

    def hear(self, item: Followed) -> None:
        """Something for this node."""
        self._mailbox.put(item)

    def append_now(self, draft: Draft) -> Entry:
        """``append`` without waiting: on one node nothing has to be waited for."""
        self._check_open()
        with self._logs.lock:
            log = self._logs.log(draft.namespace)
            last = log.last
            entry = log.append(draft, self._logs.clock())
            if entry.offset > last:
                self._spread(draft, entry, self._logs.nodes)
            return entry

    def _spread(self, draft: Draft, item: Followed, nodes: Sequence[MemoryJournal]) -> None:
        channels = {(draft.namespace, channel) for channel in draft.channels}
        for node in nodes:
            if not channels.isdisjoint(node.watched):
                node.hear(item)

    async def append(self, draft: Draft) -> Entry:
        return self.append_now(draft)

    async def tell(self, draft: Draft) -> None:
        self._check_open()
        with self._logs.lock:
            others = [node for node in self._logs.nodes if node is not self]
            self._spread(draft, Told(draft, self._logs.log(draft.namespace).newest), others)

    async def since(self, namespace: str, position: Position, *, limit: int = 1_000) -> Stretch | None:
        self._check_open()
        with self._logs.lock:
            log = self._logs.log(namespace)
            found = log.since(position)
            if found is None:
                return None
            more = len(found) > limit
            page = found[:limit]
            return Stretch(page, page[-1].position if more else log.newest, more)

    async def newest(self, namespace: str) -> Position:
        self._check_open()
        with self._logs.lock:
            return self._logs.log(namespace).newest

    async def watch(self, namespace: str, *channels: Channel) -> Position:
        self._check_open()
        with self._logs.lock:
            self.watched.update((namespace, channel) for channel in channels)
            return self._logs.log(namespace).newest

    async def unwatch(self, namespace: str, *channels: Channel) -> None:
        self.watched.difference_update((namespace, channel) for channel in channels)

    async def heads(self, namespace: str, channels: Sequence[Channel]) -> Mapping[Channel, int]:
        self._check_open()
        with self._logs.lock:
            log = self._logs.log(namespace)
            return {channel: log.head(channel) for channel in channels}

    def follow(self) -> AsyncIterator[Followed]:
        return aiter(self._mailbox)

    async def ping(self) -> None:
        self._check_open()

    async def close(self) -> None:
        self._closed = True
        with self._logs.lock:
            if self in self._logs.nodes:
                self._logs.nodes.remove(self)
        self._mailbox.close()

    def _check_open(self) -> None:
        if self._closed:
            raise OutsideError("The journal is closed")
