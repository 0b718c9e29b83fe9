"""What is noted of a connection that we ended: one number by reason, and one line where its client was at fault."""

from __future__ import annotations

import logging
from typing import Final

from realtime.errors import CloseCode
from realtime.metrics import Metrics
from realtime.names import Reason

logger = logging.getLogger("realtime")

FAULTS: Final = frozenset({Reason.PROTOCOL, Reason.LIMIT, Reason.SLOW})
"""Ends that the client brought about."""


def note_end(metrics: Metrics, id: str, code: int, text: str, reason: str) -> None:
    """Once for each connection. ``text`` is ours: nothing that a client sent is in it."""
    metrics.ended.add(reason)
    if reason in FAULTS:
        words = text or CloseCode(code).name.replace("_", " ").lower()
        logger.info("client %s was ended, %s: %s", id, reason, words)
