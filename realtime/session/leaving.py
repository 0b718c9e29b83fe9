"""Pure: no I/O, no clock, no task. What clients that poll have still to be told, when we ended them between two polls.

A WebSocket is told at once. Who polls can be told only in answer to its next poll, and its session is gone by then:
the words are kept here, for one poll, for a short time, and no more than so many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from realtime.encoding.codecs import NOOP_FRAME
from realtime.encoding.encoded import Encoded
from realtime.journal.recent import Recent

KEEP_SECONDS: Final = 45.0
"""Ping interval and timeout: who has not polled by then is gone."""
PACKETS: Final = 5_000
"""Last words of all clients together. The oldest give way."""
BYTES: Final = 1 << 23
"""The same in bytes: what still waited for a client is kept with its last words."""
CLIENT_BYTES: Final = 1 << 16
"""Of one client. What waited longest gives way."""
OVERTAKEN: Final = 5_000
"""Clients that said good-bye while none of their polls was here; the oldest are forgotten."""
OVERTAKEN_SECONDS: Final = 5.0
"""What a poll may take that left a client before its good-bye did, on another connection."""


class Leaving:
    """By session id; times are those of one clock."""

    def __init__(self, packets: int = PACKETS, size_bytes: int = BYTES) -> None:
        self._limit = packets
        self._limit_bytes = size_bytes
        self._packets = 0
        self._bytes = 0
        self._kept: dict[str, tuple[float, Sequence[Encoded]]] = {}
        self._ended: Recent[bool] = Recent(packets, KEEP_SECONDS)
        self._overtaken: Recent[bool] = Recent(OVERTAKEN, OVERTAKEN_SECONDS)

    def __len__(self) -> int:
        return len(self._kept)

    def end(self, id: str, now: float) -> None:
        """This client polls and was ended by us. That it says good-bye, too, is no error."""
        self._ended.put(id, True, now)

    def has_ended(self, id: str, now: float) -> bool:
        """Was it ended by us a short time ago?"""
        return self._ended.get(id, now) is not None

    def overtake(self, id: str, now: float) -> None:
        """This client says good-bye, and its poll may still be on its way: that one is answered, once."""
        self._overtaken.put(id, True, now)

    def keep(self, id: str, words: Sequence[Encoded], now: float) -> int:
        """Until the client polls, or its time is over. Answers how many others had to give way."""
        self._forget_old(now)
        words = _newest(words)
        self._kept[id] = (now + KEEP_SECONDS, words)
        self._packets += len(words)
        self._bytes += _size(words)
        dropped = 0
        while self._packets > self._limit or self._bytes > self._limit_bytes:
            self._pop(next(iter(self._kept)))
            dropped += 1
        return dropped

    def claim(self, id: str, now: float) -> Sequence[Encoded] | None:
        """The last words of this session, once; None where there are none, or no longer."""
        if id not in self._kept:
            overtaken = self._overtaken.get(id, now)
            self._overtaken.forget(id)
            return None if overtaken is None else (NOOP_FRAME,)
        until, words = self._pop(id)
        return words if now < until else None

    def waits_for(self, id: str, now: float) -> bool:
        """Is there something to be claimed, or was there a short time ago?"""
        return id in self._kept or self._overtaken.get(id, now) is not None

    def _forget_old(self, now: float) -> None:
        while self._kept:
            id, (until, _) = next(iter(self._kept.items()))
            if now < until:
                return
            self._pop(id)

    def _pop(self, id: str) -> tuple[float, Sequence[Encoded]]:
        until, words = self._kept.pop(id)
        self._packets -= len(words)
        self._bytes -= _size(words)
        return until, words


def _size(words: Sequence[Encoded]) -> int:
    return sum(each.size for each in words)


def _newest(words: Sequence[Encoded]) -> Sequence[Encoded]:
    """Those at the end that are within the bound of one client; at least the last."""
    room = CLIENT_BYTES
    for count, each in enumerate(reversed(words)):
        room -= each.size
        if room < 0:
            return words[-max(1, count) :]
    return words
