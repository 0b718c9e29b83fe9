from __future__ import annotations

import pytest

from realtime.encoding.packet_rules import PacketLimits, check_event, check_namespace, check_size, refuse
from realtime.errors import CloseCode, ProtocolError
from realtime.names import LIFECYCLE_EVENTS

LIMITS = PacketLimits(name=5, message_bytes=100)


def test_a_refusal_carries_its_reason_and_its_close_code() -> None:
    with pytest.raises(ProtocolError) as caught:
        refuse("some_reason", "A sentence", CloseCode.TOO_BIG)
    assert (caught.value.code, caught.value.message, caught.value.close) == (
        "some_reason",
        "A sentence",
        CloseCode.TOO_BIG,
    )


def test_size() -> None:
    check_size(100, LIMITS)
    with pytest.raises(ProtocolError):
        check_size(101, LIMITS)


@pytest.mark.parametrize(
    ("name", "found"), [("/", "/"), ("/abcd", "/abcd"), ("/a?b/c\n", "/a"), ("/?", "/"), ("/a b", "/a b")]
)
def test_a_namespace(name: str, found: str) -> None:
    assert check_namespace(name, LIMITS) == found


@pytest.mark.parametrize("name", ["", "a", "?/", "/abcde", "/\n", "/\ud800", "/\u202e"])
def test_a_bad_namespace(name: str) -> None:
    with pytest.raises(ProtocolError):
        check_namespace(name, LIMITS)


def event_problem(data: list[object], limits: PacketLimits = LIMITS) -> str | None:
    try:
        check_event(data, limits)
    except ProtocolError as error:
        return error.code
    return None


@pytest.mark.parametrize("data", [["12345"], [""], ["error", 1], ["\n"]])
def test_an_event(data: list[object]) -> None:
    assert event_problem(data) is None


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ([], "bad_payload"),
        (["123456"], "bad_event_name"),
        ([1], "bad_event_name"),
        ([None], "bad_event_name"),
        ([b"a"], "bad_event_name"),
    ],
)
def test_a_bad_event(data: list[object], code: str) -> None:
    assert event_problem(data) == code


@pytest.mark.parametrize("name", sorted(LIFECYCLE_EVENTS))
def test_an_event_of_the_protocol(name: str) -> None:
    assert event_problem([name], PacketLimits()) == "reserved_event"
