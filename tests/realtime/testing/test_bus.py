"""The contract suite passes a bus that keeps its promises, and each of its tests fails one that breaks them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from threading import Lock
from typing import ClassVar

import pytest

import realtime.testing.bus
from realtime.errors import OutsideError
from realtime.ports import Bus
from realtime.testing.bus import BusContract

Ear = tuple[asyncio.AbstractEventLoop, "asyncio.Queue[bytes | None]"]


class MemoryBus:
    """Keeps the port ``Bus`` within one process, for any number of event loops."""

    ears: ClassVar[dict[str, list[Ear]]] = defaultdict(list)
    lock = Lock()

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.closed = False
        self.mine: list[Ear] = []

    async def publish(self, message: bytes) -> None:
        self.check()
        self.deliver(message, self.reached())

    def check(self) -> None:
        if self.closed:
            raise OutsideError("closed")

    def reached(self) -> list[Ear]:
        with self.lock:
            return list(self.ears[self.channel])

    def deliver(self, message: bytes | None, ears: list[Ear]) -> None:
        for loop, queue in ears:
            with suppress(RuntimeError):  # its loop is over
                loop.call_soon_threadsafe(queue.put_nowait, message)

    async def listen(self) -> AsyncIterator[bytes]:
        ear: Ear = (asyncio.get_running_loop(), asyncio.Queue())
        with self.lock:
            self.ears[self.channel].append(ear)
            self.mine.append(ear)
        try:
            while (message := await ear[1].get()) is not None:
                yield message
        finally:
            with self.lock:
                self.ears[self.channel].remove(ear)
                self.mine.remove(ear)

    async def ping(self) -> None:
        self.check()

    async def close(self) -> None:
        self.closed = True
        self.deliver(None, list(self.mine))


class TestMemoryBus(BusContract):
    def bus(self) -> Bus:
        return MemoryBus(self.channel)


class Selfish(MemoryBus):
    def reached(self) -> list[Ear]:
        return list(self.mine)


class Textual(MemoryBus):
    async def publish(self, message: bytes) -> None:
        await super().publish(message.decode(errors="replace").encode())


class Forgetful(MemoryBus):
    count = 0

    async def publish(self, message: bytes) -> None:
        self.count += 1
        if self.count != 400:
            await super().publish(message)


class Repeating(MemoryBus):
    count = 0

    async def publish(self, message: bytes) -> None:
        self.count += 1
        for _ in range(2 if self.count == 400 else 1):
            await super().publish(message)


class Impatient(MemoryBus):
    """Gives up what nobody has asked for."""

    def deliver(self, message: bytes | None, ears: list[Ear]) -> None:
        for loop, queue in ears:
            loop.call_soon_threadsafe(self._put, queue, message)

    @staticmethod
    def _put(queue: asyncio.Queue[bytes | None], message: bytes | None) -> None:
        if queue.qsize() < 10:
            queue.put_nowait(message)


class Fragile(MemoryBus):
    """Ends with its first listener."""

    async def listen(self) -> AsyncIterator[bytes]:
        try:
            async for message in super().listen():
                yield message
        finally:
            self.closed = True


class Stuck(MemoryBus):
    """A publisher that is cancelled keeps the line."""

    def __init__(self, channel: str) -> None:
        super().__init__(channel)
        self.line = asyncio.Semaphore()

    async def publish(self, message: bytes) -> None:
        await self.line.acquire()
        passed = asyncio.Event()
        asyncio.get_running_loop().call_later(0.001, passed.set)
        await passed.wait()
        await super().publish(message)
        self.line.release()


class Endless(MemoryBus):
    async def close(self) -> None:
        self.closed = True


class Undead(MemoryBus):
    def check(self) -> None: ...


class Fussy(MemoryBus):
    async def close(self) -> None:
        if not self.mine:
            raise OutsideError("never opened")
        await super().close()


class Faithful(MemoryBus):
    """Belongs to the first event loop that used it."""

    loop: asyncio.AbstractEventLoop | None = None

    def check(self) -> None:
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise RuntimeError("attached to a different loop")
        super().check()


class Hanging(MemoryBus):
    async def ping(self) -> None:
        await asyncio.Event().wait()


BROKEN: list[tuple[Callable[[str], Bus], str]] = [
    (Selfish, "test_a_message_reaches_another_bus_and_its_own"),
    (Textual, "test_bytes_arrive_as_they_were"),
    (Forgetful, "test_concurrent_publishers_lose_and_repeat_nothing"),
    (Repeating, "test_concurrent_publishers_lose_and_repeat_nothing"),
    (Impatient, "test_a_slow_listener_gets_everything"),
    (Fragile, "test_a_listener_that_is_cancelled_leaves_the_bus_usable"),
    (Stuck, "test_a_publisher_that_is_cancelled_leaves_the_bus_usable"),
    (Endless, "test_close_ends_a_listener_that_waits"),
    (Undead, "test_ping_answers_until_the_bus_is_closed"),
    (Hanging, "test_ping_answers_until_the_bus_is_closed"),
    (Fussy, "test_closing_what_was_never_used"),
    (Faithful, "test_one_event_loop_after_the_other"),
    (Faithful, "test_several_event_loops_at_a_time"),
]


@pytest.mark.parametrize(("broken", "test"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_bus_fails(broken: Callable[[str], Bus], test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime.testing.bus, "PATIENCE_SECONDS", 0.2)

    class Suite(BusContract):
        def bus(self) -> Bus:
            return broken(self.channel)

    suite = Suite()
    suite.setup_method()
    with pytest.raises((AssertionError, TimeoutError, OutsideError, RuntimeError)):
        getattr(suite, test)()


def test_every_promise_is_broken_once() -> None:
    assert {name for name in vars(BusContract) if name.startswith("test_")} == {test for _, test in BROKEN}
