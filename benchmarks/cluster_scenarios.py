"""The work of two nodes on one Redis, and what each process costs. Figures beside those of ``scenarios``:

``core``      how much of one core a process took, in %
``base``      the same before the work began
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.cluster_contestants import Cluster, Contestant
from benchmarks.process import ServerProcess
from benchmarks.scenarios import Figures, Flawed
from benchmarks.torrent import Probe, Torrent
from realtime.bench.client import Client
from realtime.bench.crowd import Crowd, Entry, Target
from realtime.bench.figures import Latency
from realtime.bench.speech import stamp
from realtime.bench.work import FanOut

PUBLISHERS: Final = 50
"""Who say something at the same time: an acknowledged publication may wait for Redis, and events of one client wait
for each other."""
SIZE: Final = 100


@dataclass(frozen=True, slots=True)
class Scale:
    """``seconds`` is the measured time of one scenario, ``warm_seconds`` what goes before."""

    seconds: float = 3.0
    warm_seconds: float = 1.0
    people: int = 250
    """On each node."""
    alone: int = 500
    busy_rate: float = 5_000
    latency_rate: float = 1_000
    window: int = 128


QUICK: Final = Scale(0.3, 0.1, 5, 7, 200, 100, 8)


@dataclass(slots=True)
class Bout:
    """One contestant's fresh processes and what was found out. ``found`` maps scenario to figures."""

    contestant: Contestant
    scale: Scale
    found: dict[str, Figures] = field(default_factory=dict)
    crowds: list[Crowd] = field(default_factory=list)

    async def clients(self, server: ServerProcess, count: int, *rooms: str) -> list[Client]:
        """In these rooms."""
        events: tuple[list[Any], ...] = (["join", {"rooms": list(rooms)}],) if rooms else ()
        entry = Entry(self.contestant.namespace, None, events)
        crowd = Crowd(Target.of(server.url, "socketio", "/socket.io/"), "socketio", entry)
        self.crowds.append(crowd)
        found = await crowd.open(count)
        if crowd.refused:
            raise Flawed(f"not let in: {crowd.refused}")
        return found

    def say(self, publisher: Client, room: str, *numbers: int) -> None:
        texts = [stamp(number, SIZE) for number in numbers]
        wish = {"room": room, "texts": texts} | ({"volatile": True} if self.contestant.volatile else {})
        publisher.say(["publish", wish])

    def to(self, room: str) -> Callable[[Client, int], None]:
        return lambda publisher, number: self.say(publisher, room, number)

    async def stands(self, publisher: Client, room: str, audience: Sequence[Client]) -> int:
        """Returns when everybody hears what is said; the first number that was not said."""
        return await Probe(audience).run(lambda number: self.say(publisher, room, number))

    async def fan_out(self, publisher: Client, audience: Sequence[Client], meter: Meter) -> FanOut:
        """Each message as soon as the last one has reached everybody; what it costs is in the meter."""

        def publish(numbers: Sequence[int]) -> None:
            self.say(publisher, "all", *numbers)

        warm = FanOut(audience, publish, first=await self.stands(publisher, "all", audience))
        await warm.run(self.scale.warm_seconds)
        work = FanOut(audience, publish, first=warm.next)
        meter.start()
        await work.run(self.scale.seconds)
        meter.stop()
        for each in (warm, work):
            check(audience, each.missing, each.repeated)
        return work


class Meter:
    """CPU of processes, and of this one, between ``start`` and ``stop``."""

    def __init__(self, **processes: ServerProcess) -> None:
        self._processes = processes
        self.cpu: dict[str, float] = {}
        self.seconds = 0.0

    def start(self) -> None:
        self._before = self._now()

    def stop(self) -> None:
        now = self._now()
        self.cpu = {name: seconds - self._before[name] for name, seconds in now.items()}
        self.seconds = self.cpu.pop("clock")

    def us(self, name: str, count: float) -> float:
        """Microseconds for each."""
        return self.cpu[name] / count * 1e6

    def core(self, name: str) -> float:
        """In %."""
        return self.cpu[name] / self.seconds * 100

    def _now(self) -> dict[str, float]:
        read = {name: process.cpu_seconds() for name, process in self._processes.items()}
        return read | {"generator": time.process_time(), "clock": time.perf_counter()}


