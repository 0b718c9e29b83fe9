"""``python -m benchmarks.returning``: five thousand clients are cut off, miss fifty messages each, and all come back.

The server has a core of its own. Those who come back are this process, on another core; a few who were never away ask
for an echo every 20 ms from a process of their own, so that what they wait for is the server and not those who read
250,000 messages beside them.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer

from benchmarks.cluster_contestants import redis_command
from benchmarks.contestants import LIMITS
from benchmarks.process import ROOT, ServerProcess, cores
from benchmarks.run import machine
from realtime.bench.crowd import raise_file_limit
from realtime.bench.frames import TEXT, FrameReader, client_frame
from realtime.bench.speech import stamp
from realtime.bench.websocket import NONCE

HERE: Final = Path(__file__).resolve().parent
BATCH: Final = 200
STEP_SECONDS: Final = 60.0
CALM_SECONDS: Final = 3.0
BYSTANDERS: Final = 20
ECHO_SECONDS: Final = 0.02
GOAL_SECONDS, GOAL_MS = 5.0, 250.0
COMMAND: Final = [sys.executable, "-m", "realtime", "serve", "benchmarks.servers.returning_app:app", "--port", "{port}"]
ENV: Final = {name: LIMITS[name] for name in ("REALTIME_EVENTS_PER_SECOND", "REALTIME_JWT_SECRET")}


@dataclass(slots=True)
class Run:
    """One flood of returns; times of echoes are those of who was never away, in milliseconds."""

    clients: int
    missed: int
    wire: str
    seconds: float
    recovered: int
    calm_p99_ms: float
    p50_ms: float
    p99_ms: float
    most_ms: float
    cpu_seconds: float
    """Of the server's event loop, until all are back."""
    turn_p99_ms: float
    turn_most_ms: float
    """Its turns in which something was done, in CPU time."""


class Client(asyncio.Protocol):
    """A WebSocket that speaks as much Socket.IO as this needs. ``heard`` counts messages, which come in their order."""

    def __init__(self, auth: dict[str, Any] | None) -> None:
        self.auth = auth
        self.data: dict[str, Any] = {}
        self.offset: str | None = None
        self.heard: list[int] = []
        loop = asyncio.get_running_loop()
        self.connected: asyncio.Future[None] = loop.create_future()
        self.answer: asyncio.Future[bytes] = loop.create_future()
        self._reader: FrameReader | None = None
        self._head = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + NONCE + b"\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            self._head, end, data = (self._head + data).partition(b"\r\n\r\n")
            if not end:
                return
            self._reader = FrameReader()
        for _, payload in self._reader.feed(data):
            if payload.startswith(b"42"):
                self._event(payload)
            elif payload.startswith(b"43"):
                self.answer.set_result(payload)
            elif payload.startswith(b"40"):
                self.data = json.loads(payload[2:])
                self.connected.set_result(None)
            elif payload.startswith(b"0"):
                self.say(b"40" + (b"" if self.auth is None else json.dumps(self.auth).encode()))
            elif payload == b"2":
                self.say(b"3")

    def _event(self, payload: bytes) -> None:
        at = payload.index(b"#")
        self.heard.append(int(payload[at + 1 : at + 8]))
        self.offset = payload[payload.rindex(b',"') + 2 : -2].decode()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.connected.done():
            self.connected.set_exception(ConnectionError("the connection ended before CONNECT"))

    def say(self, payload: bytes) -> None:
        self.transport.write(client_frame(payload, TEXT))

    async def ask(self, name: str, *args: Any) -> Any:
        self.answer = asyncio.get_running_loop().create_future()
        self.say(b"420" + json.dumps([name, *args]).encode())
        return json.loads((await asyncio.wait_for(self.answer, STEP_SECONDS))[3:])[0]


