"""For the two protocol suites (port 3000): ``/engine.io/`` echoes, ``/socket.io/`` is the application of tests/wire.

``WIRE_PING`` is ``interval,timeout`` in seconds: ``0.3,0.2`` is what the suites ask for, ``25,20`` lets nothing be
ended by a ping that ought to end for its own reason.
"""

from __future__ import annotations

from realtime import socketio
from tests.suites.engine_echo import engine_server
from tests.wire.app import INTERVAL, TIMEOUT
from tests.wire.app import app as wire_app

echo = engine_server(ping_interval=INTERVAL, ping_timeout=TIMEOUT)
app = socketio.ASGIApp(echo, wire_app, socketio_path="engine.io")
