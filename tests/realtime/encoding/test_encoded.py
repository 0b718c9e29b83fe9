from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.encoding.encoded import CLOSE_FRAME, NOOP_FRAME, PING_FRAME, PONG_PROBE, Encoded, text

messages = st.lists(
    st.tuples(st.just(True), st.text().map(str.encode)) | st.tuples(st.just(False), st.binary()), min_size=1
)


def unwrap(wire: bytes) -> list[tuple[bool, bytes]]:
    """The messages of whole server frames, by RFC 6455 section 5.2."""
    found = []
    while wire:
        first, size, wire = wire[0], wire[1], wire[2:]
        assert first in {0x81, 0x82}
        if size >= 126:
            width = 2 if size == 126 else 8
            assert size <= 127, "a server does not mask"
            size, wire = int.from_bytes(wire[:width], "big"), wire[width:]
        assert len(wire) >= size
        found.append((first == 0x81, wire[:size]))
        wire = wire[size:]
    return found


def test_one_message_in_every_form() -> None:
    encoded = Encoded(((True, b'42["hi"]'),))
    assert encoded.size == 8
    assert encoded.asgi == ({"type": "websocket.send", "text": '42["hi"]'},)
    assert encoded.wire == b'\x81\x0842["hi"]'
    assert encoded.payload == '42["hi"]'


def test_attachments_in_every_form() -> None:
    encoded = Encoded(((True, "451-é".encode()), (False, b"\x00\x01\x02"), (False, b"")))
    assert encoded.size == 9
    assert encoded.asgi == (
        {"type": "websocket.send", "text": "451-é"},
        {"type": "websocket.send", "bytes": b"\x00\x01\x02"},
        {"type": "websocket.send", "bytes": b""},
    )
    assert encoded.wire == b"\x81\x06451-\xc3\xa9\x82\x03\x00\x01\x02\x82\x00"
    assert encoded.payload == "451-é\x1ebAAEC\x1eb"


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\x82\x00"),
        (125, b"\x82\x7d"),
        (126, b"\x82\x7e\x00\x7e"),
        (65_535, b"\x82\x7e\xff\xff"),
        (65_536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_the_length_takes_as_few_bytes_as_it_can(size: int, header: bytes) -> None:
    data = b"x" * size
    assert Encoded(((False, data),)).wire == header + data


def test_each_form_is_made_once() -> None:
    encoded = Encoded(((True, b"text"), (False, b"bytes")))
    assert encoded.wire is encoded.wire
    assert encoded.asgi is encoded.asgi
    assert encoded.payload is encoded.payload


def test_there_is_no_other_attribute() -> None:
    encoded = Encoded.text("2")
    with pytest.raises(AttributeError, match="nonsense"):
        encoded.nonsense  # noqa: B018
    assert copy.copy(encoded).frames == encoded.frames


def test_nothing_of_the_payload_is_shown() -> None:
    assert repr(Encoded(((True, b"secret"), (False, b"12")))) == "<Encoded: 2 messages, 8 bytes>"


def test_text_is_taken_as_it_stands() -> None:
    assert text("Echo: é").frames == ((True, "Echo: é".encode()),)
    assert Encoded.text("é".encode()).frames == ((True, "é".encode()),)
    assert text("a\ud83db").frames == ((True, b"a?b"),)


def test_the_constant_frames() -> None:
    found = [frame.payload for frame in (PING_FRAME, PONG_PROBE, NOOP_FRAME, CLOSE_FRAME)]
    assert found == ["2", "3probe", "6", "1"]


@given(messages)
def test_the_wire_form_holds_the_same_messages(frames: list[tuple[bool, bytes]]) -> None:
    encoded = Encoded(tuple(frames))
    assert unwrap(encoded.wire) == frames
    assert encoded.size == sum(len(data) for _, data in frames)
