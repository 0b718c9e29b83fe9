"""``python -m benchmarks.slow_reader``: one reader of a room stops reading, and what that does to the others.

The same messages go to the same room twice, in alternation: with a reader that stops, and without it. The server has
a core of its own and its limits as they come; this process, which is all the other readers, has another.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Final

import typer

from benchmarks.contestants import CONTESTANTS, LIMITS
from benchmarks.process import ServerProcess, cores
from benchmarks.quiet import run_quietly
from benchmarks.run import BUSY, machine
from benchmarks.scenarios import joining
from benchmarks.stuck_reader import STEP_SECONDS, StuckReader
from realtime.bench.client import Client
from realtime.bench.crowd import Crowd, Entry, Target, raise_file_limit
from realtime.bench.speech import Packet, stamp

HERE: Final = Path(__file__).resolve().parent
ROOM: Final = "all"
TELL_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.25
BEGINNING: Final = 10_000
"""Messages in which the reader is stuck, and is closed: their p99 is shown by itself."""
BUCKET: Final = 1e-5
"""Latencies are counted in steps of 10 µs: twenty million of them would not fit a list."""
GOAL: Final = 1.5
PARTS: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 1.0)
ENV: Final = {name: LIMITS[name] for name in ("REALTIME_EVENTS_PER_SECOND", "REALTIME_JWT_SECRET")}


@dataclass(frozen=True, slots=True)
class Scale:
    messages: int = 100_000
    size: int = 1_000
    people: int = 200
    warm: int = 2_000
    seconds: float = 600.0
    """For the messages of one run; what was not said by then stays unsaid, and the table has the number."""


@dataclass(slots=True)
class Run:
    """What one server went through. Memory in bytes above that with everybody in the room, before the first message:
    the most that was seen, and how it went, as (seconds from the first message, bytes)."""

    wire: str
    with_reader: bool
    round: int
    p50_ms: float
    p99_ms: float
    p99_beginning_ms: float
    memory_bytes: int | None
    seconds: float
    said: int = 0
    memory: list[tuple[float, int]] = field(default_factory=list)
    close_code: int | None = None
    closed_after: int | None = None
    """Messages that had been said when the server was seen without it."""
    left: int | None = None
    """Clients that the server counts in the end, above the others."""
    files_left: int | None = None


class Flawed(Exception):
    """A run whose figures mean nothing: something was lost, or somebody was cut off who read."""


class Audience:
    """Those who read. Keeps the port ``Listener``; every message has to reach each of them, in order."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self.clients = clients
        self.counts = array("L", bytes(8 * 1_000_000))  # ten seconds; what is later counts as that
        self._missing = 0
        self._said = 0.0
        self._number = 0
        self._all: asyncio.Future[None]
        for client in clients:
            client.listener = self

    async def say(self, controller: Client, number: int, size: int) -> None:
        """Returns when it has reached everybody. Raises TimeoutError, or Flawed when somebody is gone."""
        self._missing, self._number = len(self.clients), number
        self._all = asyncio.get_running_loop().create_future()
        self._said = time.perf_counter()
        controller.say(["publish", {"room": ROOM, "texts": [stamp(number, size)]}])
        await asyncio.wait_for(self._all, STEP_SECONDS)

    def event(self, client: Client, number: int) -> None:
        if number != self._number or client.expected != number:
            self._fail(f"message {number} came where {client.expected} of {self._number} was due")
            return
        client.expected = number + 1
        self.counts[min(len(self.counts) - 1, int((time.perf_counter() - self._said) / BUCKET))] += 1
        self._missing -= 1
        if not self._missing and not self._all.done():
            self._all.set_result(None)

    def ack(self, client: Client, packet: Packet) -> None:
        """They ask for nothing."""

    def lost(self, client: Client) -> None:
        self._fail(f"somebody who read is gone: {client.gone}")

    def _fail(self, words: str) -> None:
        if not self._all.done():
            self._all.set_exception(Flawed(words))


def percentile(counts: Sequence[int], part: float) -> float:
    """Milliseconds, the upper end of a bucket."""
    rank, seen = sum(counts) * part, 0
    for place, count in enumerate(counts):
        seen += count
        if count and seen >= rank:
            return (place + 1) * BUCKET * 1_000
    return 0.0


class Watch:
    """Looks at the server a few times a second: how much memory, how many clients. It costs both runs the same."""

    def __init__(self, server: ServerProcess, looker: Client, others: int) -> None:
        self._server = server
        self._looker = looker
        self._others = others
        self.memory: list[tuple[float, int]] = []
        """When, and how much."""
        self.said = 0
        self.closed_after: int | None = None
        self.close_code: int | None = None
        self.is_closed = asyncio.Event()

    async def clients(self) -> int:
        """Those of the server, above the ones that read."""
        async with asyncio.timeout(STEP_SECONDS):  # wait_for of Python 3.11 may swallow the cancellation that ends us
            answer = await self._looker.call(["count"])
        return int(answer.body.strip(b"[]")) - self._others

    async def run(self, stuck: StuckReader | None) -> None:
        while True:
            memory = self._server.memory_bytes()
            if memory is not None:
                self.memory.append((time.perf_counter(), memory))
            if await self.clients() == 0 and stuck is not None and self.closed_after is None:
                self.closed_after = self.said
                self.close_code = await asyncio.to_thread(stuck.close_code)
                self.is_closed.set()
            await asyncio.sleep(LOOK_SECONDS)


