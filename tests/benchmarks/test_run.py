from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contestants import CONTESTANTS, Missing
from benchmarks.process import ServerFailed, ServerProcess
from benchmarks.run import BEGIN, END, headed, measure, write_between
from benchmarks.scenarios import QUICK, Scale, groups
from benchmarks.table import GOALS, UNITS, Goal, as_markdown, medians, ratio
from realtime.encoding import msgpack_data
from tests.serving import ROOT

BY_NAME = {contestant.name: contestant for contestant in CONTESTANTS}


def command_line(tmp_path: Path, *arguments: str, **env: str) -> dict[str, Any]:
    """The results of ``python -m benchmarks.run --quick``; it must have ended well."""
    command = [sys.executable, "-m", "benchmarks.run", "--quick", "--rounds", "1", "--output", str(tmp_path)]
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=os.environ | env, capture_output=True, text=True, timeout=55
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "results.md").read_text() in done.stdout
    found: dict[str, Any] = json.loads((tmp_path / "results.json").read_text())
    return found


# ── the command ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.process
@pytest.mark.parametrize("only", ["fan-out,large,echo", "crowd-20,application", "msgpack,polling"])
def test_ours_does_all_of_the_work(tmp_path: Path, only: str) -> None:
    """Every delivery is counted on the way: a run with a flaw in it fails and leaves no figure."""
    found = command_line(tmp_path, "--contestants", "portable", "--only", only)
    assert found["failures"] == []
    assert found["left_out"] == {}
    assert found["rounds"] == 1
    wanted = {"cpu_us", "rate", "p50_ms", "p99_ms", "generator"}
    assert found["measurements"]
    for measurement in found["measurements"]:
        assert measurement["contestant"] == "portable"
        figures = measurement["figures"]
        scenario = measurement["scenario"]
        if scenario.startswith("idle"):
            assert set(figures) == {"kb"}
        elif scenario.startswith("gone"):
            assert set(figures) == {"cpu_us"}
        else:
            assert set(figures) == wanted - ({"p50_ms", "p99_ms"} if scenario.startswith("connect") else set())
        assert all(value >= 0 for value in figures.values())
        for figure, value in figures.items():
            assert found["medians"][scenario][figure]["portable"] == value


@pytest.mark.process
def test_the_floor_is_compiled_and_does_its_work(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    found = command_line(
        tmp_path, "--contestants", "floor", "--only", "fan-out,large,echo,crowd-20", XDG_CACHE_HOME=str(cache)
    )
    if "floor" in found["left_out"]:
        pytest.skip(found["left_out"]["floor"])
    assert len({measurement["scenario"] for measurement in found["measurements"]}) == 11
    (program,) = (cache / "realtime-rooms" / "benchmarks").iterdir()
    assert program.name.startswith("floor-")


@pytest.mark.process
def test_stock_python_socketio_is_asked_for_the_same(tmp_path: Path) -> None:
    found = command_line(tmp_path, "--contestants", "stock", "--only", "fan-out,polling")
    assert len(found["measurements"]) == 5


@pytest.mark.parametrize("name", ["node", "floor"])
def test_a_contestant_that_is_not_on_this_machine_is_left_out_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Missing, match="on this machine"):
        BY_NAME[name].command()


def test_work_that_needs_a_missing_package_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(msgpack_data, "msgpack", None)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: None, raising=False)
    packed = [group for group in groups(QUICK) if group.name == "msgpack"]
    report = measure([BY_NAME["portable"]], packed, QUICK, 1)
    assert report.failures == report.measurements == []
    said = "Left out: msgpack. MessagePack needs the package msgpack: pip install msgpack."
    assert said in headed(report, {}).splitlines()
    assert report.as_dict()["not_done"] == report.not_done


@pytest.mark.parametrize("arguments", [["--contestants", "nobody"], ["--only", "nothing"]])
def test_unknown_names_are_refused(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2


def test_a_server_that_does_not_start_says_why() -> None:
    program = "import sys; sys.exit('no port {port} today')"
    with (
        pytest.raises(ServerFailed, match=r"ended with code 1:\nno port \d+ today"),
        ServerProcess([sys.executable, "-c", program], {}, None),
    ):
        raise AssertionError("it started")


def test_the_page_keeps_what_stands_around_the_table(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_between(page, "| new |\n")
    assert page.read_text() == f"before\n{BEGIN}\n\n| new |\n\n{END}\nafter\n"


# ── the table ────────────────────────────────────────────────────────────────────────────────────


def measured(contestant: str, *values: float, scenario: str = "work", figure: str = "cpu_us") -> list[dict[str, Any]]:
    return [{"contestant": contestant, "scenario": scenario, "figures": {figure: value}} for value in values]


def test_the_median_of_the_rounds_counts() -> None:
    found = medians([*measured("fast", 1, 9, 2), *measured("node", 4, 5)])
    assert found == {"work": {"cpu_us": {"fast": 2, "node": 4.5}}}


def test_a_goal_compares_with_a_contestant_or_with_other_work() -> None:
    found = medians([*measured("fast", 3), *measured("node", 6), *measured("fast", 2, scenario="less work")])
    assert ratio(found, Goal("work", "cpu_us", "node", 0.5)) == 0.5
    assert ratio(found, Goal("work", "cpu_us", "less work", 1.1)) == 1.5
    assert ratio(found, Goal("work", "cpu_us", "stock", 0.15)) is None
    assert ratio(found, Goal("other work", "cpu_us", "node", 1)) is None


def test_every_goal_is_about_work_that_is_done() -> None:
    """The names are made from the sizes: a goal for a scenario that no group has would never be looked at."""
    scale = Scale()
    assert (scale.audience, scale.large, scale.echoing, scale.crowds) == (500, 5_000, 100, (2_500, 5_000, 10_000))
    source = (ROOT / "benchmarks" / "scenarios.py").read_text()
    beginnings = {goal.scenario.split(",")[0].split(" to ")[0] for goal in GOALS}
    assert [name for name in beginnings if name not in source] == []
    assert {goal.figure for goal in GOALS} <= set(UNITS)


def test_the_table_has_a_line_for_each_figure_and_a_verdict_for_each_goal() -> None:
    scenario = "fan-out, 100 B to 500"
    found = medians(
        measured("fast", 5.25, scenario=scenario)
        + measured("node", 10.0, scenario=scenario)
        + measured("fast", 123_456.7, scenario=scenario, figure="rate")
    )
    lines = as_markdown(found, ["fast", "node"], {"fast": "Ours", "node": "Node"}).splitlines()
    assert lines[0] == "| Work | Figure | Ours | Node | fast / node |"
    assert lines[2] == f"| {scenario} | CPU, µs each | 5.25 | 10.0 | 0.53 |"
    assert lines[3] == "|  | per second | 123,457 | – | – |"
    assert lines[-1] == f"| {scenario}: CPU, µs each | fast / node | 0.5 | 0.53 | **missed** |"


def test_quick_has_the_same_work_at_another_size() -> None:
    small, whole = ([group.name for group in groups(scale)] for scale in (QUICK, Scale()))
    assert [name.partition("-")[0] for name in small if "crowd" not in name] == [
        name.partition("-")[0] for name in whole if "crowd" not in name
    ]
