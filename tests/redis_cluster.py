"""A real Redis Cluster for one test: three masters, each with a replica, as processes on loopback."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import pytest
import redis as redis_py
from redis.crc import key_slot

from tests.redis_server import RedisServer
from tests.serving import free_port

SLOTS = 16_384
MASTERS = 3
READY_SECONDS = 30.0


class RedisCluster:
    """Nodes 0 to 2 begin as masters of a third of the slots each, 3 to 5 as their replicas."""

    def __init__(self) -> None:
        self.nodes = [_node() for _ in range(2 * MASTERS)]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def ask(self, number: int, *command: Any) -> Any:
        """One command to one node. Raises redis-py's errors."""
        with redis_py.Redis(port=self.nodes[number].port, socket_timeout=5) as client:
            plain: Any = client
            return plain.execute_command(*command)

    def owner(self, key: bytes) -> int:
        """Which node has this key now, as a living node tells."""
        slot = key_slot(key)
        for number, node in enumerate(self.nodes):
            if node.running:
                for first, last, master, *_ in self.ask(number, "CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(i for i, known in enumerate(self.nodes) if known.port == master[1])
        raise AssertionError(f"nobody has slot {slot}")

    def move(self, key: bytes, to: int) -> None:
        """The key's whole slot goes to another master, with what is in it."""
        slot, source = key_slot(key), self.owner(key)
        names = {number: self.ask(number, "CLUSTER", "MYID") for number in (source, to)}
        self.ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[to])
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            self.ask(source, "MIGRATE", "127.0.0.1", self.nodes[to].port, "", 0, 5_000, "KEYS", *keys)
        for number in (to, source):
            self.ask(number, "CLUSTER", "SETSLOT", slot, "NODE", names[to])

    def __enter__(self) -> RedisCluster:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def _start(self) -> None:
        for node in self.nodes:
            node.start()
        for number in range(MASTERS):
            self.ask(number, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number in range(1, len(self.nodes)):
            for known in self.nodes[:number]:  # hearing of each other by gossip takes seconds
                self.ask(number, "CLUSTER", "MEET", "127.0.0.1", known.port, known.bus_port)
        for number in range(MASTERS):
            first, last = number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS - 1
            self.ask(number, "CLUSTER", "ADDSLOTSRANGE", first, last)
        _until(lambda: all(self._known(number) == len(self.nodes) for number in range(len(self.nodes))))
        for number in range(MASTERS):
            self.ask(MASTERS + number, "CLUSTER", "REPLICATE", self.ask(number, "CLUSTER", "MYID"))
        _until(lambda: all(self._ready(number) for number in range(len(self.nodes))))

    def _known(self, number: int) -> int:
        """How many nodes this one has heard of."""
        found = self.ask(number, "CLUSTER", "NODES")
        return len(found) if isinstance(found, dict) else found.count(b"\n")

    def _ready(self, number: int) -> bool:
        with redis_py.Redis(port=self.nodes[number].port, socket_timeout=5) as client:
            info: Any = client.cluster("INFO")
            link: Any = client.info("replication")
        follows = link["role"] == "slave" and link["master_link_status"] == "up"
        return bool(info["cluster_state"] == "ok" and (follows if number >= MASTERS else link["role"] == "master"))

    def _stop(self) -> None:
        for node in self.nodes:
            node.__exit__(None, None, None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()


@pytest.fixture
def redis_cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


class _Node(RedisServer):
    bus_port: int


def _node() -> _Node:
    bus_port = free_port()
    node = _Node(
        *("--cluster-enabled", "yes", "--cluster-port", str(bus_port), "--cluster-node-timeout", "1500"),
        *("--cluster-replica-validity-factor", "0", "--cluster-require-full-coverage", "no"),
    )
    node.bus_port = bus_port
    return node


def _until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        assert time.monotonic() < deadline, "the cluster did not come together"
