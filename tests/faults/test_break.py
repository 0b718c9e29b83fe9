"""Redis is refused or frozen: who does not need it notices nothing, who does waits no longer than the patience."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.broken import Break

pytestmark = [pytest.mark.process, pytest.mark.faults]
PATIENCE_SECONDS = 1.0
BUSY_SECONDS = 1.0
"""What a machine that does other work takes on top."""
FLOOR_SECONDS = 0.4
"""Below this a p99 is the machine's, whatever else runs on it; what waited for the bus would take the patience.
``python -m tests.faults --breaks`` measures."""
GROWTH = 32 << 20


@pytest.mark.parametrize("kind", ["refused", "frozen"])
def test_redis_is_refused_or_frozen(kind: str, tmp_path: Path) -> None:
    broken = Break(kind, PATIENCE_SECONDS + 1, tmp_path, PATIENCE_SECONDS, calm_seconds=1.0)
    measured = asyncio.run(asyncio.wait_for(broken.go(), 50))
    for times in (measured.acknowledged, measured.delivered):
        assert len(times.during) > 100
        before, during = times.p99()
        assert during <= max(2 * before, FLOOR_SECONDS), measured.line()
    assert measured.longest_kept <= PATIENCE_SECONDS + BUSY_SECONDS, measured.line()
    assert measured.healed <= 2 + BUSY_SECONDS, measured.line()
    assert measured.grown < GROWTH, measured.line()
    assert measured.missing == 0, measured.line()
    assert measured.fates.get("raised", 0) == 0
    assert measured.fates["alone"] > 0
