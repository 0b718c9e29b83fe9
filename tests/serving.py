"""Real parts for tests: free ports, server processes, programs of the machine.

Whatever is missing on the machine skips the test with a reason; the last lines of the run name them all.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECRET = "a-secret-for-tests-and-for-nothing-else-at-all"
"""46 bytes: long enough for HS256, and it protects nothing."""

START_SECONDS = 20.0
"""A bound, not a measurement: a third of what one test may take, so that a dead start is reported as one."""
STOP_SECONDS = 5.0
ATTEMPT_SECONDS = 0.02
"""The pause between two questions to an outside process; it ends at once when that process dies."""

PORTS = range(10_000, 32_000)
"""Below those from which systems take one for a connection (32,768 and up on Linux): until a server has bound the one
that it was promised, only another server could take it. A second run of the tests may be going on beside this one."""
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_OWN_PORTS = PORTS[_WORKER::_WORKERS]
"""What workers of one run may promise: none to two of them."""
_promised: deque[int] = deque(maxlen=1_000)
"""Twelve servers of a cluster are promised theirs before the first of them binds its own."""

Answer = TypeVar("Answer")


def free_port() -> int:
    """A TCP port on the loopback address that nobody had a moment ago, and that no client is given."""
    for port in random.SystemRandom().sample(_OWN_PORTS, k=2_000):
        if port in _promised:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _promised.append(port)
            return port
    raise AssertionError(f"no free port in {_OWN_PORTS}")


def fetch(url: str, timeout: float = 5.0) -> tuple[int, bytes]:
    """Status and body of a GET. Blocks; raises OSError or HTTPException when nobody answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
    try:
        connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


# ── programs of the machine ──────────────────────────────────────────────────────────────────────


def program(*names: str, package: str) -> str:
    """The path of the first of these programs that the machine has; skips the test where it has none.

    Debian keeps servers where only root looks (/usr/sbin, PostgreSQL in a folder for each version).
    """
    postgres = sorted(str(path) for path in Path("/usr/lib/postgresql").glob("*/bin"))
    folders = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", *reversed(postgres)])
    for name in names:
        path = shutil.which(name, path=folders)
        if path:
            return path
    pytest.skip(f"no {names[0]} on this machine (Debian: apt install {package})")


def chromium_path() -> str:
    mac = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
    return program("chromium", "chromium-browser", "google-chrome", "chrome", mac, package="chromium")


# ── server processes ─────────────────────────────────────────────────────────────────────────────


class ServerProcess:
    """One real server on its own free port; ``with ServerProcess(folder) as server`` starts and stops it.

    Without ``command`` it is ``realtime serve`` with a database in ``folder``; ``arguments`` are added to either.
    ``{port}`` in the command and in the values of ``env`` stands for the port. ``ready`` is the path
    that has to answer 200 before start() returns; None means that the port has to take a connection.
    The settings of whoever runs the tests (REALTIME_…) do not reach the process.
    All methods block for a bounded time; in a coroutine call them through ``asyncio.to_thread``.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        ready: str | None = "/health/live",
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}"
        self.log = folder / f"server-{self.port}.log"
        self._folder = folder
        self._ready = ready
        self._command = [part.replace("{port}", str(self.port)) for part in (*(command or self._serve()), *arguments)]
        self._env = self._environment(env or {})
        self._process: subprocess.Popen[bytes] | None = None

    def _serve(self) -> list[str]:
        database = (self._folder / "realtime.db").as_posix()
        return [
            *(sys.executable, "-m", "realtime", "serve", "--port", "{port}"),
            *("--database", f"sqlite+aiosqlite:///{database}"),
        ]

    def _environment(self, own: Mapping[str, str]) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("REALTIME_")}
        ours = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "REALTIME_JWT_SECRET": SECRET}
        return inherited | ours | {name: value.replace("{port}", str(self.port)) for name, value in own.items()}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self, seconds: float = START_SECONDS) -> None:
        """Start the process and wait until it answers; AssertionError with its output if it does not."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self.until(self.is_ready, seconds)
        except BaseException:
            self.kill()
            raise

    def is_ready(self) -> bool:
        try:
            if self._ready is None:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return True
            return fetch(self.url + self._ready, timeout=1)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def until(self, check: Callable[[], Answer], seconds: float = 5.0) -> Answer:
        """Ask until the answer is true, and return it.

        Only for what an outside process cannot tell by itself (its port is open, a number in its metrics);
        whatever arrives on a connection is awaited there. AssertionError when time is up or the process died.
        """
        deadline = monotonic() + seconds
        while True:
            answer = check()
            if answer:
                return answer
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=ATTEMPT_SECONDS)
                raise AssertionError(f"the process ended with {self.process.returncode}:\n{self.output()}")
            assert monotonic() < deadline, f"not within {seconds} s; its last words:\n{self.output()[-2000:]}"

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """Ask the process to end (SIGTERM) and return its exit code; it is killed when time is up."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return self.kill()

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> int:
        """End the process without a word, as a crash would; returns its exit code."""
        self.process.kill()
        return self.process.wait(timeout=STOP_SECONDS)

    def output(self) -> str:
        """Everything it has printed so far, both streams."""
        return self.log.read_text(errors="replace")