def check(clients: Sequence[Client], missing: int, repeated: int) -> None:
    lost = [client.gone for client in clients if client.gone]
    if missing or repeated or lost:
        raise Flawed(f"{missing} missing, {repeated} repeated, lost {lost[:3]}")


# ── two nodes ────────────────────────────────────────────────────────────────────────────────────


async def cross(bout: Bout, cluster: Cluster) -> None:
    """A publisher on A; as many listeners on A as on B."""
    people = bout.scale.people
    here = await bout.clients(cluster.a, people, "all")
    there = await bout.clients(cluster.b, people, "all")
    [publisher] = await bout.clients(cluster.a, 1)
    meter = Meter(**cluster.processes())
    work = await bout.fan_out(publisher, [*here, *there], meter)
    latency = Latency.of(work.latencies)
    name = f"{people} + {people} clients, closed loop"
    bout.found[f"receiving node, {people} clients: a delivery"] = {"cpu_us": meter.us("b", work.sent * people)}
    bout.found[f"publishing node, {people} clients: a delivery"] = {"cpu_us": meter.us("a", work.sent * people)}
    bout.found["Redis: an emission"] = {"cpu_us": meter.us("redis", work.sent)}
    bout.found[name] = {"rate": work.delivered / work.seconds, "generator": meter.core("generator") / 100}
    if latency is not None:
        bout.found[name] |= {"p50_ms": latency.p50, "p99_ms": latency.p99}


async def elsewhere(bout: Bout, cluster: Cluster) -> None:
    """A busy room on A, of which B has no member; B's clients are in another one."""
    rate = bout.scale.busy_rate
    await bout.clients(cluster.b, bout.scale.people, "quiet")
    audience = await bout.clients(cluster.a, 1, "busy")
    publishers = await bout.clients(cluster.a, PUBLISHERS)
    first = await bout.stands(publishers[0], "busy", audience)
    meter = Meter(**cluster.processes())
    meter.start()
    await asyncio.sleep(bout.scale.seconds / 2)
    meter.stop()
    base = meter.core("b")
    warm = Torrent(publishers, bout.to("busy"), audience, first)
    await warm.pace(bout.scale.warm_seconds, rate)
    work = Torrent(publishers, bout.to("busy"), audience, first + warm.sent)
    meter.start()
    await work.pace(bout.scale.seconds, rate)
    meter.stop()
    check(audience, warm.missing + work.missing, warm.repeated + work.repeated)
    bout.found[f"a node without members, {rate:,.0f} emissions/s elsewhere"] = {
        "core": meter.core("b"),
        "base": base,
        "rate": work.sent / meter.seconds,
    }
    bout.found[f"the node of the busy room, {rate:,.0f} emissions/s"] = {"core": meter.core("a")}
    bout.found[f"Redis, {rate:,.0f} emissions/s"] = {"core": meter.core("redis")}


