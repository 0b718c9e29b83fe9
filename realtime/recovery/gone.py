"""A client that was here, or on another node, and is not any more: what the hook ``expired`` is told of it."""

from __future__ import annotations

import asyncio
from typing import Final

import orjson

from realtime.journal.resume import Record
from realtime.session.session import Core, Member, Session, State

NOWHERE: Final = {"type": "websocket", "path": "", "query_string": b"", "headers": []}
"""The handshake was on another node."""


class Gone(Session):
    """The session of nobody: it sends nothing, and is in no table."""

    __slots__ = ()

    kind = "gone"

    def __init__(self, core: Core) -> None:
        self.core = core
        self.scope = NOWHERE
        self.wire = None
        self.closed = True
        self.loop = asyncio.get_running_loop()


def gone(core: Core, record: Record) -> Member:
    """As far as its record tells: its sid and its data, not who it was."""
    member = Member(record.sid, record.namespace, Gone(core))
    member.state = State.GONE
    member.data = orjson.loads(record.data)
    return member
