"""Pure: no I/O, no clock, no task. WebSocket frames from clients, strictly by RFC 6455, and those we send.

A payload is unmasked, counted and checked as it arrives: a text that cannot become UTF-8 any more ends at the
byte that shows it, a message over the limit at the header that announces it, and nothing is kept of either.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover - wheels without the C module
    from websockets.utils import apply_mask

from realtime.errors import CloseCode


class Opcode(IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class FrameError(Exception):
    """The client broke the protocol; ``code`` is the close code that says how."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Close(NamedTuple):
    """The client's good-bye; 1005 where it gave no code."""

    code: int
    reason: str


class Ping(NamedTuple):
    payload: bytes


class Pong(NamedTuple):
    payload: bytes


Received = str | bytes | Close | Ping | Pong
"""A whole message, or a control frame."""

NO_CODE: Final = 1005
FIN: Final = 0x80
CONTROL_BYTES: Final = 125
"""The longest payload of a control frame, and the longest length that fits the second byte."""
_MASKED: Final = 0x80
_TEXT_START: Final = 0x81
_BINARY_START: Final = 0x82
_PERMITTED: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
"""Close codes below 3000 that may be sent (RFC 6455 section 7.4, and the IANA registry)."""
_STARTS: Final = frozenset({0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A})
"""First bytes: FIN or not with a data opcode, FIN with a control opcode, no reserved bit."""
_CONTINUATION, _TEXT, _CLOSE, _PING = (
    int(code) for code in (Opcode.CONTINUATION, Opcode.TEXT, Opcode.CLOSE, Opcode.PING)
)
_UTF8 = codecs.getincrementaldecoder("utf-8")


SHORT_BYTES: Final = 6 + CONTROL_BYTES
"""The longest that ``short_message`` reads."""


def short_message(data: bytes) -> str | bytes | None:
    """The message, if these bytes are one short frame, whole and in order, and nothing else: nearly all there ever is.

    None: read it with a FrameReader, which also says what is wrong.
    """
    if not 6 <= len(data) <= SHORT_BYTES or len(data) != data[1] - _MASKED + 6:
        return None
    first = data[0]
    if first == _TEXT_START:
        try:
            return str(apply_mask(data[6:], data[2:6]), "utf-8")
        except UnicodeDecodeError:
            return None
    return apply_mask(data[6:], data[2:6]) if first == _BINARY_START else None


def ends_with_close(data: bytes) -> bool:
    """Do these bytes end with what looks like a close frame? For a stream that is no longer read frame by frame."""
    return any(
        data[at] == FIN | _CLOSE and data[at + 1] - _MASKED == len(data) - at - 6
        for at in range(max(0, len(data) - SHORT_BYTES), len(data) - 5)
    )


