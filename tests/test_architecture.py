"""The order of the rooms, and how big a room may be: the rules of the house that a machine can check."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from tests.serving import ROOT

PACKAGES = ("realtime", "adapters", "namespaces")
FILE_LINES = 400
TEST_FILE_LINES = 800
"""A test file mirrors one source file and says more than it does."""
FUNCTION_LINES = 60
IMPURE = frozenset(
    {"asyncio", "io", "os", "pathlib", "random", "secrets"}
    | {"select", "signal", "socket", "subprocess", "time", "uuid"}
)
"""What a module that calls itself pure does not import: the outside, the clock, chance, and tasks."""

TESTED_ELSEWHERE = {
    "realtime/ports.py": "promises only; each adapter's contract suite tests them",
    "realtime/typed/home.py": "promises only; the server keeps them, and its tests and those of the namespaces show it",
    "realtime/__main__.py": "two lines; every server process of the tests starts through it",
}
"""Source files without a test file of the same name, each with its reason."""

ERROR_KEYS = {"code", "message"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path.relative_to(ROOT) for path in found if "node_modules" not in path.parts]


def everything() -> list[Path]:
    return [*sources(*PACKAGES, "tests", "examples"), Path("dev.py")]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def imports(module: ast.Module) -> Iterator[str]:
    """The full names of all modules that this one imports, wherever the statement stands."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def calls(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_imports_run_downwards_only() -> None:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--no-logo"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_of_the_core_has_its_place_in_the_order() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    placed = {name.strip(" ()") for line in layers for name in line.split(":")}
    found = {f"realtime.{path.stem}" for path in (ROOT / "realtime").iterdir() if path.suffix == ".py"}
    found |= {f"realtime.{path.parent.name}" for path in (ROOT / "realtime").glob("*/__init__.py")}
    assert found - {"realtime.__init__"} - placed == set()


@pytest.mark.parametrize("path", everything(), ids=str)
def test_a_room_is_small_enough_to_be_read(path: Path) -> None:
    limit = TEST_FILE_LINES if path.parts[0] == "tests" else FILE_LINES
    lines = (ROOT / path).read_text().count("\n")
    assert lines <= limit
    functions = [node for node in ast.walk(tree(path)) if isinstance(node, Function)]
    long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES]
    assert long == []


@pytest.mark.parametrize("path", everything(), ids=str)
def test_a_room_says_what_it_is_and_hides_no_import(path: Path) -> None:
    module = tree(path)
    if path.parts[0] != "tests" and path.as_posix() != "examples/own_app.py":  # 25 lines, and the README around them
        assert ast.get_docstring(module), "the first line says what this is for"
    assert "TYPE_CHECKING" not in {node.id for node in ast.walk(module) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("path", sources(*PACKAGES), ids=str)
def test_a_pure_room_has_no_clock_no_chance_and_no_outside(path: Path) -> None:
    module = tree(path)
    if (ast.get_docstring(module) or "").startswith("Pure"):
        assert {name.split(".")[0] for name in imports(module)} & IMPURE == set()


@pytest.mark.parametrize("path", sources(*PACKAGES), ids=str)
def test_every_source_file_has_its_test_file(path: Path) -> None:
    """A package within one of the three may have one test file: adapters/redis/bus.py in test_redis.py."""
    if path.name == "__init__.py" or path.as_posix() in TESTED_ELSEWHERE:
        return
    own = Path("tests") / path.with_name(f"test_{path.name}")
    of_its_package = (
        [Path("tests") / path.parent.with_name(f"test_{path.parent.name}.py")] if len(path.parts) > 2 else []
    )
    assert any((ROOT / test).exists() for test in [own, *of_its_package]), f"{own} is missing"


@pytest.mark.parametrize("path", sources(*PACKAGES), ids=str)
def test_error_objects_are_made_in_one_place(path: Path) -> None:
    """``{"code", "message"}`` is what ``realtime/errors.py`` says it is, on every wire."""
    made = [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Dict) and _keys(node) >= ERROR_KEYS]
    assert bool(made) == (path.as_posix() == "realtime/errors.py"), made


def _keys(node: ast.Dict) -> set[object]:
    return {key.value for key in node.keys if isinstance(key, ast.Constant)}


def test_no_exception_outlives_its_file() -> None:
    assert [name for name in TESTED_ELSEWHERE if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", sources("tests"), ids=str)
def test_no_test_sleeps_to_wait(path: Path) -> None:
    assert {"asyncio.sleep", "time.sleep", "sleep", "anyio.sleep"} & set(calls(tree(path))) == set()


def test_every_public_name_is_documented() -> None:
    realtime = import_module("realtime")
    names = getattr(realtime, "__all__", None)
    if names is None:
        pytest.skip("realtime exports nothing yet")
    undocumented = [name for name in names if not (getattr(realtime, name).__doc__ or "").strip()]
    assert undocumented == []
