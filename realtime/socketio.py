"""python-socketio's names with our server inside: change one import, keep the application.

``from realtime import socketio`` instead of ``import socketio``. Every other name is python-socketio's own.
"""

from __future__ import annotations

from typing import Any

import socketio as _stock
from socketio import *  # noqa: F403 - the point of this module is to have every name of it
from socketio import exceptions as exceptions

from realtime.errors import UsageError
from realtime.metrics import Metrics
from realtime.plug import find_bus
from realtime.ports import Bus
from realtime.server.roster import BusManager
from realtime.server.roster import LocalManager as AsyncManager
from realtime.server.server import Server as AsyncServer


class AsyncRedisManager(BusManager):
    """As python-socketio's, with reconnecting connections of our own; nothing connects before it is used.

    Raises UsageError for a URL that cannot be read, and for ``redis_options``: the URL says them all
    (``rediss://user:password@host:6379/0``).
    """

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        channel: str = "socketio",
        write_only: bool = False,
        logger: Any = None,
        json: Any = None,
        redis_options: dict[str, Any] | None = None,
    ) -> None:
        if redis_options:
            raise UsageError(f"redis_options are not taken ({', '.join(redis_options)}): write them into the URL")
        metrics = Metrics()
        super().__init__(_open(url, channel, metrics), metrics, channel)
        self._url = url
        self.write_only = write_only
        self.logger = logger
        if json is not None:
            self.json = json

    def set_server(self, server: AsyncServer) -> None:
        """Belong to this server, and count into its numbers."""
        super().set_server(server)
        self.metrics = server.metrics
        self.bus = _open(self._url, self.channel, server.metrics)


def _open(url: str, channel: str, metrics: Metrics) -> Bus:
    bus: Bus = find_bus(url)(url, channel, metrics)
    return bus


def __getattr__(name: str) -> Any:
    """What python-socketio has beside what it exports: its modules, such as ``exceptions``."""
    return getattr(_stock, name)


ASGIApp = _stock.ASGIApp
__version__ = getattr(_stock, "__version__", "")
__all__ = [*_stock.__all__, "AsyncManager", "AsyncRedisManager", "AsyncServer"]
