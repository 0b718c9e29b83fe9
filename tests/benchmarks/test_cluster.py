from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cluster import GOALS, Report, headed
from benchmarks.cluster_contestants import CONTESTANTS, redis_command
from benchmarks.cluster_scenarios import GROUPS, Scale
from benchmarks.contestants import Missing
from benchmarks.table import UNITS, medians, ratio
from tests.serving import ROOT


@pytest.mark.process
@pytest.mark.parametrize(("only", "scenarios"), [("local,cross", 6), ("elsewhere,latency,most", 11)])
def test_ours_does_all_of_the_work(tmp_path: Path, only: str, scenarios: int) -> None:
    """Every delivery is counted on the way: a run with a flaw in it fails and leaves no figure."""
    try:
        redis_command()
    except Missing as reason:
        pytest.skip(str(reason))
    command = [sys.executable, "-m", "benchmarks.cluster", "--quick", "--rounds", "1", "--output", str(tmp_path)]
    done = subprocess.run(
        [*command, "--contestants", "durable", "--only", only], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "cluster.json").read_text())
    assert (found["failures"], found["left_out"]) == ([], {})
    assert len({measurement["scenario"] for measurement in found["measurements"]}) == scenarios
    for measurement in found["measurements"]:
        assert measurement["figures"]
        assert all(value >= 0 for value in measurement["figures"].values())
    assert (tmp_path / "cluster.md").read_text() in done.stdout
    assert "to go)" in done.stderr


def test_unknown_names_are_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cluster", "--only", "nothing"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "known are" in done.stderr


def measured(contestant: str, scenario: str, **figures: float) -> dict[str, Any]:
    return {"contestant": contestant, "scenario": scenario, "figures": figures}


def test_every_goal_is_about_work_that_is_done() -> None:
    """The names are made from the sizes: a goal for a scenario that no group has would never be looked at."""
    source = (ROOT / "benchmarks" / "cluster_scenarios.py").read_text()
    scale = Scale()
    for goal in GOALS:
        beginning = goal.scenario.split(",")[0]
        assert beginning in source, beginning
        assert goal.figure in UNITS
        assert goal.ours in {contestant.name for contestant in CONTESTANTS}
    assert (scale.people, scale.alone, scale.busy_rate, scale.latency_rate) == (250, 500, 5_000, 1_000)
    assert [group.name for group in GROUPS] == ["local", "cross", "elsewhere", "latency", "most"]


def test_a_goal_may_be_a_figure_by_itself() -> None:
    [goal] = [goal for goal in GOALS if not goal.than]
    assert ratio(medians([measured("durable", goal.scenario, core=1.5)]), goal) == 1.5


def test_the_page_says_who_saturates_first() -> None:
    where = {
        "date": "today",
        "processor": "P",
        "cores": 2,
        "system": "S",
        "python": "3",
        "versions": {},
        "pinned": True,
    }
    report = Report(where | {"load": 0.0}, 1, {"seconds": 3.0})
    report.measurements += [
        measured("durable", "\u2013 a node's part: one said, one heard", cpu_us=100.0, core=50.0),
        measured("durable", "\u2013 Redis's part", cpu_us=20.0, core=10.0),
    ]
    page = headed(report)
    assert "a node at 10,000, Redis at 50,000 emissions a second fill a core; a node does first." in page
    assert "busy" not in page
