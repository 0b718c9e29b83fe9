"""Messages of many publishers at a pace, or as many as go through: each one has to arrive once, in any order."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Final

from realtime.bench.client import Client
from realtime.bench.speech import Packet

TICK_SECONDS: Final = 0.002
GRACE_SECONDS: Final = 15.0
"""For what is still on its way: a server that cannot keep the pace is slow, and has lost nothing."""
PROBE_SECONDS: Final = 0.1
PROBES: Final = 100
QUIET_SECONDS: Final = 0.3

Say = Callable[[Client, int], None]
"""Makes this publisher's server say the message of this number to the whole audience."""


class Torrent:
    """Keeps the port ``Listener`` for the audience. One run, at a ``pace`` or ``full``."""

    def __init__(self, publishers: Sequence[Client], say: Say, audience: Sequence[Client], first: int = 0) -> None:
        self.sent = self.delivered = self.repeated = 0
        self.seconds = 0.0
        self.latencies = array("d")
        self._publishers = publishers
        self._say_it = say
        self._people = len(audience)
        self._first = first
        self._sent_at = array("d")
        self._heard = array("H")
        self._until = 0.0
        self._full = self._over = False
        self._done = asyncio.get_running_loop().create_future()
        for client in audience:
            client.listener = self

    @property
    def missing(self) -> int:
        return self.sent * self._people - self.delivered

    async def pace(self, seconds: float, rate: float) -> None:
        """``rate`` messages a second, by the publishers in turn, whether the ones before have arrived or not."""
        started = perf_counter()
        while (now := perf_counter() - started) < seconds:
            for _ in range(self.sent, int(now * rate)):
                self._say()
            await asyncio.sleep(TICK_SECONDS)
        self.seconds = perf_counter() - started
        await self._rest()

    async def full(self, seconds: float, window: int) -> None:
        """So many are on their way at any time: one that has arrived makes room for another."""
        started = perf_counter()
        self._until, self._full = started + seconds, True
        for _ in range(window):
            self._say()
        await asyncio.sleep(seconds)
        self.seconds = perf_counter() - started
        await self._rest()

    async def _rest(self) -> None:
        """What is still on its way."""
        self._full = False
        if self.missing:
            self._over = True
            with suppress(TimeoutError):
                await asyncio.wait_for(self._done, GRACE_SECONDS)

    def _say(self) -> None:
        number = self.sent
        self.sent += 1
        self._sent_at.append(perf_counter())
        self._heard.append(0)
        self._say_it(self._publishers[number % len(self._publishers)], self._first + number)

    # --- the port Listener

    def event(self, client: Client, number: int) -> None:
        place = number - self._first
        if not 0 <= place < self.sent:
            return  # of something before
        if self._heard[place] >= self._people:
            self.repeated += 1
            return
        self._heard[place] += 1
        self.delivered += 1
        self.latencies.append(perf_counter() - self._sent_at[place])
        if self._full and self._heard[place] == self._people and perf_counter() < self._until:
            self._say()
        elif self._over and not self.missing and not self._done.done():
            self._done.set_result(None)

    def ack(self, client: Client, packet: Packet) -> None:
        """They ask for nothing."""

    def lost(self, client: Client) -> None:
        """Its messages are missing in the end."""


class Probe:
    """Keeps the port ``Listener``: says something until everybody has heard something, for a node may have to
    subscribe first."""

    def __init__(self, audience: Sequence[Client]) -> None:
        self._deaf = set(audience)
        self._all = asyncio.Event()
        self._last = 0.0
        for client in audience:
            client.listener = self

    async def run(self, publish: Callable[[int], None]) -> int:
        """The first number that was not used. Raises TimeoutError."""
        for number in range(PROBES):
            publish(number)
            try:
                await asyncio.wait_for(self._all.wait(), PROBE_SECONDS)
            except TimeoutError:
                continue
            await self._quiet()
            return number + 1
        raise TimeoutError(f"{len(self._deaf)} clients heard nothing of {PROBES} messages")

    async def _quiet(self) -> None:
        """Nothing that was said before is still on its way."""
        for _ in range(PROBES):
            await asyncio.sleep(QUIET_SECONDS)
            if perf_counter() - self._last > QUIET_SECONDS:
                return

    def event(self, client: Client, number: int) -> None:
        self._last = perf_counter()
        self._deaf.discard(client)
        if not self._deaf:
            self._all.set()

    def ack(self, client: Client, packet: Packet) -> None:
        """They ask for nothing."""

    def lost(self, client: Client) -> None:
        """It will hear nothing."""
