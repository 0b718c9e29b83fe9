"""A real PostgreSQL for the tests: started on a free loopback port, in a folder of its own, and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.daemon import Daemon

MAKE_SECONDS = 40.0

# Letters in the order of a language, not of their bytes: what an ordinary installation has. The second
# is for servers before 15 and those built without ICU.
LOCALES = (("--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en"), ("--locale=C",))


def postgres_folder() -> Path | None:
    """The folder with ``postgres`` and ``initdb``: on the PATH, or where Debian puts them, the newest first."""
    found = shutil.which("postgres")
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: folder.parent.name.zfill(3), reverse=True
    )
    folders = [*([Path(found).resolve().parent] if found else []), *debian]
    return next((folder for folder in folders if (folder / "postgres").exists() and (folder / "initdb").exists()), None)


class PostgresServer(Daemon):
    """``start`` and ``stop`` as often as needed: port and data stay the same. Also a context manager."""

    SIGNS = ("ready to accept connections",)
    START_SECONDS = 20.0
    STOP_SECONDS = 10.0
    CRASH = signal.SIGQUIT

    def __init__(self) -> None:
        """Skips the test where the machine has no PostgreSQL."""
        binaries = postgres_folder()
        if binaries is None:
            pytest.skip("no PostgreSQL on this machine (looked on the PATH and in /usr/lib/postgresql/*/bin)")
        super().__init__("postgres")
        self._binaries = binaries
        self._user = _owner(self.folder)

    @property
    def dsn(self) -> str:
        return f"postgresql://tester@127.0.0.1:{self.port}/postgres"

    @property
    def url(self) -> str:
        return self.dsn.replace("postgresql://", "postgresql+asyncpg://")

    def start(self) -> None:
        """Returns when it accepts connections."""
        data = self.folder / "data"
        if not data.exists():
            self._make(data)
        options = (
            *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
            *("-c", "fsync=off", "-c", "logging_collector=off", "-c", "lc_messages=C"),
        )
        self.begin([self._binaries / "postgres", "-D", data, "-p", str(self.port), *options], self._user)

    def stop(self) -> None:
        """The fast shutdown: clients are cut, everything is written. Repeats do nothing."""
        if self.running:
            self.end(signal.SIGINT)

    def crash(self) -> None:
        """The immediate shutdown: clients are cut, the log is replayed at the next start."""
        self.end(self.CRASH)

    def _make(self, data: Path) -> None:
        command = [self._binaries / "initdb", "-D", data, "-U", "tester", "-A", "trust", "--encoding=UTF8", "--no-sync"]
        said = ""
        for locale in LOCALES:
            made = subprocess.run(
                [*command, *locale],
                capture_output=True,
                text=True,
                cwd=self.folder,
                user=self._user,
                timeout=MAKE_SECONDS,
                check=False,
            )
            if made.returncode == 0:
                return
            said += made.stderr
            shutil.rmtree(data, ignore_errors=True)
        raise AssertionError("initdb failed:\n" + said)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """One server for the tests of a module; each makes its tables anew."""
    with PostgresServer() as server:
        yield server


def _owner(folder: Path) -> str | None:
    """Give the folder to a user that the server may run as: it refuses root. None: whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(LookupError):
            shutil.chown(folder, name)
            return name
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")
