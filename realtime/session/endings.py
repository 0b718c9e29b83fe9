"""What is noted of a client that is over a limit, and of one that we ended: a line for each, however often it tries."""

from __future__ import annotations

import logging
from typing import Final, Protocol

from realtime.errors import CloseCode
from realtime.metrics import Metrics
from realtime.names import Reason

logger = logging.getLogger("realtime")

FAULTS: Final = frozenset({Reason.PROTOCOL, Reason.LIMIT, Reason.SLOW})
"""Ends that the client brought about."""


class Client(Protocol):
    """What is asked of a session."""

    id: str
    noted: frozenset[str]


def note_limit(client: Client, code: str) -> None:
    """Once for each connection and limit. ``code`` is a word of ours (``errors.label_of``), so they are few."""
    if code not in client.noted:
        client.noted |= {code}
        logger.info("client %s is over a limit: %s", client.id, code)


def note_end(metrics: Metrics, id: str, code: int, text: str, reason: str) -> None:
    """Once for each connection. ``text`` is ours: nothing that a client sent is in it."""
    metrics.ended.add(reason)
    if reason in FAULTS:
        words = text or CloseCode(code).name.replace("_", " ").lower()
        logger.info("client %s was ended, %s: %s", id, reason, words)
