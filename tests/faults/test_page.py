"""The sums of a fault run, on numbers that are known."""

from __future__ import annotations

from collections import Counter

from tests.faults.checker import Violation
from tests.faults.faults import Plan
from tests.faults.page import page
from tests.faults.run import Outcome, Size


def outcome(seed: int, *violations: Violation) -> Outcome:
    found = Outcome(
        seed, Plan(("killed",), True, 3), [], list(violations), deliveries=5_000, again=2, delay=3.04, wait=1.5
    )
    found.fates = Counter(kept=300, alone=40, volatile=50)
    found.returns = Counter({"recovered": 90, "not: store": 10})
    return found


def test_a_page_adds_up_and_names_what_was_wrong() -> None:
    wrong = outcome(2, Violation("missing", "raw3 (raw)", "m5"))
    text = page([outcome(1), wrong], [outcome(1)], ["Redis frozen: fine"], Size(), "command")
    for told in (
        "**2 seeds, 1 violations.**",
        "| killed, sockets cut | 2 | 1 | 600 | 80 | 0 | 100 | 10,000 | 180 | 20 |",
        "180 recovered, 20 store",
        "4 emissions were heard",
        "3.0 s at the most",
        "- Redis frozen: fine",
        "- seed 2 (killed, sockets cut): missing: raw3 (raw): m5",
    ):
        assert told in text, told
    assert "seed 1 (killed, sockets cut): 0 violations" in text
