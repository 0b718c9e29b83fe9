"""The committed table tells what there is: every row, every test, every wire."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.hostile.rows import ROWS
from tests.hostile.table import PAGE, Shown, line, page, read
from tests.serving import ROOT

pytestmark = pytest.mark.timeout(150)
"""The tests that show a row are collected once more: ten seconds and more where others work on the machine, too."""
TESTS = ROOT / "tests"


@pytest.fixture(scope="module")
def there_is(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shown]:
    """Rows as pytest collects them from all tests; ``outcomes`` has their number."""
    listing = tmp_path_factory.mktemp("table") / "rows.json"
    files = [str(path) for path in sorted(TESTS.rglob("test_*.py")) if "mark.hostile" in path.read_text()]
    options = ["--collect-only", "-q", "--assert=plain", "-p", "no:cacheprovider"]  # nothing is run: nothing to rewrite
    command = ["-m", "pytest", *options, f"--list-hostile={listing}", *files]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    found: dict[str, Shown] = {}
    for row, test, wires in json.loads(listing.read_text()):
        shown = found.setdefault(row, Shown())
        shown.tests.add(test)
        shown.wires.update(wires)
        shown.outcomes["collected"] += 1
    return found


@pytest.fixture(scope="module")
def told() -> dict[str, Shown]:
    return read(PAGE.read_text())


def test_no_test_shows_a_row_that_is_not_there(there_is: dict[str, Shown]) -> None:
    assert set(there_is) - set(ROWS) == set()


@pytest.mark.parametrize("row", ROWS)
def test_the_table_has_the_row_as_it_is(row: str, there_is: dict[str, Shown], told: dict[str, Shown]) -> None:
    is_there, is_told = there_is.get(row, Shown()), told[row]
    assert is_told.tests == is_there.tests, "write the table again: python -m pytest -m hostile --write-table"
    assert is_told.wires == is_there.wires
    assert is_told.outcomes.total() == is_there.outcomes.total()
    assert is_told.outcomes["failed"] == 0
    assert line(row, is_told).split("|")[:4] in [each.split("|")[:4] for each in PAGE.read_text().splitlines()]


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_shown_on_every_wire_on_which_it_can_arrive(row: str, there_is: dict[str, Shown]) -> None:
    assert ROWS[row].wires - there_is.get(row, Shown()).wires == set()


@pytest.mark.parametrize("row", [row for row in ROWS if row[0] in "ABCDH" and ROWS[row].wires])
def test_a_row_is_shown_with_a_bystander(row: str, there_is: dict[str, Shown]) -> None:
    """Those of this folder have one."""
    assert [test for test in there_is[row].tests if test.startswith("hostile/")]


def test_every_test_of_this_folder_shows_a_row(there_is: dict[str, Shown]) -> None:
    shown = {test for row in there_is.values() for test in row.tests}
    own = Path(__file__).parent.glob("test_*.py")
    names = {
        f"hostile/{path.name}::{text.partition('(')[0]}"
        for path in own
        if path.name != "test_table.py"
        for text in path.read_text().replace("\nasync def", "\ndef").split("\ndef ")[1:]
        if text.startswith("test_")
    }
    assert names - shown == set()


def test_a_table_is_read_as_it_was_written() -> None:
    shown = {row: Shown({f"hostile/test_{row}.py::test_it", "b.py::test_b"}, {"fast", "HTTP"}) for row in ROWS}
    for each in shown.values():
        each.outcomes = Counter(passed=3, skipped=1)
    assert read(page(shown)) == shown
    assert read(page({}))["A1"] == Shown()
