"""Stock python-socketio under test, its loggers off."""

from __future__ import annotations

import os

import socketio

from benchmarks.servers.classic import add_events

sio = socketio.AsyncServer(
    async_mode="asgi", serializer=os.environ.get("BENCH_SERIALIZER", "default"), logger=False, engineio_logger=False
)
add_events(sio)
app = socketio.ASGIApp(sio)
