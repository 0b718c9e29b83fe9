"""``python -m benchmarks.guards``: what the checks of the door cost on the way of an acknowledged echo.

In one process, without sockets: the real connection, decoder, namespace and acknowledgement on a wire that keeps
nothing; beside it the same with a guard taken out. Each is done many times in turn, and the fastest time counts.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, ClassVar, Final

import orjson
import typer

from benchmarks.run import machine
from realtime import Namespace, Server, Settings, event
from realtime.bench.speech import stamp
from realtime.clients.connection import Connection
from realtime.encoding.codecs import Encoded
from realtime.encoding.packets import Decoder
from realtime.ports import Link

try:
    import uvloop
except ImportError:  # the standard loop does the same work, slower
    uvloop = None  # type: ignore[assignment]

HERE: Final = Path(__file__).resolve().parent
GOAL: Final = 0.05
ECHO: Final = "echo with acknowledgement, 100 clients"
BENCHMARK: Final = "text of 100 bytes"
"""What the benchmark's echo says: the goal is about it."""
PAYLOADS: Final = {
    BENCHMARK: stamp(1, 100),
    "small object": {"room": "lobby", "text": "hello", "at": 1719999999999, "tags": ["a", "b"]},
}


class Trusting(Decoder):
    """Takes every event for what it says it is: no size, depth, name or number is looked at."""

    __slots__ = ()

    def quick(self, frame: Any) -> Any:
        if frame[:2] != "42" or self._due:
            return None
        start = frame.find("[", 2)
        namespace, _, digits = frame[2:start].rpartition(",")
        return orjson.loads(frame[start:]), namespace or "/", int(digits) if digits else None


class Unlimited(Connection):
    """Asks no limit of events per second."""

    def _event(self, data: Any, namespace: str, id: int | None, cost: int = 1) -> None:
        self.inbox.put(self.members[namespace], ("event", data, id))


Variant = tuple[type[Connection], type[Decoder]]
VARIANTS: Final[dict[str, Variant]] = {
    "all guards": (Connection, Decoder),
    "without the decoder's": (Connection, Trusting),
    "without the limit of events per second": (Unlimited, Decoder),
    "without any": (Unlimited, Trusting),
}


class Echo(Namespace):
    path: ClassVar[str] = "/"

    @event
    async def echo(self, data: Any) -> Any:
        return data


class Sink:
    """Keeps the port ``Wire``: makes the bytes, as a wire does, and counts."""

    name = "websocket"
    link: Link

    def __init__(self) -> None:
        self.taken = 0

    def send(self, encoded: Encoded) -> bool:
        self.taken += len(encoded.wire) > 0
        return True

    def close(self, code: int, reason: str) -> None:
        raise AssertionError(f"closed with {code}: {reason}")

    def pause(self) -> None:
        raise AssertionError("an echo is done at once")

    def resume(self) -> None: ...


async def connected(variant: Variant) -> tuple[Connection, Sink]:
    """A client in the namespace, whose events are handled while ``receive`` runs."""
    kind, decoder = variant
    server = Server(settings=Settings(_env_prefix="NOBODY_SETS_THESE_", events_per_second=1e9))
    server.include(Echo())
    wire = Sink()
    connection = kind(
        server.core, "session", server._dialect, {"type": "websocket"}, decoder(),
        ping_interval=25, ping_timeout=20, message_limit=1_000_000,
    )  # fmt: skip
    connection.greet(wire, [])
    connection.receive("40")
    await server.application.rest(5)
    connection.receive('420["echo",0]')
    await server.application.rest(5)
    return connection, wire


async def seconds_of(payload: Any, repeats: int, events: int) -> dict[str, float]:
    """For each variant the fastest event, in seconds. Raises AssertionError where not each was acknowledged."""
    frames = [f"42{number}{orjson.dumps(['echo', payload]).decode()}" for number in range(events)]
    clients = {name: await connected(variant) for name, variant in VARIANTS.items()}
    best = dict.fromkeys(VARIANTS, float("inf"))
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeats):
            for name, (connection, wire) in clients.items():
                before, took = wire.taken, _timed(connection.receive, frames)
                assert wire.taken - before == events, f"{name}: not everything was acknowledged at once"
                best[name] = min(best[name], took / events)
            await asyncio.sleep(0)
    finally:
        gc.enable()
        for connection, _ in clients.values():
            connection.lost("transport close")
            await connection.core.settle(5)
        workers = asyncio.all_tasks() - {asyncio.current_task()}
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return best


def _timed(receive: Callable[[str], None], frames: list[str]) -> float:
    started = perf_counter()
    for frame in frames:
        receive(frame)
    return perf_counter() - started


def echo_figure() -> float | None:
    """CPU of the server for one acknowledged echo over a socket, in seconds: from the newest results beside us."""
    for name in ("fan-out-and-echo.json", "results.json"):
        path = HERE / "results" / name
        if path.exists():
            found = json.loads(path.read_text())["medians"].get(ECHO, {}).get("cpu_us", {}).get("fast")
            if found is not None:
                return float(found) / 1e6
    return None


def as_markdown(measured: dict[str, dict[str, float]], figure: float | None) -> str:
    """Microseconds for one event, what is saved without, and that as a part of an echo over a socket."""
    over = "" if figure is None else f" ({figure * 1e6:.1f} µs)"
    lines = [
        f"| Payload | Way of one echo | µs | less | of it | of the benchmark's echo{over} |",
        "| --- | --- | --: | --: | --: | --: |",
    ]
    for payload, best in measured.items():
        whole = best["all guards"]
        for name, took in best.items():
            saved = whole - took
            share = "–" if figure is None or name == "all guards" else f"{saved / figure:.1%}"
            parts = ("–", "–") if name == "all guards" else (f"{saved * 1e6:.2f}", f"{saved / whole:.1%}")
            if name == "without any" and payload == BENCHMARK and figure is not None:
                share += ", at most 5 %: " + ("reached" if saved / figure <= GOAL else "**missed**")
            lines.append(f"| {payload} | {name} | {took * 1e6:.2f} | {parts[0]} | {parts[1]} | {share} |")
    return "\n".join(lines) + "\n"


def measure(repeats: int, events: int) -> dict[str, dict[str, float]]:
    """Blocks for a quarter of a minute with the usual numbers."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop else None) as runner:
        return {name: runner.run(seconds_of(payload, repeats, events)) for name, payload in PAYLOADS.items()}


def main(
    repeats: Annotated[int, typer.Option(help="How often each is done; the fastest counts.", min=1)] = 100,
    events: Annotated[int, typer.Option(help="Events in one go.", min=1)] = 2_000,
    output: Annotated[Path, typer.Option(help="Where guards.md goes.")] = HERE / "results",
) -> None:
    """Measure, print the table and write it."""
    where = machine()
    table = as_markdown(measure(repeats, events), echo_figure())
    made = f"{where['date']}, {where['processor']}, Python {where['python']}"
    output.mkdir(parents=True, exist_ok=True)
    (output / "guards.md").write_text(f"{made}: the fastest of {repeats} times {events:,} events.\n\n{table}")
    typer.echo(table)


if __name__ == "__main__":
    typer.run(main)
