"""What every Bus adapter promises (`realtime.ports.Bus`), as tests. An adapter's test class inherits them.

    class TestMyBus(BusContract):
        def bus(self) -> Bus:
            return open_bus("nats://localhost", self.channel, Metrics())

The tests are plain functions with an event loop of their own, so no plug-in of pytest is needed.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

from realtime.errors import OutsideError
from realtime.ports import Bus

PATIENCE_SECONDS: Final = 5.0
"""For anything that is expected to happen; far above what a working bus needs."""
PROBE: Final = b"probe:"
PROBE_SECONDS: Final = 0.05


class Ears:
    """What one ``listen`` of a bus hears, while its ``hearing`` block lasts."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()
        self.task = asyncio.ensure_future(self._listen())
        """Done when the bus ended the iteration."""

    async def _listen(self) -> None:
        async for message in self._bus.listen():
            self._heard.put_nowait(message)

    async def next(self) -> bytes:
        """The next message that is no probe, within PATIENCE_SECONDS."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (message := await self._heard.get()).startswith(PROBE):
                pass
            return message

    async def take(self, count: int) -> list[bytes]:
        return [await self.next() for _ in range(count)]

    async def connected(self) -> None:
        """Returns when something published from now on is heard; what was heard before it is thrown away.

        The port does not tell when a subscription stands, so this publishes probes until one arrives.
        """
        probe = PROBE + uuid.uuid4().bytes
        async with asyncio.timeout(PATIENCE_SECONDS * 2):
            while not self.task.done():
                with suppress(OutsideError):
                    await self._bus.publish(probe)
                with suppress(TimeoutError):
                    async with asyncio.timeout(PROBE_SECONDS):
                        while await self._heard.get() != probe:
                            pass
                        return
        self.task.result()
        raise AssertionError("the bus stopped listening by itself")


@asynccontextmanager
async def hearing(bus: Bus) -> AsyncIterator[Ears]:
    """Listen to ``bus`` for a block; it begins when the subscription stands."""
    ears = Ears(bus)
    try:
        await ears.connected()
        yield ears
    finally:
        ears.task.cancel()
        with suppress(asyncio.CancelledError):
            await ears.task


def _run(work: Coroutine[Any, Any, None]) -> None:
    """To its end, or TimeoutError: a bus that hangs must fail its test, not hang it."""
    asyncio.run(asyncio.wait_for(work, PATIENCE_SECONDS * 6))


def _alone(test: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any], None]:
    """A test with an event loop of its own, which is closed afterwards (so what is left open is reported)."""

    def run(self: BusContract) -> None:
        _run(test(self))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class BusContract:
    """Inherit, and say in ``bus`` how to make one. ``channel`` differs from test to test."""

    channel: str

    def setup_method(self) -> None:
        self.channel = f"contract-{uuid.uuid4()}"

    def bus(self) -> Bus:
        """A new bus on ``self.channel``, not in any event loop yet; two of them reach each other."""
        raise NotImplementedError

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Bus]:
        bus = self.bus()
        try:
            yield bus
        finally:
            await bus.close()

    @_alone
    async def test_a_message_reaches_another_bus_and_its_own(self) -> None:
        async with self._open() as here, self._open() as there, hearing(here) as mine, hearing(there) as theirs:
            await here.publish(b"hello")
            assert (await mine.next(), await theirs.next()) == (b"hello", b"hello")

    @_alone
    async def test_bytes_arrive_as_they_were(self) -> None:
        messages = [bytes(range(256)), b"\x00", b"\r\n$3\r\n", b"x" * 1_000_000, "é€😀".encode(), b"{}"]
        async with self._open() as bus, hearing(bus) as ears:
            for message in messages:
                await bus.publish(message)
                assert await ears.next() == message

    @_alone
    async def test_concurrent_publishers_lose_and_repeat_nothing(self) -> None:
        messages = [str(number).encode() for number in range(500)]
        async with self._open() as here, self._open() as there, hearing(there) as ears:
            await asyncio.gather(*(here.publish(message) for message in messages))
            assert sorted(await ears.take(len(messages))) == sorted(messages)
            await here.publish(b"last")
            assert await ears.next() == b"last"

    @_alone
    async def test_a_slow_listener_gets_everything(self) -> None:
        expected = [str(number).encode() for number in range(100)]
        async with self._open() as bus:
            messages = bus.listen()
            first = asyncio.ensure_future(anext(messages))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not first.done():
                    await bus.publish(PROBE)
                    await asyncio.wait([first], timeout=PROBE_SECONDS)
            for message in expected:  # nobody asks for them meanwhile
                await bus.publish(message)
            heard: list[bytes] = []
            async with asyncio.timeout(PATIENCE_SECONDS):
                while len(heard) < len(expected):
                    if (message := await anext(messages)) != PROBE:
                        heard.append(message)
            assert sorted(heard) == sorted(expected)

    @_alone
    async def test_a_listener_that_is_cancelled_leaves_the_bus_usable(self) -> None:
        async with self._open() as bus:
            async with hearing(bus):
                pass
            async with hearing(bus) as ears:
                await bus.publish(b"again")
                assert await ears.next() == b"again"

    @_alone
    async def test_a_publisher_that_is_cancelled_leaves_the_bus_usable(self) -> None:
        async with self._open() as bus, hearing(bus) as ears:
            publishing = asyncio.ensure_future(bus.publish(b"maybe"))
            await asyncio.wait([publishing], timeout=0)
            publishing.cancel()
            await asyncio.wait([publishing], timeout=PATIENCE_SECONDS)
            assert publishing.done()
            await bus.publish(b"surely")
            while await ears.next() != b"surely":
                pass

    @_alone
    async def test_close_ends_a_listener_that_waits(self) -> None:
        bus = self.bus()
        async with hearing(bus) as ears:
            await bus.close()
            await asyncio.wait([ears.task], timeout=PATIENCE_SECONDS)
            assert ears.task.done()
            ears.task.result()

    @_alone
    async def test_ping_answers_until_the_bus_is_closed(self) -> None:
        bus = self.bus()
        await bus.ping()
        await bus.close()
        await bus.close()
        for call in (bus.ping, partial(bus.publish, b"late")):
            try:
                await call()
            except OutsideError:
                continue
            raise AssertionError("a closed bus did as if it were open")

    @_alone
    async def test_closing_what_was_never_used(self) -> None:
        await self.bus().close()

    def test_one_event_loop_after_the_other(self) -> None:
        """As under Starlette's TestClient without its lifespan: a loop for each connection, none to close the bus."""
        bus = self.bus()

        async def once() -> None:
            async with hearing(bus) as ears:
                await bus.publish(b"here")
                assert await ears.next() == b"here"

        for _ in range(3):
            _run(once())
        _run(bus.close())

    def test_several_event_loops_at_a_time(self) -> None:
        bus = self.bus()
        both = threading.Barrier(2, timeout=PATIENCE_SECONDS)
        failures: list[BaseException] = []

        async def one(word: bytes) -> None:
            async with hearing(bus) as ears:
                await asyncio.to_thread(both.wait)
                await bus.publish(word)
                assert set(await ears.take(2)) == {b"one", b"two"}
                await asyncio.to_thread(both.wait)

        def run(word: bytes) -> None:
            try:
                _run(one(word))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(word,)) for word in (b"one", b"two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _run(bus.close())
        assert not failures, failures
