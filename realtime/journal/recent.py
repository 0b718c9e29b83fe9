"""Pure: no I/O, no clock, no task. Remembering recent answers, so that a repeated request gets the same one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Recent(Generic[Answer]):
    """The newest ``most`` answers of the last ``seconds``; the oldest is forgotten first."""

    def __init__(self, most: int = 10_000, seconds: float = 600) -> None:
        self._most = most
        self._seconds = seconds
        self._answers: OrderedDict[Hashable, tuple[float, Answer]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: Hashable, now: float) -> Answer | None:
        found = self._answers.get(key)
        if found is None or found[0] <= now - self._seconds:
            return None
        return found[1]

    def put(self, key: Hashable, answer: Answer, now: float) -> None:
        self._answers.pop(key, None)
        self._answers[key] = (now, answer)
        while len(self._answers) > self._most or self._oldest() <= now - self._seconds:
            self._answers.popitem(last=False)

    def forget(self, key: Hashable) -> None:
        """As if it had never been put. Repeats do nothing."""
        self._answers.pop(key, None)

    def _oldest(self) -> float:
        return next(iter(self._answers.values()))[0]
