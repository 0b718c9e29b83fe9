"""``python -m benchmarks.capacity``: what a hundred thousand and a million connections need, from what was measured.

Most constants come from the results of the other commands; the small ones that nobody else measures are measured here,
in a minute. ``--page`` writes the page anew from the constants as they are, and measures nothing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from benchmarks.capacity_measured import measure
from benchmarks.capacity_model import UNITS, as_markdown
from benchmarks.process import cores
from benchmarks.run import BUSY, machine

HERE: Final = Path(__file__).resolve().parent
RESULTS: Final = HERE / "results"
CONSTANTS: Final = RESULTS / "constants.json"
PAGE: Final = HERE / "CAPACITY.md"
BEGIN, END = "<!-- calculated by benchmarks/capacity.py -->", "<!-- end of what is calculated -->"
PACE: Final = "1,000 emissions/s"
SAYING, HEARING, REDIS = f"saying, {PACE}", f"hearing, {PACE} for one member", f"Redis, {PACE}"


def main(
    page: Annotated[bool, typer.Option("--page", help="Only write the page, from the constants as they are.")] = False,
) -> None:
    """Gather the constants, calculate, and write CAPACITY.md."""
    if not page:
        found = from_results(RESULTS) | measure()
        made = machine()
        kept = {"made": made["date"], "load": made["load"], "constants": found}
        CONSTANTS.write_text(json.dumps(kept, indent=1) + "\n")
    PAGE.write_text(written(PAGE.read_text(), json.loads(CONSTANTS.read_text())))
    typer.echo(PAGE.read_text())


def written(text: str, found: dict[str, Any]) -> str:
    """The page with what these constants say between its marks."""
    constants = found["constants"]
    given = {name: float(constants[name]["value"]) for name in UNITS}
    table = as_markdown(given, {name: constants[name]["from"] for name in UNITS})
    before, rest = text.split(BEGIN)
    head = f"Constants of {found['made']}."
    if (found["load"] or 0) > BUSY:
        head += f" **The machine was busy, with a load of {found['load']}: they are higher than on a quiet one.**"
    return f"{before}{BEGIN}\n\n{head}\n\n{table}\n{END}{rest.split(END)[1]}"


def from_results(folder: Path) -> dict[str, dict[str, Any]]:
    """What the other commands have measured. Raises OSError or KeyError where one of them was not run."""
    run, cluster = _medians(folder / "results.json"), _medians(folder / "cluster.json")
    echo = _medians(folder / "fan-out-and-echo.json")
    delivery = echo["fan-out, 100 B to 500"]["cpu_us"]["fast"]
    say, hear, of_redis = (cluster[f"– {part}"]["cpu_us"]["durable"] for part in (SAYING, HEARING, REDIS))
    connected, idle = "connect and join, 10,000 clients", "idle, 10,000 connections"
    return {
        "delivery_us": _constant(delivery, "results/fan-out-and-echo.md: fan-out to 500"),
        "say_us": _constant(say, f"results/cluster.md: {SAYING}, each an event of its own"),
        "hear_us": _constant(max(0.0, hear - delivery), f"results/cluster.md: {HEARING}, less a delivery"),
        "connect_us": _constant(run[connected]["cpu_us"]["fast"], f"results/results.md: {connected}"),
        "connection_kb": _constant(run[idle]["kb"]["fast"], f"results/results.md: {idle}"),
        "redis_emission_us": _constant(of_redis, f"results/cluster.md: {REDIS}"),
    }


def _constant(value: float, origin: str) -> dict[str, Any]:
    return {"value": round(value, 3), "from": origin}


def _medians(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())["medians"]
    return found


def pin() -> None:
    """This process away from the servers' core, where that can be chosen."""
    pinned = cores()
    if pinned is not None:
        os.sched_setaffinity(0, {pinned[1]})


if __name__ == "__main__":
    pin()
    typer.run(main)
