"""The fault run: ``python -m tests.faults --seeds 50``. A line for each seed; code 1 if anything was not so."""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TextIO

from tests.faults.broken import Break
from tests.faults.checker import Violation
from tests.faults.faults import KINDS, OTHERS, Plan
from tests.faults.page import page
from tests.faults.run import SEED_SECONDS, Outcome, Size, run_to_its_end

BREAK_SECONDS = 10.0
OTHER_SEEDS = 4
PAGE = Path(__file__).with_name("NUMBERS.md")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time")
    parser.add_argument("--nodes", type=int, default=2, choices=(1, 2, 3))
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rate", type=float, default=40.0, help="emissions a second")
    parser.add_argument("--only", choices=(*KINDS, *OTHERS), help="this kind of fault alone")
    parser.add_argument("--breaks", action="store_true", help="what a break costs who needs no Redis, instead")
    parser.add_argument("--write", action="store_true", help="NUMBERS.md: with fail-overs and breaks after the seeds")
    parser.add_argument("--keep", type=Path, help="a folder for the whole history of each seed with a violation")
    parser.add_argument("--show", type=int, default=20, help="violations of one seed that are printed")
    options = parser.parse_args()
    if options.breaks:
        breaks()
        return
    kinds = (options.only,) if options.only else KINDS if options.nodes > 1 else ("sockets", "node")
    size = Size(options.nodes, options.clients, emissions_per_second=options.rate)
    plans = [(seed, Plan.of(seed, kinds)) for seed in range(options.first, options.first + options.seeds)]
    command = f"python -m tests.faults --seeds {options.seeds} --write"
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for outcome in _run(plans, size, options):
        outcomes.append(outcome)
        if options.write:
            PAGE.write_text(page(outcomes, [], [], size, command))
    if options.write:
        others = list(
            _run([(n, Plan.of(n, (kind,))) for kind in OTHERS for n in range(1, OTHER_SEEDS + 1)], size, options)
        )
        PAGE.write_text(page(outcomes, others, breaks(), size, command))
    sys.exit(1 if any(outcome.violations for outcome in outcomes) else 0)


def _run(plans: list[tuple[int, Plan]], size: Size, options: argparse.Namespace) -> Iterator[Outcome]:
    """In the order of the plans, ``jobs`` of them at a time."""
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        for outcome in pool.map(run_to_its_end, plans, [size] * len(plans), [options.keep] * len(plans)):
            tell(outcome, options.show, sys.stdout)
            yield outcome


def breaks() -> list[str]:
    """Numbers only: ``test_break.py`` says what they have to be."""
    found = []
    for kind in ("refused", "frozen"):
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            measured = asyncio.run(asyncio.wait_for(Break(kind, BREAK_SECONDS, Path(folder)).go(), SEED_SECONDS))
        found.append(f"Redis {kind} for {BREAK_SECONDS:g} s: {measured.line()}")
        sys.stdout.write(f"{found[-1]}\n")
    return found


def tell(outcome: Outcome, show: int, to: TextIO) -> None:
    print(outcome.line(), file=to, flush=True)
    kinds = Counter(violation.kind for violation in outcome.violations)
    if kinds:
        print(f"    {dict(kinds)}", file=to, flush=True)
    for violation in _some_of_each(outcome.violations, show):
        print(f"    {violation}", file=to, flush=True)
    if outcome.violations:
        print(f"    strikes: {outcome.strikes}", file=to, flush=True)
    if outcome.met:
        print(f"    met: {dict(outcome.met.most_common(8))}", file=to, flush=True)


def _some_of_each(violations: list[Violation], most: int) -> list[Violation]:
    """The first few of each kind."""
    found: dict[str, list[Violation]] = {}
    for violation in violations:
        found.setdefault(violation.kind, []).append(violation)
    return [violation for each in found.values() for violation in each[: max(1, most // len(found))]]


if __name__ == "__main__":
    main()
