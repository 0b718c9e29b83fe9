"""The work itself: what is asked of every contestant, and what is read off while it does it.

A group is a set of scenarios that share one fresh server. Each scenario answers its figures:

``cpu_us``    microseconds of CPU (user and system, all threads of the server) for each delivery, answer, connection …
``rate``      deliveries or answers a second
``p50_ms``, ``p99_ms``  latency at the load generator, from saying a message to reading it
``kb``        memory that the server process alone has written, for each idle connection, in 1,000 bytes
``generator`` how busy the load generator was, 1 being all of its core: near 1, ``rate`` and latency are its own
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.process import ServerProcess
from benchmarks.quiet import run_quietly
from realtime.bench.client import Client
from realtime.bench.crowd import Crowd, Entry, Target
from realtime.bench.figures import Latency
from realtime.bench.speech import stamp
from realtime.bench.work import Echo, FanOut, Publish

Figures = dict[str, float]

GONE_SECONDS: Final = 60.0
QUIET_SECONDS: Final = 0.2
SETTLE_SECONDS: Final = 1.0
WARM_CONNECTIONS: Final = 50
AT_ONCE: Final = 100


class Flawed(Exception):
    """A run whose figures mean nothing: something was lost, came twice, or was refused."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything. ``seconds`` is the measured time of one scenario, ``warm_seconds`` what goes before:
    long enough for a just-in-time compiler to have seen the work."""

    seconds: float = 2.0
    warm_seconds: float = 1.0
    audience: int = 500
    large: int = 5_000
    small_room: int = 5
    echoing: int = 100
    polling: int = 100
    crowds: tuple[int, ...] = (2_500, 5_000, 10_000)


QUICK: Final = Scale(0.2, 0.05, 20, 40, 5, 5, 5, (20, 40))


@dataclass(slots=True)
class Bout:
    """One contestant's fresh server and what was found out about it. ``found`` maps scenario to figures."""

    server: ServerProcess
    scale: Scale
    found: dict[str, Figures] = field(default_factory=dict)
    crowds: list[Crowd] = field(default_factory=list)

    def crowd(self, entry: Entry, wire: str = "socketio", route: str = "/socket.io/") -> Crowd:
        self.crowds.append(Crowd(Target.of(self.server.url, wire, route), wire, entry))
        return self.crowds[-1]

    async def admitted(self, crowd: Crowd, count: int) -> list[Client]:
        clients = await crowd.open(count)
        if crowd.refused:
            raise Flawed(f"not let in: {crowd.refused}")
        return clients

    async def controller(self, wire: str = "socketio") -> Client:
        """A client in no room, through which the work is asked for."""
        return (await self.admitted(self.crowd(Entry(), wire), 1))[0]

    async def fan_out(self, scenario: str, audience: Sequence[Client], publish: Publish, burst: int = 1) -> None:
        """Each burst is asked for as soon as the last one has reached everybody."""
        first = audience[0].expected
        warm = FanOut(audience, publish, burst=burst, first=first)
        await warm.run(self.scale.warm_seconds)
        work = FanOut(audience, publish, burst=burst, first=warm.next)
        cpu, own = self.server.cpu_seconds(), time.process_time()
        await work.run(self.scale.seconds)
        cpu, own = self.server.cpu_seconds() - cpu, time.process_time() - own
        self._check(scenario, audience, warm.missing + work.missing, warm.repeated + work.repeated, work.refused)
        self._note(scenario, work.delivered, cpu, own, work.seconds, Latency.of(work.latencies))

    async def echo(self, scenario: str, clients: Sequence[Client]) -> None:
        await Echo(clients, ["echo"], 100).run(self.scale.warm_seconds)
        work = Echo(clients, ["echo"], 100)
        cpu, own = self.server.cpu_seconds(), time.process_time()
        await work.run(self.scale.seconds)
        cpu, own = self.server.cpu_seconds() - cpu, time.process_time() - own
        self._check(scenario, clients, work.sent - work.answered, work.repeated, work.refused)
        self._note(scenario, work.answered, cpu, own, work.seconds, Latency.of(work.latencies))

    def _check(
        self, scenario: str, clients: Sequence[Client], missing: int, repeated: int, refused: dict[str, int]
    ) -> None:
        lost = [client.gone for client in clients if client.gone]
        if missing or repeated or refused or lost:
            raise Flawed(f"{scenario}: {missing} missing, {repeated} repeated, refused {refused}, lost {lost[:3]}")

    def _note(self, scenario: str, count: int, cpu: float, own: float, seconds: float, latency: Latency | None) -> None:
        figures = {"cpu_us": cpu / count * 1e6, "rate": count / seconds, "generator": own / seconds}
        if latency is not None:
            figures |= {"p50_ms": latency.p50, "p99_ms": latency.p99}
        self.found[scenario] = figures


