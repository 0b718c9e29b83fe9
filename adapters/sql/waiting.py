"""Pure but for a lock: no I/O, no clock, no task. Messages as rows, and the bounded queue in front of the database."""

from __future__ import annotations

import re
import threading
from collections import deque
from typing import Final

from realtime.errors import LimitError
from realtime.ports import StoredMessage

QUEUE_MESSAGES: Final = 10_000
QUEUE_CHARACTERS: Final = 32_000_000
"""What may wait for the database. At 1 MB a message the count alone would allow 10 GB."""
BATCH_MESSAGES: Final = 500
BATCH_CHARACTERS: Final = 4_000_000
"""What goes into one transaction; a page waits behind it, and past 500 rows an insert gains little by company."""

Row = dict[str, str]
"""The fields of a StoredMessage, each made storable."""

_ESCAPE: Final = "\x1a"
_UNSTORABLE: Final = re.compile("[\x00\x1a\ud800-\udfff]")
_ESCAPED: Final = re.compile("\x1a([0-9a-f]{4})")


def storable(value: str) -> str:
    """Any string as one that every database keeps; ``restored`` gives it back exactly.

    PostgreSQL refuses NUL, and no encoder takes half of a surrogate pair. These, and the SUBSTITUTE
    character itself, become SUBSTITUTE and four hexadecimal digits; all other text stays as it is.
    """
    return _UNSTORABLE.sub(lambda found: f"{_ESCAPE}{ord(found[0]):04x}", value)


def restored(value: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), value) if _ESCAPE in value else value


def to_row(message: StoredMessage) -> Row:
    return {
        "id": storable(message.id),
        "room": storable(message.room),
        "username": storable(message.username),
        "text": storable(message.text),
        "timestamp": storable(message.timestamp),
    }


def to_message(row: Row) -> StoredMessage:
    return StoredMessage(**{name: restored(value) for name, value in row.items()})


class Waiting:
    """Rows on their way to the database, oldest first, bounded. Safe from any thread; no call waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[Row] = deque()
        self._batch: list[Row] = []
        self._characters = 0
        self._idle = False
        self._added = 0

    def put(self, row: Row) -> bool:
        """Take one more. True: the writer was idle and must be woken. Raises LimitError when full."""
        with self._lock:
            size = len(row["text"])
            if len(self) >= QUEUE_MESSAGES or (self._characters and self._characters + size > QUEUE_CHARACTERS):
                raise LimitError("Too many messages wait to be stored", code="history_full", retry_after=1.0)
            self._queue.append(row)
            self._characters += size
            self._added += 1
            was_idle, self._idle = self._idle, False
            return was_idle

    def take(self) -> list[Row]:
        """The next batch, which counts as waiting until ``finish``; empty: the next ``put`` says so."""
        with self._lock:
            room = BATCH_CHARACTERS
            while self._queue and len(self._batch) < BATCH_MESSAGES and room > 0:
                row = self._queue.popleft()
                room -= len(row["text"])
                self._batch.append(row)
            self._idle = not self._batch
            return list(self._batch)

    def finish(self) -> None:
        with self._lock:
            self._characters -= sum(len(row["text"]) for row in self._batch)
            self._batch = []

    def of_room(self, room: str, before: str | None) -> list[Row]:
        with self._lock:
            rows = [*self._batch, *self._queue]
        return [row for row in rows if row["room"] == room and (before is None or row["id"] < before)]

    def __len__(self) -> int:
        return len(self._queue) + len(self._batch)

    @property
    def added(self) -> int:
        """How many were ever put."""
        with self._lock:
            return self._added

    @property
    def finished(self) -> int:
        """How many of these wait no more."""
        with self._lock:
            return self._added - len(self)
