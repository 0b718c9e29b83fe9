"""What fuzzers feed: one function for each reader of what clients send. Each takes bytes and must return.

A reader's own errors are taken here; whatever else comes out is a finding, and so is a promise that does not hold.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

from adapters.fast.frames import Close, FrameError, FrameReader, Ping, Pong, Received, short_message
from realtime.clients.connection import Connection
from realtime.encoding.codecs import SocketIOText
from realtime.encoding.engineio_frames import SEPARATOR, split_payload
from realtime.encoding.packets import Decoder, MsgPackDecoder, Packet, PacketLimits, PacketType, UnreadablePayload
from realtime.errors import CloseCode, ProtocolError
from realtime.metrics import Metrics
from realtime.names import LIFECYCLE_EVENTS, Reason
from realtime.session.drops import Drops
from realtime.session.outbox import Bounds
from realtime.session.session import Core
from realtime.testing import MemoryWire
from tests.realtime.fuzz_packets import check
from tests.realtime.living import settings_for
from tests.realtime.scene import Register, Steps

TIGHT = PacketLimits(attachments=2, depth=3, name=8, message_bytes=120, values=12)
"""So small that inputs of a few bytes reach them."""
BINARY = b"\xff"
"""In front of a part: an attachment. No UTF-8 begins with it."""
FRAME_LIMIT = 300


def text(data: bytes) -> None:
    """Parts between record separators are frames of one client, without their Engine.IO digit. What the quick way
    takes is what the thorough one would have made of it."""
    for limits in (PacketLimits(), TIGHT):
        decoder = Decoder(limits)
        for part in data.split(SEPARATOR.encode()):
            frame = part[1:] if part.startswith(BINARY) else part.decode("utf-8", "surrogateescape")
            quick = decoder.quick("4" + frame) if isinstance(frame, str) else decoder.quick(frame)
            try:
                packet = decoder.feed(frame)
            except UnreadablePayload:
                assert quick is None
                assert not decoder.pending
                continue
            except ProtocolError:
                assert quick is None
                assert decoder.pending_bytes == 0
                break
            assert quick is None or Packet(PacketType.EVENT, quick[1], quick[0], quick[2]) == packet
            assert (packet is None) == decoder.pending
            assert decoder.pending_bytes <= limits.message_bytes
            if packet is not None:
                check(packet)


def msgpack(data: bytes) -> None:
    """One packet in MessagePack."""
    for limits in (PacketLimits(), TIGHT):
        with suppress(ProtocolError, UnreadablePayload):
            packet = MsgPackDecoder(limits).feed(data)
            assert packet is not None
            check(packet)


def payload(data: bytes) -> None:
    """The body of a polling POST, from its bytes to the handlers of a session on a wire of memory."""
    try:
        frames = split_payload(data.decode())
    except (ProtocolError, UnicodeDecodeError):
        return
    assert len(frames) == data.count(SEPARATOR.encode()) + 1
    _loop().run_until_complete(_connection(frames))


def frames(data: bytes) -> None:
    """Bytes of a WebSocket. However they are cut, the same messages come out and the same error."""
    whole = _read([data])
    size = len(data)
    for cuts in ((size // 2,), (1, 2, size // 3), tuple(range(1, min(size, 40)))):
        places = sorted({0, size, *(cut for cut in cuts if cut < size)})
        assert _read([data[start:end] for start, end in pairwise(places)]) == whole
    short = short_message(data)
    assert short is None or whole == ([short], None)


TARGETS: dict[str, Callable[[bytes], None]] = {"text": text, "msgpack": msgpack, "payload": payload, "frames": frames}


# ── WebSocket frames ─────────────────────────────────────────────────────────────────────────────


def _read(pieces: list[bytes]) -> tuple[list[Received], CloseCode | None]:
    reader = FrameReader(FRAME_LIMIT)
    found: list[Received] = []
    try:
        for piece in pieces:
            found += reader.feed(piece)
    except FrameError as error:
        return [each for each in found if _fits(each)], error.code
    return [each for each in found if _fits(each)], None


def _fits(received: Received) -> bool:
    if isinstance(received, Close):
        assert received.code == 1005 or 1000 <= received.code < 5000
    elif isinstance(received, Ping | Pong):
        assert len(received.payload) <= 125
    else:
        assert len(received.encode() if isinstance(received, str) else received) <= FRAME_LIMIT
    return True


# ── a whole session ──────────────────────────────────────────────────────────────────────────────

_kept: list[tuple[asyncio.AbstractEventLoop, Core, Steps, Register]] = []


def _loop() -> asyncio.AbstractEventLoop:
    """One for the whole run: a new one for each input would be most of the work."""
    if not _kept:
        metrics, steps, register = Metrics(), Steps(), Register()
        loop = asyncio.new_event_loop()
        core = Core(
            settings=settings_for(),
            metrics=metrics,
            drops=Drops(metrics.drops),
            hub=register,
            application=steps,
            bounds=Bounds(),
            new_sid=lambda: f"sid{len(register.here) + len(register.leaving)}",
        )
        _kept.append((loop, core, steps, register))
        atexit.register(_close, loop)
    return _kept[0][0]


def _close(loop: asyncio.AbstractEventLoop) -> None:
    workers = asyncio.all_tasks(loop)
    for worker in workers:
        worker.cancel()
    loop.run_until_complete(asyncio.wait_for(asyncio.gather(*workers, return_exceptions=True), 5))
    loop.close()


async def _connection(received: list[str | bytes]) -> None:
    _, core, steps, register = _kept[0]
    wire = MemoryWire("polling")
    session = Connection(
        core,
        "session",
        SocketIOText(),
        {"type": "http"},
        Decoder(TIGHT),
        ping_interval=25,
        ping_timeout=20,
        message_limit=TIGHT.message_bytes,
    )
    session.greet(wire, [])
    wire.say("40")
    assert await core.settle(5)
    wire.say(*received)
    assert await core.settle(5)
    assert len(session.inbox) == 0
    session.lost(Reason.TRANSPORT_CLOSE)
    assert await core.settle(5)
    left = [register.here, register.leaving, core.sessions, session.alarm]
    assert not any(left)
    assert wire.closed is None or wire.closed[0] in set(CloseCode)
    assert not any(name in LIFECYCLE_EVENTS for name in steps.names)
    for kept in (steps.members, steps.let_in, steps.heard, steps.ends, steps.over):
        kept.clear()
