"""The Sessions port on Redis or Valkey: who may come back, on any node, and who of two that come gets the session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Any, Final

from adapters.redis.address import Address
from adapters.redis.beats import Beats
from adapters.redis.inflow import Inflow
from adapters.redis.keys import node_channel, place
from adapters.redis.publisher import PATIENCE_SECONDS
from adapters.redis.seal import RefusedMessage, Signer
from adapters.redis.session_record import (
    line,
    name_of,
    read_claimed,
    read_session,
    rooms_of,
    seal_change,
    seal_claimed,
    seal_record,
    who,
)
from adapters.redis.session_scripts import BUCKETS, CHANGE, CLAIM, FIND, FORGET, FORGET_ONE, KEEP, LOOK, REAP
from adapters.redis.shards import Shards
from adapters.redis.subscriber import Subscriber
from realtime.errors import OutsideError
from realtime.eventloop.loops import end_tasks
from realtime.journal.resume import Record
from realtime.metrics import Metrics
from realtime.ports import Claimed, Expired

LIMIT: Final = 500_000
"""Sessions in Redis, all nodes together; about 1 kB each. Beyond it the oldest go first."""
BATCH: Final = 100
"""Records in one script; it stops Redis for about 1 ms."""
ROUND_BYTES: Final = 1 << 22
"""Data of records on their way at once: each has a second, and what waits for Redis is bounded."""
PAGE: Final = 500
"""Sessions looked through in one script."""
GRACE_SECONDS: Final = 1.0
"""Between the end of a session by our clock and the question whether it has ended by Redis's."""
LOOK_SECONDS: Final = 0.5
ORPHAN_SECONDS: Final = 5.0
"""A session that expired so long ago, and of which its own node has not told, is told of by another: each looks through
some buckets every LOOK_SECONDS."""
BUCKETS_AT_ONCE: Final = 4
REAPED: Final = 100
"""Of those, at a time in one bucket."""


