"""An example as somebody starts it: a process whose lines a test reads while it runs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.serving import ROOT

EXAMPLES = ROOT / "examples"
SECONDS = 15.0
"""For one line, the start of an interpreter on a busy machine included."""


class Program:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []

    async def until(self, words: str) -> str:
        """The next line with these words in it. AssertionError with everything before if it ends or is late."""
        while True:
            line = await self._line()
            if line is None:
                raise AssertionError(f"it ended without {words!r}:\n" + "\n".join(self.lines))
            if words in line:
                return line

    async def _line(self) -> str | None:
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), SECONDS)
        except TimeoutError:
            raise AssertionError(f"nothing within {SECONDS} s after:\n" + "\n".join(self.lines)) from None
        if not line:
            return None
        self.lines.append(line.decode().rstrip("\n"))
        return self.lines[-1]

    async def end(self) -> int:
        """Read to the end; the exit code."""
        while await self._line() is not None:
            pass
        return await asyncio.wait_for(self._process.wait(), SECONDS)

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)


@asynccontextmanager
async def running(*command: str, cwd: Path = EXAMPLES, env: Mapping[str, str] | None = None) -> AsyncIterator[Program]:
    """Both streams in one; ended with the block if it still runs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("REALTIME_")}
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=inherited | {"PYTHONPATH": str(ROOT)} | dict(env or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.terminate()  # first: it may have processes of its own
        try:
            await asyncio.wait_for(process.wait(), SECONDS)
        except TimeoutError:
            process.kill()
            raise


def python(script: str, *arguments: str) -> list[str]:
    """The command line of an example in Python."""
    return [sys.executable, str(EXAMPLES / script), *arguments]
