"""The four scenarios of ``realtime bench``: fan-out, echo, connect, idle."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

from realtime.bench.crowd import Crowd, Entry, Progress, Target, silent
from realtime.bench.figures import Latency, Result
from realtime.bench.speech import filled, stamp
from realtime.bench.work import PROGRESS_SECONDS, Echo, FanOut

SCENARIOS: Final = ("fan-out", "echo", "connect", "idle")

ROUTES: Final = {"fan-out": "/ws/chat/bench?room=$room", "echo": "/ws"}
"""Where raw clients go when the URL has no path: the routes of the application that comes with this package."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. The defaults suit the application that comes with this package.

    ``rate`` is messages a second: of the whole fan-out, or of each client in echo; 0 is as fast as the server
    answers. ``join`` and ``send`` are events, as arrays with ``$room``, ``$client`` and ``$text`` in them.
    """

    url: str
    wire: str = "socketio"
    clients: int = 500
    seconds: float = 5.0
    rate: float = 50.0
    size: int = 100
    burst: int = 1
    at_once: int = 100
    room: str = "bench"
    namespace: str | None = None
    auth: Any = None
    join: list[Any] | None = field(default_factory=lambda: ["join", {"room": "$room"}])
    send: list[Any] = field(default_factory=lambda: ["message", {"room": "$room", "text": "$text"}])
    echo: str = "echo"

    def crowd(self, scenario: str, progress: Progress) -> Crowd:
        route = ROUTES["echo" if scenario == "echo" else "fan-out"] if self.wire == "raw" else "/socket.io/"
        target = Target.of(self.url, self.wire, route)
        return Crowd(target, self.wire, self._entry(scenario), progress)

    def _entry(self, scenario: str) -> Entry:
        namespace = self.namespace or ("/echo" if scenario == "echo" else "/chat")
        auth = {"username": "bench"} if self.auth is None and namespace == "/chat" else self.auth
        joins = scenario != "echo" and self.join is not None and self.wire != "raw"
        return Entry(namespace, auth, (self.join,) if joins and self.join is not None else (), self.room)


async def run(scenario: str, plan: Plan, progress: Progress = silent) -> Result:
    """One scenario from connecting to leaving. Raises UsageError for a plan that cannot be."""
    crowd = plan.crowd(scenario, progress)
    result = Result(scenario, plan.wire, plan.clients)
    try:
        started = perf_counter()
        clients = await crowd.open(plan.clients, plan.at_once)
        result.seconds = perf_counter() - started
        result.refused = dict(crowd.refused)
        if clients:
            await WORK[scenario](plan, crowd, result)
        result.lost = crowd.lost
    finally:
        await crowd.close()
    return result


async def _fan_out(plan: Plan, crowd: Crowd, result: Result) -> None:
    """The first client speaks to the room that all are in, itself included."""
    publisher = crowd.clients[0]
    template = ["$text"] if plan.wire == "raw" else plan.send

    def publish(numbers: Sequence[int]) -> None:
        for number in numbers:
            values = {"room": plan.room, "client": "0", "text": stamp(number, plan.size)}
            publisher.say(filled(template, values), number if publisher.speech.engine else None)

    work = FanOut(crowd.clients, publish, burst=plan.burst)
    await work.run(plan.seconds, plan.rate, crowd.progress)
    result.seconds = work.seconds
    result.sent, result.expected, result.counted = work.sent, work.expected, work.delivered
    result.missing, result.repeated = work.missing, work.repeated
    result.latency = Latency.of(work.latencies)
    _add(result.refused, work.refused)


async def _echo(plan: Plan, crowd: Crowd, result: Result) -> None:
    work = Echo(crowd.clients, None if plan.wire == "raw" else [plan.echo], plan.size)
    await work.run(plan.seconds, plan.rate, crowd.progress)
    result.seconds = work.seconds
    result.sent, result.counted, result.repeated = work.sent, work.answered, work.repeated
    result.expected = work.sent - sum(work.refused.values())
    result.missing = result.expected - work.answered
    result.latency = Latency.of(work.latencies)
    _add(result.refused, work.refused)


async def _connect(plan: Plan, crowd: Crowd, result: Result) -> None:
    """Nothing more: how they came in is the result, each with its time from TCP to the last acknowledgement."""
    result.expected = plan.clients
    result.counted = len(crowd.clients)
    result.latency = Latency.of(crowd.entries)


async def _idle(plan: Plan, crowd: Crowd, result: Result) -> None:
    """They stay and answer pings."""
    await _connect(plan, crowd, result)
    result.latency = None
    started = perf_counter()
    while (passed := perf_counter() - started) < plan.seconds:
        crowd.progress("seconds idle", int(passed), int(plan.seconds))
        await asyncio.sleep(min(PROGRESS_SECONDS, plan.seconds - passed))
    result.seconds = perf_counter() - started


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for code, count in more.items():
        total[code] = total.get(code, 0) + count


WORK: Final = {"fan-out": _fan_out, "echo": _echo, "connect": _connect, "idle": _idle}
