"""What the tests of examples/deploy have in common."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving import ROOT

DEPLOY = ROOT / "examples" / "deploy"
SECONDS = 20.0
"""For a program that only reads a file."""


def read(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def yaml_of(name: str) -> Any:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: YAML files are checked as text alone")
    return yaml.safe_load(read(name))
