from __future__ import annotations

from realtime.journal.debts import NUMBERS_LIMIT, UNPROVED, Debts
from realtime.journal.positions import Draft, Position
from realtime.journal.spool import Item


def item(number: int, *rooms: str) -> Item:
    return Item(Draft(("n", number), "/", rooms or None, (), "e", b"[]", 0), 0.0)


def test_what_is_owed_is_owed_to_its_channels_until_it_is_settled() -> None:
    debts, one, two, three = Debts(), item(1, "a", "b"), item(2, "a"), item(3)
    assert not debts
    for each in (one, two, two, three):
        debts.owe(each)
    assert [debts.concern([channel]) for channel in ("a", "b", None, "c")] == [True, True, True, False]
    debts.settle(one)
    debts.settle(one)
    assert [debts.concern([channel]) for channel in ("a", "b")] == [True, False]
    debts.settle(two)
    assert debts
    debts.settle(three)
    assert not debts
    assert not debts.concern(["a", "b", None])


def test_what_was_delivered_is_known_for_as_long_as_its_place_may_come_in() -> None:
    debts = Debts()
    for number in range(NUMBERS_LIMIT + 10):
        debts.delivered(made := item(number))
        assert made.delivered
    assert [debts.knows(number) for number in (9, 10, NUMBERS_LIMIT + 9, NUMBERS_LIMIT + 10)] == [
        False, True, True, False
    ]  # fmt: skip


def test_while_something_is_owed_or_in_doubt_the_mark_is_of_no_log() -> None:
    debts, one, newest = Debts(), item(1, "a"), Position("e", 7)
    assert debts.mark(newest, 1.0) == "e-7"
    debts.owe(one)
    assert debts.mark(newest, 1.0) == UNPROVED
    debts.settle(one)
    assert debts.mark(newest, 1.0) == "e-7"
    debts.doubt(5.0)
    assert [debts.mark(newest, now) for now in (4.9, 5.0)] == [UNPROVED, "e-7"]
    shown = Position.parse(UNPROVED)
    assert shown is not None, "it is refused like an offset of another log"
