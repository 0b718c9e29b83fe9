"""``python -m benchmarks.servers.on_uvicorn MODULE:APP PORT``: any ASGI application on uvicorn at its best.

uvloop, httptools, the fastest of its WebSocket implementations, no compression (Node's server does none either),
no second heartbeat beside Engine.IO's, no access log, what is loaded out of the garbage collector's way.
"""

from __future__ import annotations

import gc
import sys

import uvicorn
from uvicorn.importer import import_from_string


def main(app: str, port: str) -> None:
    loaded = import_from_string(app)
    gc.collect()
    gc.freeze()  # as `realtime serve` does
    uvicorn.run(
        loaded,
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
