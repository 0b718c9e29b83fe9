"""A network driven by hand, from a seed: it loses, repeats, delays and overtakes; and nodes as plain objects on it."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any

from realtime.journal.log import Log
from realtime.journal.merge import Merge, Progress
from realtime.journal.positions import Channel, Draft, Entry, Position

CHANNELS: tuple[Channel, ...] = (None, "a", "b", "c")


@dataclass
class Weather:
    """How bad it is: chances, and seconds at the most."""

    loss: float = 0.0
    repeats: float = 0.0
    delay: float = 0.0
    in_order: bool = False


@dataclass
class Shore:
    """One node: its merge, and what came out of it for each channel since it watches that."""

    name: str
    merge: Merge
    since: dict[Channel, int] = field(default_factory=dict)
    heard: dict[Channel, list[int]] = field(default_factory=lambda: defaultdict(list))
    order: list[int] = field(default_factory=list)
    lost: set[Channel] = field(default_factory=set)
    reading: bool = False
    broken: bool = False

    def take(self, progress: Progress) -> None:
        for delivery in progress.deliver:
            for channel in delivery.channels:
                self.heard[channel].append(delivery.entry.offset)
            self.order.append(delivery.entry.offset)
        self.lost |= progress.lost


class Sea:
    """The log in the middle, the nodes around it, and a clock that goes from event to event."""

    def __init__(self, seed: int, weather: Weather, nodes: int = 3, **bounds: Any) -> None:
        self.random = random.Random(seed)
        self.weather = weather
        self.now = 0.0
        self.log = Log("epoch0", **bounds)
        self.all: list[Entry] = []
        self.shores = [Shore(f"n{number}", Merge(Position("epoch0", 0), limit=20)) for number in range(nodes)]
        self._events: list[tuple[float, int, Any]] = []
        self._numbers = count()
        self._last: dict[str, float] = {}

    def at(self, when: float, what: Any) -> None:
        heappush(self._events, (when, next(self._numbers), what))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, what = heappop(self._events)
            what()
        self.now = until

    def watch(self, shore: Shore, channel: Channel) -> None:
        if channel not in shore.since:
            shore.since[channel] = self.log.last
            shore.merge.watch(channel, self.log.newest)

    def emit(self, node: str, number: int, rooms: tuple[str, ...] | None) -> Entry:
        entry = self.log.append(Draft((node, number), "/", rooms, (), "e", b"[]", 0), self.now)
        if not self.all or entry.offset > self.all[-1].offset:
            self.all.append(entry)
        for shore in self.shores:
            if any(channel in shore.since for channel in entry.draft.channels):
                self.carry(shore, entry)
        return entry

    def carry(self, shore: Shore, entry: Entry) -> None:
        weather, chance = self.weather, self.random.random
        if shore.broken or chance() < weather.loss:
            return
        for _ in range(2 if chance() < weather.repeats else 1):
            when = self.now + chance() * weather.delay
            if weather.in_order:
                when = self._last[shore.name] = max(when, self._last.get(shore.name, 0.0))
            self.at(when, lambda: self.arrive(shore, entry))

    def arrive(self, shore: Shore, entry: Entry) -> None:
        shore.take(shore.merge.live(entry, self.now))
        self.look(shore)

    def look(self, shore: Shore) -> None:
        """As a node does: read what is needed, and look again when patience may have ended."""
        if shore.reading or shore.broken:
            return
        position = shore.merge.need(self.now)
        if position is not None:
            shore.reading = True
            self.at(self.now + self.random.random() * self.weather.delay, lambda: self.read(shore, position))
        elif (wake := shore.merge.wake_at()) is not None:
            self.at(max(wake, self.now + 0.001), lambda: self.look(shore))

    def read(self, shore: Shore, position: Position, limit: int = 7) -> None:
        shore.reading = False
        found = self.log.since(position)
        if found is None:
            shore.take(shore.merge.gone(self.now))
        else:
            page = found[:limit]
            upto = page[-1].position if len(found) > limit else Position(position.epoch, self.log.last)
            shore.take(shore.merge.stored(page, upto, self.now, more=len(found) > limit))
        self.look(shore)

    def check(self) -> None:
        """The periodic look at the newest position of each channel."""
        for shore in self.shores:
            shore.merge.heads({channel: self.log.head(channel) for channel in shore.since}, self.now)
            self.look(shore)

    def settle(self) -> None:
        """The weather is fine again; everything that is still under way arrives, and the nodes look twice."""
        self.weather = Weather(delay=0.01)
        for _ in range(6):
            self.run(self.now + 5)
            self.check()
        self.run(self.now + 5)

    def expected(self, shore: Shore, channel: Channel) -> list[int]:
        after = shore.since[channel]
        return [e.offset for e in self.all if e.offset > after and channel in e.draft.channels]
