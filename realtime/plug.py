"""Finding adapters by name, so that the core imports none: entry points of the group ``realtime.adapters``."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

from realtime.errors import UsageError
from realtime.telemetry.redaction import hide_password

GROUP: Final = "realtime.adapters"
REDIS: Final = (
    *("redis", "rediss", "redis+sentinel", "redis+cluster", "rediss+cluster"),
    *("valkey", "valkeys", "valkey+sentinel", "valkey+cluster", "unix"),
)
"""The schemes of the Redis adapter."""
_OF_REDIS: Final = {
    "": "adapters.redis:open_bus",
    "bus+": "adapters.redis:open_signed_bus",
    "names+": "adapters.redis.names:open_names",
    "journal+": "adapters.redis:open_journal",
    "sessions+": "adapters.redis:open_sessions",
    "answers+": "adapters.redis:open_answers",
}
OURS: Final = {
    "polling": "adapters.polling:Polling",
    "websocket": "adapters.portable:Portable",
    "sse": "adapters.sse:EventStream",
    "names+memory": "adapters.memory:MemoryNameHolders",
    "answers+memory": "adapters.memory:MemoryAnswers",
    "sql": "adapters.sql:open_history",
    "prometheus": "adapters.prometheus:Exporter",
} | {kind + scheme: place for kind, place in _OF_REDIS.items() for scheme in REDIS}
"""What stands beside us; named here as in ``pyproject.toml``, so that a checkout works that was never installed."""
STORES: Final = ("bus+", "names+", "journal+", "sessions+", "answers+")
"""How the names of adapters begin that keep something, or sign; a bus has its scheme alone."""


@cache
def find(name: str) -> Any:
    """The adapter of this name (for a bus or store: the scheme of its URL). Raises UsageError when there is none."""
    for entry in entry_points(group=GROUP, name=name):
        if name not in OURS or entry.value != OURS[name]:
            return entry.load()
    if name not in OURS:
        raise _unknown(name, {entry.name for entry in entry_points(group=GROUP)} | set(OURS))
    module, _, attribute = OURS[name].partition(":")
    check_neighbour("adapters")
    return getattr(import_module(module), attribute)


def find_bus(url: str) -> Any:
    """What opens the bus of this URL: ``open(url, channel, metrics)``. Raises UsageError for a URL without a scheme
    and for one that no bus has; a password in it is not repeated."""
    scheme, there, _ = url.partition("://")
    if not there:
        raise UsageError(f"a Redis URL is written redis://HOST:PORT/DATABASE, not {hide_password(url)!r}")
    ours = {name for name, place in OURS.items() if place.endswith(":open_bus")}
    theirs = {entry.name for entry in entry_points(group=GROUP)} - set(OURS)
    known = ours | {name for name in theirs if not name.startswith(STORES)}
    if scheme not in known:
        raise _unknown(scheme, known)
    return find(scheme)


def find_journal(url: str) -> Any:
    """What opens the journal of this URL: ``open(url, node, settings, metrics)``. None for a bus that has none: then
    what is said lies in the memory of each instance."""
    return _find_store("journal+", url)


def find_sessions(url: str) -> Any:
    """What opens the session store of this URL: ``open(url, node, settings, metrics)``. None for a bus that has none:
    then clients come back to the instance that they were at."""
    return _find_store("sessions+", url)


def find_signed_bus(url: str) -> Any:
    """What opens the bus of this URL for instances that share a key: ``open(url, channel, settings, metrics)``. None
    where there is but a plain one."""
    return _find_store("bus+", url)


def _find_store(kind: str, url: str) -> Any:
    name = kind + url.partition("://")[0]
    known = name in OURS or any(True for _ in entry_points(group=GROUP, name=name))
    return find(name) if known else None


def _unknown(name: str, known: set[str]) -> UsageError:
    return UsageError(f"there is no adapter called {name!r}; known are {', '.join(sorted(known))}")


def check_neighbour(package: str) -> None:
    """Our top-level packages have plain names; stop with a sentence when somebody else's is found first."""
    home = Path(__file__).resolve().parent.parent
    module = sys.modules.get(package) or import_module(package)
    places = [Path(place).resolve() for place in getattr(module, "__path__", [])]
    if home / package not in places:
        found = places[0] if places else getattr(module, "__file__", "somewhere else")
        raise UsageError(
            f"the package {package!r} of realtime-rooms in {home / package} is hidden by another one in {found}: "
            f"rename that one, or start from another folder"
        )
