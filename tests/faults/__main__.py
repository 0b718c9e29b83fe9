"""The fault run: ``python -m tests.faults --seeds 50``. A line for each seed; code 1 if anything was not so."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TextIO

from tests.faults.faults import KINDS, OTHERS, Plan
from tests.faults.run import Outcome, Size, run_seed

SEED_SECONDS = 150.0
"""A bound for one seed; most take a quarter of it."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=2, choices=(1, 2, 3))
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rate", type=float, default=40.0, help="emissions a second")
    parser.add_argument("--only", choices=(*KINDS, *OTHERS), help="this kind of fault alone")
    parser.add_argument("--show", type=int, default=20, help="violations of one seed that are printed")
    options = parser.parse_args()
    kinds = (options.only,) if options.only else KINDS if options.nodes > 1 else ("sockets", "node")
    size = Size(options.nodes, options.clients, emissions_per_second=options.rate)
    found = 0
    for seed in range(options.first, options.first + options.seeds):
        outcome = asyncio.run(asyncio.wait_for(run_seed(seed, Plan.of(seed, kinds), size), SEED_SECONDS))
        found += len(outcome.violations)
        tell(outcome, options.show, sys.stdout)
    sys.exit(1 if found else 0)


def tell(outcome: Outcome, show: int, to: TextIO) -> None:
    print(outcome.line(), file=to, flush=True)
    for violation in outcome.violations[:show]:
        print(f"    {violation}", file=to, flush=True)
    if outcome.violations:
        print(f"    strikes: {outcome.strikes}", file=to, flush=True)
    if outcome.met:
        print(f"    met: {dict(outcome.met.most_common(8))}", file=to, flush=True)


if __name__ == "__main__":
    main()
