"""Drafts and entries as they travel: nothing is re-encoded, and whatever comes in is read or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from adapters.redis.keys import Keys, node_channel, place, room_of, token
from adapters.redis.message import (
    CHANNELS_LIMIT,
    DRAFT_LIMIT_BYTES,
    NewLog,
    mark_volatile,
    read_kept,
    read_message,
    seal_draft,
)
from adapters.redis.seal import RefusedMessage, Signer
from adapters.redis.seen import Seen
from realtime.errors import LimitError
from realtime.journal.positions import Draft, Entry, Position
from realtime.ports import Told

SIGNER = Signer(["secret"])
EPOCH = "01a20387a3d1abcdefgh"
TEXTS = some.text(max_size=20)
DRAFTS = some.builds(
    Draft,
    some.tuples(TEXTS, some.integers(0, 1 << 50)),
    some.just("/chat"),
    some.none() | some.lists(TEXTS, min_size=1, max_size=5).map(tuple),
    some.lists(TEXTS, max_size=3).map(tuple),
    TEXTS,
    some.binary(max_size=200),
    some.integers(0, 20),
    some.lists(some.binary(max_size=100), max_size=3).map(tuple),
    some.none() | TEXTS,
)
ONE = Draft(("n", 1), "/chat", ("a", "b"), (), "e", b'["x"]', 1)


def published(draft: Draft, offset: int, previous: list[int]) -> bytes:
    """What the script publishes."""
    joined = b",".join(b"%d" % number for number in previous)
    return b"E%s %d %s\n%s" % (EPOCH.encode(), offset, joined, seal_draft(SIGNER, draft))


def refused(data: bytes, namespace: str = "/chat") -> str:
    with pytest.raises(RefusedMessage) as refusal:
        read_message(SIGNER, namespace, data)
    return refusal.value.reason


@given(DRAFTS, some.integers(1, 1 << 50), some.data())
def test_an_entry_arrives_as_it_was(draft: Draft, offset: int, data: some.DataObject) -> None:
    count = len(draft.channels)
    previous = data.draw(some.lists(some.integers(0, offset - 1), min_size=count, max_size=count))
    entry = Entry(draft, Position(EPOCH, offset), tuple(previous))
    assert read_message(SIGNER, "/chat", published(draft, offset, previous)) == entry
    kept = b",".join(b"%d" % number for number in previous)
    assert read_kept(SIGNER, "/chat", EPOCH, offset, kept, seal_draft(SIGNER, draft)) == entry


@given(DRAFTS, some.none() | some.builds(Position, some.just(EPOCH), some.integers(0, 1 << 50)))
def test_a_volatile_emission_arrives_as_it_was(draft: Draft, newest: Position | None) -> None:
    sealed = seal_draft(SIGNER, draft, newest, kept=False)
    assert read_message(SIGNER, "/chat", mark_volatile(sealed)) == Told(draft, newest)


@given(some.binary(max_size=100) | some.binary(max_size=60).map(lambda rest: b"E" + rest))
def test_arbitrary_bytes_are_refused_and_nothing_else(data: bytes) -> None:
    assert refused(data) in ("unsigned", "version", "signature", "garbled", "channel", "too_big")


@given(DRAFTS, some.data())
def test_arbitrary_changes_never_raise_anything_else(draft: Draft, data: some.DataObject) -> None:
    message = bytearray(published(draft, 9, [0] * len(draft.channels)))
    for _ in range(data.draw(some.integers(1, 4))):
        at = data.draw(some.integers(0, len(message) - 1))
        message[at : at + data.draw(some.integers(0, 3))] = data.draw(some.binary(max_size=3))
    try:
        heard = read_message(SIGNER, "/chat", bytes(message))
    except RefusedMessage:
        return
    assert not isinstance(heard, Entry) or heard.draft == draft  # the head is not signed; what nodes say is


@pytest.mark.parametrize(
    "head",
    [
        *(b"", b"E", b"E\n", b"Eabc 1\n", b"Eabc 0 0\n", b"Eabc -1 0,0\n", b"EABC 1 0,0\n", b"Eabc 1 0,0 \n"),
        *(b"Eabc 1_0 0,0\n", "Eabc ١ 0,0\n".encode(), b"Eabc 99999999999999999 0,0\n", b"V", b"N\n", b"Nabc"),
        *(b"Nabc\nx", b"\n"),
    ],
)
def test_a_head_that_the_script_does_not_write(head: bytes) -> None:
    assert refused(head + seal_draft(SIGNER, ONE)) == "unsigned"


def test_the_reasons() -> None:
    assert refused(published(ONE, 5, [1])) == "garbled"  # two rooms, one number
    assert refused(published(ONE, 5, [1, 5])) == "garbled"  # not before this one
    assert refused(published(ONE, 5, [1, 4]), "/other") == "channel"
    assert refused(b"V\n" + seal_draft(SIGNER, ONE)) == "garbled"  # kept, but published as if it were not
    assert refused(b"Eabc 1 0,0\n" + b'["emit"]') == "unsigned"
    assert refused(bytes(DRAFT_LIMIT_BYTES + 100_000)) == "too_big"


@pytest.mark.parametrize(
    "header",
    [
        None,
        [],
        {},
        ["n", 1, "/chat", None, [], "e"],
        ["n", "1", "/chat", None, [], "e", 1],
        ["n", True, "/chat", None, [], "e", 1],
        ["n", -1, "/chat", None, [], "e", 1],
        ["n", 1, "/chat", [], [], "e", 1],
        ["n", 1, "/chat", "ab", [], "e", 1],
        ["n", 1, "/chat", [1], [], "e", 1],
        ["n", 1, "/chat", None, None, "e", 1],
        ["n", 1, "/chat", None, [], 5, 1],
        ["n", 1, "/chat", None, [], "e", -1],
    ],
)
def test_a_header_that_is_none(header: object) -> None:
    assert refused(b"Eabc 5 1\n" + SIGNER.seal(b"D", header, [b"[]"])) == "garbled"


def test_a_draft_without_a_body() -> None:
    assert refused(b"Eabc 5 1\n" + SIGNER.seal(b"D", ["n", 1, "/chat", None, [], "e", 1], [])) == "garbled"


def test_what_a_later_version_adds_is_passed_over() -> None:
    header = ["n", 1, "/chat", None, [], "e", 1, "something new", 5]
    heard = read_message(SIGNER, "/chat", b"Eabc 5 1\n" + SIGNER.seal(b"D", header, [b"[]"]))
    assert isinstance(heard, Entry)
    assert heard.draft.id == ("n", 1)


def test_the_notice_of_a_new_log() -> None:
    assert read_message(SIGNER, "/chat", b"Nabc\n") == NewLog("abc")


def test_bounds_of_what_is_sent() -> None:
    with pytest.raises(LimitError) as failure:
        seal_draft(SIGNER, ONE._replace(body=bytes(DRAFT_LIMIT_BYTES)))
    assert failure.value.code == "too_big"
    with pytest.raises(LimitError, match="at most"):
        seal_draft(SIGNER, ONE._replace(rooms=("x",) * (CHANNELS_LIMIT + 1)))


@given(some.none() | some.text(some.characters(codec=None, exclude_categories=())))
def test_a_token_is_its_room(room: str | None) -> None:
    assert room_of(token(room)) == room


@pytest.mark.parametrize("word", [b"", b"lobby", b"**"])
def test_a_token_that_is_none(word: bytes) -> None:
    with pytest.raises(ValueError, match="neither"):
        room_of(word)


@given(some.text(max_size=10), some.text(max_size=10))
def test_all_keys_of_a_namespace_have_one_hash_tag(prefix: str, namespace: str) -> None:
    keys = Keys(prefix, namespace)
    tags = {key[key.index(b"{") + 1 : key.index(b"}")] for key in (*keys.of, keys.channel(token("a}{b")))}
    assert len(tags) == 1
    assert b"" not in tags


PLACES = some.tuples(some.text(max_size=6), some.text(max_size=6))


@given(PLACES, PLACES)
def test_places_are_apart(one: tuple[str, str], other: tuple[str, str]) -> None:
    for name in (node_channel, lambda prefix, node: place(prefix, "session", node)):
        assert (one == other) == (name(*one) == name(*other))


def test_seen_goes_forward_only() -> None:
    seen = Seen()
    assert seen.arguments == (b"", b"0", b"")
    assert not seen.take("000000000002aaaaaaaa", 5, "n:5")  # the first log is no other
    assert not seen.take("000000000002aaaaaaaa", 4, "n:4")
    assert not seen.take("000000000001aaaaaaaa", 9, "n:9")
    assert seen.arguments == (b"000000000002aaaaaaaa", b"5", b"n:5")
    assert not seen.take("000000000002aaaaaaaa", 6)
    assert seen.arguments == (b"000000000002aaaaaaaa", b"6", b"")
    assert seen.take("000000000003aaaaaaaa", 1, "n:6")
    assert seen.position == Position("000000000003aaaaaaaa", 1)
