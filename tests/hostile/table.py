"""The table of hostile rows, written by a run: which tests showed a row, on which wires, and how they ended.

A test says with ``@pytest.mark.hostile("A1", …)`` which rows it shows. Its wire is that of its parameter ``wire``,
or what ``on="HTTP, SSE"`` says. ``python -m pytest -m hostile --write-table`` writes TABLE.md.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.rows import ROWS, SECTIONS

PAGE = Path(__file__).parent / "TABLE.md"
PROPERTY = "hostile rows"


@dataclass
class Shown:
    """What a run has to tell of one row."""

    tests: set[str] = field(default_factory=set)
    wires: set[str] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)


def rows_of(item: pytest.Item) -> list[str]:
    return sorted({row for mark in item.iter_markers("hostile") for row in mark.args})


def wires_of(item: pytest.Item) -> list[str]:
    named = {wire for mark in item.iter_markers("hostile") for wire in mark.kwargs.get("on", "").split(", ") if wire}
    callspec = getattr(item, "callspec", None)
    if callspec is not None and "wire" in callspec.params:
        named.add(str(callspec.params["wire"]))
    return sorted(named)


def case_of(nodeid: str) -> str:
    """``hostile/test_packets.py::test_name``: without its parameters."""
    return nodeid.partition("[")[0].removeprefix("tests/")


def collected(items: list[pytest.Item]) -> Iterator[tuple[str, str, list[str]]]:
    """Row, test and wires of every case."""
    for item in items:
        for row in rows_of(item):
            yield row, case_of(item.nodeid), wires_of(item)


def page(shown: dict[str, Shown]) -> str:
    lines = [
        "# Hostile and unlucky input",
        "",
        "Written by a run of the tests: `python -m pytest -m hostile --write-table`. What the rows mean stands in",
        "[rows.py](rows.py); a test checks that every row and every test of one is in here.",
    ]
    for section, title in SECTIONS.items():
        lines += ["", f"## {section}. {title}", ""]
        lines += ["| | What arrives | What happens | Wires | Result | Tests |", "|---|---|---|---|---|---|"]
        lines += [line(row, shown.get(row, Shown())) for row in ROWS if row[0] == section]
    return "\n".join([*lines, ""])


def line(row: str, shown: Shown) -> str:
    what = ROWS[row]
    result = ", ".join(f"{count} {outcome}" for outcome, count in sorted(shown.outcomes.items())) or "no test"
    tests = "<br>".join(f"`{test}`" for test in sorted(shown.tests))
    happens = f"{what.happens} (*{what.missing}*)" if what.missing else what.happens
    cells = [row, what.arrives, happens, ", ".join(sorted(shown.wires)), result, tests]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def read(text: str) -> dict[str, Shown]:
    """The table as it was written."""
    found: dict[str, Shown] = {}
    for each in text.splitlines():
        cells = [cell.strip() for cell in each.replace("\\|", "/").strip("|").split("|")]
        if len(cells) == 6 and cells[0] in ROWS:
            outcomes = Counter(
                {part.split()[1]: int(part.split()[0]) for part in cells[4].split(", ") if part[0].isdigit()}
            )
            wires = {wire for wire in cells[3].split(", ") if wire}
            found[cells[0]] = Shown({test.strip("`") for test in cells[5].split("<br>") if test}, wires, outcomes)
    return found


class Recorder:
    """The part of the table that is a plugin of pytest: registered for runs that ask for it."""

    def __init__(self, write: bool, listing: Path | None) -> None:
        self._write = write
        self._listing = listing
        self._shown: dict[str, Shown] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if self._listing is not None:
            self._listing.write_text(json.dumps(list(collected(session.items))))

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        item.user_properties.append((PROPERTY, (rows_of(item), wires_of(item))))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not (report.when == "call" or report.failed or (report.when == "setup" and report.skipped)):
            return
        for name, value in report.user_properties:
            if name == PROPERTY:
                self._record(report, value)

    def _record(self, report: pytest.TestReport, value: Any) -> None:
        rows, wires = value
        for row in rows:
            shown = self._shown.setdefault(row, Shown())
            shown.tests.add(case_of(report.nodeid))
            shown.wires.update(wires)
            shown.outcomes[report.outcome] += 1

    def pytest_sessionfinish(self) -> None:
        if self._write:
            PAGE.write_text(page(self._shown))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", action="store_true", help="write tests/hostile/TABLE.md; with -m hostile")
    parser.addoption("--list-hostile", type=Path, help="write rows, tests and wires of what was collected, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    write, listing = config.getoption("--write-table"), config.getoption("--list-hostile")
    if write or listing is not None:
        config.pluginmanager.register(Recorder(write, listing), "hostile table")