def to_room(controller: Client, room: str, size: int) -> Publish:
    def publish(numbers: Sequence[int]) -> None:
        controller.say(["publish", {"room": room, "texts": [stamp(number, size) for number in numbers]}])

    return publish


def joining(*rooms: str) -> Entry:
    """``$client`` in a room's name is the number of the client."""
    return Entry(events=(["join", {"rooms": list(rooms)}],))


async def each_joins(clients: Sequence[Client], rooms: Callable[[int], list[str]]) -> None:
    for start in range(0, len(clients), AT_ONCE):
        part = enumerate(clients[start : start + AT_ONCE], start)
        await asyncio.gather(*(client.call(["join", {"rooms": rooms(number)}]) for number, client in part))


# ── the groups ───────────────────────────────────────────────────────────────────────────────────


async def fan_out(bout: Bout) -> None:
    people = bout.scale.audience
    controller = await bout.controller()
    audience = await bout.admitted(bout.crowd(joining("all")), people)
    await bout.fan_out(f"fan-out, 100 B to {people:,}", audience, to_room(controller, "all", 100))
    await bout.fan_out(f"16 messages at once to {people:,}", audience, to_room(controller, "all", 100), burst=16)
    await bout.fan_out(f"fan-out, 8 B to {people:,}", audience, to_room(controller, "all", 8))
    await bout.fan_out(f"fan-out, 16 kB to {people:,}", audience, to_room(controller, "all", 16_384))


async def large_fan_out(bout: Bout) -> None:
    """The same people in one room, and in as many rooms of five as they fill."""
    scale = bout.scale
    rooms = scale.large // scale.small_room
    controller = await bout.controller()
    crowd = bout.crowd(Entry())
    audience = await bout.admitted(crowd, scale.large)
    await each_joins(audience, lambda number: ["all", f"small{number % rooms}"])

    def spread(numbers: Sequence[int]) -> None:
        for number in numbers:
            controller.say(["spread", {"prefix": "small", "rooms": rooms, "text": stamp(number, 100)}])

    await bout.fan_out(f"fan-out, 100 B to {scale.large:,}", audience, to_room(controller, "all", 100))
    await bout.fan_out(f"fan-out, 100 B to {rooms:,} rooms of {scale.small_room}", audience, spread)


async def echo(bout: Bout) -> None:
    alone = await bout.admitted(bout.crowd(Entry()), 1)
    await bout.echo("echo with acknowledgement, 1 client", alone)
    others = await bout.admitted(bout.crowd(Entry()), bout.scale.echoing - 1)
    await bout.echo(f"echo with acknowledgement, {bout.scale.echoing} clients", [*alone, *others])


async def msgpack(bout: Bout) -> None:
    controller = await bout.controller("msgpack")
    audience = await bout.admitted(bout.crowd(joining("all"), "msgpack"), bout.scale.audience)
    name = f"MessagePack fan-out, 100 B to {bout.scale.audience:,}"
    await bout.fan_out(name, audience, to_room(controller, "all", 100))


async def polling(bout: Bout) -> None:
    controller = await bout.controller()
    audience = await bout.admitted(bout.crowd(joining("all"), "polling"), bout.scale.polling)
    name = f"polling fan-out, 100 B to {bout.scale.polling:,}"
    await bout.fan_out(name, audience, to_room(controller, "all", 100))