async def come(port: int, auth: dict[str, Any] | None) -> Client:
    _, client = await asyncio.get_running_loop().create_connection(lambda: Client(auth), "127.0.0.1", port)
    await asyncio.wait_for(client.connected, STEP_SECONDS)
    return client


async def until(client: Client, count: int) -> None:
    """So many are away."""
    async with asyncio.timeout(STEP_SECONDS):
        while await client.ask("away") != count:
            pass


async def flood(
    here: ServerProcess | None, port: int, count: int, missed: int, calm: float, mark: Callable[[], None]
) -> tuple[float, int, list[float]]:
    """Seconds until all are back and have what they missed, how many went on where they were, and the turns of the
    server's loop meanwhile. ``mark`` is called before and after. ``here``: where they were, another server, which is
    killed; None: they were at this one, and are cut off."""
    speaker = await come(port, {"bystander": True})
    clients: list[Client] = []
    for start in range(0, count, BATCH):
        first = port if here is None else here.port
        clients += await asyncio.gather(*(come(first, None) for _ in range(start, min(count, start + BATCH))))
    await speaker.ask("publish", [stamp(0, 100)])
    async with asyncio.timeout(STEP_SECONDS):
        for client in clients:
            while not client.heard:
                await speaker.ask("echo", "")
    await asyncio.sleep(calm)
    if here is not None:
        here.stop()
    else:
        for client in clients:
            client.transport.abort()
        await until(speaker, count)
    await speaker.ask("publish", [stamp(number, 100) for number in range(1, missed + 1)])
    shown = [{"pid": client.data["pid"], "offset": client.offset} for client in clients]
    await speaker.ask("watch")
    mark()
    begin = time.perf_counter()
    back = await asyncio.gather(*(come(port, auth) for auth in shown))
    seconds = time.perf_counter() - begin
    mark()
    turns = await speaker.ask("watched")
    for client in back:
        if client.heard != (list(range(1, missed + 1)) if client.data.get("recovered") else []):
            raise AssertionError(f"one heard {len(client.heard)} of {missed}: {client.data}")
    for client in (*back, *clients, speaker):
        client.transport.abort()
    await asyncio.sleep(0)  # until they have ended
    return seconds, sum(client.data.get("recovered", False) for client in back), turns


async def stand_by(port: int) -> list[tuple[float, float]]:
    """Those who were never away: when each echo was asked for, and how long it took; until standard input ends."""
    people = await asyncio.gather(*(come(port, {"bystander": True}) for _ in range(BYSTANDERS)))
    times: list[tuple[float, float]] = []
    print("ready", flush=True)  # noqa: T201
    over = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))

    async def ask(client: Client, late: float) -> None:
        await asyncio.sleep(late)
        while not over.done():
            asked = time.perf_counter()
            await client.ask("echo", "x" * 100)
            times.append((asked, time.perf_counter() - asked))
            await asyncio.sleep(max(0.0, ECHO_SECONDS - (time.perf_counter() - asked)))

    await asyncio.gather(*(ask(client, number * ECHO_SECONDS / BYSTANDERS) for number, client in enumerate(people)))
    return times


def percentile(times: Sequence[float], part: float) -> float:
    """Milliseconds."""
    return sorted(times)[min(len(times) - 1, int(len(times) * part))] * 1_000