async def one(
    server: ServerProcess, wire: str, number: int, scale: Scale, *, is_stuck: bool, kernel_bytes: int | None
) -> Run:
    """All messages, to everybody who reads."""
    target = Target.of(server.url, "socketio", "/socket.io/")
    crowds = [Crowd(target, "socketio", entry) for entry in (joining(ROOM), Entry())]
    try:
        readers = await crowds[0].open(scale.people - 1)
        controller, looker = await crowds[1].open(2)
        if crowds[0].refused or crowds[1].refused:
            raise Flawed(f"not let in: {crowds[0].refused or crowds[1].refused}")
        audience = Audience(readers)
        for warm in range(scale.warm):
            await audience.say(controller, warm, scale.size)
        files = server.open_files()
        stuck = await asyncio.to_thread(StuckReader, server.port, ROOM, kernel_bytes) if is_stuck else None
        try:
            return await _measured(server, audience, controller, looker, stuck, scale, Run(
                wire, is_stuck, number, 0, 0, 0, None, 0), files)  # fmt: skip
        finally:
            if stuck is not None:
                stuck.socket.close()
    finally:
        for crowd in crowds:
            crowd.cut()


async def _measured(
    server: ServerProcess,
    audience: Audience,
    controller: Client,
    looker: Client,
    stuck: StuckReader | None,
    scale: Scale,
    run: Run,
    files: int | None,
) -> Run:
    await controller.call(["collect"])
    watch = Watch(server, looker, len(audience.clients) + 2)
    before = server.memory_bytes()
    audience.counts = array("L", bytes(8 * 1_000_000))
    watching = asyncio.create_task(watch.run(stuck))
    started = time.perf_counter()
    try:
        tells = started + TELL_SECONDS
        for number in range(scale.warm, scale.warm + scale.messages):
            await audience.say(controller, number, scale.size)
            watch.said += 1
            if watch.said == min(BEGINNING, scale.messages):
                run.p99_beginning_ms = percentile(audience.counts, 0.99)
            if watching.done():
                watching.result()
            if (now := time.perf_counter()) > tells:
                tells = now + TELL_SECONDS
                tell(watch.said, scale, now - started)
                if now - started > scale.seconds:
                    break
        run.seconds, run.said = time.perf_counter() - started, watch.said
        if stuck is not None:
            with suppress(TimeoutError):  # then there is no code to show
                await asyncio.wait_for(watch.is_closed.wait(), STEP_SECONDS)
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    run.p50_ms, run.p99_ms = percentile(audience.counts, 0.5), percentile(audience.counts, 0.99)
    if before is not None:
        run.memory = [(round(when - started, 2), seen - before) for when, seen in watch.memory]
        run.memory_bytes = max(seen for _, seen in run.memory) if run.memory else None
    run.close_code, run.closed_after = watch.close_code, watch.closed_after
    await _let_go(server, watch, files, run)
    return run


def tell(said: int, scale: Scale, seconds: float) -> None:
    """How far it is, and how long it will take at this pace."""
    pace = said / seconds
    left = min((scale.messages - said) / pace, max(0.0, scale.seconds - seconds))
    typer.echo(f"  {said:,} of {scale.messages:,}, {pace:,.0f} a second, {left:.0f} s to go", err=True)


async def _let_go(server: ServerProcess, watch: Watch, files: int | None, run: Run) -> None:
    """What is still there once nothing should be: asked until it is nothing, for a while."""
    until = time.perf_counter() + STEP_SECONDS  # uvicorn takes 10 s over who does not answer our close frame
    while time.perf_counter() < until:
        run.left = await watch.clients()
        now = server.open_files()
        run.files_left = now - files if now is not None and files is not None else None
        if not run.left and not run.files_left:
            return
        await asyncio.sleep(LOOK_SECONDS)


def measure(wires: Sequence[str], rounds: int, scale: Scale, kernel_bytes: int | None = None) -> list[Run]:
    """Blocks until all is done. Raises Flawed, NotLetIn, TimeoutError or ServerFailed."""
    raise_file_limit()
    commands = {contestant.name: contestant.command for contestant in CONTESTANTS}
    pinned = cores()
    if pinned is not None:
        os.sched_setaffinity(0, {pinned[1]})
    found = []
    for number in range(1, rounds + 1):
        for wire in wires:
            for is_stuck in (False, True) if number % 2 else (True, False):
                typer.echo(f"round {number}: {wire}, {'with' if is_stuck else 'without'} the slow reader", err=True)
                with ServerProcess(commands[wire](), ENV, pinned[0] if pinned else None) as server:
                    work = one(server, wire, number, scale, is_stuck=is_stuck, kernel_bytes=kernel_bytes)
                    found.append(run_quietly(work))
    return found


