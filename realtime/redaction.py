"""Pure: no I/O, no clock, no task. What logs and screens may show of URLs and paths."""

from __future__ import annotations

import logging
import re

_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@\s]*@")
_QUERY = re.compile(r"\?[^\s\"']*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x80-\x9f]")


def hide_password(url: str) -> str:
    """``redis://user:secret@host`` without the secret."""
    return _PASSWORD.sub(r"\1:***@", url)


def printable(text: str) -> str:
    """A name from outside for a log line: control characters cannot start a line or colour a terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


PER_CONNECTION = ("connection open", "connection closed", "connection rejected", '%s - "WebSocket')


class NoQueries(logging.Filter):
    """Servers log a line or two for each WebSocket, with its whole path. Tokens travel in queries, and a line for
    each of ten thousand connections tells nobody anything."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("uvicorn"):
            return True
        if record.levelno <= logging.INFO and str(record.msg).startswith(PER_CONNECTION):
            return False
        if isinstance(record.args, tuple):
            record.args = tuple(_QUERY.sub("", arg) if isinstance(arg, str) else arg for arg in record.args)
        return True
