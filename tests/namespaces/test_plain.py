"""Plain forms: what raw clients are told. Whatever arrives over the bus, they raise nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from namespaces.plain import (
    CHAT,
    CROWD,
    JSON_CHAT,
    SECURE,
    chat_form,
    crowd_form,
    json_chat_form,
    problem,
    read_object,
    secure_form,
)
from realtime import PlainDialect

NAMES = st.sampled_from(["message", "joined", "left", "typing", "error", "token_expired", "notification", "x", ""])
KEYS = st.sampled_from(["username", "timestamp", "typing", "total", "remaining", "error", "message", "type", "id"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(NAMES, VALUES)
def test_any_event_with_any_data_is_words_or_silence(name: str, data: Any) -> None:
    for dialect in (CHAT, JSON_CHAT, CROWD, SECURE):
        said = dialect.event("/chat", name, [data])
        assert said is None or len(said.frames) == 1
        assert dialect.event("/chat", name, []) is None or name == "message"


@given(NAMES, VALUES)
def test_no_data_takes_the_place_of_the_type(name: str, data: Any) -> None:
    assert (json_chat_form(name, data) or {}).get("type", "chat") in ("chat", "user_typing", "error")
    assert (secure_form(name, data) or {}).get("type", "message") in ("message", "error")


def test_a_message_is_told_as_it_is() -> None:
    message = {"id": "1", "username": "alice", "text": "hi", "message": "hi"}
    assert chat_form("message", message) == message
    assert json_chat_form("message", message) == {**message, "type": "chat"}
    assert secure_form("message", {"from": "a", "text": "hi"}) == {"from": "a", "text": "hi", "type": "message"}
    assert crowd_form("message", "hi") == "Message: hi"


@pytest.mark.parametrize("name", ["joined", "left"])
def test_arrivals_and_departures_are_words_of_the_system(name: str) -> None:
    told = chat_form(name, {"room": "lobby", "username": "alice", "timestamp": "now"})
    words = f"alice {name} the chat"
    assert told == {"username": "SYSTEM", "message": words, "text": words, "timestamp": "now", "is_system": True}
    assert json_chat_form(name, {"room": "lobby", "username": "alice", "timestamp": "now"}) is None


def test_typing_is_told_while_it_lasts() -> None:
    assert json_chat_form("typing", {"username": "al", "typing": True}) == {"type": "user_typing", "username": "al"}
    assert json_chat_form("typing", {"username": "al", "typing": False}) is None
    assert chat_form("typing", {"username": "al", "typing": True}) is None


def test_the_crowd_is_told_in_sentences() -> None:
    assert crowd_form("joined", {"total": 2}) == "New client joined! Total: 2"
    assert crowd_form("left", {"remaining": 1}) == "Client disconnected. Remaining: 1"
    assert crowd_form("typing", {"total": 2}) is None


@pytest.mark.parametrize("form", [chat_form, json_chat_form, secure_form])
def test_words_of_the_framework(form: Callable[[str, Any], Any]) -> None:
    assert form("token_expired", {"message": "over"}) == problem("token_expired", "over")
    assert form("error", {"error": {"code": "x", "message": "y"}}) == problem("x", "y")
    assert form("error", {"error": "not an object"}) is None


def test_other_packets_have_no_plain_form() -> None:
    dialect: PlainDialect = CHAT
    assert dialect.ack("/chat", 1, [1]) is None
    assert dialect.connect("/chat", {"sid": "x"}) is None
    assert dialect.connect_error("/chat", {}) is None
    assert dialect.disconnect("/chat") is None


@given(st.text())
def test_any_text_is_an_object_or_a_sentence(text: str) -> None:
    found = read_object(text)
    assert isinstance(found, dict | str)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_an_object_is_read(value: dict[str, Any]) -> None:
    assert read_object(json.dumps(value)) == value


@pytest.mark.parametrize("text", ["", "{", "nope", '{"a": NaN}', "[" * 100 + "]" * 100, '{"a":' * 65 + "1" + "}" * 65])
def test_what_is_not_json_is_said(text: str) -> None:
    assert read_object(text) == "This is not JSON"


@pytest.mark.parametrize("text", ["1", "null", '"x"', "[]", "true"])
def test_what_is_no_object_is_said(text: str) -> None:
    assert read_object(text) == "A JSON object is expected"