async def application(bout: Bout) -> None:
    """The chat as people use it, stored and all: over Socket.IO, and over the plain route ``/ws/chat``."""
    people = bout.scale.audience
    entry = Entry("/chat", {"username": "bench"}, (["join", {"room": "$room"}],), "socketio")
    crowd = bout.crowd(entry)
    audience = await bout.admitted(crowd, people)

    def say(numbers: Sequence[int]) -> None:
        for number in numbers:
            audience[0].say(["message", {"room": "socketio", "text": stamp(number, 100)}], number)

    await bout.fan_out(f"chat message, 100 B to {people:,}", audience, say)
    await crowd.close()
    audience = await bout.admitted(bout.crowd(Entry(room="raw"), "raw", "/ws/chat/bench?room=$room"), people)

    def say_raw(numbers: Sequence[int]) -> None:
        for number in numbers:
            audience[0].say([stamp(number, 100)])

    await bout.fan_out(f"raw /ws/chat message, 100 B to {people:,}", audience, say_raw)


def crowd_of(size: int) -> Callable[[Bout], Awaitable[None]]:
    async def come_stay_and_go(bout: Bout) -> None:
        await _crowd(bout, size)

    return come_stay_and_go


async def _crowd(bout: Bout, size: int) -> None:
    """Connect and join, hold, and be gone at once."""
    controller = await bout.controller()
    warm = bout.crowd(joining("warm"))
    await bout.admitted(warm, WARM_CONNECTIONS)
    await warm.close()
    empty = await _settled_memory(bout, controller)

    crowd = bout.crowd(joining("all"))
    cpu, own, started = bout.server.cpu_seconds(), time.process_time(), time.perf_counter()
    people = await bout.admitted(crowd, size)
    cpu, own = bout.server.cpu_seconds() - cpu, time.process_time() - own
    bout._note(f"connect and join, {size:,} clients", size, cpu, own, time.perf_counter() - started, None)

    full = await _settled_memory(bout, controller)
    if empty is not None and full is not None:
        bout.found[f"idle, {size:,} connections"] = {"kb": (full - empty) / size / 1000}
    everybody = FanOut(people, to_room(controller, "all", 100))
    await everybody.run(0.01)
    bout._check(f"idle, {size:,} connections", people, everybody.missing, everybody.repeated, {})

    await each_joins(people, lambda number: [f"tens{number % (size // 10)}", f"hundreds{number % (size // 100 or 1)}"])
    cpu = bout.server.cpu_seconds()
    crowd.cut()
    await _all_gone(bout, controller)
    cpu = bout.server.cpu_seconds() - cpu
    bout.found[f"gone at once, {size:,} clients in 3 rooms"] = {"cpu_us": cpu / size * 1e6}


async def _settled_memory(bout: Bout, controller: Client) -> int | None:
    """After a collection of garbage and a moment for the allocator: what the connections need, not their making."""
    await controller.call(["collect"])
    await asyncio.sleep(SETTLE_SECONDS)
    return bout.server.memory_bytes()


async def _all_gone(bout: Bout, controller: Client) -> None:
    """Asked only when the server has come to rest, so that the asking costs nothing that counts."""
    deadline = time.perf_counter() + GONE_SECONDS
    while time.perf_counter() < deadline:
        before = bout.server.cpu_seconds()
        await asyncio.sleep(QUIET_SECONDS)
        if bout.server.cpu_seconds() - before < QUIET_SECONDS / 10:
            answer = await controller.call(["count"])
            if answer.body == b"[1]":
                return
    raise Flawed(f"connections were still there {GONE_SECONDS:.0f} s after they had gone")


@dataclass(frozen=True, slots=True)
class Group:
    """``needs`` names what a contestant may lack."""

    name: str
    work: Callable[[Bout], Awaitable[None]]
    needs: str | None = None
    serializer: str = "default"


def groups(scale: Scale) -> list[Group]:
    return [
        Group("fan-out", fan_out),
        Group("large", large_fan_out),
        Group("echo", echo),
        *(Group(f"crowd-{size}", crowd_of(size)) for size in scale.crowds),
        Group("application", application, "application"),
        Group("msgpack", msgpack, "msgpack", "msgpack"),
        Group("polling", polling, "polling"),
    ]


def run_group(group: Group, bout: Bout, seconds: float) -> None:
    """Blocks for at most ``seconds``. Raises Flawed, TimeoutError, OSError, or the refusal of a client."""

    async def bounded() -> None:
        try:
            async with asyncio.timeout(seconds):
                await group.work(bout)
        finally:
            for crowd in bout.crowds:
                crowd.cut()

    run_quietly(bounded())
