"""The load tool's work: fan-out and echo. Each is bounded in time and counts every single message."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import Any, Final

from realtime.bench.client import Client
from realtime.bench.crowd import Progress, silent
from realtime.bench.speech import NUMBERS, Packet, error_code, stamp

GRACE_SECONDS: Final = 5.0
"""How long we wait for what is still on its way when the time is up."""
PROGRESS_SECONDS: Final = 0.5

Publish = Callable[[Sequence[int]], None]
"""Makes the server say the messages with these numbers to the whole audience, in this order."""


class FanOut:
    """Messages to an audience: each one has to reach everybody once, in order.

    At ``rate`` messages a second; or (0) each burst as soon as the last one has reached everybody. Keeps the port
    ``Listener`` for its audience, and for a publisher whose events are acknowledged. One run.
    """

    def __init__(self, audience: Sequence[Client], publish: Publish, *, burst: int = 1, first: int = 0) -> None:
        self.publish = publish
        self.burst = burst
        self.first = self.next = first
        self.delivered = self.repeated = 0
        self.refused: dict[str, int] = {}
        self.latencies = array("d")
        self.seconds = 0.0
        self._people = len(audience)
        self._sent_at = array("d")
        self._awaited = 0
        self._over = self._eager = False
        self._until = 0.0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for client in audience:
            client.listener = self
            client.expected = first

    async def run(self, seconds: float, rate: float = 0, progress: Progress = silent) -> None:
        """Returns when the time is up and everything has come, or at most ``GRACE_SECONDS`` later."""
        started = perf_counter()
        self._until = started + seconds
        self._eager = rate <= 0
        pacing = _run_beside(self._keep_pace(self.burst / rate) if rate > 0 else _tell(progress, seconds))
        if self._eager:
            self._say()
        try:
            await asyncio.wait_for(self._done, seconds + GRACE_SECONDS)
        except TimeoutError:
            pass
        finally:
            pacing.cancel()
            self.seconds = perf_counter() - started

    @property
    def sent(self) -> int:
        return self.next - self.first

    @property
    def expected(self) -> int:
        return (self.sent - sum(self.refused.values())) * self._people

    @property
    def missing(self) -> int:
        return max(0, self.expected - self.delivered)

    # --- the port Listener

    def event(self, client: Client, number: int) -> None:
        if number != client.expected and not self._is_news(client, number):
            return
        client.expected = number + 1
        self.delivered += 1
        self.latencies.append(perf_counter() - self._sent_at[number - self.first])
        if self.delivered == self._awaited:
            self._all_here()

    def ack(self, client: Client, packet: Packet) -> None:
        """The publisher's. What was refused reaches nobody."""
        code = error_code(packet.body)
        if code is not None:
            self.refused[code] = self.refused.get(code, 0) + 1
            self._awaited -= self._people
            if self.delivered == self._awaited:
                self._all_here()

    def lost(self, client: Client) -> None:
        """What it was to hear will never come, so that nobody would say the next thing."""
        if self._eager:
            self._finish()

    # --- inside

    def _say(self) -> None:
        numbers = range(self.next, min(self.next + self.burst, NUMBERS))
        self._awaited += len(numbers) * self._people
        self._sent_at.extend([perf_counter()] * len(numbers))
        self.next = numbers.stop
        self.publish(numbers)

    def _is_news(self, client: Client, number: int) -> bool:
        """Those that were passed over are missing in the end; what comes late or twice is ``repeated``.

        A number that we did not say is somebody else's.
        """
        if self.first <= number < client.expected:
            self.repeated += 1
        return client.expected < number < self.next

    def _all_here(self) -> None:
        if self._over or (self._eager and (perf_counter() >= self._until or self.next >= NUMBERS)):
            self._finish()
        elif self._eager:
            self._say()

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    async def _keep_pace(self, pause: float) -> None:
        """One burst at each of its times, whether the last one has arrived or not."""
        due = perf_counter()
        while due < self._until:
            await asyncio.sleep(max(0.0, due - perf_counter()))
            self._say()
            due += pause
        self._over = True
        if self.delivered == self._awaited:
            self._all_here()


class Echo:
    """Every client says something, waits for the answer and says the next thing.

    At most ``rate`` times a second each, or (0) at once. ``say`` sends the text with this number for a client.
    Keeps the port ``Listener``. One run.
    """

    def __init__(self, clients: Sequence[Client], event: list[Any] | None, size: int) -> None:
        self.clients = clients
        self.sent = self.answered = self.repeated = 0
        self.refused: dict[str, int] = {}
        self.latencies = array("d")
        self.seconds = 0.0
        self._event = event
        self._size = size
        self._pause = 0.0
        self._until = 0.0
        self._talking = set(clients)
        self._said_at: dict[Client, float] = {}
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        for client in clients:
            client.listener = self
            client.expected = 0

    async def run(self, seconds: float, rate: float = 0, progress: Progress = silent) -> None:
        """Returns when the time is up and everything was answered, or at most ``GRACE_SECONDS`` later."""
        started = perf_counter()
        self._until = started + seconds
        self._pause = 1 / rate if rate > 0 else 0.0
        self._talking.difference_update([client for client in self.clients if client.gone])
        telling = _run_beside(_tell(progress, seconds))
        for place, client in enumerate(self.clients):
            # Spread over the pause: they did not all come in the same moment.
            self._loop.call_later(self._pause * place / len(self.clients), self._say, client)
        try:
            await asyncio.wait_for(self._done, seconds + GRACE_SECONDS)
        except TimeoutError:
            pass
        finally:
            telling.cancel()
            self.seconds = perf_counter() - started

    # --- the port Listener

    def ack(self, client: Client, packet: Packet) -> None:
        code = error_code(packet.body)
        if code is not None:
            self.refused[code] = self.refused.get(code, 0) + 1
            self._go_on(client)
        elif packet.number == client.expected and b"#%07d" % packet.number in packet.body:
            self._count(client)
        else:
            self.repeated += 1

    def event(self, client: Client, number: int) -> None:
        """The answer of a server without acknowledgements: the text comes back."""
        if number == client.expected:
            self._count(client)
        else:
            self.repeated += 1

    def lost(self, client: Client) -> None:
        self._fall_silent(client)

    # --- inside

    def _say(self, client: Client) -> None:
        if client not in self._talking:
            return
        if perf_counter() >= self._until or client.expected >= NUMBERS:
            self._fall_silent(client)
            return
        self.sent += 1
        self._said_at[client] = perf_counter()
        number = client.expected
        text = stamp(number, self._size)
        event = [text] if self._event is None else [*self._event, text]
        client.say(event, number if client.speech.engine else None)

    def _fall_silent(self, client: Client) -> None:
        self._talking.discard(client)
        if not self._talking and not self._done.done():
            self._done.set_result(None)

    def _count(self, client: Client) -> None:
        self.latencies.append(perf_counter() - self._said_at[client])
        self.answered += 1
        self._go_on(client)

    def _go_on(self, client: Client) -> None:
        client.expected += 1
        if self._pause:
            wait = self._said_at[client] + self._pause - perf_counter()
            self._loop.call_later(max(0.0, wait), self._say, client)
        else:
            self._say(client)


def _run_beside(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.create_task(work)


async def _tell(progress: Progress, seconds: float) -> None:
    """Say how far we are, until cancelled."""
    for done in range(int(seconds / PROGRESS_SECONDS) + 1):
        progress("seconds", int(done * PROGRESS_SECONDS), int(seconds))
        await asyncio.sleep(PROGRESS_SECONDS)
