from __future__ import annotations

from tests.behaviour.stage import wire

__all__ = ["wire"]  # a fixture
