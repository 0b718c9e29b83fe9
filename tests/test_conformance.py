"""CONFORMANCE.md is true as far as a machine can tell: the tests that it names exist, one for each expectation."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.serving import ROOT

TEXT = (ROOT / "tests/CONFORMANCE.md").read_text()
NAMED = sorted(set(re.findall(r"`(\w+/test_\w+\.py)::(test_\w+)`", TEXT)))
SERVERS = sorted(set(re.findall(r"(tests(?:\.\w+)+):app", TEXT)))


@cache
def names_in(path: str) -> set[str]:
    module = ast.parse((ROOT / path).read_text())
    functions = {each.name for each in module.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    values = {
        each.id
        for statement in module.body
        if isinstance(statement, ast.Assign)
        for each in statement.targets
        if isinstance(each, ast.Name)
    }
    return functions | values


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda part: part)
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    assert name in names_in(f"tests/{path}")


def test_every_expectation_of_the_protocols_has_its_line() -> None:
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|.*::test_", TEXT, re.MULTILINE)]
    assert numbers == [*range(1, 26), *range(17, 33)]


@pytest.mark.parametrize("module", SERVERS)
def test_a_server_that_is_named_exists(module: str) -> None:
    assert "app" in names_in(module.replace(".", "/") + ".py")
