"""A server process under test: pinned to one core, its CPU time and its memory read from outside."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

ROOT: Final = Path(__file__).resolve().parent.parent
START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 5.0
ATTEMPT_SECONDS: Final = 0.05


class ServerFailed(Exception):
    """It did not start, or ended before its time; the text has its last words."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cores() -> tuple[int, int] | None:
    """(the server's core, the load generator's), or None where this cannot be chosen."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    ours = sorted(os.sched_getaffinity(0))
    return (ours[0], ours[1]) if len(ours) > 1 else None


class ServerProcess:
    """``with ServerProcess(command) as server``: started in an empty folder, stopped and its folder removed.

    ``{port}`` in the command is the port. Blocks for a bounded time; raises ServerFailed.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], core: int | None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [part.replace("{port}", str(self.port)) for part in command]
        self._env = env
        self._core = core
        self._process: subprocess.Popen[bytes]
        self._folder: tempfile.TemporaryDirectory[str]
        self._log: IO[bytes]

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="realtime-bench-")
        self._log = open(Path(self._folder.name) / "log", "w+b")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("REALTIME_")}
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder.name,
            env=inherited | {"PYTHONPATH": str(ROOT)} | dict(self._env),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        if self._core is not None:
            os.sched_setaffinity(self._process.pid, {self._core})  # before it has made a thread of its own
        try:
            self._wait_for_port()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_for_port(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(ATTEMPT_SECONDS)
        raise ServerFailed(f"it does not listen after {START_SECONDS:.0f} s:\n{self.last_words()}")

    def check(self) -> None:
        """Raises ServerFailed when the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise ServerFailed(f"it ended with code {code}:\n{self.last_words()}")

    def last_words(self) -> str:
        self._log.seek(0)
        return self._log.read()[-2000:].decode(errors="replace")

    def stop(self) -> None:
        """At once: nothing of it is kept, and a server that says good-bye to thousands takes its time."""
        self._process.kill()
        self._process.wait(STOP_SECONDS)
        self._log.close()
        self._folder.cleanup()

    # --- what it costs

    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far.

        From the process's CPU clock (nanoseconds) on Linux, else from ``ps`` (hundredths).
        """
        pid = self._process.pid
        if platform.system() == "Linux":
            return time.clock_gettime((~pid << 3) | 2)  # the encoding of clock_getcpuclockid(3)
        found = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], capture_output=True, text=True, check=True)
        minutes, _, seconds = found.stdout.strip().rpartition(":")
        hours, _, minutes = minutes.rpartition(":")
        return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)

    def memory_bytes(self) -> int | None:
        """What the process alone has written into memory (Private_Dirty of smaps_rollup); None where unknown."""
        try:
            lines = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return None
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")) * 1024

    def open_files(self) -> int | None:
        """File descriptors, sockets included; None where unknown."""
        try:
            return len(os.listdir(f"/proc/{self._process.pid}/fd"))
        except OSError:
            return None
