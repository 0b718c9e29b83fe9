from __future__ import annotations

from realtime.journal.watches import Watches


def test_a_channel_is_asked_for_once_and_then_stands() -> None:
    watches = Watches()
    assert [watches.need("a"), watches.need("a"), watches.need(None)] == [True, False, True]
    assert watches.next(1) == ["a"]
    assert watches.is_asked("a")
    assert watches.stood(["a", "unknown"]) == {"a": None}
    assert (watches.stands("a"), watches.is_asked("a"), watches.need("a")) == (True, False, False)
    assert watches.next(9) == [None]
    assert (watches.standing, len(watches)) == (["a"], 1)


def test_who_was_not_answered_is_owed_what_was_said_since() -> None:
    watches = Watches()
    watches.need("a")
    watches.failed(["a"], 7)
    watches.failed(["a"], 9)
    watches.need("b")
    assert watches.stood(["a", "b"]) == {"a": 7, "b": None}


def test_another_connection_asks_for_everything_again() -> None:
    watches = Watches()
    watches.need("a")
    watches.stood(["a"])
    watches.need("b")
    watches.again(5)
    assert watches.next(9) == ["a", "b"]
    assert watches.stood(["a", "b"]) == {"a": 5, "b": None}


def standing(*channels: str) -> Watches:
    watches = Watches(linger=5.0)
    for channel in channels:
        watches.need(channel)
    watches.stood(channels)
    return watches


def test_what_nobody_needs_lingers_and_may_be_needed_again() -> None:
    watches = standing("a", "b")
    watches.spare("a", 0.0)
    watches.spare("a", 3.0)
    watches.spare("b", 1.0)
    watches.spare("unknown", 1.0)
    assert watches.next_due() == 5.0
    assert watches.due(4.9) == []
    watches.need("b")
    assert watches.due(9.0) == ["a"]
    assert watches.next_due() is None
    assert watches.stands("a"), "it is for the caller to look, and to drop it"
    watches.drop(["a"])
    assert not watches.stands("a")
    assert watches.need("a")


def test_what_lingers_for_somebody_who_may_come_back_is_in_nobodys_way() -> None:
    watches = standing("a", "b")
    watches.hold("a", 120.0)
    watches.hold("unknown", 120.0)
    watches.spare("b", 1.0)
    assert watches.next_due() == 6.0
    assert watches.due(10.0) == ["b"]
    assert watches.due(120.0) == ["a"]


def test_what_lingers_is_bounded() -> None:
    watches = Watches(linger=5.0, limit=2)
    for channel in "abcd":
        watches.need(channel)
        watches.spare(channel, 0.0)
    assert watches.next_due() == 0.0
    assert watches.due(0.0) == ["a", "b"]
    watches.drop("abcd")
    assert watches.next(9) == []
