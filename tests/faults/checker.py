"""Pure: no I/O, no clock, no task. Was anything lost, told twice, out of order, or said that is not so?

A client's connections make chains: one that was told it has recovered goes on where the one before it ended, any other
begins a new chain. Within a chain nothing comes twice, positions grow and nothing is left out in the middle; a chain
that lasts to the end of the run has everything that was for it. What a node had to emit alone is owed too, unless it
was killed before it could hand it over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

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
    found = [*_results(history), *_answers(history), *_verdicts(history.clients), *_places(history, chains)]
    owed = owed_of(history, chains)
    for chain in chains:
        found += [*_strangers(history, chain), *_twice(chain), *_publishers(history, chain), *_backwards(chain)]
        found += [*_holes(history, chain), *(_missing(owed, chain) if chain.stands else ())]
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


def _places(history: History, chains: Iterable[Chain]) -> Iterator[Violation]:
    """One place for each emission that was kept, the one that emit had answered; and each place once."""
    places: dict[tuple[str, str], str] = {}
    holders: dict[str, str] = {}
    for emission in history.emissions.values():
        if emission.fate is Fate.KEPT and emission.place is not None:
            places[emission.id, epoch_of(emission.place)] = emission.place
            other = holders.setdefault(emission.place, emission.id)
            if other != emission.id:
                yield Violation("lied", emission.life, f"{emission.id} and {other} are both at {emission.place}")
    for chain in chains:
        for heard in chain.heard:
            emission_heard = history.emissions.get(heard.id)
            if heard.place is None or emission_heard is None or emission_heard.fate is not Fate.KEPT:
                continue
            first = places.setdefault((heard.id, epoch_of(heard.place)), heard.place)
            if first != heard.place:
                yield Violation("two places", chain.who, f"{heard.id} came as {heard.place}, and is at {first}")
            other = holders.setdefault(heard.place, heard.id)
            if other != heard.id:
                yield Violation("two places", chain.who, f"{heard.id} came as {heard.place}, which is {other}'s")


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
    """What one publisher said on one node comes in its order; what is volatile may overtake."""
    last: dict[tuple[str, str, str], Emission] = {}
    for heard in chain.heard:
        emission = history.emissions.get(heard.id)
        if emission is None or emission.fate is Fate.VOLATILE:
            continue
        key = (emission.publisher, emission.life, namespace_of(emission.room))
        before = last.get(key)
        if before is not None and emission.number < before.number:
            yield Violation("publisher's order", chain.who, f"{emission.id} came after {before.id}")
        last[key] = emission


def _backwards(chain: Chain) -> Iterator[Violation]:
    """Whatever it is shown never goes back: it comes back with the last it was shown."""
    newest: dict[str, int] = {}
    epoch = None
    for heard in chain.heard:
        if heard.place is None:
            continue
        now, offset = epoch_of(heard.place), offset_of(heard.place)
        if now in newest and (now != epoch or offset < newest[now]):
            yield Violation("backwards", chain.who, f"{heard.id} at {heard.place} after {epoch}-{newest[epoch or now]}")
        epoch, newest[now] = now, max(offset, newest.get(now, 0))


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
            yield Violation("missing", chain.who, f"{emission.id} ({emission.fate}, {emission.place})")


# ── positions as clients are shown them ──────────────────────────────────────────────────────────


def epoch_of(place: str) -> str:
    return place.rpartition("-")[0]


def offset_of(place: str) -> int:
    return int(place.rpartition("-")[2])


def namespace_of(room: str) -> str:
    return room.partition("#")[0]
