"""Our server under test, the python-socketio way: one import is ours, the rest is as it would be written for theirs."""

from __future__ import annotations

import os

from benchmarks.servers.classic import add_events
from realtime import socketio

sio = socketio.AsyncServer(async_mode="asgi", serializer=os.environ.get("BENCH_SERIALIZER", "default"))
add_events(sio)
app = socketio.ASGIApp(sio)
