"""Who runs: a list of contestants as data, and how each is made ready on a bare machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SERVERS: Final = Path(__file__).resolve().parent / "servers"
NPM_SECONDS: Final = 120.0
OLDEST_NODE: Final = 20

LIMITS: Final = {
    "REALTIME_EVENTS_PER_SECOND": "1000000",
    "REALTIME_BACKLOG_LIMIT_BYTES": "67108864",
    "REALTIME_BACKLOG_LIMIT_MESSAGES": "100000",
    "REALTIME_INBOX_LIMIT_EVENTS": "10000",
    "REALTIME_JWT_SECRET": "a-secret-for-benchmarks-and-for-nothing-else",
}
"""Ours checks its limits as always; they are only too high to be reached."""


class Missing(Exception):
    """This contestant cannot run on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """``command`` is asked when it is needed: it may install or compile, and raises Missing.

    ``lacks`` names the work that it cannot do (see ``scenarios``).
    """

    name: str
    title: str
    command: Callable[[], list[str]]
    ours: bool = False
    lacks: frozenset[str] = frozenset()

    def env(self, serializer: str) -> dict[str, str]:
        return (LIMITS if self.ours else {}) | {"BENCH_SERIALIZER": serializer}


# ── Python ───────────────────────────────────────────────────────────────────────────────────────


def _fast(app: str) -> list[str]:
    command = [sys.executable, "-m", "realtime", "serve", app, "--port", "{port}", "--log-level", "warning"]
    return [*command, "--wire", "fast"]


def _on_uvicorn(app: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.servers.on_uvicorn", app, "{port}"]


def _classic() -> list[str]:
    """On the fast wire where there is one."""
    app = "benchmarks.servers.ours_classic:app"
    try:
        return _fast(app)
    except Missing:
        return _on_uvicorn(app)


# ── Node ─────────────────────────────────────────────────────────────────────────────────────────


def cache_folder() -> Path:
    """Outside the tree: what was installed once serves every checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "realtime-rooms" / "benchmarks"


def _node() -> list[str]:
    return node_program("package.json")


def node_program(package: str) -> list[str]:
    """Node with its server and what that needs, from npm on first use: whole or not at all. Raises Missing."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Missing("no node and npm on this machine")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < OLDEST_NODE:
        raise Missing(f"node is {version}, {OLDEST_NODE} or newer is needed")
    program = (SERVERS / "node_server.mjs").read_bytes()
    wanted = (SERVERS / package).read_bytes()
    folder = cache_folder() / hashlib.sha256(wanted + program).hexdigest()[:12]
    if not folder.exists():
        _install(npm, folder, {"package.json": wanted, "server.mjs": program})
    return [node, "--expose-gc", str(folder / "server.mjs"), "{port}"]


def _install(npm: str, folder: Path, files: dict[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        place = Path(scratch) / "place"
        place.mkdir()
        for name, content in files.items():
            (place / name).write_bytes(content)
        # The add-ons bring prebuilt files, so that no script of theirs has to run here.
        options = ["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
        try:
            subprocess.run([npm, *options], cwd=place, check=True, capture_output=True, timeout=NPM_SECONDS)
        except subprocess.CalledProcessError as failure:
            raise Missing(f"npm install failed: {_last_line(failure.stderr)}") from None
        except subprocess.TimeoutExpired:
            raise Missing(f"npm install took more than {NPM_SECONDS:.0f} s") from None
        place.rename(folder)


# ── C ────────────────────────────────────────────────────────────────────────────────────────────


def _floor() -> list[str]:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Missing("no C compiler on this machine")
    source = SERVERS / "floor.c"
    program = cache_folder() / f"floor-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        scratch = program.with_suffix(f".{os.getpid()}")
        done = subprocess.run([compiler, "-O2", "-o", str(scratch), str(source)], capture_output=True)
        if done.returncode:
            raise Missing(f"{compiler} could not compile the floor: {_last_line(done.stderr)}")
        scratch.rename(program)
    return [str(program), "{port}"]


def _last_line(output: bytes) -> str:
    return (output.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]


# ── the list ─────────────────────────────────────────────────────────────────────────────────────

TYPED: Final = "benchmarks.servers.ours_app:app"

CONTESTANTS: Final = (
    Contestant("fast", "ours, fast wire", lambda: _fast(TYPED), ours=True),
    Contestant("portable", "ours, portable wire on stock uvicorn", lambda: _on_uvicorn(TYPED), ours=True),
    Contestant("classic", "ours, python-socketio style", _classic, ours=True, lacks=frozenset({"application"})),
    Contestant(
        "stock",
        "python-socketio on uvicorn",
        lambda: _on_uvicorn("benchmarks.servers.stock_app:app"),
        lacks=frozenset({"application"}),
    ),
    Contestant("node", "Node socket.io", _node, lacks=frozenset({"application"})),
    Contestant(
        "floor",
        "C, one send(2) per recipient",
        _floor,
        lacks=frozenset({"application", "msgpack", "polling"}),
    ),
)
