from __future__ import annotations

from collections.abc import Iterable

from realtime.journal.excerpt import Excerpt
from realtime.journal.positions import Draft, Entry, Position


def entry(offset: int, *rooms: str) -> Entry:
    draft = Draft(("n", offset), "/", rooms or None, (), "e", b"[]", 0)
    return Entry(draft, Position("e", offset), (0,) * len(draft.channels))


def offsets(found: Iterable[Entry]) -> list[int]:
    return [each.offset for each in found]


def test_what_is_in_it_of_some_channels() -> None:
    excerpt = Excerpt(Position("e", 3))
    excerpt.add([entry(4, "a"), entry(6, "a", "b"), entry(7)], 8)
    excerpt.add([entry(7), entry(9, "b")], 9)
    assert (excerpt.first, excerpt.last, excerpt.end) == (3, 9, Position("e", 9))
    assert offsets(excerpt.since_in(["a", "b"], Position("e", 3))) == [4, 6, 9]
    assert offsets(excerpt.since_in([None, "b"], Position("e", 6))) == [7, 9]
    assert offsets(excerpt.since_in(["c"], Position("e", 3))) == []
    assert excerpt.since_in(["b"], Position("e", 3)) is excerpt.since_in(["b"], Position("e", 3)), "found once"
    excerpt.add([entry(10, "b")], 10)
    assert offsets(excerpt.since_in(["b"], Position("e", 3))) == [6, 9, 10]
    assert excerpt.size > 0


def test_how_far_back_it_goes() -> None:
    excerpt = Excerpt(Position("e", 3))
    assert excerpt.begins_before(Position("e", 3))
    assert not excerpt.begins_before(Position("e", 2))
    assert not excerpt.begins_before(Position("f", 3))


def test_its_beginning_is_forgotten_where_it_is_too_large() -> None:
    excerpt = Excerpt(Position("e", 0))
    excerpt.add([entry(1, "a"), entry(2, "b"), entry(3, "a", "b"), entry(4, "a")], 9)
    whole, last = excerpt.size, Excerpt(Position("e", 3))
    excerpt.shrink(whole)
    assert (excerpt.first, excerpt.size) == (0, whole)
    last.add([entry(4, "a")], 9)
    excerpt.shrink(last.size)
    assert (excerpt.first, excerpt.last, excerpt.size) == (3, 9, last.size)
    assert offsets(excerpt.since_in(["a", "b"], Position("e", 0))) == [4]
    assert not excerpt.begins_before(Position("e", 2))
    excerpt.add([entry(10, "b")], 10)
    assert offsets(excerpt.since_in(["a", "b"], Position("e", 3))) == [4, 10]
    excerpt.shrink(0)
    assert (excerpt.first, excerpt.size) == (10, 0)
