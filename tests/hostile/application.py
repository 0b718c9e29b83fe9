"""The application as it comes, with a namespace for the bystander, a handler that blocks, and one more route: what
lives in this process right now."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from typing import Any

from namespaces.app import create_app
from realtime import Namespace, Server, Socket, event


class Root(Namespace):
    """Speaks as the root namespace of the wire tests does."""

    path = "/"

    async def connected(self, socket: Socket) -> None:
        await socket.emit("hello", None)

    @event
    async def message(self, socket: Socket, text: str) -> None:
        await socket.emit("message-back", text)

    @event
    async def block(self, seconds: float) -> None:
        """As a handler does that waits for a disk or computes."""
        threading.Event().wait(seconds)


app = create_app()
app.state.realtime.include(Root())


def handlers_that_ran(server: Server) -> dict[str, int]:
    """By namespace and event; those of the root namespace by the event alone."""
    return {
        name if namespace == "/" else f"{namespace} {name}": sum(counts)
        for (namespace, name), counts in server.metrics.handler_seconds.counts.items()
    }


def open_files() -> int:
    """File descriptors of this process, sockets included; 0 where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


@app.get("/debug/state")
async def state() -> dict[str, Any]:
    """``objects`` are those that the garbage collector still knows of. Idle workers are kept, up to ``SPARE`` of each
    of the two pools."""
    server: Server = app.state.realtime.server
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    gc.collect()
    return {
        "sessions": len(server.core.sessions),
        "members": sum(len(rooms.everyone) for rooms in server.hub.namespaces.values()),
        "rooms": sum(len(rooms) for rooms in server.hub.namespaces.values()),
        "work": sum(len(pool(asyncio.get_running_loop())) for pool in (server.core.workers, server.core.threshold)),
        "tasks": len(names) - names.count("Worker._work"),
        "idle workers": names.count("Worker._work"),
        "threads": threading.active_count(),
        "objects": len(gc.get_objects()),
        "files": open_files(),
        "called": handlers_that_ran(server),
        "violations": {labels[0]: value for labels, value in server.metrics.violations.values.items()},
        "drops": {labels[0]: value for labels, value in server.metrics.drops.values.items()},
    }
