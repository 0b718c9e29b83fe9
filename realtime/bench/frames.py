"""Pure: no I/O, no clock, no task. WebSocket frames from the client's side: as little as a load tool needs.

Thousands of clients share one process, so a frame costs one concatenation to write and one slice to read.
"""

from __future__ import annotations

from typing import Final

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

ZERO_KEY: Final = bytes(4)
"""A mask of zeros leaves the payload as it is. The key is there to keep scripts in browsers from choosing the bytes
on the wire (RFC 6455 section 10.3), which is no danger here; the server's work is the same with any key."""


class BrokenFrame(ValueError):
    """The server broke RFC 6455."""


def client_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """One whole masked frame (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    return head + ZERO_KEY + payload


class FrameReader:
    """Cuts a byte stream into messages, however the network cut it. ``clean`` between two frames."""

    __slots__ = ("_needed", "_opcode", "_parts", "_rest", "clean")

    def __init__(self) -> None:
        self.clean = True
        self._rest = bytearray()
        self._needed = 0
        self._parts: list[bytes] = []
        self._opcode = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The messages that are complete now, as (opcode, payload). Raises BrokenFrame."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:  # a large message is not looked at again for each piece of it
                return []
            data = bytes(self._rest)
            self._rest.clear()
        messages: list[tuple[int, bytes]] = []
        at, available = 0, len(data)
        while True:
            start, end = _bounds(data, at)
            if end > available:
                break
            self._collect(data[at], data[start:end], messages)
            at = end
        if at < available:
            self._needed = end - at
            self._rest += data[at:]
        self.clean = at == available and not self._parts
        return messages

    def _collect(self, first: int, payload: bytes, messages: list[tuple[int, bytes]]) -> None:
        opcode = first & 0x0F
        if first & 0x70:
            raise BrokenFrame("a reserved bit is set, though no extension was agreed")
        if opcode >= CLOSE or (first & 0x80 and opcode != CONTINUATION):
            messages.append((opcode, payload))
            return
        if opcode != CONTINUATION:
            self._opcode = opcode
        self._parts.append(payload)
        if first & 0x80:
            messages.append((self._opcode, b"".join(self._parts)))
            self._parts.clear()


def _bounds(data: bytes, at: int) -> tuple[int, int]:
    """Where the payload of the frame at ``at`` begins and ends; beyond the data if more has to come to know that."""
    if len(data) - at < 2:
        return at + 2, at + 2
    size = data[at + 1]
    if size < 126:
        return at + 2, at + 2 + size
    if size & 0x80:
        raise BrokenFrame("a server does not mask its frames")
    start = at + (4 if size == 126 else 10)
    if len(data) < start:
        return start, start
    return start, start + int.from_bytes(data[at + 2 : start], "big")
