"""The wire format between nodes: what is signed arrives as it was, and whatever else comes is refused by reason."""

from __future__ import annotations

import hashlib
import hmac
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from adapters.redis.seal import MAGIC, PARTS_LIMIT, VERSION, RefusedMessage, Signer
from realtime.errors import UsageError

SIGNER = Signer(["one secret", "another"])
JSON = some.recursive(
    some.none() | some.booleans() | some.integers(-(1 << 40), 1 << 40) | some.text(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(), inner, max_size=4),
    max_leaves=10,
)
PARTS = some.lists(some.binary(max_size=300), max_size=5)


def refused(data: bytes, kind: bytes = b"D", signer: Signer = SIGNER) -> str:
    with pytest.raises(RefusedMessage) as refusal:
        signer.open(kind, data)
    return refusal.value.reason


@given(JSON, PARTS)
def test_what_is_sealed_is_opened_as_it_was(header: Any, parts: list[bytes]) -> None:
    assert SIGNER.open(b"D", SIGNER.seal(b"D", header, parts)) == (header, parts)


def test_a_lone_surrogate_in_a_name_survives() -> None:
    assert SIGNER.open(b"D", SIGNER.seal(b"D", ["\ud800"])) == (["\ud800"], [])


@given(some.binary(max_size=200))
def test_arbitrary_bytes_are_refused_and_nothing_else(data: bytes) -> None:
    assert refused(data) in ("unsigned", "version", "signature", "garbled")


@given(JSON, PARTS, some.data())
def test_no_byte_can_be_changed_taken_or_added(header: Any, parts: list[bytes], data: some.DataObject) -> None:
    sealed = SIGNER.seal(b"D", header, parts)
    at = data.draw(some.integers(0, len(sealed) - 1))
    other = data.draw(some.integers(0, 255).filter(lambda byte: byte != sealed[at]))
    for spoilt in (sealed[:at] + bytes((other,)) + sealed[at + 1 :], sealed[:at], sealed + bytes((other,))):
        assert refused(spoilt) in ("unsigned", "version", "signature", "garbled")


def test_the_reasons() -> None:
    sealed = SIGNER.seal(b"D", ["x"], [b"y"])
    assert refused(b"") == refused(b'{"method": "emit"}') == refused(b"\x80\x04pickle") == "unsigned"
    assert refused(MAGIC + bytes((VERSION + 1,)) + sealed[3:]) == "version"
    assert refused(sealed[:-1] + b"z") == refused(sealed[:20]) == refused(MAGIC + bytes((VERSION,))) == "signature"
    assert refused(sealed, b"V") == "garbled"
    assert refused(sealed, signer=Signer(["a third"])) == "signature"


@given(some.binary(max_size=100))
def test_what_a_key_holder_garbled_is_refused_too(content: bytes) -> None:
    """Signed, but not by this program: a version of tomorrow that forgot to say so."""
    assert refused(_sign(content)) == "garbled"


def test_that_forgery_would_be_taken_if_it_were_well_formed() -> None:
    sealed = SIGNER.seal(b"D", ["x"], [b"y"])
    assert _sign(sealed[35:]) == sealed


def _sign(content: bytes) -> bytes:
    """A right signature over anything, made the way that the format says."""
    key = hmac.digest(b"one secret", b"realtime-rooms: messages between nodes, version 1", hashlib.sha256)
    return MAGIC + bytes((VERSION,)) + hmac.digest(key, content, "sha256") + content


def test_a_key_is_rotated_without_a_moment_of_refusal() -> None:
    """The new one is put behind, then in front, then the old one goes: at each step all nodes hear each other."""
    steps = [["old"], ["old", "new"], ["new", "old"], ["new"]]
    for before, after in pairwise(steps):
        for writer, reader in [(before, after), (after, before)]:
            assert Signer(reader).open(b"D", Signer(writer).seal(b"D", 1)) == (1, [])
    assert refused(Signer(["old"]).seal(b"D", 1), signer=Signer(["new"])) == "signature"


@pytest.mark.parametrize("secrets", [[], [""], ["good", ""]])
def test_no_secret_no_signer(secrets: list[str]) -> None:
    with pytest.raises(UsageError, match="at least one secret"):
        Signer(secrets)


def test_what_cannot_be_sealed_is_our_mistake() -> None:
    with pytest.raises(UsageError, match="at most"):
        SIGNER.seal(b"D", None, [b""] * (PARTS_LIMIT + 1))
    with pytest.raises(UsageError, match="JSON"):
        SIGNER.seal(b"D", object())
