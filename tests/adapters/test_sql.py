"""The contract of History on SQLite (a file, and in memory) and on a real PostgreSQL; then what is SQL's own."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from adapters.sql import history as store
from adapters.sql import open_history
from adapters.sql.database import messages
from adapters.sql.waiting import QUEUE_CHARACTERS, QUEUE_MESSAGES, Waiting, restored, storable, to_message, to_row
from realtime.errors import LimitError, OutsideError, UsageError
from realtime.metrics import Metrics
from realtime.ports import History
from realtime.testing.history import HistoryContract, append_all, elsewhere, ids, message, soon, walk
from tests.postgres_server import PostgresServer, postgres  # noqa: F401  (a fixture)

LOGGER = "realtime.history"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest_asyncio.fixture
async def in_file(file: Path, metrics: Metrics) -> AsyncIterator[History]:
    """Gives up on a locked file after 50 ms, so that an outage is soon noticed."""
    history = open_history(f"sqlite+aiosqlite:///{file}?timeout=0.05", metrics)
    yield history
    await soon(history.close())


@pytest_asyncio.fixture
async def in_memory(metrics: Metrics) -> AsyncIterator[History]:
    history = open_history("sqlite+aiosqlite://", metrics)
    yield history
    await soon(history.close())


@pytest_asyncio.fixture
async def in_postgres(postgres: PostgresServer, metrics: Metrics) -> AsyncIterator[History]:  # noqa: F811
    await execute(postgres, "DROP TABLE IF EXISTS realtime_messages")
    history = open_history(postgres.url, metrics)
    yield history
    await soon(history.close())


async def execute(server: PostgresServer, *statements: str) -> list[Any]:
    """Run statements on a connection of the test's own; the rows of the last one."""
    asyncpg = pytest.importorskip("asyncpg", reason="asyncpg is not installed")
    connection = await asyncpg.connect(server.dsn, timeout=10)
    try:
        found: list[Any] = []
        for statement in statements:
            found = await connection.fetch(statement, timeout=10)
        return found
    finally:
        await connection.close(timeout=5)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another process is writing to the SQLite file, for as long as the block."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=5)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def stored_ids(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM realtime_messages ORDER BY rowid")]


@pytest.mark.asyncio
class TestSqliteFile(HistoryContract):
    @pytest_asyncio.fixture
    async def history(self, in_file: History) -> History:
        return in_file


@pytest.mark.asyncio
class TestSqliteInMemory(HistoryContract):
    @pytest_asyncio.fixture
    async def history(self, in_memory: History) -> History:
        return in_memory