async def latency(bout: Bout, cluster: Cluster) -> None:
    """Publishers on A, one client on B."""
    rate = bout.scale.latency_rate
    audience = await bout.clients(cluster.b, 1, "all")
    publishers = await bout.clients(cluster.a, PUBLISHERS)
    first = await bout.stands(publishers[0], "all", audience)
    warm = Torrent(publishers, bout.to("all"), audience, first)
    await warm.pace(bout.scale.warm_seconds, rate)
    work = Torrent(publishers, bout.to("all"), audience, first + warm.sent)
    meter = Meter(**cluster.processes())
    meter.start()
    await work.pace(bout.scale.seconds, rate)
    meter.stop()
    check(audience, warm.missing + work.missing, warm.repeated + work.repeated)
    found = Latency.of(work.latencies)
    assert found is not None
    name = f"publisher on A to a client of B, {rate:,.0f} emissions/s"
    bout.found[name] = {"p50_ms": found.p50, "p99_ms": found.p99, "generator": meter.core("generator") / 100}
    bout.found[f"– saying, {rate:,.0f} emissions/s"] = {"cpu_us": meter.us("a", work.sent)}
    bout.found[f"– hearing, {rate:,.0f} emissions/s for one member"] = {"cpu_us": meter.us("b", work.sent)}
    bout.found[f"– Redis, {rate:,.0f} emissions/s"] = {"cpu_us": meter.us("redis", work.sent)}


async def most(bout: Bout, cluster: Cluster) -> None:
    """Both nodes say as much as goes through, each to a room whose one member is on the other."""
    ways: list[tuple[str, list[Client], list[Client], int]] = []
    for name, speaks, hears in (("ab", cluster.a, cluster.b), ("ba", cluster.b, cluster.a)):
        audience, publishers = await bout.clients(hears, 1, name), await bout.clients(speaks, PUBLISHERS)
        ways.append((name, publishers, audience, await bout.stands(publishers[0], name, audience)))
    meter = Meter(**cluster.processes())
    done: list[Torrent] = []
    for seconds in (bout.scale.warm_seconds, bout.scale.seconds):
        before = [each.sent for each in done] or [0, 0]
        done = [
            Torrent(publishers, bout.to(name), audience, first + said)
            for (name, publishers, audience, first), said in zip(ways, before, strict=True)
        ]
        meter.start()
        await asyncio.gather(*(each.full(seconds, bout.scale.window) for each in done))
        meter.stop()
        for each, (_, _, audience, _) in zip(done, ways, strict=True):
            check(audience, each.missing, each.repeated)
    emissions = sum(each.sent for each in done)
    bout.found["emissions through one Redis, two nodes"] = {"rate": emissions / meter.seconds}
    bout.found["– a node's part: one said, one heard"] = {
        "cpu_us": (meter.us("a", emissions) + meter.us("b", emissions)),
        "core": (meter.core("a") + meter.core("b")) / 2,
    }
    bout.found["– Redis's part"] = {"cpu_us": meter.us("redis", emissions), "core": meter.core("redis")}
    bout.found["– the load generator's part"] = {
        "cpu_us": meter.us("generator", emissions),
        "core": meter.core("generator"),
    }


# ── one node ─────────────────────────────────────────────────────────────────────────────────────


async def local(bout: Bout, node: ServerProcess) -> None:
    """One node without a Redis: what a delivery costs that crosses nothing."""
    for people in (bout.scale.people, bout.scale.alone):
        audience = await bout.clients(node, people, "all")
        [publisher] = await bout.clients(node, 1)
        meter = Meter(node=node)
        work = await bout.fan_out(publisher, audience, meter)
        bout.found[f"one node without a Redis, {people} clients: a delivery"] = {
            "cpu_us": meter.us("node", work.delivered),
            "rate": work.delivered / work.seconds,
        }
        for crowd in bout.crowds:
            await crowd.close()


@dataclass(frozen=True, slots=True)
class Group:
    """``on_cluster`` or ``on_node`` is what is done. ``together``: both nodes share a core, for both are looked at;
    else A is with Redis and the load generator, and B has the other for itself."""

    name: str
    on_cluster: Callable[[Bout, Cluster], Awaitable[None]] | None = None
    on_node: Callable[[Bout, ServerProcess], Awaitable[None]] | None = None
    together: bool = False


GROUPS: Final = (
    Group("local", on_node=local),
    Group("cross", cross),
    Group("elsewhere", elsewhere),
    Group("latency", latency, together=True),
    Group("most", most, together=True),
)
