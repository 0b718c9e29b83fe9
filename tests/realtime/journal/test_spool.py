from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.journal.positions import Draft, Entry, Position
from realtime.journal.spool import RECENT_LIMIT, RECENT_SECONDS, Item, Spool


def item(number: int, *, delivered: bool = False, since: float = 0.0, size: int = 0) -> Item:
    draft = Draft(("n", number), "/", ("a",), (), "e", b'["' + b"x" * size + b'"]', 1)
    made = Item(draft, since)
    made.delivered = delivered
    return made


def entry(item: Item, offset: int, epoch: str = "e") -> Entry:
    return Entry(item.draft, Position(epoch, offset), (0,))


def filled(*numbers: int, **bounds: Any) -> tuple[Spool, list[Item]]:
    spool = Spool(**{"messages": 100, "size_bytes": 1 << 20, **bounds})
    items = [item(number) for number in numbers]
    for each in items:
        assert spool.put(each) == []
    return spool, items


def numbers(items: list[Item]) -> list[int]:
    return [each.number for each in items]


def test_what_was_in_flight_when_the_way_broke_goes_first() -> None:
    spool, items = filled(1, 2, 3, 4)
    batch = spool.take(3, 1 << 20)
    assert numbers(batch) == [1, 2, 3]
    spool.confirm(items[1], entry(items[1], 1), 0.0)
    spool.put_back()
    assert numbers(spool.take(10, 1 << 20)) == [1, 3, 4]
    spool.put_back()
    spool.put_back()
    assert numbers(list(spool.waiting(2))) == [1, 3]


def test_a_batch_is_bounded_in_bytes_and_one_always_goes() -> None:
    spool = Spool(100, 1 << 20)
    for number in (1, 2, 3):
        spool.put(item(number, size=1_000))
    assert numbers(spool.take(10, 100)) == [1]
    assert numbers(spool.take(10, 3_100)) == [2, 3]
    assert spool.idle


def test_one_always_fits_and_more_is_bounded() -> None:
    spool = Spool(2, 10_000)
    assert spool.has_room(item(1, size=20_000))
    spool.put(item(1, delivered=True))
    spool.put(item(2, delivered=True))
    assert not spool.has_room(item(3))
    assert numbers(spool.put(item(3, delivered=True))) == [1]
    assert numbers(spool.put(item(4, delivered=True, size=9_900))) == [2, 3]
    assert len(spool) == 1


def test_the_newest_may_be_what_is_given_up() -> None:
    spool = Spool(1, 10_000, "drop_newest")
    spool.put(item(1, delivered=True))
    assert numbers(spool.put(item(2, delivered=True))) == [2]
    assert numbers(list(spool.waiting(5))) == [1]


def test_what_nobody_here_has_heard_is_not_given_up() -> None:
    spool = Spool(1, 10_000)
    spool.put(item(1))
    assert spool.put(item(2)) == []
    assert len(spool) == 2


def test_bytes_are_those_of_what_is_not_confirmed() -> None:
    spool, items = filled(1, 2, 3)
    assert spool.size == sum(each.size for each in items)
    spool.take(2, 1 << 20)
    spool.refuse(items[0])
    spool.confirm(items[1], entry(items[1], 1), 0.0)
    assert spool.size == items[2].size
    spool.confirm(items[2], entry(items[2], 2), 0.0)  # it came in before it was answered, or even asked again
    assert (spool.size, len(spool)) == (0, 0)


def test_what_has_its_place_is_known_until_it_comes_out() -> None:
    spool, items = filled(1, 2, 3)
    spool.take(2, 1 << 20)
    spool.confirm(items[0], entry(items[0], 5), 0.0)
    assert [spool.find(number) for number in (1, 2, 3, 4)] == [*items, None]
    assert list(spool.kept) == [items[0]]
    spool.come_out(items[0])
    assert spool.find(1) is None


def test_who_has_waited_longest() -> None:
    spool = Spool(100, 1 << 20)
    assert spool.oldest() is None
    for number, (since, delivered) in enumerate([(1.0, True), (2.0, False), (3.0, False)], 1):
        spool.put(item(number, since=since, delivered=delivered))
    assert spool.oldest() == 2.0
    (first,) = spool.take(1, 1 << 20)
    spool.confirm(first, entry(first, 1), 4.0)
    (second,) = spool.take(1, 1 << 20)
    spool.confirm(second, entry(second, 2), 4.0)
    assert spool.oldest() == 2.0, "it has a place, and nobody here has heard it"
    assert numbers(spool.undelivered()) == [2, 3]


def test_another_log_is_offered_what_was_kept_lately() -> None:
    spool, items = filled(1, 2, 3, 4)
    for at, each in enumerate(spool.take(3, 1 << 20)):
        spool.confirm(each, entry(each, at + 1, "new" if at == 2 else "old"), float(at * 8))
    spool.come_out(items[0])
    spool.come_out(items[1])
    again = spool.again("new", 16.0)
    assert numbers(again) == [2], "the first is too long ago, the third is in that log"
    assert again[0].entry is None
    assert numbers(list(spool.waiting(9))) == [2, 4]
    assert spool.again("new", 16.0) == []


def test_another_log_is_offered_what_has_not_come_out_however_old_it_is() -> None:
    spool, items = filled(1)
    spool.take(1, 1 << 20)
    spool.confirm(items[0], entry(items[0], 1, "old"), 0.0)
    assert spool.again("new", 5 * RECENT_SECONDS) == items


def test_what_is_remembered_is_bounded() -> None:
    spool, _ = filled(*range(1, RECENT_LIMIT + 51), messages=10_000, size_bytes=1 << 24)
    for each in spool.take(10_000, 1 << 24):
        spool.confirm(each, entry(each, each.number, "old"), 1.0)
        spool.come_out(each)
    assert numbers(spool.again("new", 1.0)) == list(range(51, RECENT_LIMIT + 51))


@given(st.lists(st.sampled_from(["put", "take", "confirm", "break"]), max_size=60))
@settings(max_examples=200, deadline=None)
def test_whatever_happens_the_order_is_that_of_the_numbers(steps: list[str]) -> None:
    spool, number = Spool(1_000, 1 << 20), 0
    flying: list[Item] = []
    sent: list[int] = []
    for step in steps:
        if step == "put":
            number += 1
            spool.put(item(number))
        elif step == "take" and not flying:
            flying = spool.take(3, 1 << 20)
        elif step == "confirm" and flying:
            first = flying.pop(0)
            spool.confirm(first, entry(first, first.number), 0.0)
            sent.append(first.number)
        elif step == "break":
            flying = []
            spool.put_back()
    spool.put_back()
    sent += numbers(spool.take(1_000, 1 << 20))
    assert sent == list(range(1, number + 1))
