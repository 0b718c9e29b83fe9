"""What a node says on its way into Redis: written in the turn in which it is offered where everything is known that is
needed for it, and by a task that finds it out where it is not. Each offer is a future."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from adapters.redis.address import Address
from adapters.redis.keys import token
from adapters.redis.message import mark_volatile, previous_offsets, seal_draft
from adapters.redis.publisher import RETRY_SECONDS, CommandRefused, LoginRefused, Order, ignored
from adapters.redis.refusals import Fault
from adapters.redis.scripts import Scripts
from adapters.redis.shards import is_elsewhere
from adapters.redis.stream import Shared, Stream
from adapters.redis.wire import packed
from realtime.errors import OutsideError
from realtime.eventloop.loops import end_tasks
from realtime.journal.positions import Draft, DraftId, Entry, Position

UNANSWERED_LIMIT: Final = 100_000


@dataclass(slots=True)
class _Append:
    stream: Stream
    draft: Draft
    answer: Future[Entry]
    arguments: tuple[bytes, ...]
    """Of the script."""


@dataclass(slots=True)
class _Telling:
    stream: Stream
    answer: Future[None]
    channels: list[bytes]
    message: bytes


class Offers:
    """Of one journal; belongs to its event loop."""

    def __init__(self, shared: Shared, scripts: tuple[Scripts, Scripts]) -> None:
        """``scripts``: for plain channels, and for sharded ones."""
        self._shards, self._signer = shared.shards, shared.signer
        self._scripts = scripts
        self._unanswered: dict[DraftId, float] = {}
        """When drafts were offered of which nobody knows whether they were kept."""
        self._out = shared.metrics.bus_messages.bound("out")
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """What is on its way fails with OutsideError."""
        await end_tasks(*self._tasks)

    # --- what is to be kept

    def append(self, stream: Stream, draft: Draft) -> Future[Entry]:
        """Behind what was offered before."""
        loop = asyncio.get_running_loop()
        answer: Future[Entry] = loop.create_future()
        try:
            sealed = seal_draft(self._signer, draft)
            address = self._shards.at_hand(stream.keys.log) if not stream.slow else None
        except Exception as error:
            answer.set_exception(error)
            return answer
        node, number = draft.id
        age = b"0"
        if self._unanswered:
            now = loop.time()
            age = b"%d" % (1_000 * (now - self._unanswered.get(draft.id, now)))
        ahead, mark = stream.begin(draft.id)
        answer.add_done_callback(partial(self._ended, stream, draft.id, mark))
        arguments = (
            sealed, node.encode("utf-8", "surrogatepass"), b"%d" % number, age,
            *stream.seen.arguments, stream.fresh, ahead, *[token(channel) for channel in draft.channels],
        )  # fmt: skip
        offer = _Append(stream, draft, answer, arguments)
        if address is None:
            self._slowly(offer)
        else:
            self._at_once(offer, address)
        return answer

    def _at_once(self, offer: _Append, address: Address) -> None:
        script, keys = self._scripts[self._shards.is_sharded].append, offer.stream.keys.of
        if not self._shards.knows(address, script):
            self._slowly(offer)
            return
        command = packed(b"EVALSHA", script.sha, b"%d" % len(keys), *keys, *offer.arguments)
        take, fail = partial(self._took, offer), partial(self._refused, offer, address)
        try:
            self._shards.publisher(address).put(Order(command, offer.answer, take, fail))
        except OutsideError as error:
            self._fail(offer, error)

    def _slowly(self, offer: _Append) -> None:
        """Until it has ended, everything of its stream goes this way, so that all keep their order."""
        offer.stream.slow += 1
        self._start(self._run(offer))

    async def _run(self, offer: _Append) -> None:
        keys = offer.stream.keys
        try:
            script = self._scripts[await self._shards.sharded(keys.log)].append
            reply = await self._shards.run(script, keys.of, *offer.arguments)
        except Exception as error:
            self._fail(offer, error)
        except BaseException:
            self._fail(offer, OutsideError("The bus is closed"))
            raise
        else:
            if not offer.answer.done():
                self._took(offer, reply)
        finally:
            offer.stream.slow -= 1

    def _took(self, offer: _Append, reply: Any) -> None:
        try:
            offer.answer.set_result(self._read(offer, reply))
        except Exception as error:
            offer.answer.set_exception(error)

    def _read(self, offer: _Append, reply: Any) -> Entry:
        epoch, offset, before, what = reply
        draft = offer.draft
        if what == b"early":
            raise OutsideError("What was said before this is not kept yet", retry_after=RETRY_SECONDS)
        if self._unanswered:
            self._unanswered.pop(draft.id, None)
        if what == b"late":
            raise OutsideError("Redis was asked too late: whether this was kept is not known any more")
        place = Position(epoch.decode(), int(offset))
        node, number = draft.id
        offer.stream.learn(place.epoch, place.offset, f"{node}:{number}")
        # Of a repeated one that has left the log: nothing of its channels lies between an entry and the one before it.
        previous = previous_offsets(before) if before else (place.offset - 1,) * len(draft.channels)
        self._out.count += 1
        entry = Entry(draft, place, previous)
        if what == b"new":
            offer.stream.expect_own(entry, offer.arguments[0])
        return entry

    def _refused(self, offer: _Append, address: Address, error: OutsideError) -> None:
        if is_elsewhere(error):
            self._slowly(offer)
        else:
            self._fail(offer, self._shards.explained(b"EVALSHA", address, error))

    def _fail(self, offer: _Append, error: Exception) -> None:
        if not isinstance(error, LoginRefused):
            self._remember(offer.draft.id)
        if isinstance(error, LoginRefused | CommandRefused) and error.fault is not Fault.OURS:
            # That says nothing of this draft: it is kept when it is over, or when an operator has acted.
            error = OutsideError(error.message, retry_after=RETRY_SECONDS)
        if not offer.answer.done():
            offer.answer.set_exception(error)

    def _ended(self, stream: Stream, draft: DraftId, mark: int, answer: Future[Entry]) -> None:
        """In the turn after the answer: what is begun in the same turn is behind it, also where it fails unsent."""
        stream.end(mark)
        if answer.cancelled():
            self._remember(draft)

    def _remember(self, draft: DraftId) -> None:
        self._unanswered.setdefault(draft, asyncio.get_running_loop().time())
        if len(self._unanswered) > UNANSWERED_LIMIT:
            del self._unanswered[next(iter(self._unanswered))]

    # --- what is not

    def tell(self, stream: Stream, draft: Draft) -> Future[None]:
        """Done when Redis has told those who hear it."""
        answer: Future[None] = asyncio.get_running_loop().create_future()
        try:
            newest = stream.seen.position if stream.seen.epoch else None
            message = mark_volatile(seal_draft(self._signer, draft, newest, kept=False))
            channels = [stream.keys.channel(token(channel)) for channel in draft.channels]
            telling = _Telling(stream, answer, channels, message)
            address = self._shards.at_hand(stream.keys.log) if not stream.slow_told else None
            if address is None:
                self._tell_slowly(telling)
            else:
                self._tell_at_once(telling, address)
        except Exception as error:
            answer.set_exception(error)
        return answer

    def _tell_at_once(self, telling: _Telling, address: Address) -> None:
        """Each channel by a command of its own. The answer is that to the last; a link that breaks fails it as well."""
        word = b"SPUBLISH" if self._shards.is_sharded else b"PUBLISH"
        publisher = self._shards.publisher(address)
        *others, last = [packed(word, channel, telling.message) for channel in telling.channels]
        for command in others:
            publisher.put(Order(command, ignored()))
        take, fail = partial(self._told, telling.answer), partial(self._untold, telling, address)
        publisher.put(Order(last, telling.answer, take, fail))

    def _tell_slowly(self, telling: _Telling) -> None:
        """Until it has ended, everything volatile of its stream goes this way, so that all keep their order."""
        telling.stream.slow_told += 1
        self._start(self._tell(telling))

    async def _tell(self, telling: _Telling) -> None:
        key, answer = telling.stream.keys.log, telling.answer
        try:
            word = b"SPUBLISH" if await self._shards.sharded(key) else b"PUBLISH"
            await asyncio.gather(*(self._shards.send(key, word, each, telling.message) for each in telling.channels))
        except Exception as error:
            if not answer.done():
                answer.set_exception(error)
        except BaseException:
            if not answer.done():
                answer.set_exception(OutsideError("The bus is closed"))
            raise
        else:
            if not answer.done():
                self._told(answer, None)
        finally:
            telling.stream.slow_told -= 1

    def _told(self, answer: Future[None], reply: Any) -> None:
        self._out.count += 1
        answer.set_result(None)

    def _untold(self, telling: _Telling, address: Address, error: OutsideError) -> None:
        if is_elsewhere(error):
            self._tell_slowly(telling)
        else:
            telling.answer.set_exception(self._shards.explained(b"PUBLISH", address, error))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
