from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Never, NoReturn

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from realtime.errors import UsageError
from realtime.typed.results import finisher, is_checked
from realtime.typed.signature import EMPTY


class Public(BaseModel):
    name: str
    seen: datetime | None = Field(default=None, serialization_alias="lastSeen")


class Stored(Public):
    password: str


@dataclass
class Row:
    name: str
    password: str
    seen: None = None


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def finish(annotation: Any, value: Any) -> Any:
    return finisher("chat.say", annotation, TypeAdapter(annotation))(value)


@pytest.mark.parametrize("annotation", [EMPTY, None, type(None), Any, object, Never, NoReturn])
def test_annotations_that_say_nothing_are_not_checked(annotation: Any) -> None:
    assert not is_checked(annotation)
    assert is_checked(str)


def test_models_become_json_by_alias() -> None:
    expected = {"name": "a", "lastSeen": "2026-01-01T12:00:00Z"}
    assert finish(Public, Public(name="a", seen=NOON)) == expected
    assert finish(Annotated[list[Public], "x"], [Public(name="a", seen=NOON)]) == [expected]
    assert finish(dict[str, Public | Literal["none"]], {"x": "none"}) == {"x": "none"}


@pytest.mark.parametrize(
    "value", [Stored(name="a", password="p"), {"name": "a", "password": "p"}, Row(name="a", password="p")]
)
def test_fields_that_the_annotation_lacks_stay_here(value: Any) -> None:
    assert finish(Public, value) == {"name": "a", "lastSeen": None}


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str, "x"),
        (bytes, b"\xff"),
        (dict[str, bytes], {"file": b"\xff"}),
        (dict[str, Any], {"when": NOON}),
        (list, [Public(name="a")]),
    ],
)
def test_what_the_codec_knows_better_stays_as_it_is(annotation: Any, value: Any) -> None:
    assert finish(annotation, value) == value


def test_a_result_that_does_not_fit_is_our_mistake_and_is_not_quoted() -> None:
    with pytest.raises(UsageError) as caught:
        finish(Public, {"name": 3.5})
    assert str(caught.value) == (
        "chat.say: what it returned does not fit its annotation: return.name: Input should be a valid string"
    )
    assert "3.5" not in str(caught.value.details)
