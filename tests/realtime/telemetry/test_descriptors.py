from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from realtime.metrics import Metrics
from realtime.telemetry.descriptors import Descriptors, NotEachSecond, can_open, quieten_asyncio


class ByHand:
    """Descriptors that are there or not, as the test says."""

    def __init__(self) -> None:
        self.some_are_left = True
        self.metrics = Metrics()
        self.watched = Descriptors(self.metrics, lambda: self.some_are_left)

    def look(self, some_are_left: bool, now: float) -> None:
        self.some_are_left = some_are_left
        self.watched.look(now)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage().partition(":")[0]) for record in caplog.records]


GONE = ("ERROR", "no file descriptors are left")
BACK = ("WARNING", "there are file descriptors again")


def test_one_line_for_each_state_however_often_one_looks(caplog: pytest.LogCaptureFixture) -> None:
    hand = ByHand()
    for now, left in enumerate([True, True, False, False, False, True, True]):
        hand.look(left, now)
    assert lines(caplog) == [GONE, BACK]
    assert hand.metrics.descriptors_used_up.value() == 1


def test_to_and_fro_is_counted_each_time_and_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    hand = ByHand()
    for now in range(60):
        hand.look(now % 2 == 1, now)
    assert lines(caplog) == [GONE, BACK]
    assert hand.metrics.descriptors_used_up.value() == 30
    hand.look(False, 61)
    assert lines(caplog)[2:] == [GONE]
    assert "29 more times" in caplog.text


def test_this_process_can_open_files() -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert can_open()
    assert not before or len(os.listdir("/proc/self/fd")) == before


PROGRAM = """
import os, resource
from realtime.telemetry.descriptors import can_open
resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))
held = []
try:
    while True:
        held.append(os.dup(1))
except OSError:
    pass
found = [can_open()]
os.close(held.pop())
print(*found, can_open())
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="descriptors are limited otherwise on Windows")
def test_a_process_that_has_opened_all_it_may() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize(("number", "can"), [(errno.EMFILE, False), (errno.ENFILE, False), (errno.EACCES, True)])
def test_other_errors_are_not_this_one(monkeypatch: pytest.MonkeyPatch, number: int, can: bool) -> None:
    def refuse(*args: Any) -> int:
        raise OSError(number, "")

    monkeypatch.setattr(os, "open", refuse)
    assert can_open() is can


@pytest.fixture
def asyncio_logger() -> Iterator[logging.Logger]:
    found = logging.getLogger("asyncio")
    before = list(found.filters)
    found.filters.clear()
    yield found
    found.filters[:] = before


def test_asyncio_says_nothing_each_second(asyncio_logger: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    quieten_asyncio()
    quieten_asyncio()
    assert [type(each) for each in asyncio_logger.filters] == [NotEachSecond]
    asyncio_logger.error("socket.accept() out of system resource\nsocket: <socket>")
    asyncio_logger.error("Task exception was never retrieved")
    assert [record.getMessage() for record in caplog.records] == ["Task exception was never retrieved"]
