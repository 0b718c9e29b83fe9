from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.journal.positions import OFFSET_LIMIT, Draft, Entry, Position

EPOCHS = st.text(alphabet="abcXYZ019", min_size=1, max_size=32)


@given(EPOCHS, st.integers(0, OFFSET_LIMIT))
def test_a_position_survives_its_text(epoch: str, offset: int) -> None:
    position = Position(epoch, offset)
    assert Position.parse(str(position)) == position
    assert str(position).isascii()
    assert len(str(position)) <= 64


@given(st.one_of(st.none(), st.integers(), st.binary(), st.text(), st.lists(st.text()), st.floats()))
def test_whatever_comes_is_read_or_none(found: object) -> None:
    position = Position.parse(found)
    assert position is None or str(position) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "a-",
        "-1",
        "a-01",
        "a--1",
        "a-1 ",
        " a-1",
        "a-1\n",
        "a-9223372036854775808",
        "a" * 33 + "-1",
        "a-١",
        "é-1",
    ],
)
def test_what_nobody_was_given(text: str) -> None:
    assert Position.parse(text) is None


def test_an_entry_knows_its_channels_and_its_size() -> None:
    draft = Draft(("node", 1), "/chat", ("lobby", "attic"), ("sid",), "message", b'["hello"]', 1, (b"12345",))
    assert draft.channels == ("lobby", "attic")
    assert draft._replace(rooms=None).channels == (None,)
    assert draft.size == len('["hello"]') + len("message") + len("lobbyattic") + len("sid") + 5
    assert Entry(draft, Position("a", 7), (3, 0)).offset == 7
