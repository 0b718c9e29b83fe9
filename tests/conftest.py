"""Fixtures for everybody, and the last lines of a run: what was left out on this machine, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.hostile.table import pytest_addoption, pytest_configure
from tests.javascript import Node
from tests.redis_server import RedisServer, redis_server, shared_redis
from tests.serving import ServerProcess, chromium_path

__all__ = ["pytest_addoption", "pytest_configure", "redis_server", "shared_redis"]  # hooks and fixtures

# These two look at the clock of the wall: a machine that pauses for a second would fail a test of something else.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def app_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`realtime serve` as it comes, one for the whole run: a test must not mind what others left in a room.

    Tokens are signed with ``tests.serving.SECRET``.
    """
    with ServerProcess(tmp_path_factory.mktemp("app")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(shared_redis: RedisServer) -> str:
    """The address of a real Redis that all tests share: take a channel and keys of your own."""
    return shared_redis.url


@pytest.fixture(scope="session")
def node() -> Node:
    """Node with the JavaScript clients; skips where it is missing."""
    return Node()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; skips where it is missing. As root it needs ``--no-sandbox``."""
    return chromium_path()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was skipped, once for each reason."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        longrepr = report.longrepr
        reason = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
        reasons[reason.removeprefix("Skipped: ")] += 1
    if reasons:
        terminalreporter.section("left out on this machine")
    for reason, count in sorted(reasons.items()):
        terminalreporter.line(f"{count} test{'s' if count > 1 else ''}: {reason}")
