"""Pure: no I/O, no clock, no task. Was anything lost, told twice, out of order, or said that is not so?

A client's connections make chains: one that was told it has recovered goes on where the one before it ended, any other
begins a new chain. Within a chain nothing comes twice, positions grow and nothing is left out in the middle; a chain
that lasts to the end of the run has everything that was for it. What a node had to emit alone is owed too, unless it
was killed before it could hand it over.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from realtime.journal.debts import UNPROVED
from tests.faults.history import Client, Emission, Fate, Heard, History, Leg, Life

HEAL_SECONDS: Final = 2.0
"""From the return of the bus until what waited has been handed over."""


@dataclass(frozen=True)
class Violation:
    kind: str
    who: str
    words: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.who}: {self.words}"


@dataclass
class Chain:
    """What a client was told without a clean start in between."""

    client: Client
    legs: list[Leg]
    stands: bool
    """It lasts to the end of the run."""

    @property
    def who(self) -> str:
        return f"{self.client.name} ({self.client.wire})"

    @property
    def heard(self) -> list[Heard]:
        return [heard for leg in self.legs for heard in leg.heard]

    @property
    def legs_heard(self) -> Iterator[tuple[Leg, Heard]]:
        return ((leg, heard) for leg in self.legs for heard in leg.heard)

    @property
    def joined(self) -> dict[str, float]:
        """Since when it is in each of its rooms for certain."""
        found: dict[str, float] = {}
        for leg in self.legs:
            for room, at in leg.joined.items():
                found.setdefault(room, at)
        return found


def check(history: History) -> list[Violation]:
    """Everything that must not be."""
    chains = [chain for client in history.clients for chain in chains_of(client)]
    found = [*_results(history), *_answers(history), *_verdicts(history.clients), *_places(history)]
    owed = owed_of(history, chains)
    for chain in chains:
        found += [*_strangers(history, chain), *_twice(chain), *_publishers(history, chain), *_backwards(chain)]
        found += [*_order(history, chain), *_ahead(history, chain), *_holes(history, chain)]
        found += _missing(owed, chain) if chain.stands else ()
    return found


def chains_of(client: Client) -> list[Chain]:
    """A connection that ended before it was told anything belongs to what was before it."""
    found: list[Chain] = []
    for leg in client.legs:
        goes_on = found and client.promised and leg.asked and (leg.verdict or not leg.opened)
        if goes_on:
            found[-1].legs.append(leg)
        else:
            found.append(Chain(client, [leg], False))
    if found:
        last = found[-1]
        last.stands = last.legs[-1].ended is None and last.legs[-1].opened
    return found


# ── what emit and the server said ────────────────────────────────────────────────────────────────


def _results(history: History) -> Iterator[Violation]:
    for emission in history.emissions.values():
        if emission.fate is Fate.RAISED:
            yield Violation("raised", emission.life, f"{emission.id}: {emission.words}")
        if emission.fate is Fate.VOLATILE and emission.place is not None:
            yield Violation("lied", emission.life, f"{emission.id} is volatile and was said to be at {emission.place}")


def _answers(history: History) -> Iterator[Violation]:
    """What a publisher was told is what its node wrote down."""
    for id, (place, kept) in history.answers.items():
        emission = history.emissions.get(id)
        if emission is None:
            yield Violation("lied", id, "acknowledged, and never emitted")
        elif (place, kept) != (emission.place, emission.fate is Fate.KEPT):
            yield Violation("lied", emission.life, f"{id} was {emission.fate}, and acknowledged as {place}, {kept}")


def _verdicts(clients: Iterable[Client]) -> Iterator[Violation]:
    for client in clients:
        for leg in client.legs:
            if leg.asked and leg.opened and leg.verdict is None:
                yield Violation("untold", client.name, f"it asked at {leg.since:.3f} and was told nothing")
            if leg.verdict is False and any(heard.early for heard in leg.heard):
                yield Violation("partial", client.name, "it was told of the past, and then that it had not recovered")


def _places(history: History) -> Iterator[Violation]:
    """Each place once."""
    holders: dict[str, str] = {}
    for emission in history.emissions.values():
        if emission.fate is Fate.KEPT and emission.place is not None:
            other = holders.setdefault(emission.place, emission.id)
            if other != emission.id:
                yield Violation("lied", emission.life, f"{emission.id} and {other} are both at {emission.place}")


# ── what each was told ───────────────────────────────────────────────────────────────────────────


def _strangers(history: History, chain: Chain) -> Iterator[Violation]:
    for heard in chain.heard:
        emission = history.emissions.get(heard.id)
        if emission is None:
            yield Violation("stranger", chain.who, f"{heard.id} was never emitted")
        elif emission.room not in chain.client.rooms:
            yield Violation("stranger", chain.who, f"{heard.id} was for {emission.room}")


def _twice(chain: Chain) -> Iterator[Violation]:
    before: set[str] = set()
    for heard in chain.heard:
        if heard.id in before:
            yield Violation("twice", chain.who, f"{heard.id} at {heard.place}")
        before.add(heard.id)


def _publishers(history: History, chain: Chain) -> Iterator[Violation]:
    """What one publisher said on one node comes in its order; what is volatile may overtake. After a log was lost what
    was in it is offered again: whoever had not heard it hears it late."""
    last: dict[tuple[str, str, str], Emission] = {}
    again = across_a_loss(history, chain)
    for heard in chain.heard:
        emission = history.emissions.get(heard.id)
        if emission is None or emission.fate is Fate.VOLATILE or heard.id in again:
            continue
        key = (emission.publisher, emission.life, namespace_of(emission.room))
        before = last.get(key)
        if before is not None and emission.number < before.number:
            words = f"{_name(emission)} came after {_name(before)}, at {heard.place}"
            yield Violation("publisher's order", chain.who, words)
        last[key] = emission


def _backwards(chain: Chain) -> Iterator[Violation]:
    """Whatever it is shown never goes back: with the last of it it comes back. What is of no log says nothing."""
    newest: dict[str, int] = {}
    epoch = None
    for heard in chain.heard:
        if heard.place is None or heard.place == UNPROVED:
            continue
        now, offset = epoch_of(heard.place), offset_of(heard.place)
        if now in newest and (now != epoch or offset < newest[now]):
            yield Violation("backwards", chain.who, f"{heard.id} at {heard.place} after {epoch}-{newest[epoch or now]}")
        epoch, newest[now] = now, max(offset, newest.get(now, 0))


def _order(history: History, chain: Chain) -> Iterator[Violation]:
    """One order for everybody, that of the places; but what a node delivered before it had one. That is shown an older
    mark."""
    newest: dict[str, tuple[int, str]] = {}
    again = across_a_loss(history, chain)
    for leg, heard in chain.legs_heard:
        emission = history.emissions.get(heard.id)
        if emission is None or emission.fate is not Fate.KEPT or emission.place is None or heard.id in again:
            continue
        if emission.early and emission.life == leg.life:
            continue
        epoch, offset = epoch_of(emission.place), offset_of(emission.place)
        if heard.place not in (None, UNPROVED) and (epoch_of(heard.place) != epoch or offset_of(heard.place) < offset):
            continue
        before, id = newest.get(epoch, (0, ""))
        if offset < before:
            yield Violation(
                "order", chain.who, f"{heard.id} at {offset}, shown as {heard.place}, after {id} at {before}"
            )
        newest[epoch] = max((before, id), (offset, heard.id))


def _ahead(history: History, chain: Chain) -> Iterator[Violation]:
    """Who comes back with the last it was shown must have everything up to there: else it would be a silent hole. (Not
    who heard of something without a place: it is not believed.)"""
    first = {heard.id: number for number, heard in reversed(list(enumerate(chain.heard)))}
    joined, never = chain.joined, len(chain.heard)
    due: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for emission in history.emissions.values():
        since = joined.get(emission.room)
        if emission.fate is Fate.KEPT and emission.place is not None and since is not None and emission.began > since:
            place = offset_of(emission.place)
            due[epoch_of(emission.place)].append((place, first.get(emission.id, never), emission.id))
    latest = {epoch: _latest(sorted(each)) for epoch, each in due.items()}
    for number, heard in enumerate(chain.heard):
        said = history.emissions.get(heard.id)
        if said is not None and said.fate in (Fate.ALONE, Fate.UNKNOWN):
            return
        if heard.place is None or epoch_of(heard.place) not in latest:
            continue
        places, numbers, ids = latest[epoch_of(heard.place)]
        upto = bisect_right(places, offset_of(heard.place)) - 1
        if upto >= 0 and numbers[upto] > number:
            yield Violation("ahead", chain.who, f"{heard.id} was shown as {heard.place}, without {ids[upto]}")
            return


def _latest(due: list[tuple[int, int, str]]) -> tuple[list[int], list[int], list[str]]:
    """For each place: the last of all up to there that was heard, and which that is."""
    places, numbers, ids = [], [], []
    last = (-1, "")
    for place, number, id in due:
        last = max(last, (number, id))
        places.append(place)
        numbers.append(last[0])
        ids.append(last[1])
    return places, numbers, ids


def _holes(history: History, chain: Chain) -> Iterator[Violation]:
    """Whoever heard of something later in the same log has what was before it."""
    ids = {heard.id for heard in chain.heard}
    newest: dict[str, int] = defaultdict(int)
    for heard in chain.heard:
        emission = history.emissions.get(heard.id)
        if emission is not None and emission.fate is Fate.KEPT and emission.place == heard.place:
            epoch = epoch_of(emission.place or "")
            newest[epoch] = max(newest[epoch], offset_of(emission.place or ""))
    joined = chain.joined
    for emission in history.emissions.values():
        if emission.fate is not Fate.KEPT or emission.place is None or emission.id in ids:
            continue
        epoch, since = epoch_of(emission.place), joined.get(emission.room)
        if since is not None and emission.began > since and offset_of(emission.place) < newest[epoch]:
            yield Violation("hole", chain.who, f"{emission.id} at {emission.place}, and heard up to {newest[epoch]}")


def across_a_loss(history: History, chain: Chain) -> set[str]:
    """What was said before a log was lost, and heard or given its place after that: it may have been offered again, and
    comes in the order of each node."""
    found = set()
    for heard in chain.heard:
        said = history.emissions.get(heard.id)
        if said is not None and any(said.began < at <= max(heard.at, said.ended or 0.0) for at in history.losses):
            found.add(heard.id)
    return found


# ── what is owed ─────────────────────────────────────────────────────────────────────────────────


def owed_of(history: History, chains: Iterable[Chain]) -> list[Emission]:
    """What everybody has to have who was in its room."""
    crossed = _crossed(history, chains)
    return [
        emission
        for emission in history.emissions.values()
        if emission.fate is Fate.KEPT
        or (emission.fate in (Fate.ALONE, Fate.UNKNOWN) and emission.id in crossed)
        or (emission.fate is Fate.ALONE and not may_be_lost(emission, history.lives[emission.life]))
    ]


def may_be_lost(emission: Emission, life: Life) -> bool:
    """Its node was killed before it could hand it over."""
    if life.killed is None or emission.ended is None:
        return life.killed is not None
    return not any(at + HEAL_SECONDS < life.killed for at in life.regained if at > emission.ended)


def _crossed(history: History, chains: Iterable[Chain]) -> set[str]:
    """What was heard on another node than its own, or after that had ended: it is in the log."""
    found = set()
    for chain in chains:
        for leg in chain.legs:
            for heard in leg.heard:
                emission = history.emissions.get(heard.id)
                if emission is not None and leg.life != emission.life:
                    found.add(heard.id)
    return found


def _missing(owed: Iterable[Emission], chain: Chain) -> Iterator[Violation]:
    ids, joined = {heard.id for heard in chain.heard}, chain.joined
    for emission in owed:
        since = joined.get(emission.room)
        if since is not None and emission.began > since and emission.id not in ids:
            yield Violation("missing", chain.who, _name(emission))


def _name(emission: Emission) -> str:
    return f"{emission.id} ({emission.fate} {emission.place or ''} by {emission.life}, {emission.began:.2f})"


# ── positions as clients are shown them ──────────────────────────────────────────────────────────


def epoch_of(place: str) -> str:
    return place.rpartition("-")[0]


def offset_of(place: str) -> int:
    return int(place.rpartition("-")[2])


def namespace_of(room: str) -> str:
    return room.partition("#")[0]
