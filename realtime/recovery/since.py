"""What was said since an offset, for clients without a pid: plain ones, event streams, newcomers to a room."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from realtime.encoding.encoded import Encoded
from realtime.errors import LimitError
from realtime.journal.positions import Entry, Position
from realtime.journal.trail import Trail
from realtime.metrics import Metrics
from realtime.recovery.missed import Missed
from realtime.rooms.hub import Hub
from realtime.rooms.keeper import Keeper
from realtime.session.session import Member

REPLAYS_LIMIT: Final = 100
"""Replays of one connection that are not through yet: each holds on to its part of the log."""


@dataclass(frozen=True, slots=True)
class Since:
    """What came of a wish to hear what was said since an offset: all of it, or (``reason``) nothing. ``offset`` is the
    newest there is, to be shown the next time."""

    recovered: bool
    reason: str | None
    offset: str | None

    def as_dict(self) -> dict[str, Any]:
        """As clients are told."""
        return {"recovered": True} if self.recovered else {"recovered": False, "reason": self.reason}


def replay_since(
    hub: Hub, missed: Missed, metrics: Metrics, member: Member, since: str, rooms: Collection[Any] | None = None
) -> Since:
    """What was said since this offset leaves for a member that was let in just now: in these rooms, or (None) all that
    it would have heard in the rooms it is in now; in the latter case what waits for it is told from the log instead.
    Where the log lies elsewhere ``missed.look_back`` comes first, in the same turn.

    Raises LimitError while too many of its wishes wait for it to read.
    """
    keeper, session = hub.keepers.get(member.namespace), member.session
    if keeper is None:
        return Since(False, "off", None)
    if session.outbox.replays >= REPLAYS_LIMIT:
        raise LimitError("Read first what you asked for before", code="too_many_replays", retry_after=1)
    position = Position.parse(since)
    with hub.changing:
        wanted: Collection[Any] = (None, *hub.rooms_of(member.sid, member.namespace)) if rooms is None else rooms
        found = missed.entries(member.namespace, wanted, position) if position is not None else None
        outcome = Since(
            found is not None, None if found is not None else "offset" if position is None else "gone", keeper.mark
        )
        if found is not None:
            told = (entry for entry in found if member.sid not in entry.draft.skip)
            if rooms is None:
                session.outbox.clear()
            session.replay(_frames(keeper, member, told))
    metrics.recoveries.add(outcome.reason or "since")
    return outcome


def _frames(keeper: Keeper, member: Member, missed: Iterator[Entry]) -> Iterator[Encoded]:
    """Who has a pid goes on from the last offset it was given. So that is the newest of now when it has all of this,
    and no other than before while it is still being let in."""
    trail: Trail | None = member.trail
    dialect = member.session.dialect
    if trail is None:
        return keeper.again(dialect, missed)
    if trail.returning:
        return keeper.again(dialect, missed, str(trail.base))
    first = next(missed, None)
    if first is None:
        return iter(())
    trail.catch_up(keeper.log.last)
    return keeper.catch_up(dialect, chain((first,), missed), keeper.mark, trail.caught_up)
