"""Pure: no I/O, no clock, no task. A session was looked at, and looked at again when it was taken: what changed in
between, in the store and here, is put together."""

from __future__ import annotations

from typing import Any

import orjson

from realtime.journal.resume import Record


def data_of(first: bytes, here: dict[str, Any], now: bytes) -> dict[str, Any]:
    """What is in the store ``now``, with what was changed ``here`` since it was ``first``, entry by entry."""
    if first == now:
        return here
    before, found = orjson.loads(first), orjson.loads(now)
    if not (isinstance(before, dict) and isinstance(found, dict) and isinstance(here, dict)):
        return found  # type: ignore[no-any-return]
    for key in before.keys() - here.keys():
        found.pop(key, None)
    return found | {key: value for key, value in here.items() if key not in before or before[key] != value}


def rooms_of(first: Record, here: Record, now: Record) -> Record:
    """``now`` with the rooms that were entered and left ``here`` since it was ``first``."""
    before, after = _open(first), _open(here)
    left = {stay.room: stay.until for stay in here.stays if stay.room in before and stay.room not in after}
    entered = {room: stay for room, stay in after.items() if before.get(room) != stay}
    known = _open(now)
    stays = [
        stay._replace(until=left[stay.room]) if stay.until is None and stay.room in left else stay for stay in now.stays
    ]
    stays = [stay._replace(granted=False) if stay.until is None and stay.room in entered else stay for stay in stays]
    return now._replace(stays=(*stays, *(stay for room, stay in entered.items() if room not in known)))


def _open(record: Record) -> dict[str, Any]:
    return {stay.room: stay for stay in record.stays if stay.until is None}
