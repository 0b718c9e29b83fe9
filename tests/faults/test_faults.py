"""The fault run in small: few clients of every wire, two faults, and the checker finds nothing.

The long one is a command of its own: ``python -m tests.faults --seeds 50``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.faults import KINDS, Plan
from tests.faults.run import Outcome, Run, Size

pytestmark = [pytest.mark.process, pytest.mark.faults]
SOON = (0.2, 0.5)


def run(seed: int, plan: Plan, nodes: int, folder: Path) -> Outcome:
    size = Size(nodes, clients=40, rooms=6, emissions_per_second=30, calm_seconds=0.3, patience_seconds=1)
    outcome = asyncio.run(asyncio.wait_for(Run(seed, plan, size, folder).go(), 50))
    assert outcome.violations == [], f"{outcome.line()}\n{outcome.strikes}\n{outcome.met}"
    assert outcome.fates["kept"] > 20
    assert outcome.deliveries > outcome.fates["kept"]
    return outcome


def test_one_node_whose_clients_are_cut_off(tmp_path: Path) -> None:
    """Its journal is in its own memory: everybody recovers."""
    outcome = run(1, Plan(("sockets",), True, 1, pause=SOON), 1, tmp_path)
    assert set(outcome.returns) == {"recovered"}
    assert outcome.returns["recovered"] > 20


def test_two_nodes_whose_redis_comes_and_goes(tmp_path: Path) -> None:
    """Killed and back with its data, and emptied: some go alone meanwhile, and everything is handed over."""
    outcome = run(3, Plan(("killed", "emptied"), True, 2, longest=1.5, in_turn=True, pause=SOON), 2, tmp_path)
    assert outcome.fates["kept"] + outcome.fates["alone"] > 60
    assert outcome.returns["not: epoch"] + outcome.returns["not: incomplete"] > 0


def test_two_nodes_one_of_which_is_killed(tmp_path: Path) -> None:
    """Its clients go on at the other, or are told that they cannot."""
    outcome = run(4, Plan(("node",), True, 1, longest=0.5, pause=SOON), 2, tmp_path)
    assert outcome.returns["recovered"] > 10


def test_plans_have_each_kind_alone_with_and_without_cuts_and_then_all() -> None:
    plans = [Plan.of(seed) for seed in range(1, 51)]
    assert [plan.kinds for plan in plans[: len(KINDS)]] == [(kind,) for kind in KINDS]
    names = [plan.name for plan in plans]
    for kind in KINDS[1:]:
        assert {kind, f"{kind}, sockets cut"} <= set(names)
    assert names.count("mixed, sockets cut") > 15
    assert Plan.of(7) == Plan.of(7)
