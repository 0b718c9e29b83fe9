from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sequence

import pytest

from realtime.encoding.codecs import Encoded, SocketIOText
from realtime.errors import UsageError
from realtime.journal.log import Log
from realtime.journal.passage import Passage
from realtime.journal.positions import Entry, Position
from realtime.journal.said import OffsetText, Said
from realtime.rooms.keeper import FORMS_BYTES, TOGETHER_BYTES, Keeper, is_nobody, noted, rooms_of, spoken


def keeper() -> Keeper:
    return Keeper("/", Log("e"), lambda: 0.0)


def everything(keeper: Keeper) -> Sequence[Entry]:
    assert isinstance(keeper.log, Log)
    return keeper.log.since(Position("e", 0)) or []


def test_what_is_kept_has_a_place_and_comes_again() -> None:
    mine = keeper()
    assert mine.mark == "e-0"
    said, mark = mine.keep("note", [{"a": 1}], ["x", "y"], ["sid"])
    assert (mark, mine.mark) == ("e-1", "e-1")
    (entry,) = everything(mine)
    assert (entry.draft.rooms, entry.draft.skip, entry.draft.event) == (("x", "y"), ("sid",), "note")
    expected = [b'42["note",{"a":1},"e-1"]']
    assert spoken(OffsetText(), "/", said, mark).frames[0][1] == expected[0]  # type: ignore[union-attr]
    assert [encoded.frames[0][1] for encoded in mine.again(OffsetText(), [entry])] == expected
    assert [e.frames[0][1] for e in mine.again(OffsetText(), [entry], "e-9")] == [b'42["note",{"a":1},"e-9"]']


def test_what_cannot_be_encoded_has_no_place() -> None:
    mine = keeper()
    with pytest.raises(UsageError):
        mine.keep("note", [object()], None, ())
    assert mine.log.last == 0


def test_an_entry_is_made_once_for_all_who_come_back() -> None:
    mine, dialect = keeper(), OffsetText()
    mine.keep("note", [1], None, ())
    entries = everything(mine)
    assert next(mine.again(dialect, entries)) is next(mine.again(dialect, entries))


def passage(keeper: Keeper, start: int = 0) -> Passage:
    found = keeper.log.since_in([None], Position("e", start))
    assert found is not None
    return found


def test_what_many_missed_is_made_once_some_in_one() -> None:
    mine, dialect = keeper(), OffsetText()
    for number in range(70):
        mine.keep("note", [number], None, ())
    alone = [encoded.frames[0] for encoded in mine.again(dialect, everything(mine))]
    first, second = list(mine.together(dialect, passage(mine))), list(mine.together(dialect, passage(mine, 10)))
    assert [frame for encoded, _ in first for frame in encoded.frames] == alone
    assert [frame for encoded, _ in second for frame in encoded.frames] == alone[10:]
    assert [count for _, count in first] == [31, 32, 7]
    assert [encoded for encoded, _ in second[1:]] == [encoded for encoded, _ in first[1:]], "made for both"
    assert first[0][0].wire == b"".join(Encoded((frame,)).wire for frame in alone[:31])


def test_large_ones_are_told_one_by_one_and_attachments_stay_beside_their_event() -> None:
    mine, dialect = keeper(), OffsetText()
    mine.keep("note", ["x" * TOGETHER_BYTES], None, ())
    mine.keep("note", [b"xy"], None, ())
    told = list(mine.together(dialect, passage(mine)))
    assert [(count, len(encoded.frames)) for encoded, count in told] == [(1, 1), (1, 2)]
    ((both, count),) = mine.together(dialect, passage(mine, 1))
    assert (count, [is_text for is_text, _ in both.frames]) == (1, [True, False])


def test_what_is_kept_ready_is_bounded() -> None:
    mine, dialect = keeper(), OffsetText()
    for _ in range(10):
        mine.keep("note", ["x" * (FORMS_BYTES // 4)], None, ())
    entries = everything(mine)
    assert len(list(mine.again(dialect, entries))) == 10
    assert sum(encoded.size for encoded in mine._forms.values() if encoded is not None) <= FORMS_BYTES
    for start in range(0, 2_000, 32):
        for _ in range(32):
            mine.keep("note", ["x" * 400], None, ())
        assert sum(count for _, count in mine.together(dialect, passage(mine, start + 10))) == 32
    assert sum(encoded.size for encoded in mine._together.values() if encoded is not None) <= FORMS_BYTES // 2
    assert len(mine._together) > 10


def test_a_dialect_without_offsets_is_given_the_arguments() -> None:
    plain = SocketIOText()
    said = Said("note", b'"a"', 1)
    for encoded in (spoken(plain, "/", said, "e-1"), noted(plain, "/", "note", ["a"], "e-1")):
        assert encoded is not None
        assert encoded.frames == ((True, b'42["note","a"]'),)


def test_targets() -> None:
    assert rooms_of(None) is None
    assert rooms_of("a") == ("a",)
    assert rooms_of(5) == (5,)
    assert rooms_of(["a", "b", "a"]) == ("a", "b")
    assert [is_nobody(target) for target in (None, "", [], "a", ["a"], 0)] == [False, True, True, False, False, False]


def test_an_entry_takes_no_more_memory_than_is_counted() -> None:
    mine, entries = keeper(), 2_000
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(entries):
            mine.keep("note", [{"text": "x" * 50, "number": number}], f"room-{number % 10}", ())
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(mine.log, Log)
    assert taken <= mine.log.size


def test_a_dialect_that_has_no_words_for_an_old_entry_is_in_nobodys_way(caplog: pytest.LogCaptureFixture) -> None:
    class Choosy(OffsetText):
        def kept(self, namespace: str, said: Said, mark: str) -> Encoded:
            if said.name == "odd":
                raise ValueError("no words")
            return super().kept(namespace, said, mark)

    mine = keeper()
    for name in ("note", "odd", "note"):
        mine.keep(name, [1], None, ())
    assert len(list(mine.again(Choosy(), everything(mine)))) == 2
    assert [count for _, count in mine.together(Choosy(), passage(mine))] == [3]
    assert "odd of / cannot be said again" in caplog.text
