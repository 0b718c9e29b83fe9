"""What is known of messages that came in: pure."""

from __future__ import annotations

from adapters.redis.heard import Heard, Verdict

NEW, AGAIN, ELSEWHERE, LATE = Verdict


def test_each_message_of_a_node_is_new_once() -> None:
    heard = Heard()
    assert [heard.take("a", 3), heard.take("a", 3), heard.take("a", 4), heard.take("b", 3)] == [NEW, AGAIN, NEW, NEW]
    assert [heard.take("a", number) for number in (1, 3, 4)] == [LATE, AGAIN, AGAIN]


def test_one_place_for_each() -> None:
    heard = Heard()
    assert [heard.take("a", 1, 7), heard.take("a", 1, 7), heard.take("a", 1, 8)] == [NEW, AGAIN, ELSEWHERE]
    heard.clear()
    assert heard.take("a", 1, 8) is NEW


def test_what_is_forgotten_is_late() -> None:
    heard = Heard(numbers=2)
    assert [heard.take("a", number) for number in (1, 2, 3, 1, 2, 3)] == [NEW, NEW, NEW, LATE, AGAIN, AGAIN]


def test_of_too_many_nodes_the_longest_silent_is_forgotten() -> None:
    heard = Heard(nodes=2)
    assert [heard.take(node, number) for number, node in enumerate("abac")] == [NEW] * 4
    assert heard.take("b", 0) is NEW, "which is what remains to be said of it"
    assert heard.take("c", 0) is LATE
