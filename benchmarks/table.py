"""Pure: no I/O, no clock, no task. From raw measurements to one table: medians, ratios, and what must be reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

UNITS: Final = {
    "cpu_us": "CPU, µs each",
    "rate": "per second",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "kb": "memory, kB each",
    "core": "of one core, %",
    "base": "the same at rest, %",
}
"""The figures that are shown, in this order; ``generator`` stays in the raw numbers."""

REFERENCES: Final = ("node", "stock", "floor")
OURS: Final = ("fast", "portable", "classic")


@dataclass(frozen=True, slots=True)
class Goal:
    """``ours`` may be at most ``ratio`` times ``than``, in one figure of one scenario.

    ``than`` is a contestant, another scenario of the same contestant, or nothing: then ``ratio`` is the figure itself.
    """

    scenario: str
    figure: str
    than: str
    ratio: float
    ours: str = "fast"


GOALS: Final = (
    *(
        Goal(f"fan-out, 100 B to {people}", "cpu_us", than, ratio)
        for people in ("500", "5,000")
        for than, ratio in (("node", 0.5), ("stock", 0.15), ("floor", 1.5))
    ),
    Goal("16 messages at once to 500", "cpu_us", "floor", 1.0),
    Goal("echo with acknowledgement, 100 clients", "cpu_us", "node", 0.75),
    Goal("echo with acknowledgement, 100 clients", "cpu_us", "stock", 0.2),
    Goal("echo with acknowledgement, 1 client", "p50_ms", "node", 1.0),
    Goal("idle, 10,000 connections", "kb", "node", 0.8),
    *(
        Goal(f"{what}", "cpu_us", "node", 1.0)
        for what in ("connect and join, 10,000 clients", "gone at once, 10,000 clients in 3 rooms")
    ),
    Goal("gone at once, 10,000 clients in 3 rooms", "cpu_us", "gone at once, 2,500 clients in 3 rooms", 1.25),
    Goal("raw /ws/chat message, 100 B to 500", "cpu_us", "chat message, 100 B to 500", 1.1),
    *(Goal(f"fan-out, 100 B to {people}", "cpu_us", "stock", 0.4, "portable") for people in ("500", "5,000")),
)
"""The figures that the fast wires were built to reach. 1.25 stands for "linear": a square would be 4."""

Medians = dict[str, dict[str, dict[str, float]]]
"""scenario → figure → contestant → median"""


def medians(measurements: Iterable[Mapping[str, Any]]) -> Medians:
    """``measurements`` are ``{"scenario", "contestant", "figures"}``; each figure's median over the rounds."""
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for found in measurements:
        for figure, value in found["figures"].items():
            values.setdefault(found["scenario"], {}).setdefault(figure, {}).setdefault(found["contestant"], []).append(
                value
            )
    return {
        scenario: {
            figure: {contestant: median(numbers) for contestant, numbers in by_contestant.items()}
            for figure, by_contestant in figures.items()
        }
        for scenario, figures in values.items()
    }


def ratio(found: Medians, goal: Goal) -> float | None:
    """None where one of the two was not measured."""
    mine = found.get(goal.scenario, {}).get(goal.figure, {}).get(goal.ours)
    if not goal.than:
        return mine
    if goal.than in found:
        other = found[goal.than].get(goal.figure, {}).get(goal.ours)
    else:
        other = found.get(goal.scenario, {}).get(goal.figure, {}).get(goal.than)
    return mine / other if mine is not None and other else None


def as_markdown(
    found: Medians,
    contestants: Sequence[str],
    titles: Mapping[str, str],
    *,
    ours_first: Sequence[str] = OURS,
    references: Sequence[str] = REFERENCES,
    goals: Sequence[Goal] = GOALS,
) -> str:
    """The table, then the goals that could be looked at. The first of ours that is there is compared with all
    references."""
    ours = next((name for name in ours_first if name in contestants), None)
    against = [name for name in references if name in contestants] if ours else []
    head = ["Work", "Figure", *(titles[name] for name in contestants), *(f"{ours} / {name}" for name in against)]
    lines = [_row(head), _row(["---", "---", *["--:"] * (len(head) - 2)])]
    for scenario, figures in found.items():
        shown = [figure for figure in UNITS if figure in figures]
        for figure in shown:
            values = figures[figure]
            cells = [_number(values.get(name)) for name in contestants]
            ratios = [_ratio(values.get(ours or ""), values.get(name)) for name in against]
            lines.append(_row([scenario if figure == shown[0] else "", UNITS[figure], *cells, *ratios]))
    return "\n".join([*lines, *_goal_lines(found, goals)]) + "\n"


def _goal_lines(found: Medians, goals: Sequence[Goal]) -> list[str]:
    looked_at = [(goal, value) for goal in goals if (value := ratio(found, goal)) is not None]
    if not looked_at:
        return []
    lines = ["", _row(["Must reach", "Of", "At most", "Is", ""]), _row(["---", "---", "--:", "--:", "---"])]
    for goal, value in looked_at:
        than = f"{goal.ours} / {goal.than}" if goal.than else goal.ours
        verdict = "reached" if value <= goal.ratio else "**missed**"
        lines.append(_row([f"{goal.scenario}: {UNITS[goal.figure]}", than, f"{goal.ratio:g}", f"{value:.2f}", verdict]))
    return lines


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(mine: float | None, other: float | None) -> str:
    return f"{mine / other:.2f}" if mine is not None and other else "–"
