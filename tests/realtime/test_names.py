from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.names import (
    NAME_LIMIT,
    SYSTEM_USER,
    Reason,
    direct_room,
    is_system_room,
    name_key,
    problem_with_name,
    user_room,
)

user_names = st.text(st.characters(exclude_characters=":", exclude_categories=["C", "Z"]), min_size=1)


@pytest.mark.parametrize(
    "name",
    [
        *("lobby", "a", "a b", "x" * NAME_LIMIT, "é", "e\u0301", "Ünïcode", "日本語", "\U0001f600", "*?[]:#{}$", ".."),
        *("__proto__", "0", "@alice:bob", "user:alice", SYSTEM_USER),
    ],
)
def test_a_name_that_people_use_is_fine(name: str) -> None:
    assert problem_with_name(name, "room") is None


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "room must not be empty"),
        ("x" * (NAME_LIMIT + 1), "room is longer than 128 characters"),
        (None, "room must be a string"),
        (7, "room must be a string"),
        (b"lobby", "room must be a string"),
        (["lobby"], "room must be a string"),
        (" ", "room begins or ends with a space"),
        (" lobby", "room begins or ends with a space"),
        ("lobby ", "room begins or ends with a space"),
    ],
)
def test_what_is_wrong_with_a_name_is_said_in_a_sentence(name: object, problem: str) -> None:
    assert problem_with_name(name, "room") == problem


@pytest.mark.parametrize(
    "character",
    [
        *("\x00", "\n", "\r", "\t", "\x0b", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\xa0", "\u3000"),
        *("\u200b", "\u200d", "\u202e", "\u2066", "\ufeff", "\xad", "\ud83d", "\ue000", "\U000e0001", "\uffff"),
    ],
    ids=ascii,
)
def test_a_character_that_cannot_be_seen_is_in_no_name(character: str) -> None:
    for name in (character, character + "a", "a" + character, f"a{character}b"):
        assert problem_with_name(name, "user name") == "user name contains control or invisible characters"


@given(st.text(max_size=2 * NAME_LIMIT))
def test_any_text_is_a_name_that_can_be_shown_and_sent_or_has_a_problem(name: str) -> None:
    if problem_with_name(name, "topic") is None:
        assert 0 < len(name) <= NAME_LIMIT
        assert name.isprintable()
        assert name == name.strip()
        assert name.encode().decode() == name


@pytest.mark.parametrize("room", ["@", "@alice:bob", "user:", "user:alice", "@guest:bob"])
def test_rooms_of_the_system_are_known_by_their_beginning(room: str) -> None:
    assert is_system_room(room)


@pytest.mark.parametrize("room", ["", "lobby", "user", "users:1", "User:alice", " @a", "a@b", "my user:alice"])
def test_every_other_room_is_somebodys(room: str) -> None:
    assert not is_system_room(room)


def test_the_room_of_a_conversation_is_sorted() -> None:
    assert direct_room("bob", "alice") == "@alice:bob"
    assert direct_room("alice", "alice") == "@alice:alice"


@given(user_names, user_names)
def test_a_conversation_has_one_room_seen_from_both_sides_and_belongs_to_the_system(one: str, other: str) -> None:
    room = direct_room(one, other)
    assert room == direct_room(other, one)
    assert is_system_room(room)
    assert set(room.removeprefix("@").split(":")) == {one, other}


@given(user_names)
def test_the_room_of_a_user_belongs_to_the_system_and_to_nobody_else(user: str) -> None:
    assert is_system_room(user_room(user))
    assert user_room(user).removeprefix("user:") == user


def test_reasons_that_python_socketio_has_are_spelt_as_there() -> None:
    """Handlers compare with these words."""
    assert {Reason.CLIENT, Reason.SERVER, Reason.PING_TIMEOUT, Reason.TRANSPORT_CLOSE, Reason.TRANSPORT_ERROR} == {
        "client disconnect", "server disconnect", "ping timeout", "transport close", "transport error",
    }  # fmt: skip


@pytest.mark.parametrize(
    "blank", ["\ufe0f", "\u034f", "\U000e0100", "\u180b", "\u115f", "\u3164", "\u2800", "\uffa0", "\u17b4"]
)
def test_a_name_has_no_character_that_is_drawn_as_nothing(blank: str) -> None:
    for name in (f"alice{blank}", f"al{blank}ice", blank):
        assert problem_with_name(name, "name") == "name contains control or invisible characters"


@pytest.mark.parametrize("twin", ["Alice", "ALICE", "ａｌｉｃｅ"])
def test_names_that_pass_for_one_another_have_one_key(twin: str) -> None:
    assert name_key(twin) == name_key("alice")
    assert name_key("e\u0301ve") == name_key("\u00e9ve")
    assert name_key("alice") != name_key("alicia")
