"""An application behind a real uvicorn on the event loop of the test, and real python-socketio clients of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from realtime import Settings
from tests.end_to_end.clients import SECONDS, SocketIOClient, socket_io, within
from tests.prompt_uvicorn import PromptUvicorn, listener
from tests.serving import SECRET

__all__ = ["SECONDS", "SocketIOClient", "living", "settings_for", "socket_io", "within"]


def settings_for(**changes: Any) -> Settings:
    """Settings of a test's own: those of whoever runs the tests do not reach it."""
    return Settings(_env_prefix="NOBODY_SETS_THESE_", jwt_secret=SECRET, **changes)


@asynccontextmanager
async def living(app: Any, **options: Any) -> AsyncIterator[str]:
    """Serve ``app`` for the block; answers its URL."""
    listening = listener()
    config = uvicorn.Config(
        app,
        **({"ws": "websockets-sansio", "log_config": None, "access_log": False, "ws_ping_interval": None} | options),
    )
    server = _Uvicorn(config)
    serving = asyncio.create_task(server.serve([listening]))
    try:
        async with asyncio.timeout(SECONDS):
            await server.up.wait()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await within(serving, 2 * SECONDS)


class _Uvicorn(PromptUvicorn):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, *args: Any, **options: Any) -> None:
        await super().startup(*args, **options)
        self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are those of whoever runs the tests."""
        yield
