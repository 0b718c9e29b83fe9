"""The sums of a soak, on numbers that are known."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.hostile.soak.honest import Account, check
from tests.hostile.soak.watch import MEGABYTE, Attacks, Result, Sample, Watch


def watched(*sizes: int) -> Watch:
    watch = Watch(0)
    watch.samples = [Sample(float(at), size + 5, size * MEGABYTE, 20 + at) for at, size in enumerate(sizes)]
    return watch


def test_growth_is_from_the_second_fifth_to_the_last() -> None:
    watch = watched(1, 9, 50, 50, 90, 51, 52, 53, 57, 57)
    assert [each.private_dirty // MEGABYTE for each in watch.fifths()] == [5, 50, 70, 52, 57]
    assert watch.growth() == 7 * MEGABYTE
    assert watched(1, 50, 50, 50, 50).growth() == 0


def test_a_page_has_every_number() -> None:
    state: dict[str, Any] = dict.fromkeys(("sessions", "members", "rooms", "work", "tasks", "idle workers"), 0)
    state |= {"threads": 7, "files": 28, "objects": 148_000, "violations": {"bad_json": 3}, "drops": {"slow": 4}}
    account = Account(said=1_200, heard=5_000, rounds=Counter(chat=3), round_trips=[0.001, 0.002, 0.5])
    attacks: Attacks = Counter({("too big", "to its end"): 2, ("too big", "Gone"): 1})
    page = Result(20, "1", account, attacks, watched(1, 50, 50, 50, 50), state, state).page()
    for told in ("1,200 messages, 5,000 deliveries", "| too big | 3 | Gone 1, to its end 2 |", "+0.0 MB", "500 ms"):
        assert told in page
    for told in ("| files | 28 | 28 |", "| violation bad_json | 3 |", "| drop slow | 4 |"):
        assert told in page


@pytest.mark.parametrize(
    "heard",
    [
        [["0:a", "0:b", "1:a"], ["0:a", "1:a", "0:b"]],
        [["0:b", "0:a", "1:a"], ["0:b", "0:a", "1:a"]],
        [["0:a", "1:a"], ["0:a", "1:a"]],
        [["0:a", "0:a", "0:b", "1:a"], ["0:a", "0:a", "0:b", "1:a"]],
    ],
    ids=["another order", "a sender's order", "missing", "twice"],
)
def test_a_circle_notices(heard: list[list[str]]) -> None:
    check([["0:a", "1:a", "0:b"]] * 2, [["0:a", "0:b"], ["1:a"]])
    with pytest.raises(AssertionError):
        check(heard, [["0:a", "0:b"], ["1:a"]])
