"""The page on which a fault run tells what it found."""

from __future__ import annotations

from collections import Counter

from tests.faults.run import Outcome, Size


def page(outcomes: list[Outcome], others: list[Outcome], breaks: list[str], size: Size, command: str) -> str:
    """``others`` are reported: replication is asynchronous there."""
    wrong = sum(len(outcome.violations) for outcome in outcomes)
    lines = [
        "# What the fault run found",
        "",
        f"Written by the run itself (`{command}`): {size.nodes} nodes, {size.clients} clients of every wire, "
        f"{size.rooms} rooms, {size.emissions_per_second:g} emissions",
        "a second, the nodes' settings as they come, on a machine that did other work beside it. "
        "[checker.py](checker.py) says what a violation is.",
        "",
        f"**{len(outcomes)} seeds, {wrong} violations.**",
        "",
        *_table(outcomes),
        "",
        *_reasons(outcomes),
        "",
    ]
    if others:
        lines += ["## Fail-overs, and a deploy", "", *_table(others), "", *_violations(others), ""]
    if breaks:
        lines += ["## What a break costs those who need no Redis", "", *(f"- {each}" for each in breaks), ""]
    lines += ["## Seed by seed", "", "```", *(outcome.line() for outcome in (*outcomes, *others)), "```", ""]
    return "\n".join((*lines, *_violations(outcomes))).rstrip("\n") + "\n"


COLUMNS = "Fault", "seeds", "violations", "kept", "alone", "unanswered", "volatile", "heard", "recovered", "clean start"


def _table(outcomes: list[Outcome]) -> list[str]:
    names = dict.fromkeys(outcome.plan.name for outcome in outcomes)
    rows = [_row(name, [outcome for outcome in outcomes if outcome.plan.name == name]) for name in names]
    return ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|", *rows, _row("together", outcomes)]


def _row(name: str, outcomes: list[Outcome]) -> str:
    fates: Counter[str] = sum((outcome.fates for outcome in outcomes), Counter())
    returns: Counter[str] = sum((outcome.returns for outcome in outcomes), Counter())
    recovered = returns["recovered"]
    numbers = (
        len(outcomes),
        sum(len(outcome.violations) for outcome in outcomes),
        *(fates[fate] for fate in ("kept", "alone", "unknown", "volatile")),
        sum(outcome.deliveries for outcome in outcomes),
        recovered,
        returns.total() - recovered,
    )
    return f"| {name} | " + " | ".join(f"{number:,}" for number in numbers) + " |"


def _reasons(outcomes: list[Outcome]) -> list[str]:
    returns: Counter[str] = sum((outcome.returns for outcome in outcomes), Counter())
    told = ", ".join(f"{count:,} {reason.removeprefix('not: ')}" for reason, count in returns.most_common())
    again = sum(outcome.again for outcome in outcomes)
    delay = max((outcome.delay for outcome in outcomes), default=0)
    wait = max((outcome.wait for outcome in outcomes), default=0)
    return [
        f"Who came back was told: {told} (stock clients are not told a reason, only that it is a clean start).",
        f"`emit` took {delay:.1f} s at the most, and nobody waited longer than {wait:.1f} s to be let in.",
        f"After a clean start {again:,} emissions were heard by clients that had heard them before it.",
    ]


def _violations(outcomes: list[Outcome]) -> list[str]:
    found = [
        f"- seed {outcome.seed} ({outcome.plan.name}): {each}" for outcome in outcomes for each in outcome.violations
    ]
    return found[:100] + ([f"- and {len(found) - 100} more"] if len(found) > 100 else [])
