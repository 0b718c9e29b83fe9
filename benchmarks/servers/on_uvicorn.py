"""``python -m benchmarks.servers.on_uvicorn MODULE:APP PORT``: any ASGI application on uvicorn at its best.

uvloop, httptools, the fastest of its WebSocket implementations, no compression (Node's server does none either),
no second heartbeat beside Engine.IO's, no access log.
"""

from __future__ import annotations

import sys

import uvicorn


def main(app: str, port: str) -> None:
    uvicorn.run(
        app,
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
