"""Pure: no I/O, no clock, no task. What came of an emission, as it was when it had been delivered here."""

from __future__ import annotations

from enum import StrEnum


class BusState(StrEnum):
    """What became of the way to other instances."""

    NONE = "none"
    """There is no other instance."""
    UP = "up"
    """The others have it, or will."""
    AWAY = "away"
    """The bus does not answer: this instance goes on alone."""
    REFUSED = "refused"
    """The bus will never take this one (too long, say): nobody elsewhere hears it."""


class Emitted(int):
    """How many clients of this instance were reached (it is that number), where the event has its place, and whether
    the others have it. Never to be taken for more than was known when it was made."""

    offset: str | None = None
    """Its position, as clients are given it; None for what is not kept, and for what is not known to be."""
    bus: BusState = BusState.NONE
    due: bool = False
    """Was it to be kept?"""

    @classmethod
    def made(cls, reached: int, bus: BusState, offset: str | None = None, *, due: bool = False) -> Emitted:
        made = cls(reached)
        made.bus, made.offset, made.due = bus, offset, due
        return made

    @property
    def durable(self) -> bool | None:
        """Is it known to be kept, for everybody who is to hear it? None for what was not to be kept."""
        return self.offset is not None if self.due else None

    def __repr__(self) -> str:
        return f"<Emitted to {int(self)}, offset {self.offset}, bus {self.bus}>"
