"""A script that drives a page in a real Chromium, and talks with its test line by line."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.javascript import Node

PRELUDE = Path(__file__).with_name("browser.mjs").read_text()
STEP_SECONDS = 30.0
"""Between two words of the script: a page needs longer than a socket, above all the start of Chromium."""


class Browser:
    """The script says a word with ``tell`` and goes on when it is answered; its last word is ``end``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said: list[str] = []

    async def until(self, word: str) -> str:
        """The rest of the line that begins with this word. AssertionError with what it said if it fails before."""
        assert self._process.stdout is not None
        while True:
            try:
                line = (await asyncio.wait_for(self._process.stdout.readline(), STEP_SECONDS)).decode().rstrip("\n")
            except TimeoutError:
                raise AssertionError(f"no {word!r} within {STEP_SECONDS} s after {self._said}") from None
            self._said.append(line)
            if line.split(" ")[0] == word:
                return line[len(word) + 1 :]
            if not line or line.startswith("failed"):
                raise AssertionError("\n".join(self._said))

    async def answer(self, value: object = None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value).encode() + b"\n")
        await asyncio.wait_for(self._process.stdin.drain(), STEP_SECONDS)


@asynccontextmanager
async def browser(node: Node, chromium: str, script: str, *arguments: str) -> AsyncIterator[Browser]:
    """Runs the script with ``own`` as its arguments; ended with the block whatever happens."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            *node.arguments(PRELUDE + script, chromium, profile, *arguments),
            cwd=node.folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            yield Browser(process)
            assert await asyncio.wait_for(process.wait(), STEP_SECONDS) == 0
        finally:
            assert process.stdin is not None
            process.stdin.close()  # the script hears that, and closes its Chromium
            try:
                await asyncio.wait_for(process.wait(), STEP_SECONDS)
            except TimeoutError:
                process.kill()
                raise
