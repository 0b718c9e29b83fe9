"""What logs and screens may show of URLs and paths. No I/O, no clock, no task."""

from __future__ import annotations

import logging
import re
from typing import Final

_PASSWORD = re.compile(r"(://[^:/@\s]*):\S*@")  # up to the last @: an unescaped one may be part of the password
_QUERY = re.compile(r"\?[^\s\"']*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x80-\x9f]")


def hide_password(url: str) -> str:
    """``redis://user:secret@host`` without the secret."""
    return _PASSWORD.sub(r"\1:***@", url)


def printable(text: str) -> str:
    """A name from outside for a log line: control characters cannot start a line or colour a terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


PER_CONNECTION: Final = (
    *("connection open", "connection closed", "connection rejected", "HTTP response sent", '%s - "WebSocket'),
    *("Invalid HTTP request received.", "Unsupported upgrade request."),  # warnings: who likes writes a line for each
)
SERVER_LOGS: Final = ("uvicorn.access", "uvicorn.error", "hypercorn.access", "hypercorn.error")


class NoQueries(logging.Filter):
    """Servers log requests and WebSockets with their whole path, and tokens travel in queries."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Takes the query out of every argument; lets every record pass."""
        if isinstance(record.args, tuple):
            record.args = tuple(_QUERY.sub("", arg) if isinstance(arg, str) else arg for arg in record.args)
        return True


class Quiet(NoQueries):
    """For a server of our own: nor does a line for each of ten thousand connections tell anybody anything."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for uvicorn's lines about single connections."""
        if not record.name.startswith("uvicorn"):
            return True
        if record.levelno <= logging.WARNING and str(record.msg).startswith(PER_CONNECTION):
            return False
        return super().filter(record)


def hide_queries() -> None:
    """Put NoQueries on the loggers of whatever server runs us. Repeats do nothing."""
    for name in SERVER_LOGS:
        found = logging.getLogger(name)
        if not any(isinstance(each, NoQueries) for each in found.filters):
            found.addFilter(NoQueries())