@pytest.mark.asyncio
@pytest.mark.process
class TestPostgres(HistoryContract):
    @pytest_asyncio.fixture
    async def history(self, in_postgres: History) -> History:
        return in_postgres

    async def test_messages_outlive_the_store(self, postgres: PostgresServer, history: History) -> None:  # noqa: F811
        append_all(history, map(message, range(5)))
        await soon(history.close())
        again = open_history(postgres.url, Metrics())
        assert await walk(again, "lobby", 2) == [message(number) for number in range(5)]
        await soon(again.close())

    async def test_many_processes_may_make_the_table_at_once(
        self,
        postgres: PostgresServer,  # noqa: F811
        history: History,
    ) -> None:
        stores = [open_history(postgres.url, Metrics()) for _ in range(6)]
        assert await make_tables_at_once(stores) == [0, 1, 2, 3, 4, 5]
        indexes = await execute(postgres, "SELECT 1 FROM pg_indexes WHERE indexname = 'realtime_messages_room_id'")
        assert len(indexes) == 1

    async def test_a_role_that_may_not_make_tables_uses_the_one_that_is_there(
        self,
        postgres: PostgresServer,  # noqa: F811
        history: History,
    ) -> None:
        await soon(history.ping())
        await execute(
            postgres,
            "DROP ROLE IF EXISTS humble",
            "CREATE ROLE humble LOGIN",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            "GRANT SELECT, INSERT ON realtime_messages TO humble",
        )
        humble = open_history(postgres.url.replace("tester@", "humble@"), Metrics())
        humble.append(message(1))
        await soon(humble.flush())
        await soon(humble.close())
        await execute(postgres, "REVOKE ALL ON realtime_messages FROM humble", "DROP ROLE humble")
        assert ids(await soon(history.page("lobby"))) == [message(1).id]

    async def test_an_outage_loses_nothing_and_repeats_nothing(
        self,
        postgres: PostgresServer,  # noqa: F811
        history: History,
        metrics: Metrics,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.WARNING, LOGGER)
        append_all(history, (message(number, text="secret words") for number in range(3)))
        await soon(history.flush())
        await asyncio.to_thread(postgres.crash)
        try:
            append_all(history, (message(number, text="secret words") for number in range(3, 1_203)))
            for _ in range(3):
                with pytest.raises(OutsideError):
                    await soon(history.flush())
            with pytest.raises(OutsideError):
                await soon(history.ping())
            with pytest.raises(OutsideError):
                await soon(history.page("lobby"))
            assert metrics.history_pending.value() == 1_200
        finally:
            await asyncio.to_thread(postgres.start)
        await soon(history.flush())
        await soon(history.ping())
        assert metrics.history_pending.value() == 0
        assert [int(one.id) for one in await walk(history, "lobby", 200)] == list(range(1_203))
        assert len([record for record in caplog.records if record.name == LOGGER]) == 1
        assert "secret words" not in caplog.text

    async def test_a_row_that_is_refused_costs_nobody_else(
        self, history: History, metrics: Metrics, caplog: pytest.LogCaptureFixture
    ) -> None:
        # A key of an index has at most 2,704 bytes, and these do not compress.
        long_room = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(5_000))
        append_all(history, map(message, range(200)))
        history.append(message(200, room=long_room))
        append_all(history, map(message, range(201, 400)))
        await soon(history.flush())
        assert len(await walk(history, "lobby", 200)) == 399
        assert list((await soon(history.page(long_room))).messages) == []
        assert metrics.drops.value("history_unwritable") == 1
        assert long_room[:10] not in caplog.text

    async def test_a_database_that_hangs_is_not_waited_for(
        self,
        postgres: PostgresServer,  # noqa: F811
        history: History,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        asyncpg = pytest.importorskip("asyncpg")
        await soon(history.ping())
        monkeypatch.setattr("adapters.sql.database.ANSWER_SECONDS", 0.2)
        connection = await asyncpg.connect(postgres.dsn, timeout=10)
        async with connection.transaction():
            await connection.execute("LOCK TABLE realtime_messages IN ACCESS EXCLUSIVE MODE")
            history.append(message(1))
            with pytest.raises(OutsideError):
                await soon(history.page("lobby"))
            with pytest.raises(OutsideError):
                await soon(history.flush())
        await connection.close(timeout=5)
        await soon(history.flush())
        assert ids(await soon(history.page("lobby"))) == [message(1).id]

    async def test_the_table_is_made_again_when_it_vanished(self, postgres: PostgresServer, history: History) -> None:  # noqa: F811
        history.append(message(1))
        await soon(history.flush())
        await execute(postgres, "DROP TABLE realtime_messages")
        history.append(message(2))
        with suppress(OutsideError):  # whoever comes first finds it missing: the writer, or this flush
            await soon(history.flush())
        await soon(history.flush())
        assert ids(await soon(history.page("lobby"))) == [message(2).id]


async def make_tables_at_once(stores: list[History]) -> list[int]:
    """Each store has a thread and connections of its own, as processes have. The numbers of what they stored."""
    for number, history in enumerate(stores):
        history.append(message(number))
    await soon(asyncio.gather(*(history.flush() for history in stores)))
    stored = [int(key) for key in ids(await soon(stores[0].page("lobby")))]
    await soon(asyncio.gather(*(history.close() for history in stores)))
    return stored


@pytest.mark.asyncio
async def test_messages_outlive_the_store(in_file: History, file: Path) -> None:
    append_all(in_file, map(message, range(700)))
    await soon(in_file.close())
    assert stored_ids(file) == [message(number).id for number in range(700)]
    again = open_history(f"sqlite+aiosqlite:///{file}", Metrics())
    assert await walk(again, "lobby", 100) == [message(number) for number in range(700)]
    await soon(again.close())


@pytest.mark.asyncio
@pytest.mark.parametrize("attempt", range(3))
async def test_many_processes_may_make_the_file_at_once(tmp_path: Path, attempt: int) -> None:
    stores = [open_history(f"sqlite+aiosqlite:///{tmp_path}/new{attempt}.db", Metrics()) for _ in range(6)]
    assert await make_tables_at_once(stores) == [0, 1, 2, 3, 4, 5]


@pytest.mark.asyncio
async def test_sqlite_readers_do_not_wait_for_a_writer(in_file: History, file: Path) -> None:
    await soon(in_file.ping())
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with locked(file):
        append_all(in_file, map(message, range(10)))
        with pytest.raises(OutsideError):
            await soon(in_file.flush())
        assert len((await soon(in_file.page("lobby"))).messages) == 10


@pytest.mark.asyncio
async def test_an_outage_of_writing_is_told_once_and_nothing_is_lost(
    in_file: History, file: Path, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, LOGGER)
    await soon(in_file.ping())
    with locked(file):
        append_all(in_file, (message(number, text="secret words") for number in range(1_200)))
        for _ in range(3):
            with pytest.raises(OutsideError):
                await soon(in_file.flush())
        with pytest.raises(OutsideError):
            await soon(in_file.ping())
        assert metrics.history_pending.value() == 1_200
    await soon(in_file.flush())
    await soon(in_file.ping())
    assert stored_ids(file) == [message(number).id for number in range(1_200)]
    assert [record.getMessage() for record in caplog.records if record.name == LOGGER] == [
        "The message store does not take messages (OperationalError SQLITE_BUSY); they wait"
    ]


@pytest.mark.asyncio
async def test_a_full_store_refuses_and_counts_and_keeps_what_it_has(
    in_file: History, file: Path, metrics: Metrics
) -> None:
    await soon(in_file.ping())
    with locked(file):
        append_all(in_file, map(message, range(QUEUE_MESSAGES)))
        with pytest.raises(LimitError) as refused:
            in_file.append(message(QUEUE_MESSAGES))
        assert refused.value.code == "history_full"
        assert refused.value.retry_after is not None
        assert metrics.drops.value("history_full") == 1
    await soon(in_file.flush())
    assert stored_ids(file) == [message(number).id for number in range(QUEUE_MESSAGES)]
    in_file.append(message(QUEUE_MESSAGES))
    await soon(in_file.flush())


@pytest.mark.asyncio
async def test_rows_that_are_refused_cost_nobody_else(
    in_file: History, file: Path, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    await soon(in_file.ping())
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(
            "CREATE TRIGGER no_poison BEFORE INSERT ON realtime_messages WHEN NEW.text = 'poison' "
            "BEGIN SELECT RAISE(ABORT, 'refused: poison'); END"
        )
    with locked(file):  # so that they wait together and are written in one batch
        for number in range(300):
            in_file.append(message(number, text="poison" if number in (0, 150, 151, 299) else None))
    await soon(in_file.flush())
    expected = [number for number in range(300) if number not in (0, 150, 151, 299)]
    assert [int(key) for key in stored_ids(file)] == expected
    assert [int(one.id) for one in await walk(in_file, "lobby", 100)] == expected
    assert metrics.drops.value("history_unwritable") == 4
    assert metrics.history_pending.value() == 0
    assert "poison" not in caplog.text


@pytest.mark.asyncio
async def test_close_says_what_it_could_not_write(
    in_file: History,
    file: Path,
    metrics: Metrics,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "CLOSE_SECONDS", 0.2)
    await soon(in_file.ping())
    with locked(file):
        append_all(in_file, map(message, range(3)))
        await soon(in_file.close())
    assert "closed with 3 messages not written" in caplog.text
    assert metrics.drops.value("history_lost") == 3
    assert stored_ids(file) == []


@pytest.mark.asyncio
async def test_close_leaves_no_thread(in_file: History) -> None:
    others = set(threading.enumerate())
    await soon(in_file.ping())
    own = set(threading.enumerate()) - others
    assert "realtime-history" in {thread.name for thread in own}
    await elsewhere(in_file.close)
    assert not own & set(threading.enumerate())
    for call in (in_file.ping, in_file.flush):
        with pytest.raises(UsageError):
            await soon(call())
    with pytest.raises(UsageError):
        await soon(in_file.page("lobby"))


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", [0, -1, 10_001])
async def test_a_limit_out_of_range_is_the_callers_mistake(in_memory: History, limit: int) -> None:
    with pytest.raises(UsageError):
        await soon(in_memory.page("lobby", limit=limit))


@pytest.mark.process
def test_what_is_not_closed_is_stored_at_the_end_of_the_process(tmp_path: Path) -> None:
    script = (
        "from adapters.sql import open_history\n"
        "from realtime.metrics import Metrics\n"
        "from realtime.testing.history import message\n"
        "history = open_history('sqlite+aiosqlite:///chat.db', Metrics())\n"
        "for number in range(2_000):\n"
        "    history.append(message(number))\n"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert len(stored_ids(tmp_path / "chat.db")) == 2_000


@pytest.mark.asyncio
async def test_a_relative_file_stays_where_it_was_named(
    tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    history = open_history("sqlite+aiosqlite:///here.db", metrics)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    history.append(message(1))
    await soon(history.close())
    assert stored_ids(tmp_path / "here.db") == [message(1).id]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "expected sqlite+aiosqlite:///"),
        ("chat.db", "expected sqlite+aiosqlite:///"),
        ("postgresql+asyncpg://alice:hush@host:port/chat", "cannot be read"),
        ("postgresql://alice:hush@host/chat", "begins with postgresql://"),
        ("mysql+aiomysql://alice:hush@host/chat", "begins with mysql+aiomysql://"),
        ("sqlite:///chat.db", "begins with sqlite://"),
        ("postgresql+asyncpg://alice:hush@host/chat?sslmode=require", "spells it ssl="),
        ("sqlite+aiosqlite:////no/such/folder/chat.db", "/no/such/folder"),
    ],
)
def test_a_wrong_url_is_answered_with_what_was_expected(url: str, words: str, metrics: Metrics) -> None:
    with pytest.raises(UsageError) as refused:
        open_history(url, metrics)
    assert words in refused.value.message
    assert "hush" not in refused.value.message


def test_a_missing_driver_is_named_with_its_remedy(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(UsageError) as refused:
        open_history("postgresql+asyncpg://alice:hush@host/chat", metrics)
    assert refused.value.message.endswith("needs asyncpg, which is not installed: pip install asyncpg")


def test_a_statement_is_in_no_log_at_any_level(metrics: Metrics) -> None:
    open_history("sqlite+aiosqlite://", metrics)
    assert not logging.getLogger("aiosqlite").isEnabledFor(logging.DEBUG)


def test_the_table_has_the_columns_of_a_message() -> None:
    assert set(to_row(message(1))) == set(messages.columns.keys())


@given(st.text(st.characters(codec=None) | st.sampled_from("\x00\x1a\ud83d\ude00")))
def test_any_string_is_storable_and_comes_back(value: str) -> None:
    kept = storable(value)
    assert "\x00" not in kept
    assert restored(kept.encode().decode()) == value
    assert (kept == value) is not any(one in "\x00\x1a" or 0xD800 <= ord(one) < 0xE000 for one in value)


@given(st.text())
def test_text_that_somebody_else_stored_can_be_read(value: str) -> None:
    assert isinstance(restored(value), str)


def test_waiting_is_bounded_by_characters_but_takes_any_one_message() -> None:
    waiting = Waiting()
    waiting.put(to_row(message(1, text="x" * (QUEUE_CHARACTERS + 1))))
    with pytest.raises(LimitError):
        waiting.put(to_row(message(2)))
    assert [int(row["id"]) for row in waiting.take()] == [1]
    waiting.finish()
    waiting.put(to_row(message(3)))
    assert (waiting.added, waiting.finished, len(waiting)) == (2, 1, 1)


def test_waiting_batches_by_count_and_by_size() -> None:
    waiting = Waiting()
    for number in range(600):
        waiting.put(to_row(message(number, text="x" * (1_000_000 if number >= 500 and number < 510 else 10))))
    sizes = []
    while batch := waiting.take():
        sizes.append(len(batch))
        waiting.finish()
    assert sizes == [500, 4, 4, 92]


def test_waiting_says_when_the_writer_must_be_woken() -> None:
    waiting = Waiting()
    assert waiting.put(to_row(message(1))) is False, "the writer looks by itself when it starts"
    assert len(waiting.take()) == 1
    waiting.finish()
    assert waiting.take() == []
    assert waiting.put(to_row(message(2))) is True
    assert waiting.put(to_row(message(3))) is False
    assert [to_message(row) for row in waiting.of_room("lobby", message(3).id)] == [message(2)]
