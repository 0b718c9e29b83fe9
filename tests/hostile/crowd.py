"""Thousands of clients as a process of their own, so that they take no time from the bystander: `realtime bench`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.houses import APPLICATION, QUICK, warm
from tests.serving import ROOT, ServerProcess, fetch
from tests.wire.servers import Wire

resource = pytest.importorskip("resource", reason="descriptors are limited otherwise here")

IN_FULL = float(os.environ.get("SOAK_SECONDS", "20")) >= 300
"""The numbers of the rows take minutes where others work on the machine; they come with a soak of five or more."""
CROWD_SECONDS = 300.0 if IN_FULL else 60.0
"""For everything that one crowd does."""
SPARE_FILES = 500
LONG_TIMES = {
    "REALTIME_CONNECT_TIMEOUT_SECONDS": "60",
    "REALTIME_RECOVERY_WINDOW_SECONDS": "1",
    "REALTIME_HISTORY_ON_JOIN": "0",
}
"""Time for each of them, and nothing that stays behind for longer than a test."""


@contextmanager
def descriptors(wanted: int) -> Iterator[None]:
    """So many may be open, here and in servers that are started meanwhile; skips the test where that is forbidden."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"only {hard} file descriptors may be open on this machine, and this takes {wanted}")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def house_for(clients: int, folder: Path, wire: Wire) -> Iterator[ServerProcess]:
    """A server with room for so many."""
    with descriptors(clients * (2 if wire.polling else 1) + SPARE_FILES):
        arguments = (APPLICATION, "--wire", wire.websocket_class)
        with ServerProcess(folder, *arguments, env=QUICK | LONG_TIMES) as server:
            warm(server)
            yield server


class Crowd:
    """``realtime bench`` under way."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def found(self) -> dict[str, Any]:
        """What it has to tell when it is through."""
        told, problems = await asyncio.wait_for(self._process.communicate(), CROWD_SECONDS)
        assert told, problems.decode()
        found: dict[str, Any] = json.loads(told)["results"][0]
        return found

    async def cut(self) -> None:
        """All its clients are gone at once, without a word."""
        if self._process.returncode is None:
            self._process.kill()
        await asyncio.wait_for(self._process.wait(), CROWD_SECONDS)


@asynccontextmanager
async def crowd(server: ServerProcess, wire: Wire, scenario: str, *options: str) -> AsyncIterator[Crowd]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "realtime", "bench", server.url, "--json", "--scenario", scenario),
        *("--wire", "polling" if wire.polling else "socketio", *options),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    found = Crowd(process)
    try:
        yield found
    finally:
        await found.cut()


async def members(server: ServerProcess, namespace: str, wanted: int) -> None:
    """Returns when this namespace has so many."""
    line = f'realtime_namespace_connections{{namespace="{namespace}"}} {float(wanted)}\n'

    def there() -> bool:
        return line in fetch(server.url + "/metrics", 20)[1].decode()

    await asyncio.to_thread(server.until, there, CROWD_SECONDS)
