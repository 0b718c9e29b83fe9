from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.fast.frames import (
    Close,
    FrameError,
    FrameReader,
    Opcode,
    Ping,
    Pong,
    Received,
    ends_with_close,
    read_close,
    short_message,
    write_close,
    write_frame,
)
from realtime.errors import CloseCode
from tests.adapters.fast.wire_client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close, frame, text

LIMIT = 1 << 16
MASKS = st.binary(min_size=4, max_size=4)
VALID_CODES = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


def read(data: bytes, limit: int = LIMIT) -> list[Received]:
    return list(FrameReader(limit).feed(data))


def read_pieces(pieces: Iterable[bytes], limit: int = LIMIT) -> list[Received]:
    reader = FrameReader(limit)
    return [received for piece in pieces for received in reader.feed(piece)]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The data in pieces; some may be empty."""
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


PLACES = st.lists(st.integers(0, 1 << 20), max_size=12)


@st.composite
def controls(draw: st.DrawFn) -> tuple[bytes, Received]:
    payload, mask = draw(st.binary(max_size=125)), draw(MASKS)
    if draw(st.booleans()):
        return frame(PING, payload, mask=mask), Ping(payload)
    return frame(PONG, payload, mask=mask), Pong(payload)


SHORT = st.text(max_size=100) | st.binary(max_size=200)
LONG = st.integers(65530, LIMIT).map(bytes)  # the length field grows at 65,536


@st.composite
def messages(draw: st.DrawFn, contents: st.SearchStrategy[str | bytes] = SHORT | LONG) -> tuple[bytes, list[Received]]:
    """A message in any fragments with any control frames between them, and what is to come out."""
    content = draw(contents)
    payload = content.encode() if isinstance(content, str) else content
    fragments = cut(payload, draw(st.lists(st.integers(0, len(payload)), max_size=5)))
    data, found = b"", list[Received]()
    for number, fragment in enumerate(fragments):
        opcode = CONTINUATION if number else TEXT if isinstance(content, str) else BINARY
        data += frame(opcode, fragment, fin=number == len(fragments) - 1, mask=draw(MASKS))
        if number < len(fragments) - 1 and draw(st.booleans()):
            between, control = draw(controls())
            data, found = data + between, [*found, control]
    return data, [*found, content]


CONVERSATIONS = st.lists(messages() | controls().map(lambda pair: (pair[0], [pair[1]])), max_size=5)


class TestAnySplit:
    @given(CONVERSATIONS, PLACES)
    def test_gives_the_same_messages(self, conversation: list[tuple[bytes, list[Received]]], places: list[int]) -> None:
        data = b"".join(sent for sent, _ in conversation)
        expected = [received for _, found in conversation for received in found]
        assert read_pieces(cut(data, places)) == expected

    @given(messages(SHORT))
    def test_byte_by_byte(self, message: tuple[bytes, list[Received]]) -> None:
        data, expected = message
        assert read_pieces(data[at : at + 1] for at in range(len(data))) == expected

    @given(CONVERSATIONS)
    def test_after_whole_messages_the_reader_is_idle(self, conversation: list[tuple[bytes, list[Received]]]) -> None:
        reader = FrameReader(LIMIT)
        assert reader.idle
        for data, _ in conversation:
            for _ in reader.feed(data):
                pass
            assert reader.idle

    @pytest.mark.parametrize(
        "begun",
        [text("x")[:1], text("x")[:6], text("xy")[:7], frame(TEXT, b"x", fin=False), frame(PING, b"xy")[:7]],
        ids=["a byte", "a header", "a payload", "a message", "a ping"],
    )
    def test_within_anything_it_is_not(self, begun: bytes) -> None:
        reader = FrameReader(LIMIT)
        assert list(reader.feed(begun)) == []
        assert not reader.idle


class TestAnyBytes:
    @given(st.lists(st.binary(max_size=200), max_size=10))
    def test_are_read_or_end_in_a_frame_error(self, pieces: list[bytes]) -> None:
        try:
            read_pieces(pieces, 100)
        except FrameError as error:
            assert error.code in (1002, 1007, 1009)
            assert error.reason

    @settings(max_examples=300)
    @given(
        st.lists(
            st.tuples(st.integers(0, 255), st.binary(max_size=130), MASKS),
            max_size=6,
        ),
        PLACES,
    )
    def test_that_look_like_frames_end_the_same_in_any_split(
        self, frames: list[tuple[int, bytes, bytes]], places: list[int]
    ) -> None:
        data = b"".join(
            frame(first & 15, payload, fin=first > 127, rsv=(first >> 4 & 7) if first % 5 == 0 else 0, mask=mask)
            for first, payload, mask in frames
        )
        assert _outcome([data]) == _outcome(cut(data, places))

    @given(st.binary(max_size=140) | messages().map(lambda message: message[0][:140]))
    def test_short_message_agrees_with_the_reader(self, data: bytes) -> None:
        short = short_message(data)
        if short is not None:
            reader = FrameReader(125)
            assert list(reader.feed(data)) == [short]
            assert reader.idle

    @given(st.text(max_size=31) | st.binary(max_size=125), MASKS)
    def test_one_short_whole_frame_is_a_short_message(self, content: str | bytes, mask: bytes) -> None:
        data = (
            frame(TEXT, content.encode(), mask=mask) if isinstance(content, str) else frame(BINARY, content, mask=mask)
        )
        assert short_message(data) == content
        assert short_message(data + b"\x81") is None
        assert short_message(data[:-1]) is None

    def test_what_is_wrong_is_left_to_the_reader(self) -> None:
        for data in (b"", b"\x81", frame(TEXT, b"\xff"), frame(PING), frame(TEXT, b"x", fin=False), text("x" * 126)):
            assert short_message(data) is None


def _outcome(pieces: Iterable[bytes]) -> tuple[list[Received], int | None]:
    reader = FrameReader(300)
    found: list[Received] = []
    try:
        for piece in pieces:
            found.extend(reader.feed(piece))
    except FrameError as error:
        return found, error.code
    return found, None


def _header(first: int, second: int, more: bytes = b"") -> bytes:
    return bytes((first, second)) + more


BEGUN = frame(TEXT, b"x", fin=False)


class TestRefused:
    """With 1002, and as soon as the header shows it."""

    @pytest.mark.parametrize(
        "data",
        [
            *(_header(0x81 | rsv << 4, 0x80) for rsv in range(1, 8)),
            *(_header(0x80 | opcode, 0x80) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
            *(_header(0x80 | opcode, 5) for opcode in (TEXT, BINARY, CLOSE, PING, PONG)),
            *(_header(0x80 | opcode, 0xFE) for opcode in (CLOSE, PING, PONG)),
            *(_header(0x80 | opcode, 0xFF) for opcode in (CLOSE, PING, PONG)),
            *(_header(opcode, 0x80) for opcode in (CLOSE, PING, PONG)),
            _header(0x80, 0x80),
            _header(0x00, 0x80),
            BEGUN + _header(0x81, 0x80),
            BEGUN + _header(0x01, 0x80),
            BEGUN + _header(0x82, 0x80),
            text("x") + _header(0x80, 0x80),
        ],
        ids=bytes.hex,
    )
    def test_at_the_second_byte(self, data: bytes) -> None:
        with pytest.raises(FrameError) as caught:
            read(data)
        assert caught.value.code is CloseCode.PROTOCOL
        reader = FrameReader(LIMIT)
        list(reader.feed(data[:-1]))  # and not before

    @pytest.mark.parametrize(
        ("second", "length"),
        [(0xFE, 0), (0xFE, 125), (0xFF, 0), (0xFF, 125), (0xFF, 65535), (0xFF, 1 << 63), (0xFF, (1 << 64) - 1)],
    )
    def test_a_length_that_is_not_minimal_or_has_its_highest_bit(self, second: int, length: int) -> None:
        with pytest.raises(FrameError) as caught:
            read(_header(0x82, second, length.to_bytes(2 if second == 0xFE else 8, "big") + b"mask"), 1 << 62)
        assert caught.value.code is CloseCode.PROTOCOL


class TestSize:
    @pytest.mark.parametrize("length", [1001, 65536, (1 << 63) - 1])
    def test_a_message_over_the_limit_is_refused_at_its_header(self, length: int) -> None:
        size = length.to_bytes(2 if length < 65536 else 8, "big")
        with pytest.raises(FrameError) as caught:
            read(_header(0x82, 0xFE if length < 65536 else 0xFF, size + b"mask"), 1000)
        assert caught.value.code is CloseCode.TOO_BIG

    def test_fragments_count_together(self) -> None:
        begun = frame(BINARY, bytes(600), fin=False)
        assert read(begun + frame(CONTINUATION, bytes(400)), 1000) == [bytes(1000)]
        with pytest.raises(FrameError) as caught:
            read(begun + frame(CONTINUATION, bytes(401))[:8], 1000)
        assert caught.value.code is CloseCode.TOO_BIG

    def test_each_message_counts_for_itself_and_control_frames_for_none(self) -> None:
        message = frame(BINARY, bytes(1000))
        assert read(message + frame(PING, bytes(125)) + message, 1000) == [bytes(1000), Ping(bytes(125)), bytes(1000)]

    def test_bytes_count_not_characters(self) -> None:
        assert read(text("é" * 50), 100) == ["é" * 50]
        with pytest.raises(FrameError):
            read(text("é" * 51), 100)

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_very_many_fragments_are_kept_in_one_piece(self, opcode: int) -> None:
        """200,000 of one byte and as many empty ones; the hostile tests send a million over the wire."""
        reader = FrameReader(1 << 20)
        many = frame(CONTINUATION, b"x", fin=False) * 10_000 + frame(CONTINUATION, fin=False) * 10_000
        list(reader.feed(frame(opcode, fin=False)))
        before = sys.getallocatedblocks()
        for _ in range(20):
            assert list(reader.feed(many)) == []
        assert sys.getallocatedblocks() - before < 100
        assert [len(message) for message in reader.feed(frame(CONTINUATION))] == [200_000]

    def test_what_never_ends_is_not_more_than_a_message(self) -> None:
        reader = FrameReader(1000)
        list(reader.feed(frame(BINARY, bytes(1000), fin=False) + frame(CONTINUATION, fin=False) * 1000))
        with pytest.raises(FrameError):
            list(reader.feed(frame(CONTINUATION, b"x", fin=False)))


class TestUtf8:
    @given(st.binary(min_size=1, max_size=12) | st.text(min_size=1, max_size=4).map(lambda s: s.encode("utf-16-le")))
    @example(b"\xed\xa0")  # half a surrogate, which Python's decoder takes
    @example(b"\xed\x9f\xbf")
    def test_ends_at_the_first_byte_that_no_text_can_have(self, payload: bytes) -> None:
        """In a message that goes on, so that nothing but the byte itself can show it."""
        reader = FrameReader(LIMIT)
        sent = frame(TEXT, payload, fin=False, mask=bytes(4))
        reached = 0
        try:
            for at in range(len(sent)):
                list(reader.feed(sent[at : at + 1]))
                reached = at + 1 - 6
        except FrameError as error:
            assert error.code is CloseCode.BAD_TEXT
            assert not _may_become_text(payload[: reached + 1])
        else:
            reached = len(payload)
        assert _may_become_text(payload[: max(reached, 0)])

    @pytest.mark.parametrize(
        "payload",
        [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ok\xe2\x82", b"\xce\xba\xe1"],
        ids=bytes.hex,
    )
    def test_overlong_surrogate_too_high_or_cut_off_is_1007(self, payload: bytes) -> None:
        for data in (frame(TEXT, payload), frame(TEXT, payload[:1], fin=False) + frame(CONTINUATION, payload[1:])):
            with pytest.raises(FrameError) as caught:
                read(data)
            assert caught.value.code is CloseCode.BAD_TEXT

    def test_a_character_may_be_cut_by_fragments(self) -> None:
        payload = "κόσμε \U0001f600".encode()
        pieces = [frame(TEXT, payload[:1], fin=False)]
        pieces += [frame(CONTINUATION, payload[at : at + 1], fin=False) for at in range(1, len(payload))]
        assert read(b"".join(pieces) + frame(CONTINUATION)) == [payload.decode()]

    def test_binary_may_be_anything(self) -> None:
        assert read(frame(BINARY, b"\xff\xfe", fin=False) + frame(CONTINUATION, b"\xff")) == [b"\xff\xfe\xff"]


def _may_become_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


class TestClose:
    def test_every_code(self) -> None:
        for code in range(1 << 16):
            try:
                found = read_close(code.to_bytes(2, "big"))
            except FrameError as error:
                assert error.code is CloseCode.PROTOCOL
                assert code not in VALID_CODES
            else:
                assert found == Close(code, "")
                assert code in VALID_CODES

    def test_without_a_code_it_is_1005(self) -> None:
        assert read(close(None)) == [Close(1005, "")]

    def test_with_a_reason(self) -> None:
        assert read(close(4000, "später".encode())) == [Close(4000, "später")]

    def test_half_a_code_is_1002(self) -> None:
        with pytest.raises(FrameError) as caught:
            read(frame(CLOSE, b"\x03"))
        assert caught.value.code is CloseCode.PROTOCOL

    def test_a_reason_that_is_no_utf8_is_1007(self) -> None:
        with pytest.raises(FrameError) as caught:
            read(close(1000, b"\xce\xba\xe1"))
        assert caught.value.code is CloseCode.BAD_TEXT

    def test_within_a_fragmented_message(self) -> None:
        assert read(BEGUN + close()) == [Close(1000, "")]


class TestEndsWithClose:
    @given(st.binary(max_size=300), st.binary(max_size=123), MASKS)
    def test_whatever_comes_before_it(self, noise: bytes, reason: bytes, mask: bytes) -> None:
        for payload in (b"", b"\x03\xe8" + reason):
            assert ends_with_close(noise + frame(CLOSE, payload, mask=mask))

    @pytest.mark.parametrize(
        "data", [b"", b"\x88", b"\x88\x80", b"\x88\x80mas", close()[:-1], close() + b"x", bytes(300)]
    )
    def test_nothing_else(self, data: bytes) -> None:
        assert not ends_with_close(data)


class TestWriting:
    @pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
    def test_the_shortest_length_fin_and_no_mask(self, size: int) -> None:
        written = write_frame(Opcode.BINARY, bytes(size))
        assert written == frame(BINARY, bytes(size), mask=None)

    @given(st.sampled_from(sorted(VALID_CODES)), st.text(max_size=200))
    def test_a_reason_is_cut_to_what_fits_between_characters(self, code: int, reason: str) -> None:
        written = write_close(code, reason)
        assert written[0] == 0x88
        assert written[1] == len(written) - 2 <= 125
        assert int.from_bytes(written[2:4], "big") == code
        words = written[4:].decode()
        assert reason.encode("utf-8", "replace").decode().startswith(words)
        assert len(written) - 2 > 121 or words == reason.encode("utf-8", "replace").decode()

    def test_no_code(self) -> None:
        assert write_close(1005, "unsaid") == b"\x88\x00"

    @pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1006, 1015, 1016, 2999, 5000, 65536])
    def test_a_code_that_may_not_be_sent(self, code: int) -> None:
        with pytest.raises(ValueError):
            write_close(code, "")