class FrameReader:
    """Bytes of one client in, messages out. Raises FrameError once; nothing may be fed after that."""

    __slots__ = ("_control", "_decoder", "_fin", "_kept", "_limit", "_mask", "_opcode", "_remaining", "_rest", "_text")

    def __init__(self, limit: int) -> None:
        """``limit``: bytes of one message."""
        self._limit = limit
        self._rest = b""
        self._remaining: int | None = None
        self._opcode = 0
        self._fin = True
        self._mask = b""
        self._control = b""
        self._text: bool | None = None
        self._kept: bytearray | None = None
        self._decoder: codecs.IncrementalDecoder | None = None

    @property
    def idle(self) -> bool:
        """Between two messages, with nothing left over: the next frame may be read without us."""
        return self._text is None and not self._rest and self._remaining is None

    def feed(self, data: bytes) -> Iterator[Received]:
        """What these bytes complete, in order. The iterator is to be used up."""
        data = self._rest + data if self._rest else data
        self._rest = b""
        at = 0
        while True:
            remaining = self._remaining
            if remaining is None:
                size, remaining = self._header(data, at)
                if not size:
                    self._rest = data[at:]
                    return
                at += size
            taken = data[at : at + remaining]
            at += len(taken)
            self._remaining = remaining - len(taken)
            found = self._payload(taken)
            if self._remaining:
                return
            self._remaining = None
            if found is not None:
                yield found

    # --- headers

    def _header(self, data: bytes, at: int) -> tuple[int, int]:
        """Read a header; its size (0 when it is not all there) and that of its payload."""
        have = len(data) - at
        if have < 2:
            return 0, 0
        first, second = data[at], data[at + 1]
        self._check_start(first, second)
        length = second & 0x7F
        extra = 0 if length <= CONTROL_BYTES else 2 if length == 126 else 8
        if have < 6 + extra:
            return 0, 0
        if extra:
            length = _long_length(data[at + 2 : at + 2 + extra])
        self._mask = data[at + 2 + extra : at + 6 + extra]
        self._opcode = first & 0x0F
        self._fin = first >= FIN
        if self._opcode < _CLOSE:
            self._begin(length)
        return 6 + extra, length

    def _check_start(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if first not in _STARTS:
            raise FrameError(CloseCode.PROTOCOL, "reserved bits, an unknown opcode, or a control frame in fragments")
        if second < _MASKED:
            raise FrameError(CloseCode.PROTOCOL, "a client's frame must be masked")
        if opcode >= _CLOSE:
            if second & 0x7F > CONTROL_BYTES:
                raise FrameError(CloseCode.PROTOCOL, "a control frame must be short")
        elif (opcode == _CONTINUATION) == (self._text is None):
            raise FrameError(CloseCode.PROTOCOL, "fragments out of order")

    def _begin(self, length: int) -> None:
        if length + (len(self._kept) if self._kept else 0) > self._limit:
            raise FrameError(CloseCode.TOO_BIG, "message too big")
        if self._opcode != _CONTINUATION:
            self._text = self._opcode == _TEXT

    # --- payloads

    def _payload(self, masked: bytes) -> Received | None:
        """Take a piece of payload; what it completes."""
        piece = apply_mask(masked, self._mask) if masked else b""
        if self._remaining:
            turn = len(masked) % 4
            self._mask = self._mask[turn:] + self._mask[:turn]
        if self._opcode >= _CLOSE:
            return self._control_payload(piece)
        if self._remaining or not self._fin:
            self._keep(piece)
            return None
        return self._finished(piece)

    def _keep(self, piece: bytes) -> None:
        if self._text:
            if self._decoder is None:
                self._decoder = _UTF8()
            try:
                self._decoder.decode(piece)
            except UnicodeDecodeError:
                raise FrameError(CloseCode.BAD_TEXT, "a text must be UTF-8") from None
            begun = self._decoder.getstate()[0]
            if begun[:1] == b"\xed" and begun[1:2] >= b"\xa0":  # a surrogate: Python waits for its third byte
                raise FrameError(CloseCode.BAD_TEXT, "a text must be UTF-8")
        if self._kept is None:
            self._kept = bytearray()
        self._kept += piece

    def _finished(self, last: bytes) -> str | bytes:
        whole: bytes | bytearray = last
        if self._kept is not None:
            whole, self._kept, self._decoder = self._kept, None, None
            whole += last
        text, self._text = self._text, None
        if not text:
            return bytes(whole)
        try:
            return str(whole, "utf-8")
        except UnicodeDecodeError:
            raise FrameError(CloseCode.BAD_TEXT, "a text must be UTF-8") from None

    def _control_payload(self, piece: bytes) -> Received | None:
        self._control += piece
        if self._remaining:
            return None
        payload, self._control = self._control, b""
        if self._opcode == _CLOSE:
            return read_close(payload)
        return Ping(payload) if self._opcode == _PING else Pong(payload)


def _long_length(field: bytes) -> int:
    length = int.from_bytes(field, "big")
    if length < (126 if len(field) == 2 else 1 << 16) or length >> 63:
        raise FrameError(CloseCode.PROTOCOL, "a length must be below 2^63 and written as short as it can be")
    return length


def read_close(payload: bytes) -> Close:
    """The body of a close frame. Raises FrameError for a code that nobody may send, or a reason that is no UTF-8."""
    if not payload:
        return Close(NO_CODE, "")
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not may_send(code):
        raise FrameError(CloseCode.PROTOCOL, "not a close code")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise FrameError(CloseCode.BAD_TEXT, "a close reason must be UTF-8") from None


def may_send(code: int) -> bool:
    """May this close code stand in a frame (RFC 6455 section 7.4)?"""
    return code in _PERMITTED or 3000 <= code < 5000


def write_frame(opcode: Opcode, payload: bytes = b"") -> bytes:
    """One whole frame from the server: FIN, no mask."""
    size = len(payload)
    if size <= CONTROL_BYTES:
        return bytes((FIN | opcode, size)) + payload
    if size < 1 << 16:
        return bytes((FIN | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((FIN | opcode, 127)) + size.to_bytes(8, "big") + payload


def write_close(code: int, reason: str) -> bytes:
    """A close frame; the reason is cut to what fits (123 bytes), between characters. 1005 says no code.

    Raises ValueError for a code that may not be sent.
    """
    if code == NO_CODE:
        return write_frame(Opcode.CLOSE)
    if not may_send(code):
        raise ValueError(f"{code!r} is not a close code that may be sent: 1000 to 1003, 1007 to 1014, 3000 to 4999")
    words = reason.encode("utf-8", "replace")[: CONTROL_BYTES - 2].decode("utf-8", "ignore").encode()
    return write_frame(Opcode.CLOSE, code.to_bytes(2, "big") + words)
