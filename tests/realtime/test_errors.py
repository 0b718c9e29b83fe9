from __future__ import annotations

import json

import pytest

from realtime.errors import (
    AccessError,
    CloseCode,
    HandshakeError,
    LimitError,
    OutsideError,
    PayloadError,
    ProtocolError,
    RealtimeError,
    Refusal,
    UsageError,
    connect_refusal,
    label_of,
    wire_error,
)

CODES = {
    RealtimeError: "internal",
    ProtocolError: "protocol_error",
    PayloadError: "invalid_payload",
    AccessError: "forbidden",
    LimitError: "rate_limited",
    OutsideError: "unavailable",
    UsageError: "usage",
}


@pytest.mark.parametrize(("family", "code"), CODES.items())
def test_each_family_has_a_code_of_its_own_and_says_its_name_where_nothing_was_said(
    family: type[RealtimeError], code: str
) -> None:
    error = family()
    assert (error.code, error.message, error.details, error.retry_after) == (code, family.__name__, None, None)
    assert error.as_dict() == {"code": code, "message": family.__name__}


def test_an_error_tells_what_is_known_and_nothing_else() -> None:
    error = LimitError("Slow down", code="too_fast", details={"limit": 10}, retry_after=1.23456)
    assert str(error) == "Slow down"
    assert error.as_dict() == {
        "code": "too_fast", "message": "Slow down", "details": {"limit": 10}, "retry_after": 1.235,
    }  # fmt: skip


def test_details_and_times_that_are_false_are_told_all_the_same() -> None:
    found = RealtimeError("x", details=[], retry_after=0).as_dict()
    assert found["details"] == []
    assert found["retry_after"] == 0


def test_a_refusal_makes_its_sentence_from_its_code() -> None:
    assert Refusal("room_full").as_dict() == {"code": "room_full", "message": "Room full"}
    said = Refusal("room_full", "This room is full", details={"max": 50}, retry_after=2)
    assert said.as_dict() == {
        "code": "room_full", "message": "This room is full", "details": {"max": 50}, "retry_after": 2,
    }  # fmt: skip


def test_a_violation_carries_the_close_code_that_the_peer_is_shown() -> None:
    assert ProtocolError("bad").close is CloseCode.BAD_PROTOCOL
    error = ProtocolError("big", close=CloseCode.TOO_BIG, code="too_big")
    assert (error.close, error.code) == (1009, "too_big")


def test_a_refused_handshake_speaks_engine_ios_json() -> None:
    error = HandshakeError(400, 1, "Session ID unknown", reason="unknown_sid")
    assert (error.status, error.number, error.code) == (400, 1, "unknown_sid")
    assert error.body() == b'{"code":1,"message":"Session ID unknown"}'
    assert json.loads(error.body()) == {"code": 1, "message": "Session ID unknown"}


@pytest.mark.parametrize("error", [AccessError("No"), Refusal("full"), OutsideError("Redis is away", retry_after=2)])
def test_our_own_errors_reach_the_client_in_their_own_words(error: RealtimeError) -> None:
    assert wire_error(error, "abc") == error.as_dict()


@pytest.mark.parametrize("error", [ValueError("password=hunter2"), KeyError("secret"), UsageError("emit takes…")])
def test_the_text_of_a_foreign_error_or_of_our_callers_mistake_stays_here(error: BaseException) -> None:
    told = wire_error(error, "abc")
    assert told["code"] == "internal"
    assert told["details"] == {"incident": "abc"}
    assert str(error) not in json.dumps(told)


@pytest.mark.parametrize(
    ("error", "label"),
    [
        (ValueError("x"), "internal"),
        (LimitError("x"), "rate_limited"),
        (LimitError("x", code="too_many_rooms"), "too_many_rooms"),
        (LimitError("x", code="anything at all"), "rate_limited"),
        (Refusal("unknown_event"), "unknown_event"),
        (Refusal("room_full"), "refused"),
    ],
)
def test_a_label_is_a_word_of_ours(error: BaseException, label: str) -> None:
    assert label_of(error) == label


def test_a_refused_connection_is_told_a_sentence_and_the_whole_error() -> None:
    answer = AccessError("No", code="ended").as_dict()
    assert connect_refusal(answer) == {"message": "No", "data": {"code": "ended", "message": "No"}}


def test_close_codes_say_whether_to_come_back() -> None:
    """CONTRACT section 6: 4000 to 4499 connect again, 4500 to 4999 do not."""
    come_back = {CloseCode.SILENT, CloseCode.TOO_FAST, CloseCode.TOO_SLOW, CloseCode.DRAINING}
    stay_away = {CloseCode.BAD_PROTOCOL, CloseCode.REVOKED, CloseCode.REPLACED}
    assert {code for code in CloseCode if 4000 <= code < 4500} == come_back
    assert {code for code in CloseCode if code >= 4500} == stay_away
    assert sorted(come_back) == [4408, 4429, 4430, 4440]
    assert sorted(stay_away) == [4501, 4503, 4504]