def measure(wire: str, count: int, missed: int, calm: float = CALM_SECONDS, elsewhere: bool = False) -> Run:
    """One flood. Blocks for about half a minute with the usual numbers. Raises Missing where there is no Redis for
    ``elsewhere``: those who come back were at another server, which was killed."""
    raise_file_limit()
    pinned = cores()
    marks: list[float] = []
    with ExitStack() as stack:
        command, here = [*COMMAND, "--wire", wire], None
        if elsewhere:
            redis = stack.enter_context(ServerProcess(redis_command(), {}, pinned[1] if pinned else None))
            command += ["--redis", f"redis://127.0.0.1:{redis.port}/0"]
            here = stack.enter_context(ServerProcess(command, ENV, pinned[1] if pinned else None))
        server = stack.enter_context(ServerProcess(command, ENV, pinned[0] if pinned else None))
        people = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.returning", "--stand-by", str(server.port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True,
        )  # fmt: skip
        try:
            if pinned:
                os.sched_setaffinity(0, {pinned[1]})
                os.sched_setaffinity(people.pid, {pinned[1]})
            assert people.stdout is not None
            people.stdout.readline()
            seconds, recovered, turns = asyncio.run(
                flood(here, server.port, count, missed, calm, lambda: marks.append(time.perf_counter()))
            )
            told, _ = people.communicate(timeout=STEP_SECONDS)
        finally:
            people.kill()
            people.wait()
    times = [tuple(each) for each in json.loads(told)]
    begin, end = marks
    inside = [took for asked, took in times if begin - 0.05 <= asked <= end]
    before = [took for asked, took in times if asked < begin - 0.1]
    figures = (percentile(before, 0.99), percentile(inside, 0.5), percentile(inside, 0.99), max(inside) * 1_000)
    return Run(
        count,
        missed,
        f"{wire}, at another node" if elsewhere else wire,
        seconds,
        recovered,
        *figures,
        sum(turns),
        percentile(turns, 0.99),
        max(turns) * 1_000,
    )


def as_markdown(runs: Sequence[Run]) -> str:
    lines = [
        "| Wire | Clients | Missed by each | All are back after | CPU of the server | Went on "
        "| Echo of others: p99 before | p50 meanwhile | p99 | most | Turns of the loop: p99 | most |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for run in runs:
        late = "" if run.seconds <= GOAL_SECONDS else f", **more than {GOAL_SECONDS:g} s**"
        slow = "" if run.p99_ms <= GOAL_MS else f", **more than {GOAL_MS:g}**"
        lines.append(
            f"| {run.wire} | {run.clients:,} | {run.missed} | {run.seconds:.2f} s{late} "
            f"| {run.cpu_seconds:.2f} s | {run.recovered:,} "
            f"| {run.calm_p99_ms:.1f} ms | {run.p50_ms:.1f} ms | {run.p99_ms:.1f} ms{slow} | {run.most_ms:.1f} ms "
            f"| {run.turn_p99_ms:.1f} ms | {run.turn_most_ms:.1f} ms |"
        )
    return "\n".join(lines) + "\n"


def main(
    clients: Annotated[int, typer.Option(help="How many are cut off.", min=1)] = 5_000,
    missed: Annotated[int, typer.Option(help="Messages that each misses.", min=1)] = 50,
    rounds: Annotated[int, typer.Option(help="How often.", min=1)] = 3,
    wire: Annotated[str, typer.Option(help="fast or portable.")] = "fast",
    elsewhere: Annotated[bool, typer.Option(help="They were at another node, which was killed; needs Redis.")] = False,
    output: Annotated[Path, typer.Option(help="Where returning.md goes.")] = HERE / "results",
    stand_by_port: Annotated[int | None, typer.Option("--stand-by", hidden=True)] = None,
) -> None:
    """Measure, print the table and write it."""
    if stand_by_port is not None:
        print(json.dumps(asyncio.run(stand_by(stand_by_port))))  # noqa: T201
        return
    runs = [measure(wire, clients, missed, elsewhere=elsewhere) for _ in range(rounds)]
    where, table = machine(), as_markdown(runs)
    made = f"{where['date']}, {where['processor']}, Python {where['python']}"
    output.mkdir(parents=True, exist_ok=True)
    (output / "returning.md").write_text(f"{made}: each line is one flood.\n\n{table}")
    (output / "returning.json").write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n")
    typer.echo(table)
    typer.echo(f"median of the p99: {statistics.median(run.p99_ms for run in runs):.1f} ms")


if __name__ == "__main__":
    typer.run(main)