# ── what is shown ────────────────────────────────────────────────────────────────────────────────


def as_markdown(runs: Sequence[Run]) -> str:
    """One line for each wire; medians over the rounds."""
    lines = [
        "| Wire | p50, ms: without, with | p99, ms: without, with | ratio | the same until it was closed | memory "
        "above the start, MB: without, with | closed with | after messages | left: clients, files |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for wire in dict.fromkeys(run.wire for run in runs):
        ours = [run for run in runs if run.wire == wire]
        without, stuck = ([run for run in ours if run.with_reader is which] for which in (False, True))
        p50, p99, begun = (
            [statistics.median(getattr(run, name) for run in each) for each in (without, stuck)]
            for name in ("p50_ms", "p99_ms", "p99_beginning_ms")
        )
        memory = [statistics.median((run.memory_bytes or 0) / 1e6 for run in each) for each in (without, stuck)]
        lines.append(
            f"| {wire} | {p50[0]:.2f}, {p50[1]:.2f} | {p99[0]:.2f}, {p99[1]:.2f} | {_verdict(p99)} | {_verdict(begun)} "
            f"| {memory[0]:.1f}, {memory[1]:.1f} | {_all(run.close_code for run in stuck)} "
            f"| {_all(run.closed_after for run in stuck)} | {_all((run.left, run.files_left) for run in stuck)} |"
        )
    return "\n".join([*lines, "", *_memory_lines(runs)]) + "\n"


def _memory_lines(runs: Sequence[Run]) -> list[str]:
    """How the memory of each server went, at parts of its run; and how many messages were said in which time."""
    lines = [
        "| Run | said | seconds | memory above the start, MB, at 1 % | 5 % | 25 % | 50 % | 75 % | 100 % | most |",
        "| --- | " + " | ".join(["--:"] * 9) + " |",
    ]
    for run in runs:
        at = [f"{seen / 1e6:.1f}" if seen is not None else "–" for seen in (_seen(run, part) for part in PARTS)]
        most = f"{(run.memory_bytes or 0) / 1e6:.1f}"
        name = f"{run.wire}, {'with' if run.with_reader else 'without'}, round {run.round}"
        lines.append(f"| {name} | {run.said:,} | {run.seconds:,.0f} | {' | '.join([*at, most])} |")
    return lines


def _seen(run: Run, part: float) -> int | None:
    """The last that was seen by then."""
    return next((seen for when, seen in reversed(run.memory) if when <= part * run.seconds), None)


def _verdict(pair: Sequence[float]) -> str:
    ratio = pair[1] / pair[0] if pair[0] else 0.0
    return f"{ratio:.2f}" if ratio <= GOAL else f"**{ratio:.2f}, more than {GOAL}**"


def _all(values: object) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values))  # type: ignore[attr-defined]


def main(
    wires: Annotated[str, typer.Option(help="Some of: fast, portable")] = "fast,portable",
    rounds: Annotated[int, typer.Option(help="How often each is done; medians are shown.", min=1)] = 1,
    messages: Annotated[int, typer.Option(min=1)] = Scale().messages,
    size: Annotated[int, typer.Option(help="Bytes of a message.", min=8)] = Scale().size,
    people: Annotated[int, typer.Option(help="In the room, the slow reader included.", min=2)] = Scale().people,
    seconds: Annotated[float, typer.Option(help="At most, for the messages of one run.", min=1)] = Scale().seconds,
    output: Annotated[Path, typer.Option(help="Where slow-reader.md and slow-reader.json go.")] = HERE / "results",
) -> None:
    """Measure. Ends with code 1 when the reader was not closed with 4430, or something of it was left."""
    where = machine()
    runs = measure([wire.strip() for wire in wires.split(",")], rounds, Scale(messages, size, people, seconds=seconds))
    sentence = (
        f"{where['date']}, {where['processor']}, {where['cores']} cores, {where['system']}, Python {where['python']}: "
        f"{messages:,} messages of {size:,} bytes to a room of {people}, each said when the last one had reached all "
        f"who read. Medians of {rounds} round{'s' if rounds > 1 else ''}."
    )
    if (where["load"] or 0) > BUSY:
        sentence += f" **The machine was busy: a load of {where['load']} before the start.**"
    output.mkdir(parents=True, exist_ok=True)
    (output / "slow-reader.md").write_text(f"{sentence}\n\n{as_markdown(runs)}")
    (output / "slow-reader.json").write_text(
        json.dumps({"machine": where, "runs": [asdict(run) for run in runs]}, indent=1) + "\n"
    )
    typer.echo(as_markdown(runs))
    if any(run.with_reader and (run.close_code != 4430 or run.left or run.files_left) for run in runs):
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
