"""Message ids that sort by age, and the one form of time that is sent to clients."""

from __future__ import annotations

import secrets
import threading
import time
from datetime import UTC, datetime
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32, in the order of the characters' code points."""
RANDOM_BITS: Final = 80

_lock = threading.Lock()
_last = 0


def make_id(milliseconds: int, random: int) -> str:
    """Pure. 48 bits of time and 80 random ones as 26 characters that sort as the numbers do (a ULID)."""
    number = (milliseconds << RANDOM_BITS) | random
    return "".join(ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def new_id() -> str:
    """A new id, greater than every one this process made before, also when the clock goes back."""
    global _last
    number = (time.time_ns() // 1_000_000) << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
    with _lock:
        _last = number = max(number, _last + 1)
    return make_id(number >> RANDOM_BITS, number & ((1 << RANDOM_BITS) - 1))


def now_iso() -> str:
    """Now: ISO 8601 in UTC, milliseconds, with a Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
