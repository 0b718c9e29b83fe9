from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from realtime.clients.spoken import event_name, name_and_args
from realtime.errors import UsageError
from realtime.names import LIFECYCLE_EVENTS


class UserJoined(BaseModel):
    username: str


class HTTPStatusChanged(BaseModel):
    code: int


class Renamed(BaseModel):
    event_name: ClassVar[str] = "user:renamed"


def test_a_model_names_its_event() -> None:
    assert event_name(UserJoined) == "user_joined"
    assert event_name(HTTPStatusChanged) == "http_status_changed"
    assert event_name(Renamed) == "user:renamed"
    joined = UserJoined(username="alice")
    assert name_and_args(joined, None) == ("user_joined", (joined,))


@given(st.from_regex(r"[A-Z][A-Za-z0-9]{0,20}", fullmatch=True))
def test_event_names_are_snake_case_and_keep_every_letter(name: str) -> None:
    made = event_name(type(name, (BaseModel,), {}))
    assert made == made.lower()
    assert made.replace("_", "") == name.lower()


@pytest.mark.parametrize(
    ("data", "args"),
    [
        (None, ()),
        ((), ()),
        ((1, 2), (1, 2)),
        ((None,), (None,)),
        ([1, 2], ([1, 2],)),
        ({"a": 1}, ({"a": 1},)),
        ("text", ("text",)),
        (0, (0,)),
        (False, (False,)),
        ("", ("",)),
    ],
)
def test_a_tuple_is_several_arguments_none_is_none(data: Any, args: tuple[Any, ...]) -> None:
    assert name_and_args("event", data) == ("event", args)


@pytest.mark.parametrize("name", sorted(LIFECYCLE_EVENTS))
def test_names_of_the_protocol_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="protocol itself"):
        name_and_args(name, None)


@pytest.mark.parametrize("event", [7, None, b"event", ["event"]])
def test_an_event_that_is_no_name_is_refused(event: Any) -> None:
    with pytest.raises(UsageError, match="not " + type(event).__name__):
        name_and_args(event, None)


def test_a_model_and_data_is_one_too_many() -> None:
    with pytest.raises(UsageError, match="not a model and data"):
        name_and_args(UserJoined(username="a"), {"b": 1})
