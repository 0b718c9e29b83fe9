"""The slow reader in small: what it costs in time is for the command to say, on a machine that is quiet."""

from __future__ import annotations

import os
import re

import pytest

from benchmarks import slow_reader
from benchmarks.process import cores
from benchmarks.slow_reader import BUCKET, Run, Scale, as_markdown, measure, percentile

SMALL = Scale(messages=1_500, size=10_000, people=3, warm=50)
KERNEL_BYTES = 1 << 17
"""What the kernel keeps for the reader; what it keeps for the server is up to 4 MB."""
BACKLOG_BYTES = 1 << 20
MEMORY_FACTOR = 4
"""A message that waits is there twice: as it was encoded, and as its wire wants it. And memory comes in pages."""


@pytest.mark.process
@pytest.mark.parametrize("wire", ["fast", "portable"])
def test_a_slow_reader_is_closed_with_4430_and_everything_of_it_is_freed(wire: str) -> None:
    allowed = os.sched_getaffinity(0) if cores() is not None else None
    try:
        without, stuck = measure([wire], 1, SMALL, KERNEL_BYTES)
    finally:
        if allowed is not None:
            os.sched_setaffinity(0, allowed)
    assert (without.with_reader, without.close_code, without.closed_after) == (False, None, None)
    assert (stuck.with_reader, stuck.close_code) == (True, 4430)
    assert stuck.closed_after is not None
    assert BACKLOG_BYTES // SMALL.size < stuck.closed_after <= SMALL.messages, (
        "what fits the backlog is no reason to close"
    )
    assert (without.left, stuck.left) == (0, 0)
    if stuck.memory_bytes is not None:
        assert stuck.memory_bytes < MEMORY_FACTOR * BACKLOG_BYTES
        assert (without.files_left, stuck.files_left) == (0, 0)
    assert min(without.p50_ms, stuck.p50_ms) > 0
    assert without.said == stuck.said == SMALL.messages


@pytest.mark.process
def test_a_run_ends_when_its_time_is_over_and_says_how_far_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    allowed = os.sched_getaffinity(0) if cores() is not None else None
    endless = Scale(messages=10_000_000, size=100, people=3, warm=10, seconds=0.5)
    monkeys = pytest.MonkeyPatch()
    monkeys.setattr(slow_reader, "TELL_SECONDS", 0.1)
    monkeys.setattr(slow_reader, "STEP_SECONDS", 5.0)  # nobody closes the reader once nothing is said: twice that long
    try:
        without, stuck = measure(["portable"], 1, endless, KERNEL_BYTES)
    finally:
        monkeys.undo()
        if allowed is not None:
            os.sched_setaffinity(0, allowed)
    for run in (without, stuck):
        assert 0 < run.said < endless.messages
        assert 0.5 <= run.seconds < 5
    assert re.search(r"\n  [\d,]+ of 10,000,000, [\d,]+ a second, \d s to go\n", capsys.readouterr().err)


def test_memory_is_shown_over_the_run() -> None:
    memory = [(0.0, 0), (2.0, 1_500_000), (30.0, 2_500_000), (90.0, 500_000)]
    run = Run("fast", True, 1, 1.0, 1.0, 1.0, 2_500_000, 100.0, said=1_234, memory=memory)
    last = as_markdown([Run("fast", False, 1, 1.0, 1.0, 1.0, None, 50.0, said=7), run]).splitlines()[-2:]
    assert last == [
        "| fast, without, round 1 | 7 | 50 | – | – | – | – | – | – | 0.0 |",
        "| fast, with, round 1 | 1,234 | 100 | 0.0 | 1.5 | 1.5 | 2.5 | 2.5 | 0.5 | 2.5 |",
    ]


def test_percentiles_come_from_the_buckets() -> None:
    step = BUCKET * 1_000
    assert percentile([0, 0, 0], 0.99) == 0
    assert percentile([0, 10, 0], 0.5) == pytest.approx(2 * step)
    assert percentile([98, 1, 1], 0.99) == pytest.approx(2 * step)
    assert percentile([98, 1, 2], 0.99) == pytest.approx(3 * step)


def test_the_table_says_where_the_goal_was_missed() -> None:
    runs = [
        Run("fast", False, 1, 1.0, 10.0, 8.0, 100_000, 5),
        Run("fast", True, 1, 1.1, 15.1, 8.0, 1_500_000, 5, 90, [], 4430, 5_000, 0, 0),
    ]
    assert as_markdown(runs).splitlines()[2] == (
        "| fast | 1.00, 1.10 | 10.00, 15.10 | **1.51, more than 1.5** | 1.00 | 0.1, 1.5 | 4430 | 5000 | (0, 0) |"
    )
