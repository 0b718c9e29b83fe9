from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.encoding.encoded import Encoded
from realtime.encoding.engineio_frames import SEPARATOR, split_payload
from realtime.errors import ProtocolError


@pytest.mark.parametrize(
    ("body", "packets"),
    [
        ("2", ["2"]),
        ('42["hi"]', ['42["hi"]']),
        ("3probe\x1e5", ["3probe", "5"]),
        ("4text\x1ebAAEC\x1e4é", ["4text", b"\x00\x01\x02", "4é"]),
        ("b", [b""]),
        ("bQQ==", [b"A"]),
        ("b+/+/", [b"\xfb\xff\xbf"]),
        ("anything", ["anything"]),
    ],
)
def test_a_body_is_split(body: str, packets: list[str | bytes]) -> None:
    assert split_payload(body) == packets


def test_packets_are_not_limited_by_number() -> None:
    assert split_payload("\x1e".join(["2"] * 10_000)) == ["2"] * 10_000


@pytest.mark.parametrize("body", ["", "\x1e", "2\x1e", "\x1e2", "2\x1e\x1e3"])
def test_an_empty_packet_is_refused(body: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        split_payload(body)
    assert caught.value.code == "empty_packet"


@pytest.mark.parametrize(
    "packet", ["bQ", "bQQ", "bQQ=", "bQQ==A", "bQ-_=", "bQQ\n==", "b QQ==", "b====", "bé", "b\ud83d", "bb"]
)
def test_base64_is_strict(packet: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        split_payload("2\x1e" + packet)
    assert caught.value.code == "bad_base64"


texts = st.text(min_size=1).filter(lambda text: text[0] != "b" and SEPARATOR not in text)


@given(st.lists(texts | st.binary(), min_size=1))
def test_what_was_joined_is_split_again(packets: list[str | bytes]) -> None:
    frames = tuple((isinstance(p, str), p.encode() if isinstance(p, str) else p) for p in packets)
    assert split_payload(Encoded(frames).payload) == packets


@given(st.text())
def test_no_body_raises_anything_else(body: str) -> None:
    with suppress(ProtocolError):
        assert len(split_payload(body)) == body.count(SEPARATOR) + 1
