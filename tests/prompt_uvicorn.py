"""uvicorn inside the process of the tests, without its pauses.

uvicorn looks every 100 ms whether it is to end, pauses 100 ms for its connections and then looks for them every
100 ms: a fifth of a second for each server that a test starts, and there are a thousand of them. Here the same
steps wait for what they are about. Servers that are processes of their own keep uvicorn's ways.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import Any

import uvicorn


def listener() -> socket.socket:
    """On a free port of loopback. Named TCP, as `realtime serve` does: else asyncio leaves Nagle's waiting on."""
    found = socket.create_server(("127.0.0.1", 0))
    return socket.socket(found.family, found.type, socket.IPPROTO_TCP, found.detach())


class Watched(set[Any]):
    """A set that tells when something left it."""

    def __init__(self, changed: Callable[[], object], items: Iterable[Any] = ()) -> None:
        super().__init__(items)
        self._changed = changed

    def discard(self, item: Any) -> None:
        super().discard(item)
        self._changed()

    def remove(self, item: Any) -> None:
        super().remove(item)
        self._changed()


class PromptUvicorn(uvicorn.Server):
    """``should_exit`` may be set from any thread; it takes effect at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        self._asked = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        super().__init__(config)
        self.server_state.connections = Watched(self.changed)
        self.server_state.tasks = Watched(self.changed)

    def changed(self) -> None:
        """Called on the loop of the server when a connection or a task of it has ended."""
        self._woken.set()

    @property
    def should_exit(self) -> bool:
        return self._asked

    @should_exit.setter
    def should_exit(self, asked: bool) -> None:
        self._asked = asked
        if asked and self._loop is not None:
            self._loop.call_soon_threadsafe(self._woken.set)

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        ticking = asyncio.ensure_future(super().main_loop())  # the date of answers, and what else uvicorn counts
        ticking.add_done_callback(lambda _: self._woken.set())
        try:
            await self._until(lambda: self.should_exit or ticking.done())
        finally:
            self._loop = None
            ticking.cancel()
            await asyncio.wait([ticking])
        if not ticking.cancelled():
            ticking.result()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's steps in uvicorn's order."""
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                await self._until(lambda: not (state.connections or state.tasks))
                for server in self.servers:
                    await server.wait_closed()
        except TimeoutError:
            for task in state.tasks:
                task.cancel()
        await self.lifespan.shutdown()

    async def _until(self, check: Callable[[], bool]) -> None:
        while not check():
            self._woken.clear()
            await self._woken.wait()
