"""BEHAVIOURS.md is true: what it names exists, and its numbers are those of its lines."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import NamedTuple

import pytest

from tests.serving import ROOT

TEXT = (ROOT / "tests/BEHAVIOURS.md").read_text()
KINDS = ("held", "otherwise", "later", "left out")


class Row(NamedTuple):
    number: int
    meaning: str
    kind: str
    reason: str
    test: str
    """``folder/file.py::test``; empty where there is none."""


def read(line: str) -> Row:
    number, meaning, shown = (part.strip() for part in line.strip("|").split("|"))
    found = re.fullmatch(r"(?:(otherwise|later|left out): (.*?)(?:: )?)?(?:`(.+)`)?", shown)
    assert found, line
    return Row(int(number), meaning, found[1] or "held", found[2] or "", found[3] or "")


ROWS = [read(line) for line in TEXT.splitlines() if re.match(r"\| \d", line)]


@cache
def names_in(path: str) -> set[str]:
    module = ast.parse((ROOT / "tests" / path).read_text())
    return {each.name for each in module.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_behaviour_has_its_line() -> None:
    assert [row.number for row in ROWS] == list(range(1, 130))
    assert all(row.meaning for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))
def test_what_a_line_names_exists(row: Row) -> None:
    if row.kind in ("held", "otherwise"):
        path, _, name = row.test.partition("::")
        assert name in names_in(path), f"{row.test} does not exist"
    if row.kind != "held":
        assert len(row.reason) > 20, "a reason is a sentence"


def test_the_sum_is_that_of_the_lines() -> None:
    counts = [sum(row.kind == kind for row in ROWS) for kind in KINDS]
    assert f"**{', '.join(f'{count} {kind}' for count, kind in zip(counts, KINDS, strict=True))}.**" in TEXT


def test_every_test_of_a_behaviour_has_a_line() -> None:
    named = {row.test for row in ROWS}
    folder = ROOT / "tests/behaviour"
    found = {
        f"behaviour/{path.name}::{name}"
        for path in folder.glob("test_*.py")
        for name in names_in(f"behaviour/{path.name}")
        if name.startswith("test_")
    }
    beside = {name.rpartition("::")[2] for name in found - named}
    assert beside == {
        "test_so_it_does_over_websocket",  # 8 and 9 on the other wires
        "test_a_violation_is_the_end",  # 3 and 5 on the other wires
        # why clients leave: more than those tests ask for
        "test_the_hook_is_told_why_once_and_the_client_with_a_close_code",
        "test_a_connection_that_breaks_is_an_error_of_the_transport",
        "test_every_reason_is_here",
        # every limit of ours
        "test_a_limit_is_a_setting_a_number_and_no_flood_of_lines",
        "test_an_upgrade_has_its_time",
        "test_a_room_of_more_characters_may_be_allowed",
    }
