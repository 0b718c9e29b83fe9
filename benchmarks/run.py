"""``python -m benchmarks.run``: every contestant on the same work, in turn, several rounds, one table.

Round after round each group of scenarios is done by one contestant after the other, on a fresh server that has a
core of its own; this process, which is the load generator, has another. See README.md for what the figures mean.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from benchmarks.contestants import CONTESTANTS, Contestant, Missing
from benchmarks.process import ServerFailed, ServerProcess, cores
from benchmarks.scenarios import QUICK, Bout, Flawed, Group, Scale, groups, run_group
from benchmarks.table import as_markdown, medians
from realtime.bench.client import Refused
from realtime.bench.crowd import raise_file_limit
from realtime.encoding.msgpack_data import require as require_msgpack
from realtime.errors import UsageError

HERE: Final = Path(__file__).resolve().parent
GROUP_SECONDS: Final = 180.0
"""No group of one contestant takes longer; the slowest (10,000 clients of stock python-socketio) needs a sixth."""
BUSY: Final = 0.3
"""A load average from which on the table says that others were at work."""
BEGIN, END = "<!-- table: made by benchmarks/run.py -->", "<!-- end of table -->"


@dataclass(slots=True)
class Report:
    """Everything that a run found."""

    machine: dict[str, Any]
    rounds: int
    scale: dict[str, Any]
    left_out: dict[str, str] = field(default_factory=dict)
    not_done: dict[str, str] = field(default_factory=dict)
    """Groups, with the reason."""
    measurements: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {"medians": medians(self.measurements)}


def main(
    rounds: Annotated[int, typer.Option(help="How often everything is done; medians are shown.", min=1)] = 5,
    contestants: Annotated[str, typer.Option(help="Some of: " + ", ".join(c.name for c in CONTESTANTS))] = "",
    only: Annotated[str, typer.Option(help="Groups, by name or its beginning, with commas: fan-out,crowd")] = "",
    seconds: Annotated[float, typer.Option(help="Measured time of one scenario.", min=0.1)] = Scale().seconds,
    quick: Annotated[bool, typer.Option(help="Tiny sizes: shows that everything works, measures nothing.")] = False,
    output: Annotated[Path, typer.Option(help="Where results.md and results.json go.")] = HERE / "results",
    readme: Annotated[bool, typer.Option(help="Put the table into benchmarks/README.md as well.")] = False,
) -> None:
    """Run the benchmarks. Ends with code 1 when a run failed; its contestant has no figure there."""
    scale = QUICK if quick else Scale(seconds=seconds)
    report = measure(_chosen(contestants), _wanted(only, scale), scale, rounds)
    found = report.as_dict()
    table = headed(report, found["medians"])
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (output / "results.md").write_text(table)
    if readme:
        write_between(HERE / "README.md", table)
    typer.echo(table)
    if report.failures:
        raise typer.Exit(1)


def measure(contestants: Sequence[Contestant], wanted: Sequence[Group], scale: Scale, rounds: int) -> Report:
    """Blocks until all is done. Contestants and groups that cannot run here are left out, with the reason."""
    report = Report(machine(), rounds, {name: getattr(scale, name) for name in scale.__slots__})
    report.machine["open files"] = raise_file_limit()
    ready = _made_ready(contestants, report)
    wanted = _possible(wanted, report)
    pinned = cores()
    if pinned is not None:
        os.sched_setaffinity(0, {pinned[1]})
    one_round = [(group, *each) for group in wanted for each in ready if group.needs not in each[0].lacks]
    started = time.monotonic()
    for number in range(1, rounds + 1):
        left = "" if number == 1 else f" ({_minutes_left(started, number - 1, rounds)} min to go at its beginning)"
        for group, contestant, command in one_round:
            _say(f"round {number} of {rounds}{left}: {group.name}, {contestant.title}")
            _one(contestant, command, group, scale, number, pinned[0] if pinned else None, report)
    return report


def _minutes_left(started: float, done: int, rounds: int) -> int:
    """All rounds are alike."""
    return round((time.monotonic() - started) / done * (rounds - done) / 60)


def _one(
    contestant: Contestant, command: list[str], group: Group, scale: Scale, number: int, core: int | None, to: Report
) -> None:
    place = {"round": number, "contestant": contestant.name}
    try:
        with ServerProcess(command, contestant.env(group.serializer), core) as server:
            bout = Bout(server, scale)
            try:
                run_group(group, bout, GROUP_SECONDS)
                server.check()
            except (Flawed, Refused, TimeoutError, OSError) as error:
                raise ServerFailed(f"{type(error).__name__}: {error} {server.last_words()}".strip()) from None
            finally:
                for scenario, figures in bout.found.items():
                    to.measurements.append({**place, "scenario": scenario, "figures": figures})
    except ServerFailed as error:
        to.failures.append({**place, "group": group.name, "error": str(error)})
        _say(f"  failed: {error}")


def _made_ready(contestants: Sequence[Contestant], report: Report) -> list[tuple[Contestant, list[str]]]:
    ready = []
    for contestant in contestants:
        try:
            ready.append((contestant, contestant.command()))
        except Missing as reason:
            report.left_out[contestant.name] = str(reason)
            _say(f"left out: {contestant.title} ({reason})")
    return ready


def _possible(wanted: Sequence[Group], report: Report) -> list[Group]:
    """The load generator speaks MessagePack, too: without the package nobody can be asked."""
    possible = []
    for group in wanted:
        try:
            if group.serializer == "msgpack":
                require_msgpack()
            possible.append(group)
        except UsageError as reason:
            report.not_done[group.name] = reason.message
            _say(f"left out: {group.name} ({reason.message})")
    return possible


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    names = ("realtime-rooms", "python-socketio", "python-engineio", "uvicorn", "uvloop", "httptools", "websockets")
    versions = {}
    for name in (*names, "orjson"):
        try:
            versions[name] = version(name)
        except ModuleNotFoundError:
            continue
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "pinned": cores() is not None,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def headed(report: Report, found: dict[str, Any]) -> str:
    """The table under a sentence about its making."""
    where = report.machine
    titles = {contestant.name: contestant.title for contestant in CONTESTANTS}
    shown = [name for name in titles if any(name == found["contestant"] for found in report.measurements)]
    lines = [
        f"{where['date']}, {where['processor']}, {where['cores']} cores, {where['system']}, Python {where['python']}, "
        + ", ".join(f"{name} {number}" for name, number in where["versions"].items())
        + f". Medians of {report.rounds} round{'s' if report.rounds > 1 else ''} of {report.scale['seconds']:g} s"
        + ("." if where["pinned"] else "; nothing was pinned to a core.")
        + (
            f" **The machine was busy: a load of {where['load']} before the start.**"
            if (where["load"] or 0) > BUSY
            else ""
        ),
        *(f"Left out: {titles[name]} ({reason})." for name, reason in report.left_out.items()),
        *(f"Left out: {name}. {reason}." for name, reason in report.not_done.items()),
        *(f"Failed: {f['contestant']}, {f['group']}, round {f['round']} ({f['error']})." for f in report.failures),
    ]
    return "\n\n".join([*lines, as_markdown(found, shown, titles)])


def write_between(page: Path, table: str) -> None:
    """Replace what stands between the two marks of the page."""
    text = page.read_text()
    before, rest = text.split(BEGIN)
    page.write_text(before + BEGIN + "\n\n" + table + "\n" + END + rest.split(END)[1])


def _chosen(names: str) -> list[Contestant]:
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = set(wanted) - {contestant.name for contestant in CONTESTANTS}
    if unknown:
        raise typer.BadParameter(f"no contestant is called {', '.join(sorted(unknown))}")
    return [contestant for contestant in CONTESTANTS if not wanted or contestant.name in wanted]


def _wanted(only: str, scale: Scale) -> list[Group]:
    beginnings = tuple(name.strip() for name in only.split(",") if name.strip())
    found = [group for group in groups(scale) if not beginnings or group.name.startswith(beginnings)]
    if not found:
        raise typer.BadParameter(f"the groups are {', '.join(group.name for group in groups(scale))}")
    return found


def _say(sentence: str) -> None:
    typer.echo(sentence, file=sys.stderr)


if __name__ == "__main__":
    typer.run(main)
