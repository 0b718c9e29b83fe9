from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.encoding.codecs import Encoded, RawJson, SocketIOText, array
from realtime.journal.positions import Draft
from realtime.journal.said import NAMES_LIMIT, OffsetMsgPack, OffsetRaw, OffsetText, Said, SplicedText
from realtime.recovery.since import Since

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.text() | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def say(name: str, *args: Any) -> Said:
    body, attachments = array(args)
    return Said(name, body[1:-1], len(args), attachments, args)


def read(encoded: Encoded) -> tuple[str, Any, tuple[Any, ...]]:
    """What stands before the payload, the payload, and the attachments: JSON may be written in more than one way."""
    head, bracket, rest = encoded.frames[0][1].decode().partition("[")
    return head, json.loads(bracket + rest), encoded.frames[1:]


@given(st.sampled_from(["/", "/chat"]), st.text(max_size=10), st.lists(VALUES, max_size=3))
def test_around_the_body_stands_what_was_always_sent(namespace: str, name: str, args: list[Any]) -> None:
    said, plain = say(name, *args), SocketIOText()
    expected = read(plain.event(namespace, name, [*args, "e-7"]))
    assert read(SplicedText().kept(namespace, said, "e-7")) == read(plain.event(namespace, name, args))
    assert read(OffsetText().kept(namespace, said, "e-7")) == expected
    assert read(OffsetText().noted(namespace, name, args, "e-7")) == expected


@given(st.text(max_size=10), st.lists(VALUES, max_size=3))
def test_plain_clients_find_the_offset_beside_the_data(name: str, args: list[Any]) -> None:
    said, raw = say(name, *args), OffsetRaw()
    expected = json.loads(RawJson().event("/", name, args).frames[0][1]) | {"offset": "e-7"}
    assert json.loads(raw.kept("/", said, "e-7").frames[0][1]) == expected
    assert json.loads(raw.noted("/", name, args, "e-7").frames[0][1]) == expected
    assert raw.event("/", name, args).frames == RawJson().event("/", name, args).frames


@given(st.lists(VALUES, max_size=3))
def test_what_was_kept_is_said_again_as_it_was(args: list[Any]) -> None:
    body, attachments = array(args)
    again = Said.again(Draft(("n", 1), "/", None, (), "e", body, len(args), attachments))
    if not any("\ud800" <= character <= "\udfff" for character in body.decode()):
        assert list(again.args) == args
    assert OffsetText().kept("/", again, "e-1").frames == OffsetText().kept("/", say("e", *args), "e-1").frames


def test_msgpack_gets_the_values_and_the_offset() -> None:
    msgpack = pytest.importorskip("msgpack", reason="the extra msgpack is not installed")
    said = Said.again(Draft(("n", 1), "/", None, (), "e", *_kept({"a": b"x"})))
    for encoded in (OffsetMsgPack().kept("/", said, "e-1"), OffsetMsgPack().noted("/", "e", [{"a": b"x"}], "e-1")):
        assert msgpack.unpackb(encoded.frames[0][1]) == {"type": 2, "nsp": "/", "data": ["e", {"a": b"x"}, "e-1"]}


def _kept(*args: Any) -> tuple[bytes, int, tuple[bytes, ...]]:
    body, attachments = array(args)
    return body, len(args), attachments


def test_names_that_are_kept_ready_are_bounded() -> None:
    dialect = OffsetText()
    for number in range(NAMES_LIMIT + 10):
        frame = dialect.kept("/", say(f"name{number}", 1), "e-1").frames[0][1]
        assert frame == b'42["name%d",1,"e-1"]' % number
    assert len(dialect._heads) <= NAMES_LIMIT


def test_the_first_words_tell_what_came_of_since() -> None:
    raw = OffsetRaw()
    assert raw.opening(None, "e-1") is None
    encoded = raw.opening(Since(False, "gone", "e-1"), "e-1")
    assert encoded is not None
    assert json.loads(encoded.frames[0][1]) == {
        "event": "resumed",
        "data": {"recovered": False, "reason": "gone"},
        "offset": "e-1",
    }


def test_a_servers_own_json() -> None:
    def dumps(value: Any) -> str:
        return json.dumps(value).replace("1", "one")

    body, attachments = array([1], dumps)
    assert OffsetText(dumps).kept("/", Said("e", body[1:-1], 1, attachments), "e-9").frames == (
        (True, b'42["e",one,"e-9"]'),
    )
