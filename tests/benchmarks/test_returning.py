"""The flood of returns in small: what it costs in time is for the command to say, on a machine that is quiet."""

from __future__ import annotations

import os

import pytest

from benchmarks.contestants import Missing
from benchmarks.process import cores
from benchmarks.returning import Run, as_markdown, measure


@pytest.mark.process
@pytest.mark.parametrize("elsewhere", [False, True])
def test_all_of_them_go_on_and_have_what_they_missed(elsewhere: bool) -> None:
    allowed = os.sched_getaffinity(0) if cores() is not None else None
    try:
        run = measure("fast", 40, 10, calm=0.2, elsewhere=elsewhere)
    except Missing as missing:
        pytest.skip(str(missing))
    finally:
        if allowed is not None:
            os.sched_setaffinity(0, allowed)
    assert (run.clients, run.missed, run.recovered) == (40, 10, 40)
    assert 0 < run.p50_ms <= run.p99_ms <= run.most_ms
    assert 0 < run.turn_p99_ms <= run.turn_most_ms


def test_the_table_says_where_a_goal_was_missed() -> None:
    runs = [Run(5_000, 50, "fast", seconds, 5_000, 2, 3, p99, 400, 3.5, 7, 90) for seconds, p99 in ((4, 200), (6, 300))]
    good, bad = as_markdown(runs).splitlines()[-2:]
    assert good.startswith("| fast | 5,000 | 50 | 4.00 s | 3.50 s | 5,000 | 2.0 ms | 3.0 ms | 200.0 ms | 400.0 ms |")
    assert "6.00 s, **more than 5 s**" in bad
    assert "300.0 ms, **more than 250**" in bad
