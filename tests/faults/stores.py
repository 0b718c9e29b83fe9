"""Where the journal of a run lies: one Redis, one with a replica and a Sentinel, a Cluster; and how a part is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from adapters.redis.keys import Keys
from tests.redis_cluster import MASTERS, RedisCluster
from tests.redis_server import RedisServer, Sentinel

PREFIX = "socketio"
"""The default of REALTIME_REDIS_CHANNEL."""
STEP_SECONDS = 30.0


@dataclass
class Store:
    url: str
    server: RedisServer | None = None
    """One server that is all there is."""
    lag: Callable[[], None] | None = None
    """From now on the replica of the one that has the data of a namespace hears of nothing more."""
    lose: Callable[[], None] | None = None
    """Kill that one: what its replica has not heard of is gone."""


@contextmanager
def opened(kind: str) -> Iterator[Store]:
    """Everything that it starts has ended with the block."""
    with ExitStack() as stack:
        if kind == "failover":
            yield _with_a_sentinel(stack)
        elif kind == "owner":
            cluster = stack.enter_context(RedisCluster())
            owner = cluster.owner(Keys(PREFIX, "/board").log)
            master, replica = cluster.nodes[owner], cluster.nodes[owner + MASTERS]
            yield Store(cluster.url, lag=lambda: _cut_off(master, replica), lose=master.kill)
        else:
            server = stack.enter_context(RedisServer(keep=True))
            yield Store(server.url, server)


def _with_a_sentinel(stack: ExitStack) -> Store:
    master = stack.enter_context(RedisServer())
    replica = stack.enter_context(RedisServer("--replicaof", "127.0.0.1", str(master.port)))
    sentinel = stack.enter_context(Sentinel(master, "main"))
    deadline = time.monotonic() + STEP_SECONDS
    with replica.admin() as there, sentinel.admin() as watcher:
        while there.info("replication").get("master_link_status") != "up" or str(replica.port) not in str(
            watcher.execute_command("SENTINEL", "REPLICAS", "main")
        ):
            assert time.monotonic() < deadline, "the Sentinel found no replica in step"
    return Store(sentinel.url, lag=lambda: _cut_off(master, replica), lose=master.kill)


def _cut_off(master: RedisServer, replica: RedisServer) -> None:
    """It comes back with a password that the master does not take."""
    with replica.admin() as there, master.admin() as here:
        there.config_set("masteruser", "nobody")
        there.config_set("masterauth", "nothing")
        here.client_kill_filter(_type="replica")
