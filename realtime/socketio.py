"""python-socketio's names with our server inside: change one import, keep the application.

``from realtime import socketio`` instead of ``import socketio``. Every other name is python-socketio's own.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import socketio as _stock
from socketio import *  # noqa: F403 - the point of this module is to have every name of it

from realtime.metrics import Metrics
from realtime.plug import find
from realtime.roster import BusManager
from realtime.roster import LocalManager as AsyncManager
from realtime.server import Server


class AsyncServer(Server):
    """Our server under python-socketio's name: always for ASGI, its wires in place."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.eio.wires = {"websocket": find("websocket")(), "polling": find("polling")()}


class AsyncRedisManager(BusManager):
    """As python-socketio's, with reconnecting connections of our own."""

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        channel: str = "socketio",
        write_only: bool = False,
        logger: Any = None,
        json: Any = None,
        redis_options: dict[str, Any] | None = None,
    ) -> None:
        metrics = Metrics()
        super().__init__(find(urlsplit(url).scheme)(url, channel, metrics), metrics, channel)
        self.write_only = write_only
        self.logger = logger
        if json is not None:
            self.json = json


ASGIApp = _stock.ASGIApp
__version__ = getattr(_stock, "__version__", "")
__all__ = [*_stock.__all__, "AsyncRedisManager"]
