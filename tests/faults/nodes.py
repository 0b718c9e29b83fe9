"""Nodes as processes: started, killed without a word and started again; each life has a name and a ledger."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from time import monotonic

from tests.faults.history import Emission, Life, read_ledger
from tests.serving import ROOT, ServerProcess, fetch

SETTINGS = {
    "REALTIME_PING_INTERVAL_SECONDS": "5",
    "REALTIME_PING_TIMEOUT_SECONDS": "5",
    "REALTIME_RECOVERY_WINDOW_SECONDS": "60",
    "REALTIME_RECOVERY_LIMIT_RETURNS": "300",
}
"""So that who fell silent is noticed within a run, nobody is away for longer than the window, and none returns too
often."""
WHOLE_SECONDS = 20.0
START_SECONDS = 60.0
"""Two hundred clients, and whoever else is on the machine, want the processor at the same time."""


class Node:
    """One instance; ``redis_url`` None: it has its journal in its own memory."""

    def __init__(self, folder: Path, name: str, redis_url: str | None, patience_seconds: float = 3.0) -> None:
        self._folder = folder
        command = [sys.executable, "-m", "realtime", "serve", "tests.faults.application:app", "--port", "{port}"]
        redis = ["--redis", redis_url] if redis_url else []
        database = f"sqlite+aiosqlite:///{(folder / f'{name}.db').as_posix()}"
        own = {"PYTHONPATH": str(ROOT), "REALTIME_NODE": name, "FAULTS_FOLDER": str(folder)}
        settings = SETTINGS | {"REALTIME_BUS_PATIENCE_SECONDS": f"{patience_seconds:g}"}
        self.server = ServerProcess(folder, "--database", database, *redis, command=command, env={**settings, **own})
        self.name, self.url, self.ws_url = name, self.server.url, self.server.ws_url
        self.up = False
        self.life = ""
        self.lives: dict[str, Life] = {}

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start, START_SECONDS)
        self.life = f"{self.name}-{self.server.pid}"
        self.lives[self.life] = Life(self.life)
        self.up = True

    async def kill(self) -> None:
        self.up = False
        self.lives[self.life].killed = monotonic()
        await asyncio.to_thread(self.server.kill)

    async def deploy(self) -> None:
        """Ended in order, as a deploy does it, and started again."""
        self.up = False
        await asyncio.to_thread(self.server.stop)
        await self.start()

    async def until_whole(self, seconds: float = WHOLE_SECONDS) -> None:
        """Until it says that it is ready."""
        await asyncio.to_thread(self.server.until, lambda: fetch(f"{self.url}/health/ready")[0] == 200, seconds)

    async def stop(self) -> None:
        if self.up:
            self.up = False
            await asyncio.to_thread(self.server.stop)

    def read(self) -> list[Emission]:
        """The ledgers of all its lives."""
        found = []
        for life in self.lives.values():
            path = self._folder / f"{life.name.rpartition('-')[2]}.jsonl"
            emissions, life.regained = read_ledger(life.name, path.read_text().splitlines())
            found += emissions
        return found
