"""Which namespaces keep what they say, and which clients are told where they are."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from realtime.access.environ import query_of
from realtime.encoding.codecs import Dialect, SocketIOText
from realtime.journal.log import Log
from realtime.journal.said import OffsetMsgPack, OffsetText, SplicedText
from realtime.rooms.hub import Hub
from realtime.rooms.keeper import Keeper
from realtime.settings import Settings

_PYTHON: Final = re.compile(rb"(?:^|&)transport=(?:polling|websocket)&EIO=4(?:&|$)")
"""How python-engineio's clients write their query; every other client puts EIO first."""


def takes_offsets(scope: Mapping[str, Any]) -> bool:
    """``?recovery=0|1`` decides; without it everybody but python-socketio's clients, whose handlers of one argument
    would be called with two."""
    wish = query_of(scope).get("recovery", "auto")
    return wish == "1" or (wish != "0" and _PYTHON.search(scope.get("query_string", b"")) is None)


class Keepers:
    """One server's."""

    def __init__(
        self,
        hub: Hub,
        settings: Settings,
        dialect: Dialect,
        dumps: Callable[[Any], str] | None,
        clock: Callable[[], float],
    ) -> None:
        self._hub = hub
        self._settings = settings
        self._dumps = dumps
        self._clock = clock
        spliced = isinstance(dialect, SocketIOText)
        self._plain: Dialect = SplicedText(dumps) if spliced else dialect
        self._offsets: Dialect = OffsetText(dumps) if spliced else OffsetMsgPack()
        """Packets that a client of this dialect is sent are the same in namespaces that keep nothing."""
        self.elsewhere: Callable[[str], Keeper] | None = None
        """Makes the keeper of a namespace whose log is one for several nodes."""

    def keep(self, namespace: str) -> None:
        """From now on this namespace keeps what it says. Repeats change nothing."""
        if namespace in self._hub.keepers:
            return
        settings, hub = self._settings, self._hub
        if self.elsewhere is not None:
            hub.keepers[namespace] = self.elsewhere(namespace)
            return
        log = Log(
            secrets.token_hex(6),
            entries=settings.log_limit_entries,
            seconds=settings.log_limit_seconds,
            size_bytes=settings.log_limit_bytes,
            watched=lambda channel: hub.is_watched(namespace, channel),
        )
        hub.keepers[namespace] = Keeper(namespace, log, self._clock, self._dumps)

    def keeps(self, namespace: str) -> bool:
        """Does it keep what it says?"""
        return namespace in self._hub.keepers

    def is_for(self, scope: Mapping[str, Any], wanted: Iterable[str]) -> bool:
        """Is there anything to recover, for a client that can? ``wanted`` are namespaces that keep what
        they say from now on."""
        for namespace in wanted:
            self.keep(namespace)
        return bool(self._hub.keepers) and takes_offsets(scope)

    def newest(self, namespace: str) -> str | None:
        """The newest offset, as clients are given it; None in a namespace that keeps nothing."""
        keeper = self._hub.keepers.get(namespace)
        return None if keeper is None else keeper.mark

    def dialect(self, recovers: bool) -> Dialect:
        """How Socket.IO clients are spoken to that take offsets, or do not."""
        return self._offsets if recovers else self._plain
