from __future__ import annotations

import asyncio

import pytest

from benchmarks.guards import BENCHMARK, PAYLOADS, VARIANTS, as_markdown, connected, echo_figure, measure
from realtime.access.limits import Gcra


def test_every_variant_acknowledges_everything() -> None:
    """It says so itself: an echo that is not acknowledged at once ends the run."""
    found = measure(repeats=1, events=50)
    assert found.keys() == PAYLOADS.keys()
    for best in found.values():
        assert best.keys() == VARIANTS.keys()
        assert all(0 < took < 1 for took in best.values())


@pytest.mark.parametrize(
    ("name", "is_limited", "is_strict"),
    [
        ("all guards", True, True),
        ("without the decoder's", True, False),
        ("without the limit of events per second", False, True),
        ("without any", False, False),
    ],
)
def test_a_guard_is_there_or_is_not(name: str, is_limited: bool, is_strict: bool) -> None:
    """Were the checks done elsewhere one day, a variant would differ in nothing and measure nothing."""

    async def refused() -> tuple[float, list[int]]:
        connection, wire = await connected(VARIANTS[name])
        closed: list[int] = []
        wire.close = lambda code, reason: closed.append(code)  # type: ignore[method-assign]
        connection._rate = Gcra(0.001, 1)
        connection.receive('421["echo",1]')
        connection.receive('422["echo",2]')
        limited = connection.core.metrics.drops.value("rate_limited")
        connection._rate = Gcra(0.001, 1)
        connection.receive('423["disconnect"]')
        connection.lost("transport close")
        return limited, closed

    limited, closed = asyncio.run(refused())
    assert (limited > 0, bool(closed)) == (is_limited, is_strict)


def test_the_table_has_a_verdict_for_the_payload_of_the_benchmark() -> None:
    best = dict(zip(VARIANTS, (4e-6, 3.8e-6, 3.9e-6, 3.5e-6), strict=True))
    lines = as_markdown({BENCHMARK: best, "other": best}, 10e-6).splitlines()
    assert lines[5] == f"| {BENCHMARK} | without any | 3.50 | 0.50 | 12.5% | 5.0%, at most 5 %: reached |"
    assert lines[9] == "| other | without any | 3.50 | 0.50 | 12.5% | 5.0% |"
    assert as_markdown({BENCHMARK: best}, 9e-6).splitlines()[5].endswith("5.6%, at most 5 %: **missed** |")
    assert as_markdown({BENCHMARK: best}, None).splitlines()[5].endswith("| – |")


def test_the_figure_of_the_benchmark_is_found() -> None:
    figure = echo_figure()
    assert figure is not None
    assert 1e-6 < figure < 1e-3
