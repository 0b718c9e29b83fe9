from __future__ import annotations

from realtime.journal.passage import PASSAGES_ENTRIES, Passage, Passages, passage_of
from realtime.journal.positions import Draft, Entry, Position


def entry(offset: int, *skip: str) -> Entry:
    return Entry(Draft(("n", offset), "/", ("a",), skip, "e", b"[]", 0), Position("e", offset), (0,))


def passage(*offsets: int) -> Passage:
    return passage_of("e", ("a",), {offset: entry(offset) for offset in offsets})


def test_in_order_and_whom_it_skips() -> None:
    found = passage_of("e", ("a",), {7: entry(7, "x"), 3: entry(3), 5: entry(5, "y", "x")})
    assert [each.offset for each in found] == [3, 5, 7]
    assert (len(found), found.last, set(found.skipped)) == (3, 7, {"x", "y"})
    assert [each.offset for each in found.entries(1, 3)] == [5, 7]
    assert (len(passage()), passage().last, passage().parts, passage().skipped) == (0, 0, [], frozenset())


def test_its_parts_are_those_of_others_wherever_these_begin() -> None:
    assert passage(*range(30, 70)).parts == [(30, 31), tuple(range(32, 64)), tuple(range(64, 70))]
    assert passage(*range(40, 80)).parts[1][:6] == passage(*range(30, 70)).parts[2]
    assert passage(1, 33, 65).parts == [(1,), (33,), (65,)]


def test_each_entry_is_made_when_it_is_asked_for() -> None:
    made = []

    def make(offset: int) -> Entry:
        made.append(offset)
        return entry(offset)

    found = Passage("e", ("a",), [1, 2, 3], [1, 2, 3], make, frozenset())
    assert (len(found), found.parts, made) == (3, [(1, 2, 3)], [])
    assert next(iter(found)).offset == 1
    assert made == [1]


def test_those_that_were_asked_for_last_are_kept_and_not_more() -> None:
    kept = Passages()
    found = passage(1, 2)
    assert kept.keep(("key",), found) is found
    assert (kept.get(("key",)), kept.get(("other",))) == (found, None)
    kept.clear()
    assert kept.get(("key",)) is None
    for number in range(PASSAGES_ENTRIES):
        kept.keep((number,), found)
        assert len(kept._found) * 3 <= PASSAGES_ENTRIES
    assert kept.get((PASSAGES_ENTRIES - 1,)) is found
