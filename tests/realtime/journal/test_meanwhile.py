from __future__ import annotations

import pytest

from realtime.journal.meanwhile import data_of, rooms_of
from realtime.journal.positions import Position
from realtime.journal.resume import Record, Stay

NOWHERE = Position("e", 0)


@pytest.mark.parametrize(
    ("first", "here", "now", "found"),
    [
        ('{"a": 1}', {"a": 2, "b": 3}, '{"a": 1}', {"a": 2, "b": 3}),
        ('{"a": 1}', {"a": 1}, '{"a": 2, "b": 3}', {"a": 2, "b": 3}),
        ('{"a": 1, "b": 1}', {"b": 1, "c": 4}, '{"a": 1, "b": 2}', {"b": 2, "c": 4}),
        ('{"a": 1}', {"a": 2}, '{"a": 3}', {"a": 2}),
        ('{"a": [1]}', {"a": [1]}, '{"a": [1, 2]}', {"a": [1, 2]}),
        ('{"a": 1}', {}, "{}", {}),
        ('["no dictionary"]', {"a": 1}, '{"b": 1}', {"b": 1}),
        ("{}", {"a": 1}, '["no dictionary"]', ["no dictionary"]),
    ],
)
def test_entries_that_were_changed_in_both_places(first: str, here: object, now: str, found: object) -> None:
    assert data_of(first.encode(), here, now.encode()) == found  # type: ignore[arg-type]


def record(*stays: Stay) -> Record:
    return Record("pid", "sid", "/", "node", "", b"{}", stays, NOWHERE, NOWHERE, NOWHERE)


def test_rooms_that_were_changed_in_both_places() -> None:
    first = record(Stay("stays", 1), Stay("left here", 1), Stay("left there", 1), Stay("given", 1, granted=True))
    here = record(
        Stay("stays", 1), Stay("left here", 1, 5), Stay("left there", 1), Stay("given", 1), Stay("new here", 5)
    )
    now = record(
        Stay("stays", 1),
        Stay("left here", 1),
        Stay("left there", 1, 4),
        Stay("given", 1, granted=True),
        Stay("new there", 4),
    )
    assert rooms_of(first, here, now).stays == (
        Stay("stays", 1),
        Stay("left here", 1, 5),
        Stay("left there", 1, 4),
        Stay("given", 1),
        Stay("new there", 4),
        Stay("new here", 5),
    )


def test_nothing_was_changed_here() -> None:
    first, now = record(Stay("a", 1)), record(Stay("b", 1))
    assert rooms_of(first, first, now) == now
