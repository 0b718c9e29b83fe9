"""``python -m benchmarks.cluster``: two nodes on one Redis, ours and Node's, on the same work, in turn, several rounds.

Round after round each group of scenarios is done by one contestant after the other, each time by fresh processes: a
Redis, node A, node B. See README.md for what the figures mean.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from benchmarks.cluster_contestants import CONTESTANTS, Cluster, Contestant, redis_command
from benchmarks.cluster_scenarios import GROUPS, QUICK, Bout, Group, Scale
from benchmarks.contestants import Missing
from benchmarks.process import ServerFailed, ServerProcess, cores
from benchmarks.quiet import run_quietly
from benchmarks.run import BUSY, machine
from benchmarks.scenarios import Flawed
from benchmarks.table import Goal, as_markdown, medians
from realtime.bench.client import Refused
from realtime.bench.crowd import raise_file_limit

HERE: Final = Path(__file__).resolve().parent
BOUT_SECONDS: Final = 60.0
"""No group of one contestant takes longer."""
ESTIMATE_SECONDS: Final = 12.0
"""What one takes: processes that start, clients that come in, a second to warm up, three that are measured."""

_PEOPLE, _ALONE, _BUSY, _PACE = Scale().people, Scale().alone, f"{Scale().busy_rate:,.0f}", Scale().latency_rate
_RECEIVING = f"receiving node, {_PEOPLE} clients: a delivery"
_LOCAL = f"one node without a Redis, {_PEOPLE} clients: a delivery"
_LATENCY = f"publisher on A to a client of B, {_PACE:,.0f} emissions/s"
GOALS: Final = (
    Goal(_RECEIVING, "cpu_us", _LOCAL, 1.2, "durable"),
    Goal(_RECEIVING, "cpu_us", "streams", 0.5, "durable"),
    Goal(_RECEIVING, "cpu_us", "pubsub", 0.6, "durable"),
    Goal(f"a node without members, {_BUSY} emissions/s elsewhere", "core", "", 2.0, "durable"),
    *(Goal(_LATENCY, figure, "pubsub", 1.0, "durable") for figure in ("p50_ms", "p99_ms")),
    Goal(f"one node without a Redis, {_ALONE} clients: a delivery", "cpu_us", "volatile", 1.15, "durable"),
)


@dataclass(slots=True)
class Report:
    """Everything that a run found."""

    machine: dict[str, Any]
    rounds: int
    scale: dict[str, Any]
    left_out: dict[str, str] = field(default_factory=dict)
    measurements: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)


def main(
    rounds: Annotated[int, typer.Option(help="How often everything is done; medians are shown.", min=1)] = 5,
    contestants: Annotated[str, typer.Option(help="Some of: " + ", ".join(c.name for c in CONTESTANTS))] = "",
    only: Annotated[str, typer.Option(help="Some of: " + ", ".join(group.name for group in GROUPS))] = "",
    seconds: Annotated[float, typer.Option(help="Measured time of one scenario.", min=0.1)] = Scale().seconds,
    quick: Annotated[bool, typer.Option(help="Tiny sizes: shows that everything works, measures nothing.")] = False,
    output: Annotated[Path, typer.Option(help="Where cluster.md and cluster.json go.")] = HERE / "results",
) -> None:
    """Run the benchmarks of two nodes. Ends with code 1 when a run failed; its contestant has no figure there."""
    wanted = [group for group in GROUPS if group.name in _names(only, [group.name for group in GROUPS])]
    chosen = [each for each in CONTESTANTS if each.name in _names(contestants, [each.name for each in CONTESTANTS])]
    report = measure(chosen, wanted, QUICK if quick else Scale(seconds=seconds), rounds)
    found = asdict(report) | {"medians": medians(report.measurements)}
    page = headed(report)
    output.mkdir(parents=True, exist_ok=True)
    (output / "cluster.json").write_text(json.dumps(found, indent=1) + "\n")
    (output / "cluster.md").write_text(page)
    typer.echo(page)
    if report.failures:
        raise typer.Exit(1)


def measure(contestants: Sequence[Contestant], groups: Sequence[Group], scale: Scale, rounds: int) -> Report:
    """Blocks until all is done. Contestants that cannot run here are left out, with the reason; without a Redis all.

    Raises Missing where there is no Redis.
    """
    redis_command()
    report = Report(machine(), rounds, asdict(scale))
    raise_file_limit()
    ready = [each for each in contestants if _is_ready(each, report)]
    work = [
        (number, group, contestant)
        for number in range(1, rounds + 1)
        for group in groups
        for contestant in ready
        if group.on_cluster is not None or contestant.ours
    ]
    pinned = cores()
    if pinned is not None:
        os.sched_setaffinity(0, {pinned[1]})
    started = time.monotonic()
    for done, (number, group, contestant) in enumerate(work):
        each = (time.monotonic() - started) / done if done else ESTIMATE_SECONDS
        left = each * (len(work) - done) / 60
        _say(f"round {number} of {rounds}: {group.name}, {contestant.title} ({left:.0f} min to go)")
        _one(contestant, group, scale, number, pinned, report)
    return report


def _one(
    contestant: Contestant, group: Group, scale: Scale, number: int, pinned: tuple[int, int] | None, to: Report
) -> None:
    place = {"round": number, "contestant": contestant.name}
    bout = Bout(contestant, scale)
    try:
        if group.on_cluster is not None:
            one, two = pinned or (None, None)
            places = {"redis": two, "a": one if group.together else two, "b": one}
            with Cluster(contestant, places) as cluster:
                _work(bout, group.on_cluster(bout, cluster))
                cluster.check()
        elif group.on_node is not None:
            with ServerProcess(contestant.command(False), contestant.env(1), pinned[0] if pinned else None) as node:
                _work(bout, group.on_node(bout, node))
                node.check()
    except ServerFailed as error:
        to.failures.append({**place, "group": group.name, "error": str(error)})
        _say(f"  failed: {error}")
    for scenario, figures in bout.found.items():
        to.measurements.append({**place, "scenario": scenario, "figures": figures})


def _work(bout: Bout, work: Any) -> None:
    """Raises ServerFailed."""

    async def bounded() -> None:
        try:
            async with asyncio.timeout(BOUT_SECONDS):
                await work
        finally:
            for crowd in bout.crowds:
                crowd.cut()

    try:
        run_quietly(bounded())
    except (Flawed, Refused, TimeoutError, OSError) as error:
        raise ServerFailed(f"{type(error).__name__}: {error}") from None


def _is_ready(contestant: Contestant, report: Report) -> bool:
    try:
        contestant.command(True)
    except Missing as reason:
        report.left_out[contestant.name] = str(reason)
        _say(f"left out: {contestant.title} ({reason})")
        return False
    return True


def headed(report: Report) -> str:
    """The table under a sentence about its making."""
    where = report.machine
    titles = {contestant.name: contestant.title for contestant in CONTESTANTS}
    shown = [name for name in titles if any(name == found["contestant"] for found in report.measurements)]
    lines = [
        f"{where['date']}, {where['processor']}, {where['cores']} cores, {where['system']}, Python {where['python']}, "
        f"realtime-rooms {where['versions'].get('realtime-rooms')}. Two nodes on one Redis, messages of 100 bytes. "
        f"Medians of {report.rounds} round{'s' if report.rounds > 1 else ''} of {report.scale['seconds']:g} s"
        + ("." if where["pinned"] else "; nothing was pinned to a core.")
        + (f" **The machine was busy: a load of {where['load']}.**" if (where["load"] or 0) > BUSY else ""),
        *(f"Left out: {titles[name]} ({reason})." for name, reason in report.left_out.items()),
        *(f"Failed: {f['contestant']}, {f['group']}, round {f['round']} ({f['error']})." for f in report.failures),
    ]
    table = as_markdown(
        medians(report.measurements),
        shown,
        titles,
        ours_first=("durable", "volatile"),
        references=("streams", "pubsub"),
        goals=GOALS,
    )
    return "\n\n".join([*lines, table, _first_to_saturate(report)]).rstrip() + "\n"


def _first_to_saturate(report: Report) -> str:
    """From what one emission takes of each process: how many a second fill its core."""
    found = medians(report.measurements)
    sentences = []
    for contestant in CONTESTANTS:
        parts = {
            words: found.get(f"– {words}'s part" + end, {}).get("cpu_us", {}).get(contestant.name)
            for words, end in (("a node", ": one said, one heard"), ("Redis", ""))
        }
        if any(not us for us in parts.values()):
            continue
        most = {words: 1e6 / us for words, us in parts.items() if us}
        first = min(most, key=most.__getitem__)
        listed = ", ".join(f"{words} at {rate:,.0f}" for words, rate in most.items())
        sentences.append(f"{contestant.title}: {listed} emissions a second fill a core; {first} does first")
    return "" if not sentences else "Calculated from the CPU of one emission. " + ". ".join(sentences) + "."


def _names(given: str, known: Sequence[str]) -> list[str]:
    wanted = [name.strip() for name in given.split(",") if name.strip()]
    unknown = set(wanted) - set(known)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: known are {', '.join(known)}")
    return wanted or list(known)


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)


if __name__ == "__main__":
    typer.run(main)
