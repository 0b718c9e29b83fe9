"""The table of messages on its async engine: SQLite through aiosqlite, PostgreSQL through asyncpg."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from sqlalchemy import URL, Column, Index, Insert, MetaData, Table, Text, inspect, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.schema import CreateIndex, CreateTable

from adapters.sql.waiting import Row

ANSWER_SECONDS: Final = 5.0
"""How long a page may take; a write has twice as long, because it carries up to 4 MB."""
PING_SECONDS: Final = 2.0
BUSY_SECONDS: Final = 2.0
"""How long SQLite waits for another process's write; short, because the writer tries again by itself."""

_binary = Text().with_variant(Text(collation="C"), "postgresql")
# "C" orders by bytes, as SQLite does and as Python orders strings; a locale's order would mix the cases
# of letters and break paging by id.
messages = Table(
    "realtime_messages",
    MetaData(),
    Column("id", _binary, primary_key=True),
    Column("room", _binary, nullable=False),
    Column("username", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("timestamp", Text, nullable=False),
)
by_room = Index("realtime_messages_room_id", messages.c.room, messages.c.id)
_SETUP_LOCK: Final = 0x7265616C74696D65
"""Key of the PostgreSQL advisory lock under which the table is made: "realtime" in ASCII."""


class Database:
    """The table on its engine. Belongs to one event loop; every call is bounded in time."""

    def __init__(self, url: URL) -> None:
        # One connection, never cut: an in-memory database lives and dies with it.
        self._lasting = in_memory(url)
        self._engine = _engine(url, lasting=self._lasting)
        self._ready = False
        self._setting_up = asyncio.Lock()
        self._insert = _insert_or_leave(url)

    async def insert(self, rows: Sequence[Row]) -> list[DBAPIError]:
        """Write, ids that are there already left out; returns an error for each row that is refused.

        Raises what the driver raises when the database does not answer; to be repeated as a whole then.
        """
        async with self._question(ANSWER_SECONDS):
            await self._prepare()
        return await self._insert_all(rows)

    async def select(self, room: str, before: str | None, limit: int) -> list[Row]:
        """The newest ``limit`` rows of the room, newest first."""
        query = select(messages).where(messages.c.room == room)
        if before is not None:
            query = query.where(messages.c.id < before)
        query = query.order_by(messages.c.id.desc()).limit(limit)
        async with self._question(ANSWER_SECONDS):
            await self._prepare()
            async with self._engine.connect() as connection:
                return [row._asdict() for row in await connection.execute(query)]

    async def ping(self) -> None:
        async with self._question(PING_SECONDS):
            await self._prepare()
            async with self._engine.connect() as connection:
                await connection.execute(select(1))

    async def close(self) -> None:
        with suppress(Exception):
            async with asyncio.timeout(1.0):
                await self._engine.dispose()

    @asynccontextmanager
    async def _question(self, seconds: float) -> AsyncIterator[None]:
        # A call that is cut costs its connection, which an in-memory database cannot spare.
        try:
            async with asyncio.timeout(None if self._lasting else seconds):
                yield
        except Exception:
            self._ready = False  # the table may be what is missing
            raise

    async def _insert_all(self, rows: Sequence[Row]) -> list[DBAPIError]:
        """A refused row undoes its whole transaction, so the rows are halved until it stands alone."""
        try:
            async with self._question(2 * ANSWER_SECONDS), self._engine.begin() as connection:
                await connection.execute(self._insert, rows)
            return []
        except DBAPIError as error:
            if not _refuses_the_row(error):
                raise
            if len(rows) == 1:
                return [error]
        middle = len(rows) // 2
        return await self._insert_all(rows[:middle]) + await self._insert_all(rows[middle:])

    async def _prepare(self) -> None:
        """Make the table if it is missing; two processes may do so at once."""
        async with self._setting_up:
            if self._ready:
                return
            async with self._engine.begin() as connection:
                if connection.dialect.name == "sqlite":
                    # Readers and the writer do not wait for each other; the file remembers it.
                    await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                    await _create(connection)
                elif not await connection.run_sync(lambda sync: inspect(sync).has_table(messages.name)):
                    # Asked first: a role that may only read and write would be refused even IF NOT EXISTS.
                    # Locked: two IF NOT EXISTS at once collide in the catalogue.
                    await connection.execute(text(f"SELECT pg_advisory_xact_lock({_SETUP_LOCK})"))
                    await _create(connection)
            self._ready = True


def in_memory(url: URL) -> bool:
    if url.get_backend_name() != "sqlite":
        return False
    return url.database in (None, "", ":memory:") or url.query.get("mode") == "memory"


def _engine(url: URL, *, lasting: bool) -> AsyncEngine:
    is_sqlite = url.get_backend_name() == "sqlite"
    if is_sqlite:
        _quiet_driver()
    patience = {} if "timeout" in url.query else {"timeout": BUSY_SECONDS if is_sqlite else ANSWER_SECONDS}
    return create_async_engine(
        url,
        hide_parameters=True,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=1 if lasting else 5,
        max_overflow=0,
        pool_timeout=ANSWER_SECONDS,
        pool_pre_ping=not is_sqlite,
        connect_args=patience,
    )


def _quiet_driver() -> None:
    """At DEBUG aiosqlite writes each statement with its parameters, which are people's messages."""
    driver = logging.getLogger("aiosqlite")
    if driver.level == logging.NOTSET:
        driver.setLevel(logging.INFO)


def _insert_or_leave(url: URL) -> Insert:
    """An id that is there already is left as it is: a batch can be tried again."""
    if url.get_backend_name() == "sqlite":
        return sqlite.insert(messages).on_conflict_do_nothing(index_elements=["id"])
    return postgresql.insert(messages).on_conflict_do_nothing(index_elements=["id"])


async def _create(connection: AsyncConnection) -> None:
    await connection.execute(CreateTable(messages, if_not_exists=True))
    await connection.execute(CreateIndex(by_room, if_not_exists=True))


_ROW_CLASSES: Final = ("22", "23", "44", "54", "P0")
"""SQLSTATE classes that speak of one row: its data, a constraint, a size limit, a trigger's refusal."""


def _refuses_the_row(error: DBAPIError) -> bool:
    """Whether trying again is useless; anything in doubt is an outage, because a drop cannot be undone."""
    state = getattr(error.orig, "sqlstate", None) or ""
    return isinstance(error, IntegrityError | DataError) or state.startswith(_ROW_CLASSES)


def reason(error: BaseException) -> str:
    """The kind of an error for the log, without its text: that may quote what was to be stored."""
    origin = getattr(error, "orig", None)
    if origin is None:
        return type(error).__name__
    code = getattr(origin, "sqlite_errorname", None) or getattr(origin, "sqlstate", None)
    name = type(origin.__cause__ or origin).__name__
    return f"{name} {code}" if code else name
