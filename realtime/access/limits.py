"""Pure: no I/O, no clock, no task. How much is too much: per connection, per window, at once.

``now`` is a number of seconds from one steady clock (the event loop's); it need not start at zero.
A clock that steps back makes these limits stricter until it has caught up, never wider.
A Gcra belongs to one connection and so to one event loop. A SlidingWindow and a Quota are shared by all
connections, which may live on several loops and threads: each call on them is one step for the others.
"""

from __future__ import annotations

import math
import re
from array import array
from bisect import bisect_right
from collections import OrderedDict
from threading import Lock
from typing import Final

from realtime.errors import UsageError

ROUNDING: Final = 1e-9
"""Events. A full burst adds up fractions such as 0.1; this forgives what they lose on the way."""

MAX_KEYS: Final = 100_000
"""Keys in one window. Measured: 260 bytes each at 1 hit, 480 at 10, so a flood of names takes 48 MB at most."""

_RATE: Final = re.compile(r"([0-9]{1,9})/([0-9]{1,9}(?:\.[0-9]{1,9})?)?([smh])")
_UNIT_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_rate(text: str) -> tuple[int, float]:
    """Read ``"20/10s"`` as (count, seconds); the units are s, m and h, and ``"20/m"`` is ``"20/1m"``.

    Raises UsageError for anything else, and for a count or a time of zero.
    """
    found = _RATE.fullmatch(str(text))
    if found:
        count, seconds = int(found[1]), float(found[2] or 1) * _UNIT_SECONDS[found[3]]
        if count and seconds:
            return count, seconds
    raise UsageError(f'A rate is written like "20/10s", "100/s" or "5/1m", not {text!r}')


class Gcra:
    """A steady rate with a burst, for one connection: the generic cell rate algorithm, 3 numbers and a level.

    Any stretch of ``t`` seconds lets through at most ``burst + rate_per_second * t`` events.
    Kept as the level of a leaking bucket rather than as a theoretical arrival time (the two are
    equivalent): sums of small steps on top of a big clock reading lose digits, the level does not.
    """

    __slots__ = ("_burst", "_last", "_level", "_rate")

    def __init__(self, rate_per_second: float, burst: int) -> None:
        if not 0 < rate_per_second < math.inf or burst < 1:
            raise UsageError(f"A rate above 0 and a burst of at least 1, not {rate_per_second!r} and {burst!r}")
        self._rate = float(rate_per_second)
        self._burst = burst + ROUNDING
        self._level = 0.0
        self._last = -math.inf

    def hit(self, now: float, cost: int = 1) -> float | None:
        """None: allowed. Otherwise the seconds after which it would be, and nothing is consumed.

        ``inf`` for a cost above the burst: no waiting helps.
        """
        level = self._level - (now - self._last) * self._rate
        if level < 0.0:
            level = 0.0
        level += cost
        if level > self._burst:
            return (level - self._burst) / self._rate if cost <= self._burst else math.inf
        self._level = level
        self._last = now
        return None


class SlidingWindow:
    """At most ``limit`` hits of a key in any window of ``seconds``, exactly; refused hits are not counted.

    A hit leaves the window exactly ``seconds`` after it came. Keys without a hit in the window are
    forgotten as others come, two at a time, so there is never a long sweep.

    When ``max_keys`` are in use, a new key takes the place of the key that was silent longest among
    those *below* their limit (counted in ``forgotten``). A key at its limit is never given up, so a
    flood of new names frees nobody; where all keys are at their limit the new one is told to wait
    (counted in ``turned_away``). A flood thus costs a key at most its count so far, never its refusal,
    and newcomers are served all the while.
    """

    __slots__ = ("_below", "_full", "_limit", "_lock", "_max_keys", "_seconds", "forgotten", "turned_away")

    def __init__(self, limit: int, seconds: float, max_keys: int = MAX_KEYS) -> None:
        if limit < 1 or not 0 < seconds < math.inf or max_keys < 1:
            raise UsageError(f"A limit, a time and room for a key, all above 0, not {(limit, seconds, max_keys)!r}")
        self._limit = limit
        self._seconds = float(seconds)
        self._max_keys = max_keys
        # Both tables run from the key with the oldest newest hit to the one that was hit last;
        # ``_full`` holds those that were at their limit then. Hits are kept oldest first. A plain
        # dict would do, but finding its first key walks over every one deleted before it.
        self._below: OrderedDict[str, array[float]] = OrderedDict()
        self._full: OrderedDict[str, array[float]] = OrderedDict()
        self._lock = Lock()
        self.forgotten = 0
        self.turned_away = 0

    def __len__(self) -> int:
        """Keys remembered now."""
        return len(self._below) + len(self._full)

    def hit(self, key: str, now: float) -> float | None:
        """None: allowed and counted. Otherwise the seconds until the oldest hit leaves, and nothing is counted."""
        with self._lock:
            return self._hit(key, now)

    def _hit(self, key: str, now: float) -> float | None:
        gone = now - self._seconds
        self._forget_silent(self._below, gone)
        self._forget_silent(self._full, gone)
        hits = self._full.get(key) or self._below.get(key)
        if hits is None:
            wait = self._make_room(gone)
            if wait is not None:
                return wait
            hits = array("d")
        elif hits[0] <= gone:
            del hits[: bisect_right(hits, gone)]
        if len(hits) >= self._limit:
            return hits[0] - gone
        hits.append(now)
        self._file(key, hits)
        return None

    def _file(self, key: str, hits: array[float]) -> None:
        """Put the key last in the table where it belongs now."""
        self._below.pop(key, None)
        self._full.pop(key, None)
        (self._full if len(hits) >= self._limit else self._below)[key] = hits

    def _make_room(self, gone: float) -> float | None:
        """Seconds to wait when there is no room for one key more."""
        if len(self) < self._max_keys:
            return None
        if self._below:
            self._below.popitem(last=False)
            self.forgotten += 1
            return None
        self.turned_away += 1
        longest_silent = next(iter(self._full.values()))
        return longest_silent[-1] - gone

    @staticmethod
    def _forget_silent(table: OrderedDict[str, array[float]], gone: float) -> None:
        """Two for each hit: a table then shrinks faster than it can grow."""
        for _ in range(2):
            oldest = next(iter(table), None)
            if oldest is None or table[oldest][-1] > gone:
                return
            del table[oldest]


class Quota:
    """At most ``limit`` at once for each key, such as connections of one user; None counts without refusing.

    Holds an entry only for keys that have something out, so live connections bound its size.
    """

    __slots__ = ("_limit", "_lock", "_taken")

    def __init__(self, limit: int | None) -> None:
        if limit is not None and limit < 1:
            raise UsageError(f"A limit of at least 1, or None for no limit, not {limit!r}")
        self._limit = limit
        self._taken: dict[str, int] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        """Keys with something out."""
        return len(self._taken)

    def count(self, key: str) -> int:
        return self._taken.get(key, 0)

    def take(self, key: str) -> bool:
        """True: taken, to be given back once. False: the key has all it may have."""
        with self._lock:
            taken = self._taken.get(key, 0)
            if self._limit is not None and taken >= self._limit:
                return False
            self._taken[key] = taken + 1
            return True

    def give(self, key: str) -> bool:
        """Give one back. False when nothing was out: counts never go below zero."""
        with self._lock:
            taken = self._taken.get(key, 0)
            if taken > 1:
                self._taken[key] = taken - 1
            elif taken:
                del self._taken[key]
            return taken > 0
