from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from realtime.telemetry.seldom import Seldom


def test_one_line_in_a_while_and_how_many_were_left_out() -> None:
    seldom = Seldom(60)
    assert [seldom.left_out("origin", now) for now in (0, 1, 59, 60, 61, 200)] == [0, None, None, 2, None, 1]


def test_kinds_do_not_silence_each_other() -> None:
    seldom = Seldom(60)
    assert [seldom.left_out(kind, 0) for kind in ("a", "b", "a", "b")] == [0, 0, None, None]


@given(st.lists(st.floats(0, 500), max_size=50).map(sorted))
def test_every_line_is_told_or_counted(times: list[float]) -> None:
    seldom = Seldom(60)
    told = [seldom.left_out("x", now) for now in times]
    spoken = [now for now, more in zip(times, told, strict=True) if more is not None]
    assert all(later - sooner >= 60 for sooner, later in pairwise(spoken))
    last = seldom.left_out("x", 10_000)
    assert last is not None
    assert sum(more for more in told if more is not None) + len(spoken) + last == len(times)
