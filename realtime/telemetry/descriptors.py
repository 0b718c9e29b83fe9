"""File descriptors that are used up: told and counted once for each time, however many clients knock meanwhile.

Event loops keep it to themselves or tell it without end: uvloop takes such a client and drops it at once, without a
word; asyncio logs a traceback each second. So the process is asked now and then whether it can open anything.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from typing import Final

from realtime.metrics import Metrics
from realtime.telemetry.seldom import Seldom

logger = logging.getLogger("realtime")

USED_UP: Final = frozenset({errno.EMFILE, errno.ENFILE})
OF_ASYNCIO: Final = "socket.accept() out of system resource"
"""How asyncio's own line begins."""


def can_open() -> bool:
    """Could this process open a file now? Costs some microseconds."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in USED_UP
    return True


class Descriptors:
    """``look`` is called again and again with the time in seconds; it tells of the changes that it sees.

    A process at its limit may go to and fro: that is counted each time, and told once a minute.
    """

    def __init__(self, metrics: Metrics, can_open: Callable[[], bool] = can_open) -> None:
        self._metrics = metrics
        self._can_open = can_open
        self._seldom = Seldom()
        self._used_up = False
        self._told = False

    def look(self, now: float) -> None:
        used_up = not self._can_open()
        if used_up == self._used_up:
            return
        self._used_up = used_up
        if used_up:
            self._metrics.descriptors_used_up.add()
            more = self._seldom.left_out("used up", now)
            self._told = more is not None
            if self._told:
                logger.error(
                    "no file descriptors are left: nobody new can connect until some are free "
                    "(ulimit -n; and %d more times since the last such line)",
                    more,
                )
        elif self._told:
            logger.warning("there are file descriptors again: clients can connect")


class NotEachSecond(logging.Filter):
    """For the logger of asyncio: what ``Descriptors`` tells once needs no traceback each second."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(OF_ASYNCIO)


def quieten_asyncio() -> None:
    """Put NotEachSecond on the logger of asyncio. Repeats do nothing."""
    found = logging.getLogger("asyncio")
    if not any(isinstance(each, NotEachSecond) for each in found.filters):
        found.addFilter(NotEachSecond())
