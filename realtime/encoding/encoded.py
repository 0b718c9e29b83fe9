"""Pure: no I/O, no clock, no task. Bytes on their way to many clients, in the form each wire needs, made once."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any, Final

from realtime.encoding.engineio_frames import CLOSE, NOOP, PING, PONG, SEPARATOR

Frame = tuple[bool, bytes]
"""(is text, payload) of one WebSocket message."""


class Encoded:
    """The WebSocket messages of one emission, in order, with the Engine.IO digit where their dialect has one.

    The slots ``asgi``, ``wire`` and ``payload`` stay empty until somebody asks: then ``__getattr__`` fills them, and
    every later use is a plain attribute. Two threads that ask at once both make the same value.
    """

    __slots__ = ("asgi", "frames", "payload", "size", "wire")

    frames: tuple[Frame, ...]
    size: int
    """Bytes of all payloads, without headers."""
    asgi: tuple[dict[str, Any], ...]
    """ASGI ``websocket.send`` messages. All recipients share them: not to be changed."""
    wire: bytes
    """Every message with the header a server sends: unmasked, FIN set."""
    payload: str
    """The body of an Engine.IO poll: binary as ``b`` and base64, joined with the record separator."""

    def __init__(self, frames: tuple[Frame, ...]) -> None:
        self.frames = frames
        self.size = len(frames[0][1]) if len(frames) == 1 else sum(len(data) for _, data in frames)

    @classmethod
    def text(cls, content: str | bytes) -> Encoded:
        """One text message, as it stands; bytes are UTF-8 already. A lone surrogate becomes a question mark."""
        return cls(((True, content.encode("utf-8", "replace") if isinstance(content, str) else content),))

    def __getattr__(self, name: str) -> Any:
        make = _FORMS.get(name)
        if make is None:
            raise AttributeError(f"Encoded has no attribute {name!r}")
        made = make(self.frames)
        setattr(self, name, made)
        return made

    def __repr__(self) -> str:
        return f"<Encoded: {len(self.frames)} messages, {self.size} bytes>"


text = Encoded.text
_new: Final = Encoded.__new__


def ready(data: bytes) -> Encoded:
    """One text message that is about to leave: made with its WebSocket header, in a third of the time."""
    made = _new(Encoded)
    made.frames = ((True, data),)
    made.size = size = len(data)
    if size < 126:
        made.wire = _SHORT[size] + data
    return made


def _asgi(frames: tuple[Frame, ...]) -> tuple[dict[str, Any], ...]:
    return tuple([_asgi_message(is_text, data) for is_text, data in frames])


def _asgi_message(is_text: bool, data: bytes) -> dict[str, Any]:
    if is_text:
        return {"type": "websocket.send", "text": data.decode()}
    return {"type": "websocket.send", "bytes": data}


_SHORT: Final = tuple(bytes((0x81, size)) for size in range(126))
"""Headers of the short texts that nearly every message is."""


def _wire(frames: tuple[Frame, ...]) -> bytes:
    if len(frames) == 1:
        is_text, data = frames[0]
        if is_text and len(data) < 126:
            return _SHORT[len(data)] + data
    return b"".join([_header(is_text, len(data)) + data for is_text, data in frames])


def _header(is_text: bool, size: int) -> bytes:
    """RFC 6455 section 5.2: FIN and opcode, then the length in 7, 16 or 64 bits, and no mask from a server."""
    first = 0x81 if is_text else 0x82
    if size < 126:
        return bytes((first, size))
    if size < 1 << 16:
        return struct.pack("!BBH", first, 126, size)
    return struct.pack("!BBQ", first, 127, size)


def _payload(frames: tuple[Frame, ...]) -> str:
    return SEPARATOR.join(
        [data.decode() if is_text else "b" + base64.b64encode(data).decode() for is_text, data in frames]
    )


_FORMS: Final[dict[str, Callable[[tuple[Frame, ...]], Any]]] = {"asgi": _asgi, "wire": _wire, "payload": _payload}

PING_FRAME: Final = text(PING)
PONG_PROBE: Final = text(PONG + "probe")
NOOP_FRAME: Final = text(NOOP)
CLOSE_FRAME: Final = text(CLOSE)
