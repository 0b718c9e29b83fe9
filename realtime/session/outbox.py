"""What waits to be sent to one client, and the rule for when that is too much.

While the wire is free a frame is handed over at once and the outbox is two empty fields. A lone
message always fits an empty backlog. Volatile frames (typing, cursors) are the first to go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from realtime.encoding.codecs import Encoded
from realtime.eventloop.pacing import Pacer
from realtime.ports import Wire
from realtime.settings import Policy, Settings


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait for one client, and what happens over it."""

    messages: int = 1_000
    size_bytes: int = 1 << 20
    policy: Policy = "disconnect"


def bounds_of(settings: Settings) -> Bounds:
    """As the operator wants them."""
    return Bounds(settings.backlog_limit_messages, settings.backlog_limit_bytes, settings.backlog_policy)


@dataclass(frozen=True, slots=True)
class _Waiting:
    encoded: Encoded | None
    volatile: bool = False
    key: str | None = None
    frames: Iterator[Encoded] | None = None
    """Where ``encoded`` is None: a replay, made frame by frame when its turn comes."""


class Outbox:
    """One client's way out. Belongs to the event loop of its session."""

    __slots__ = ("_backlog", "_bounds", "_on_drop", "_pacer", "_room", "_size", "_wire", "replays", "way")

    def __init__(self, bounds: Bounds, on_drop: Callable[[str], None]) -> None:
        self._bounds = bounds
        self._on_drop = on_drop
        self._wire: Wire | None = None
        self.way: Callable[[Encoded], bool] | None = None
        """The wire's ``send`` while a frame would leave at once, else None. Who calls it and hears False sets it to
        None; the fan-out does so without the call of ``offer``."""
        self._backlog: deque[_Waiting] | None = None
        self._size = 0
        self.replays = 0
        """How many are not through yet. They lie in the backlog, and are not counted there."""
        self._pacer: Pacer | None = None
        """Says when the next of a replay, and what waits behind it, may leave; None when nobody has to."""
        self._room = False
        """Would the wire take it?"""

    def __len__(self) -> int:
        return len(self._backlog) - self.replays if self._backlog else 0

    @property
    def free(self) -> bool:
        """Would a frame leave at once?"""
        return self.way is not None

    @property
    def waiting_bytes(self) -> int:
        return self._size

    def attach(self, wire: Wire, *, free: bool) -> None:
        """Frames leave through this wire from now on; what waited leaves first."""
        self._wire = wire
        if self._pacer is not None:
            self.way = None
            self._go_on(free)
            return
        self.way = wire.send if free else None
        while self.way is not None and (encoded := self._first()) is not None:
            if not self.way(encoded):
                self.way = None

    def hold(self) -> None:
        """The wire has no room until it takes again (polling, between two requests): frames wait."""
        self.way = None
        self._room = False

    def detach(self) -> None:
        """No wire, or none any more: frames wait."""
        self._wire = None
        self.way = None
        self._room = False

    def offer(self, encoded: Encoded, volatile: bool = False, key: str | None = None) -> bool:
        """Send it or keep it. False: the client is too slow and its session is to be closed (4430)."""
        way = self.way
        if way is not None:
            if not way(encoded):
                self.way = None
            return True
        backlog = self._backlog
        if backlog is None:
            backlog = self._backlog = deque()
        if key is not None and self._bounds.policy == "latest_per_key":
            self._forget(lambda waiting: waiting.key == key, "superseded")
        if backlog and self._over(encoded):
            self._forget(lambda waiting: waiting.volatile, "volatile")
        if self._backlog and self._over(encoded):
            return self._too_much(encoded, volatile, key)
        self._keep(encoded, volatile, key)
        return True

    def replay(self, frames: Iterator[Encoded], pacer: Pacer | None = None) -> None:
        """These leave after what waits and before what is offered from now on, each when the wire has room for it: made
        one by one, and not counted. ``pacer``: some in each turn of the loop; else (who polls takes what one answer
        holds) as many as the wire takes."""
        if pacer is not None and (self._wire is None or self._wire.name != "polling"):
            free, self.way = self.way is not None, None
            self._keep_replay(frames)
            if self._pacer is None:
                self._pacer = pacer
                self._go_on(free)
            return
        if self.way is not None:
            for encoded in frames:
                if not self.way(encoded):
                    self.way = None
                if self.way is None:
                    break
            else:
                return
        self._keep_replay(frames)

    def _keep_replay(self, frames: Iterator[Encoded]) -> None:
        if self._backlog is None:
            self._backlog = deque()
        self._backlog.append(_Waiting(None, frames=frames))
        self.replays += 1

    def _go_on(self, free: bool) -> None:
        had, self._room = self._room, free
        if free and not had and self._pacer is not None:
            self._pacer.add(self)

    def let_out(self, frames: int) -> tuple[int, int, bool]:
        """The pacer's turn for this one: send so many at most. Answers how many there were, their bytes, and whether
        it could go on."""
        sent = size = 0
        while self._room and (wire := self._wire) is not None and sent < frames:
            encoded = self._first()
            if encoded is None:
                self._pacer = None
                self.way = wire.send if self._wire is wire else None
                self._room = False
                break
            sent, size = sent + 1, size + encoded.size
            if not wire.send(encoded):
                self._room = False
        return sent, size, self._room

    def end_replays(self) -> None:
        """Nothing more of the first replay, nor of what was to follow it: else who comes back would show an offset
        beyond what it missed."""
        while self.replays and self._backlog:
            if self._backlog.pop().encoded is None:
                self.replays -= 1
            else:
                self._on_drop("replay")
        self._size = sum(each.encoded.size for each in self._backlog or () if each.encoded is not None)

    def take(self) -> Encoded | None:
        """The wire has room: the next frame; None leaves the wire marked as free."""
        if self._pacer is not None and not self._pacer.grant():
            self._go_on(True)
            return None
        encoded = self._first()
        if encoded is None:
            self._pacer = None
            self.way = self._wire.send if self._wire is not None else None
        return encoded

    def _first(self) -> Encoded | None:
        while self._backlog:
            first = self._backlog[0]
            if first.encoded is not None:
                return self._next()
            encoded = next(first.frames, None) if first.frames is not None else None
            if encoded is not None:
                return encoded
            if self._backlog and self._backlog[0] is first:  # to make a frame may end the session
                self._backlog.popleft()
                self.replays -= 1
        return None

    def put_back(self, encoded: Encoded) -> None:
        """What was taken did not fit after all: it is the first of what waits."""
        if self._backlog is None:
            self._backlog = deque()
        self._backlog.appendleft(_Waiting(encoded))
        self._size += encoded.size

    def retire(self) -> None:
        """Nothing is sent to it any more, and nothing of it holds on to the session."""
        self.detach()
        self.clear()
        self._on_drop = _to_nobody

    def clear(self) -> None:
        self._backlog = self._pacer = None
        self._size = self.replays = 0

    def _over(self, encoded: Encoded) -> bool:
        waiting = len(self)
        full = waiting >= self._bounds.messages or self._size + encoded.size > self._bounds.size_bytes
        return waiting > 0 and full

    def _too_much(self, encoded: Encoded, volatile: bool, key: str | None) -> bool:
        if volatile:
            self._on_drop("volatile")
            return True
        if self._bounds.policy == "drop_oldest":
            while self._over(encoded):
                self._forget_oldest()
                self._on_drop("drop_oldest")
            self._keep(encoded, volatile, key)
            return True
        self._on_drop("slow" if self._bounds.policy == "disconnect" else "drop_newest")
        return self._bounds.policy != "disconnect"

    def _keep(self, encoded: Encoded, volatile: bool, key: str | None) -> None:
        assert self._backlog is not None
        self._backlog.append(_Waiting(encoded, volatile, key))
        self._size += encoded.size

    def _next(self) -> Encoded:
        assert self._backlog
        encoded = self._backlog.popleft().encoded
        assert encoded is not None
        self._size -= encoded.size
        return encoded

    def _forget_oldest(self) -> None:
        assert self._backlog is not None
        for place, waiting in enumerate(self._backlog):
            if waiting.encoded is not None:
                del self._backlog[place]
                self._size -= waiting.encoded.size
                return

    def _forget(self, which: Callable[[_Waiting], bool], reason: str) -> None:
        assert self._backlog is not None
        if not any(which(waiting) for waiting in self._backlog):
            return
        kept: deque[_Waiting] = deque()
        for waiting in self._backlog:
            if waiting.encoded is not None and which(waiting):
                self._size -= waiting.encoded.size
                self._on_drop(reason)
            else:
                kept.append(waiting)
        self._backlog = kept


def _to_nobody(reason: str) -> None:
    """Who is gone has been told of."""


class Held:
    """What is for a client that is not let in yet: kept within the bounds of a backlog, the newest dropped."""

    __slots__ = ("_bounds", "_on_drop", "_size", "frames")

    def __init__(self, bounds: Bounds, on_drop: Callable[[str], None]) -> None:
        self._bounds = bounds
        self._on_drop = on_drop
        self._size = 0
        self.frames: list[Encoded] = []

    def keep(self, encoded: Encoded) -> None:
        # One less than a backlog takes: the CONNECT packet goes in front.
        full = len(self.frames) >= self._bounds.messages - 1 or self._size + encoded.size > self._bounds.size_bytes
        if self.frames and full:
            self._on_drop("held")
        else:
            self.frames.append(encoded)
            self._size += encoded.size
