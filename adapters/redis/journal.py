"""The Journal port on Redis or Valkey: a log for each namespace, appended to by a script, heard by channel."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Any, Final

from adapters.redis.address import Address
from adapters.redis.inflow import Inflow
from adapters.redis.keys import token
from adapters.redis.message import read_kept
from adapters.redis.offers import Offers
from adapters.redis.scripts import LogLimits, Scripts
from adapters.redis.seal import RefusedMessage, Signer
from adapters.redis.shards import Shards
from adapters.redis.stream import Shared, Stream
from realtime.errors import OutsideError, RealtimeError, UsageError
from realtime.eventloop.loops import end_tasks
from realtime.journal.positions import Channel, Draft, Entry, Position
from realtime.metrics import Metrics
from realtime.ports import Followed, Notice, NoticeKind, Stretch

CHECK_SECONDS: Final = 3.0
"""How often each namespace that is watched is compared with its log, so that a lost last message is found."""
DOUBT_SECONDS: Final = 0.25
"""The same after a break, until it is answered."""
PAGE_BYTES: Final = 1 << 20
HEADS_AT_ONCE: Final = 500
"""Channels asked for in one script."""
NAMESPACES_LIMIT: Final = 1_000
"""Names come from the application; a connection is opened for each that is watched."""


class RedisJournal:
    """Belongs to the event loop it is first used in. ``node`` is another one at each start of a process.

    Entries that nobody of ours has signed are counted (``metrics.bus_refused``) and not seen.
    """

    def __init__(
        self,
        address: Address,
        node: str,
        metrics: Metrics,
        *,
        prefix: str,
        signing: Sequence[str],
        limits: LogLimits | None = None,
    ) -> None:
        self._metrics = metrics
        self._signer = Signer(signing)
        self._shards = Shards(address, metrics)
        limits = limits or LogLimits()
        self._scripts = (Scripts(limits, sharded=False), Scripts(limits, sharded=True))
        self._inflow: Inflow[Followed] = Inflow()
        self._streams: dict[str, Stream] = {}
        self._shared = Shared(
            prefix, node, self._signer, self._shards, self._inflow, metrics, self._show_state, self._doubt
        )
        self._doubtful: dict[Stream, None] = {}
        self._woken = asyncio.Event()
        self._offers = Offers(self._shared, self._scripts)
        self._checking: asyncio.Task[None] | None = None
        self._closed = False

    def append(self, draft: Draft) -> Awaitable[Entry]:
        """What is begun in an order is kept in that order: where one is not, none is that was begun behind it.

        Raises OutsideError without ``retry_after`` when this draft comes again so late that nobody knows whether it was
        kept, and where Redis can do nothing with it; LimitError when it is too long."""
        try:
            stream = self._stream(draft.namespace)
        except RealtimeError as error:
            return _failed(error)
        return self._offers.append(stream, draft)

    def tell(self, draft: Draft) -> Awaitable[None]:
        try:
            stream = self._stream(draft.namespace)
        except RealtimeError as error:
            return _failed(error)
        return self._offers.tell(stream, draft)

    async def since(self, namespace: str, position: Position, *, limit: int = 1_000) -> Stretch | None:
        """None also where an entry cannot be read: it was signed with a key that is not known (any more)."""
        stream = self._stream(namespace)
        asked = (position.epoch.encode(), b"%d" % min(position.offset, 1 << 53), b"%d" % limit, b"%d" % PAGE_BYTES)
        epoch, newest, state, *rest = await self._run(stream, "page", *asked)
        if state != b"here":
            return None
        entries = []
        for at in range(0, len(rest), 4):
            try:
                entries.append(
                    read_kept(self._signer, namespace, epoch.decode(), int(rest[at]), rest[at + 2], rest[at + 3])
                )
            except RefusedMessage as refused:
                self._metrics.bus_refused.add(refused.reason)
                return None  # what it says, and to whom, is not known: whoever has to have everything has not
        upto = int(rest[-4]) if rest else position.offset
        if epoch.decode() != stream.seen.epoch:  # else what was seen, and in which place, is not forgotten for it
            stream.learn(epoch.decode(), int(newest))
        return Stretch(entries, Position(epoch.decode(), upto), more=upto < int(newest))

    async def newest(self, namespace: str) -> Position:
        position, _ = await self._check(self._stream(namespace), ())
        return position

    async def heads(self, namespace: str, channels: Sequence[Channel]) -> Mapping[Channel, int]:
        stream = self._stream(namespace)
        found: dict[Channel, int] = {}
        for start in range(0, len(channels), HEADS_AT_ONCE):
            part = channels[start : start + HEADS_AT_ONCE]
            _, heads = await self._check(stream, [token(channel) for channel in part])
            found.update(zip(part, heads, strict=True))
        return found

    async def watch(self, namespace: str, *channels: Channel) -> Position:
        self._start_checking()
        stream = self._stream(namespace)
        tokens = [token(channel) for channel in channels]
        for each in tokens:
            stream.expect(each)
        await stream.ear.watch(*map(stream.keys.channel, tokens))
        self._show_state()
        position, _ = await self._check(stream, ())
        for each in tokens:
            stream.complete(each, position)
        return position

    async def unwatch(self, namespace: str, *channels: Channel) -> None:
        stream = self._streams.get(namespace)
        if stream is not None:
            tokens = [token(channel) for channel in channels]
            for each in tokens:
                stream.forget(each)
            await stream.ear.unwatch(*map(stream.keys.channel, tokens))

    async def follow(self) -> AsyncIterator[Followed]:
        while (item := await self._inflow.take()) is not None:
            yield item

    async def ping(self) -> None:
        """Takes the way that appends take. Raises OutsideError within about a second."""
        await self._shards.send(b"ping", b"PING")

    async def close(self) -> None:
        """Ends ``follow``; what is on its way fails with OutsideError. Repeats do nothing."""
        self._closed = True
        self._inflow.close()
        await end_tasks(self._checking)
        await asyncio.gather(*(stream.ear.close() for stream in self._streams.values()))
        await self._shards.close()
        await self._offers.close()
        self._metrics.bus_up.set(0)

    def _stream(self, namespace: str) -> Stream:
        if self._closed:
            raise OutsideError("The bus is closed")
        stream = self._streams.get(namespace)
        if stream is None:
            if len(self._streams) >= NAMESPACES_LIMIT:
                raise UsageError(f"A journal has at most {NAMESPACES_LIMIT} namespaces")
            stream = self._streams[namespace] = Stream(namespace, self._shared)
        return stream

    async def _run(self, stream: Stream, name: str, *arguments: bytes) -> Any:
        scripts = self._scripts[await self._shards.sharded(stream.keys.log)]
        return await self._shards.run(getattr(scripts, name), stream.keys.of, *arguments)

    async def _check(self, stream: Stream, tokens: Sequence[bytes]) -> tuple[Position, list[int]]:
        """The end of the log, and the newest offset of each channel (0: none known). Raises OutsideError."""
        arguments = (*stream.seen.arguments, stream.fresh)
        epoch, offset, draft, *heads = await self._run(stream, "check", *arguments, *tokens)
        stream.learn(epoch.decode(), int(offset), draft.decode("utf-8", "surrogatepass"))
        return Position(epoch.decode(), int(offset)), [int(head or 0) for head in heads]

    def _doubt(self, stream: Stream) -> None:
        self._doubtful[stream] = None
        self._woken.set()

    def _show_state(self) -> None:
        self._metrics.bus_up.set(int(all(stream.ear.up for stream in self._streams.values() if stream.watched)))

    def _start_checking(self) -> None:
        if self._checking is None and not self._closed:
            # A context of its own: the first caller's request would otherwise be kept for good.
            self._checking = asyncio.get_running_loop().create_task(
                self._compare(), name="redis journal check", context=Context()
            )

    async def _compare(self) -> None:
        """Every CHECK_SECONDS: has each watched channel come as far here as it is in the log? At once where there is
        doubt about the log itself."""
        while True:
            streams = list(self._doubtful) or [stream for stream in self._streams.values() if stream.ear.up]
            self._woken.clear()
            for stream in streams:
                self._doubtful.pop(stream, None)
                try:
                    await self._compare_one(stream)
                except OutsideError:
                    self._doubtful[stream] = None
                else:
                    stream.compared()
            pause = DOUBT_SECONDS if self._doubtful else CHECK_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(pause * (0.8 + 0.4 * random.random())):
                    await self._woken.wait()

    async def _compare_one(self, stream: Stream) -> None:
        """What was behind in two rounds, with time in between for what was on its way, was lost."""
        tokens = stream.watched
        behind = {}
        for start in range(0, max(1, len(tokens)), HEADS_AT_ONCE):
            part = tokens[start : start + HEADS_AT_ONCE]
            position, heads = await self._check(stream, part)
            behind.update(stream.behind(position, dict(zip(part, heads, strict=True))))
        if stream.still_behind(behind):
            self._inflow.push(Notice(NoticeKind.BEHIND, stream.namespace))


def _failed(error: Exception) -> asyncio.Future[Any]:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    answer.set_exception(error)
    return answer
