"""Pure: no I/O, no clock, no task. Which messages of other nodes came in, so that one that is repeated is known.

Whoever may publish in Redis and has no key can send a genuine message again. Each says which node it is of and its
number there, under the seal; the messages of one node come in the order of their numbers.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Final

NODES: Final = 1_000
"""Of which the numbers are remembered; each start of a process is one. The longest silent is forgotten first."""
NUMBERS: Final = 1_000
"""Of each node, with their places."""


class Verdict(Enum):
    NEW = "new"
    AGAIN = "it was here before, in this place"
    ELSEWHERE = "it was here before, in another place"
    LATE = "a later one of its node was here before"


_NEW: Final = Verdict.NEW


class _Of:
    __slots__ = ("newest", "places")

    def __init__(self) -> None:
        self.newest = -1
        self.places: dict[int, int] = {}


class Heard:
    """Bounded in nodes and numbers."""

    def __init__(self, nodes: int = NODES, numbers: int = NUMBERS) -> None:
        self._most_nodes = nodes
        self._most_numbers = numbers
        self._nodes: OrderedDict[str, _Of] = OrderedDict()

    def take(self, node: str, number: int, place: int = 0) -> Verdict:
        """It came in; only what is new is remembered. Nothing is known of a node whose first message this is."""
        of = self._nodes.get(node)
        if of is None:
            of = self._nodes[node] = _Of()
            if len(self._nodes) > self._most_nodes:
                self._nodes.popitem(last=False)
        if number > of.newest:
            of.newest = number
            of.places[number] = place
            if len(of.places) > self._most_numbers:
                del of.places[next(iter(of.places))]
            self._nodes.move_to_end(node)
            return _NEW
        known = of.places.get(number)
        if known is None:
            return Verdict.LATE
        return Verdict.AGAIN if known == place else Verdict.ELSEWHERE

    def clear(self) -> None:
        """Another log has begun: numbers and places begin anew with it."""
        self._nodes.clear()
