"""Pure: no I/O, no clock, no task. What happened in one run: what was emitted, by whom, and what every client was told.

Times are seconds of one clock that all processes of the machine share. A room is written with its namespace.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Fate(StrEnum):
    """What ``emit`` answered."""

    KEPT = "kept"
    """It has a position."""
    ALONE = "alone"
    """It was meant to be kept and has none: the node had to go on without its bus."""
    VOLATILE = "volatile"
    RAISED = "raised"
    UNKNOWN = "unknown"
    """It never answered: its node was killed before."""


@dataclass
class Emission:
    id: str
    publisher: str
    room: str
    life: str
    """One start of a node's process."""
    number: int
    """Its place among the emissions of that life."""
    began: float
    ended: float | None = None
    fate: Fate = Fate.UNKNOWN
    place: str | None = None
    """The position that ``emit`` answered, as clients are shown it."""
    early: bool = False
    """Its node delivered it without waiting for the bus; it may have its place all the same."""
    words: str = ""
    """What it raised."""


@dataclass
class Life:
    """A node from its start to its end."""

    name: str
    killed: float | None = None
    """When it was ended without a word."""
    regained: list[float] = field(default_factory=list)
    """When it said that it had its bus again."""


@dataclass
class Heard:
    id: str
    place: str | None
    at: float
    early: bool = False
    """Before it was told whether it had recovered."""


@dataclass
class Leg:
    """One connection of a client."""

    life: str
    """Of the node that it was connected to."""
    asked: bool
    """It had shown who it was and what it had heard last."""
    since: float
    opened: bool = False
    """It was let in."""
    verdict: bool | None = None
    """What it was told: it has recovered, or it has not."""
    reason: str | None = None
    joined: dict[str, float] = field(default_factory=dict)
    """Rooms, and when it knew that it was in them."""
    heard: list[Heard] = field(default_factory=list)
    ended: str | None = None
    """How it ended; None: it was there to the end of the run."""


@dataclass
class Client:
    name: str
    wire: str
    promised: bool
    """It asks to recover; without that each connection stands for itself."""
    rooms: tuple[str, ...] = ()
    legs: list[Leg] = field(default_factory=list)


@dataclass
class History:
    emissions: dict[str, Emission]
    lives: dict[str, Life]
    clients: list[Client]
    answers: dict[str, tuple[str | None, bool]] = field(default_factory=dict)
    """What publishers were told: the position, and whether it was kept."""
    losses: list[float] = field(default_factory=list)
    """When the log was lost, or might be in part."""


def read_ledger(life: str, lines: Iterable[str]) -> tuple[list[Emission], list[float]]:
    """What a node wrote down: its emissions, and when it had its bus again. A last line may be torn."""
    found: dict[str, Emission] = {}
    regained = []
    for line in lines:
        try:
            what, *rest = json.loads(line)
        except ValueError:
            continue
        if what == "begin":
            id, publisher, room, volatile, at = rest
            fate = Fate.VOLATILE if volatile else Fate.UNKNOWN
            found[id] = Emission(id, publisher, room, life, len(found), at, fate=fate)
        elif what == "regained":
            regained.append(rest[0])
        elif what in ("done", "raised") and rest[0] in found:
            _ended(found[rest[0]], what, rest[1:])
    return list(found.values()), regained


def _ended(emission: Emission, what: str, rest: list[Any]) -> None:
    emission.ended = rest[0]
    if what == "raised":
        emission.fate, emission.words = Fate.RAISED, rest[1]
        return
    emission.place, emission.early = rest[1], rest[3] == "away"
    if emission.fate is not Fate.VOLATILE:
        emission.fate = Fate.KEPT if emission.place is not None else Fate.ALONE
