"""Stored chat messages in a SQL database: SQLite by default, PostgreSQL by URL.

``history`` may be called from any thread and any event loop. Behind it stand the bounded queue of
``waiting``, one daemon thread with an event loop of its own, and on that loop the writer and the
``database``: an async engine belongs to one loop, an application under Starlette's TestClient has many.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from adapters.sql.database import Database, in_memory
from adapters.sql.history import SqlHistory
from realtime.errors import UsageError
from realtime.metrics import Metrics
from realtime.ports import History

__all__ = ["open_history"]

_EXPECTED: Final = "sqlite+aiosqlite:///FILE or postgresql+asyncpg://USER:PASSWORD@HOST/NAME"
_INSTALL: Final = {
    "sqlite+aiosqlite": "pip install aiosqlite",
    "postgresql+asyncpg": "pip install asyncpg",
}


def open_history(database_url: str, metrics: Metrics) -> History:
    """The store that ``database_url`` names; connects, and makes its table, when first used.

    Takes ``sqlite+aiosqlite:///file`` (relative to the current folder), ``sqlite+aiosqlite://`` (in memory)
    and ``postgresql+asyncpg://user:password@host/name``. Raises UsageError for any other URL, a driver
    that is not installed, and a folder that does not exist; the URL itself is in no message, because
    it may hold a password.
    """
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError):
        raise UsageError(f"The database URL cannot be read; expected {_EXPECTED}") from None
    if url.drivername not in _INSTALL:
        raise UsageError(f"The database URL begins with {url.drivername}://; expected {_EXPECTED}")
    if "sslmode" in url.query:
        raise UsageError("The database URL says sslmode=; asyncpg spells it ssl=, with the same values")
    try:
        return SqlHistory(Database(_located(url)), metrics)
    except ModuleNotFoundError as error:
        install = _INSTALL[url.drivername]
        raise UsageError(f"{url.drivername}:// needs {error.name}, which is not installed: {install}") from error


def _located(url: URL) -> URL:
    """A SQLite file by its whole path, so that a later change of folder does not split the history."""
    if url.get_backend_name() != "sqlite" or in_memory(url) or str(url.database).startswith("file:"):
        return url
    path = Path(str(url.database)).absolute()
    if not path.parent.is_dir():
        raise UsageError(f"The folder {path.parent} of the database file does not exist")
    return url.set(database=str(path))
