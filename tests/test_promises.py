"""The table of promises in README.md is true as far as a machine can tell: each has tests, and they exist."""

from __future__ import annotations

import ast
import re

import pytest

from tests.serving import ROOT

PAGE = (ROOT / "tests/README.md").read_text()
SECTION = PAGE.split("## What is promised, and what shows it\n", 1)[1].split("\n## ", 1)[0]
ROWS = [line.strip("|").split("|") for line in SECTION.splitlines() if line.startswith("| ")][1:]
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", SECTION)))


def test_each_promise_says_what_holds_it_and_what_shows_it() -> None:
    assert len(ROWS) == 7
    for promise, held, shown in ROWS:
        assert promise.strip()
        assert held.strip()
        assert re.search(r"`[\w/]+\.py::test_\w+`", shown), promise


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda part: part)
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    module = ast.parse((ROOT / "tests" / path).read_text())
    assert name in {each.name for each in module.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