class RedisSessions:
    """Belongs to the event loop it is first used in. ``node`` is another one at each start of a process."""

    def __init__(
        self,
        address: Address,
        node: str,
        metrics: Metrics,
        *,
        prefix: str,
        signing: Sequence[str],
        limit: int = LIMIT,
    ) -> None:
        self._metrics = metrics
        self._signer = Signer(signing)
        self._shards = Shards(address, metrics)
        self._prefix = prefix
        self._beats = Beats(self._shards, prefix, node)
        self._channel = node_channel(prefix, node)
        self._limit = max(1, limit // BUCKETS)
        tags = [place(prefix, "sessions", str(bucket)) for bucket in range(BUCKETS)]
        self._keys = [tuple(b"%s:%s" % (tag, part) for part in (b"all", b"sids", b"who")) for tag in tags]
        self._kept: dict[str, tuple[float, Record]] = {}
        """By pid: when it ends unless it is kept again. In the order in which they were kept."""
        self._inflow: Inflow[Claimed | Expired] = Inflow()
        self._subscriber = Subscriber(address, self._channel.decode("utf-8", "surrogatepass"), metrics)
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    async def keep(self, records: Sequence[Record], seconds: float, *, away: bool = False) -> Sequence[str]:
        self._start()
        if not self._subscriber.stands.is_set():  # who takes a session from this node would tell nobody
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._subscriber.stands.wait()
        ends = asyncio.get_running_loop().time() + seconds
        taken: set[str] = set()
        for batches in _rounds(self._by_bucket(records)):
            answers = await asyncio.gather(*(self._keep(bucket, batch, seconds, away) for bucket, batch in batches))
            taken.update(pid for pids in answers for pid in pids)
        for record in records:
            self._kept.pop(record.pid, None)
            if record.pid not in taken:
                self._kept[record.pid] = (ends, record)
        while len(self._kept) > self._limit * BUCKETS:
            del self._kept[next(iter(self._kept))]
        return sorted(taken)

    async def look(self, pid: str) -> Record | None:
        bucket, name = name_of(pid)
        return await self._believe(self._read(await self._run(LOOK, bucket, name), pid))

    async def claim(self, pid: str, node: str) -> Record | None:
        bucket, name = name_of(pid)
        notice = seal_claimed(self._signer, pid)
        found = await self._run(CLAIM, bucket, name, node_channel(self._prefix, node), notice)
        return await self._believe(self._read(found, pid))

    async def _believe(self, record: Record | None) -> Record | None:
        """Not what a node has left that died while Redis was away."""
        if record is not None and await self._beats.may_have_missed(record.node):
            return record._replace(incomplete=record.incomplete or "store")
        return record

    def _read(self, found: list[bytes] | None, pid: str | None) -> Record | None:
        if not found:
            return None
        try:
            return read_session(self._signer, dict(zip(found[::2], found[1::2], strict=True)), pid)
        except RefusedMessage as refused:
            self._metrics.bus_refused.add(refused.reason)
            return None

    async def forget(self, pids: Sequence[str]) -> None:
        named = [name_of(pid) for pid in pids]
        for pid in pids:
            self._kept.pop(pid, None)
        await self._forget(named)

    async def enter(self, namespace: str, sid: str, room: str, after: int) -> bool:
        change = seal_change(self._signer, True, namespace, room, after)
        return await self._change(b"", who(namespace, sid), b"E", room, change) > 0

    async def leave(self, namespace: str, sid: str | None, room: str, until: int) -> int:
        change = seal_change(self._signer, False, namespace, room, until)
        if sid is not None:
            return await self._change(b"", who(namespace, sid), b"L", room, change)
        found = await self._in_room(namespace, room, b"")
        changes = [self._run(CHANGE, bucket, name, b"", b"L", line(room), change) for bucket, name in found]
        return sum(await asyncio.gather(*changes))

    async def forget_sid(self, namespace: str, sid: str) -> bool:
        asked = [self._run(FORGET_ONE, bucket, who(namespace, sid)) for bucket in range(BUCKETS)]
        return any(await asyncio.gather(*asked))

    async def forget_room(self, namespace: str, room: str) -> int:
        found = await self._in_room(namespace, room, line(room))
        await self._forget(found)
        return len(found)

    async def notices(self) -> AsyncIterator[Claimed | Expired]:
        """A claim that was told while the subscription was broken is seen by the next ``keep``."""
        self._start()
        while (notice := await self._inflow.take()) is not None:
            yield notice

    async def close(self) -> None:
        """Ends ``notices``. What was kept stays for its time: this node's clients may come back elsewhere."""
        self._closed = True
        self._inflow.close()
        await self._subscriber.close()
        await end_tasks(*self._tasks)
        await self._shards.close()

    def _start(self) -> None:
        if self._closed:
            raise OutsideError("The bus is closed")
        if not self._tasks:
            loop = asyncio.get_running_loop()
            # Contexts of their own: the first caller's request would otherwise be kept for good.
            self._tasks = [
                loop.create_task(work, name="redis sessions", context=Context())
                for work in (self._hear(), self._look(), self._beat())
            ]

    def _by_bucket(self, records: Iterable[Record]) -> list[tuple[int, list[Record]]]:
        buckets: dict[int, list[Record]] = {}
        for record in records:
            buckets.setdefault(name_of(record.pid)[0], []).append(record)
        return list(buckets.items())

    async def _keep(self, bucket: int, records: Sequence[Record], seconds: float, away: bool) -> list[str]:
        """The pids that are not ours any more. Raises OutsideError."""
        arguments = [self._channel, b"%d" % (seconds * 1000), b"%d" % self._limit, b"A" if away else b""]
        names = {}
        for record in records:
            name = name_of(record.pid)[1]
            names[name] = record.pid
            sealed = seal_record(self._signer, record)
            arguments += [name, who(record.namespace, record.sid), rooms_of(record), sealed]
        over, *taken = await self._run(KEEP, bucket, *arguments)
        if over:
            self._metrics.drops.add("sessions", amount=over)
        return [names[name] for name in taken]

    async def _forget(self, named: Iterable[tuple[int, bytes]]) -> None:
        buckets: dict[int, list[bytes]] = {}
        for bucket, name in named:
            buckets.setdefault(bucket, []).append(name)
        batches = [batch for bucket, names in buckets.items() for batch in _cut(names, BATCH, bucket)]
        await asyncio.gather(*(self._run(FORGET, bucket, *names) for bucket, names in batches))

    async def _change(self, name: bytes, whom: bytes, kind: bytes, room: str, change: bytes) -> int:
        """How many there were: nobody knows in which bucket a sid is, so all are asked."""
        asked = [self._run(CHANGE, bucket, name, whom, kind, line(room), change) for bucket in range(BUCKETS)]
        return sum(await asyncio.gather(*asked))

    async def _in_room(self, namespace: str, room: str, sid: bytes) -> list[tuple[int, bytes]]:
        asked = [self._in_room_of(bucket, namespace, room, sid) for bucket in range(BUCKETS)]
        return [found for part in await asyncio.gather(*asked) for found in part]

    async def _in_room_of(self, bucket: int, namespace: str, room: str, sid: bytes) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        for start in range(0, self._limit, PAGE):
            arguments = (b"%d" % start, b"%d" % PAGE, line(namespace), line(room), sid)
            seen, *names = await self._run(FIND, bucket, *arguments)
            found += [(bucket, name) for name in names]
            if seen < PAGE:
                break
        return found

    async def _run(self, script: Any, bucket: int, *arguments: bytes) -> Any:
        if self._closed:
            raise OutsideError("The bus is closed")
        return await self._shards.run(script, self._keys[bucket], *arguments)

    async def _hear(self) -> None:
        """Who took what this node had."""
        while (message := await self._subscriber.receive()) is not None:
            await self._inflow.room()
            try:
                pid = read_claimed(self._signer, message)
            except RefusedMessage as refused:
                self._metrics.bus_refused.add(refused.reason)
                continue
            self._kept.pop(pid, None)
            self._inflow.push(Claimed(pid))

    async def _beat(self) -> None:
        """Apart from all else: a round of looking may take long, and a late word reads like a death."""
        while True:
            await self._beats.beat()
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        """What was kept here, and by nobody again, has expired; and so has what nodes that are dead had kept."""
        turn = 0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = asyncio.get_running_loop().time() - GRACE_SECONDS
            over = [pid for pid, (ends, _) in self._kept.items() if ends < now]
            turn = (turn + BUCKETS_AT_ONCE) % BUCKETS
            with suppress(OutsideError):  # asked again next time
                for pid in over[:PAGE]:
                    bucket, name = name_of(pid)
                    found = await self._run(REAP, bucket, name, b"1", b"0")
                    self._kept.pop(pid, None)
                    await self._tell(found)
                overdue = b"%d" % (ORPHAN_SECONDS * 1000)
                for bucket in range(turn, turn + BUCKETS_AT_ONCE):
                    await self._tell(await self._run(REAP, bucket, b"", b"%d" % REAPED, overdue))

    async def _tell(self, expired: list[list[bytes]]) -> None:
        for fields in expired:
            record = self._read(fields, None)
            if record is not None:
                await self._inflow.room()
                self._inflow.push(Expired(record))


def _rounds(buckets: Iterable[tuple[int, list[Record]]]) -> Iterator[list[tuple[int, list[Record]]]]:
    """What goes out together: all at once, unless that is a lot."""
    together: list[tuple[int, list[Record]]] = []
    size = 0
    for bucket, records in buckets:
        for record in records:
            if size > ROUND_BYTES:
                yield together
                together, size = [], 0
            if not together or together[-1][0] != bucket or len(together[-1][1]) >= BATCH:
                together.append((bucket, []))
            together[-1][1].append(record)
            size += len(record.data)
    if together:
        yield together


def _cut(items: list[Any], size: int, bucket: int) -> list[tuple[int, list[Any]]]:
    return [(bucket, items[start : start + size]) for start in range(0, len(items), size)]
