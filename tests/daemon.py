"""A server of the machine that says on its output when it takes connections: started, listened to, and ended."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.serving import free_port


class Daemon:
    """``start`` and ``stop`` as often as needed: port and folder stay the same. Also a context manager."""

    SIGNS: tuple[str, ...]
    """One of them stands in the line that says that it is ready."""
    START_SECONDS: float
    STOP_SECONDS: float
    """After a signal; then it is killed."""
    CRASH = signal.SIGKILL
    """Ends it at once, where it did not start."""

    def __init__(self, kind: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{kind}-"))
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._heard = threading.Event()
        self._ready = False
        self._lines: deque[str] = deque(maxlen=50)

    @property
    def running(self) -> bool:
        """Started, and not ended by us: whether it still lives is its own matter."""
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Returns when it accepts connections."""
        raise NotImplementedError

    def stop(self) -> None:
        """As an operator stops it. Repeats do nothing."""
        raise NotImplementedError

    def begin(self, command: Sequence[str | Path], user: str | None = None) -> None:
        """Returns when it says that it is ready; AssertionError with its last words when it does not."""
        assert not self.running, "the server is running already"
        self._heard.clear()
        self._ready = False
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder, user=user
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        if not (self._heard.wait(self.START_SECONDS) and self._ready):
            self.end(self.CRASH)
            raise AssertionError("the server did not start:\n" + "".join(self._lines))

    def end(self, how: signal.Signals) -> None:
        """Returns when it is gone."""
        assert self._process is not None, "the server is not running"
        self._process.send_signal(how)
        try:
            self._process.wait(self.STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(self.STOP_SECONDS)
        if self._reader is not None:
            self._reader.join(self.STOP_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = self._reader = None

    def _read(self, output: IO[str]) -> None:
        """Until the server ends: a pipe that nobody empties would stop it."""
        for line in output:
            self._lines.append(line)
            if any(sign in line for sign in self.SIGNS):
                self._ready = True
                self._heard.set()
        self._heard.set()  # it ended; whoever waits for the start shall not wait longer

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
