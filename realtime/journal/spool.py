"""Pure: no I/O, no clock, no task. What one namespace has to say and the journal has not confirmed yet, in order.

An item waits, is in flight, or is kept (it has its place, and has not come out here yet). Rules: what goes out goes in
the order of numbers; what was in flight when the way broke goes out again, before everything that waits; nothing is
dropped but what was delivered here already, and that is counted by whoever is told of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal

from realtime.journal.positions import Draft, Entry

SpoolPolicy = Literal["drop_oldest", "drop_newest"]
"""What is not handed over, where the bus is away for so long that it is too much."""

RECENT_SECONDS: Final = 10.0
"""What was kept is offered once more when a log turns out to be lost: a replica lags by less, an fsync is a second."""
RECENT_LIMIT: Final = 1_000
"""Such items; every node remembers twice as many of each node, and so tells none of them twice."""
RECENT_BYTES: Final = 1 << 22


@dataclass(slots=True, eq=False)
class Item:
    """One emission on its way. ``said`` and ``ticket`` are its keeper's."""

    draft: Draft
    since: float
    """When it was handed in."""
    said: Any = None
    ticket: Any = None
    delivered: bool = False
    """It was delivered here without waiting for its place; not a second time."""
    owed: bool = False
    """It is still to be handed over."""
    entry: Entry | None = None
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = self.draft.size + 500

    @property
    def number(self) -> int:
        return self.draft.id[1]


class Spool:
    """Bounded in number and bytes; one item always fits. Numbers grow from item to item."""

    def __init__(self, messages: int, size_bytes: int, policy: SpoolPolicy = "drop_oldest") -> None:
        self._most = messages
        self._most_bytes = size_bytes
        self._policy = policy
        self._waiting: deque[Item] = deque()
        self._flying: dict[int, Item] = {}
        self._kept: dict[int, Item] = {}
        self._recent: deque[tuple[float, Item]] = deque()
        self._recent_bytes = 0
        self.size = 0
        """Bytes, roughly, of what is not confirmed."""

    def __len__(self) -> int:
        """How many are not confirmed."""
        return len(self._waiting) + len(self._flying)

    @property
    def idle(self) -> bool:
        """Nothing waits to be taken."""
        return not self._waiting

    def waiting(self, most: int) -> Iterator[Item]:
        """The next so many to go out."""
        return islice(self._waiting, most)

    def has_room(self, item: Item) -> bool:
        here = len(self._waiting) + len(self._flying)
        return here == 0 or (here < self._most and self.size + item.size <= self._most_bytes)

    def put(self, item: Item) -> list[Item]:
        """Behind everything else. Answers what had to be given up for it, or it itself: only what was delivered."""
        given_up: list[Item] = []
        if not self.has_room(item):
            if self._policy == "drop_newest" and item.delivered:
                return [item]
            given_up = list(self._make_room(item))
        self._waiting.append(item)
        self.size += item.size
        return given_up

    def _make_room(self, item: Item) -> Iterator[Item]:
        while self._waiting and self._waiting[0].delivered and not self.has_room(item):
            oldest = self._waiting.popleft()
            self.size -= oldest.size
            yield oldest

    def take(self, messages: int, size_bytes: int) -> list[Item]:
        """The next to go out, one at least where one waits; in flight from now on."""
        batch: list[Item] = []
        size = 0
        while self._waiting and len(batch) < messages and (not batch or size + self._waiting[0].size <= size_bytes):
            item = self._waiting.popleft()
            self._flying[item.number] = item
            batch.append(item)
            size += item.size
        return batch

    def find(self, number: int) -> Item | None:
        """It waits, is in flight, or is kept; None for one that is not known any more."""
        found = self._kept.get(number) or self._flying.get(number)
        if found is None and self._waiting and self._waiting[0].number <= number:
            found = next((item for item in self._waiting if item.number == number), None)
        return found

    def confirm(self, item: Item, entry: Entry, now: float) -> None:
        """It has its place. It is kept in mind until it comes out here (``come_out``)."""
        self.refuse(item)
        item.entry = entry
        self._kept[item.number] = item
        self._recent.append((now, item))
        self._recent_bytes += item.size
        self._forget_recent(now)

    def refuse(self, item: Item) -> None:
        """It is not to be offered again."""
        if self._flying.pop(item.number, None) is not None:
            self.size -= item.size
        elif item.entry is None and item in self._waiting:
            self._waiting.remove(item)
            self.size -= item.size

    def come_out(self, item: Item) -> None:
        """It was merged with what others say."""
        self._kept.pop(item.number, None)

    def put_back(self) -> None:
        """The way broke: what was in flight goes out again first."""
        if self._flying:
            self._waiting.extendleft(sorted(self._flying.values(), key=_by_number, reverse=True))
            self._flying.clear()

    def again(self, epoch: str, now: float) -> list[Item]:
        """The log is another now: what was kept in one before goes out once more. Answers what that is."""
        self._forget_recent(now)
        old = [item for _, item in self._recent] + list(self._kept.values())
        lost = {item.number: item for item in old if item.entry is not None and item.entry.position.epoch != epoch}
        for item in lost.values():
            self._kept.pop(item.number, None)
            item.entry = None
            self.size += item.size
        self._recent = deque([(at, item) for at, item in self._recent if item.entry is not None])
        self._recent_bytes = sum([item.size for _, item in self._recent])
        self._waiting = deque(sorted([*lost.values(), *self._waiting], key=_by_number))
        return list(lost.values())

    def undelivered(self) -> list[Item]:
        """What nobody here has heard yet, in order."""
        found = [item for item in self._all() if not item.delivered]
        return sorted(found, key=_by_number)

    def oldest(self) -> float | None:
        """Since when the first of those that nobody here has heard is waiting."""
        return min([item.since for item in self._all() if not item.delivered], default=None)

    @property
    def kept(self) -> Iterable[Item]:
        """What has its place and has not come out here."""
        return self._kept.values()

    def _all(self) -> Iterator[Item]:
        yield from self._kept.values()
        yield from self._flying.values()
        yield from self._waiting

    def _forget_recent(self, now: float) -> None:
        recent = self._recent
        while recent and (
            len(recent) > RECENT_LIMIT or self._recent_bytes > RECENT_BYTES or recent[0][0] < now - RECENT_SECONDS
        ):
            self._recent_bytes -= recent.popleft()[1].size


def _by_number(item: Item) -> int:
    return item.number
