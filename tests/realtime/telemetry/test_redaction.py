from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.telemetry.redaction import SERVER_LOGS, NoQueries, Quiet, hide_password, hide_queries, printable

WORD = st.text(st.characters(whitelist_categories=("L", "N"), max_codepoint=127), min_size=8)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@host:6379/0", "redis://user:***@host:6379/0"),
        ("redis://:secret@host", "redis://:***@host"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("postgresql+asyncpg://u:p%40ss@h/db", "postgresql+asyncpg://u:***@h/db"),
        ("sqlite+aiosqlite:///realtime.db", "sqlite+aiosqlite:///realtime.db"),
        ("redis+sentinel://:secret@a:1,b:2/main", "redis+sentinel://:***@a:1,b:2/main"),
        ("redis://u:pa:ss@host", "redis://u:***@host"),
        ("redis://u:pa@ss@host", "redis://u:***@host"),
        ("redis://u:pa/ss@host/0", "redis://u:***@host/0"),
        ("redis://u:pa?ss#@host/0", "redis://u:***@host/0"),
    ],
)
def test_a_password_is_hidden(url: str, shown: str) -> None:
    assert hide_password(url) == shown


@given(secret=WORD, user=WORD, host=WORD)
def test_no_password_is_shown(secret: str, user: str, host: str) -> None:
    shown = hide_password(f"redis://{user}:{secret}!@{host}/0")
    assert shown == f"redis://{user}:***@{host}/0"


@given(st.text())
def test_a_name_stays_on_its_line_and_colours_nothing(text: str) -> None:
    shown = printable(text)
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in shown)
    if text.isprintable():
        assert shown == text


def record(name: str, message: str, *args: Any, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, args, None)


def test_a_query_is_taken_out_of_every_argument() -> None:
    found = record("uvicorn.error", '%s - "WebSocket %s" 403', "127.0.0.1:1", "/ws/secure?token=SECRET", level=40)
    assert NoQueries().filter(found) is True
    assert found.getMessage() == '127.0.0.1:1 - "WebSocket /ws/secure" 403'
    assert Quiet().filter(record("uvicorn.error", "%s", "/a?token=SECRET")) is True


@pytest.mark.parametrize(
    "message",
    [
        *('%s - "WebSocket %s" [accepted]', "connection open", "connection closed", "connection rejected (%d %s)"),
        *("HTTP response sent (%d %s)", "Invalid HTTP request received.", "Unsupported upgrade request."),
    ],
)
def test_our_own_server_says_nothing_about_single_connections(message: str) -> None:
    assert Quiet().filter(record("uvicorn.error", message)) is False
    assert Quiet().filter(record("uvicorn.error", message, level=logging.WARNING)) is False
    assert Quiet().filter(record("uvicorn.error", message, level=logging.ERROR)) is True
    assert Quiet().filter(record("realtime", message)) is True


@pytest.fixture
def no_filters() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in SERVER_LOGS]
    before = [list(each.filters) for each in loggers]
    for each in loggers:
        each.filters.clear()
    yield
    for each, filters in zip(loggers, before, strict=True):
        each.filters[:] = filters


@pytest.mark.usefixtures("no_filters")
def test_any_servers_log_is_guarded_once(caplog: pytest.LogCaptureFixture) -> None:
    hide_queries()
    hide_queries()
    for name in SERVER_LOGS:
        assert len(logging.getLogger(name).filters) == 1
    logger = logging.getLogger("uvicorn.access")
    with caplog.at_level(logging.INFO):
        logger.propagate, before = True, logger.propagate
        logger.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1", "GET", "/health?token=SECRET", "1.1", 200)
        logger.propagate = before
    assert "SECRET" not in caplog.text
    assert "/health" in caplog.text
