"""Broken WebSocket frames on the fast wire: to a Socket.IO session, to a raw route, to FastAPI's own WebSocket.

Every attack is over a socket of its own, in a thread; the bystander lives on the test's loop.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.adapters.fast.wire_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WireClient,
    close,
    frame,
    request,
    text,
)
from tests.hostile.ground import attacked
from tests.serving import ServerProcess, fetch

pytestmark = [pytest.mark.process, pytest.mark.asyncio]

LIMIT = 1_000_000
"""Bytes of a message, as the server is told below."""
PATHS = {"socket.io": b"/socket.io/?EIO=4&transport=websocket", "raw": b"/raw", "plain": b"/plain"}
"""An honest round trip takes under a millisecond; the rest is for a machine that others work on, too."""
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    command = [
        *(sys.executable, "-m", "uvicorn", "tests.hostile.frames_app:app", "--host", "127.0.0.1", "--port", "{port}"),
        *("--ws", "adapters.fast:FastProtocol", "--ws-max-size", str(LIMIT), "--no-access-log"),
        *("--log-level", "warning", "--timeout-graceful-shutdown", "1"),
    ]
    with ServerProcess(tmp_path_factory.mktemp("frames"), command=command, ready="/debug/state") as running:
        yield running
    assert "Traceback" not in running.output()


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> bytes:
    return PATHS[request.param]


def arrive(server: ServerProcess, path: bytes) -> WireClient:
    """A client that has done everything right so far."""
    client = WireClient(server.port, request(path))
    assert client.status == 101
    if path == PATHS["socket.io"]:
        assert client.hear().startswith("0{")
        client.say("40")
        assert client.hear().startswith('40{"sid"')
        assert client.hear() == '42["auth",{}]'
    return client


def bad_frames(server: ServerProcess) -> int:
    """How many clients the core was told of."""
    return int(fetch(server.url + "/debug/bad-frames")[1])


def memory(server: ServerProcess) -> int:
    """Bytes of the process that are in memory now; 0 where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * 4096


def deflated_bomb() -> bytes:
    """100 MB of zeros in 100 kB, the way a client sends them that was allowed to compress."""
    packer = zlib.compressobj(wbits=-15)
    packed = b"".join(packer.compress(bytes(MEGABYTE)) for _ in range(100))
    return packed + packer.flush(zlib.Z_SYNC_FLUSH)


def header(second: int, length: int) -> bytes:
    return bytes((0x82, second)) + length.to_bytes(2 if second == 0xFE else 8, "big") + b"mask"


BEGUN = frame(TEXT, b"4", fin=False)
ROWS_OF = {
    "reserved bit": "B6",
    "compression bomb": "B11",
    "opcode": "B6",
    "not masked": "B9",
    "control frame": "B5",
    "fragment of nothing": "B3",
    "interleaved fragments": "B3",
    "message within a message": "B3",
    "length": "B4",
    "message too big": "B12",
    "fragments too big": "B12",
    "text": "B7",
    "long text": "B7",
    "surrogate": "B7",
    "close": "B8",
    "half a close code": "B8",
}
"""How the name of a broken frame begins, and the row of the table that it belongs to."""
BROKEN: dict[str, tuple[int, bytes]] = {
    **{f"reserved bit {bit}": (1002, frame(TEXT, b"x", rsv=bit)) for bit in (1, 2, 4)},
    "compression bomb": (1002, frame(TEXT, deflated_bomb(), rsv=4)),
    **{f"opcode {opcode}": (1002, frame(opcode)) for opcode in (3, 7, 11, 15)},
    "not masked": (1002, frame(TEXT, b"x", mask=None)),
    "not masked, empty": (1002, frame(TEXT, mask=None)),
    **{f"control frame {opcode} over 125 bytes": (1002, frame(opcode, bytes(126))) for opcode in (CLOSE, PING, PONG)},
    "control frame in fragments": (1002, frame(PING, fin=False)),
    "fragment of nothing": (1002, frame(CONTINUATION, b"x")),
    "interleaved fragments": (1002, BEGUN + frame(TEXT, b"x", fin=False)),
    "message within a message": (1002, BEGUN + frame(BINARY, b"x")),
    "length 2^63-1": (1009, header(0xFF, (1 << 63) - 1)),
    "length 2^63": (1002, header(0xFF, 1 << 63)),
    "length 2^64-1": (1002, header(0xFF, (1 << 64) - 1)),
    "length not minimal, 16 bits": (1002, header(0xFE, 125)),
    "length not minimal, 64 bits": (1002, header(0xFF, 65535)),
    "message too big": (1009, frame(TEXT, bytes(LIMIT + 1))),
    "fragments too big": (1009, frame(TEXT, bytes(LIMIT), fin=False) + frame(CONTINUATION, b"x")),
    "text that is no UTF-8": (1007, frame(TEXT, b"4\xff")),
    "long text that is no UTF-8": (1007, frame(TEXT, b"4" * 70_000 + b"\xff")),
    "text that is no UTF-8, split": (1007, frame(TEXT, b"4\xce", fin=False) + frame(CONTINUATION, b"\xce")),
    "text cut off within a character": (1007, frame(TEXT, b"4\xce\xba\xe1")),
    "surrogate": (1007, frame(TEXT, b"4\xed\xa0\x80")),
    **{f"close code {code}": (1002, close(code)) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)},
    "half a close code": (1002, frame(CLOSE, b"\x03")),
    "close reason that is no UTF-8": (1007, close(1000, b"\xff")),
}


def marked(on: str) -> list[ParameterSet]:
    """The names of all of them, each with its row."""
    rows = {name: next(row for begins, row in ROWS_OF.items() if name.startswith(begins)) for name in BROKEN}
    return [pytest.param(name, marks=pytest.mark.hostile(row, on=on)) for name, row in rows.items()]


@pytest.mark.parametrize("name", marked("fast, plain"))
async def test_a_broken_frame_ends_its_sender_and_nobody_else(server: ServerProcess, path: bytes, name: str) -> None:
    code, sent = BROKEN[name]

    def attack() -> None:
        with arrive(server, path) as client:
            client.send(sent + text('42["message"]'))
            assert client.goodbye()[0] == code
            client.send(close(code))
            assert client.rest() == b""

    before = bad_frames(server)
    async with attacked(server, attack):
        assert bad_frames(server) - before == (path != PATHS["plain"])


@pytest.mark.hostile("B10", on="fast, plain")
async def test_data_after_close(server: ServerProcess, path: bytes) -> None:
    def attack() -> None:
        with arrive(server, path) as client:
            client.send(close(4000) + text('42["message"]') * 1000 + frame(3))
            assert client.goodbye() == (4000, "")
            assert client.rest() == b""

    async with attacked(server, attack):
        pass


@pytest.mark.hostile("B1", on="fast, plain")
async def test_a_million_fragments_of_one_byte(server: ServerProcess, path: bytes) -> None:
    """They fill a message to its last byte; the byte after it is refused."""
    many = frame(CONTINUATION, b"x", fin=False) * 10_000
    grown = 0

    def attack() -> None:
        nonlocal grown
        with arrive(server, path) as client:
            before = memory(server)
            client.send(frame(TEXT, fin=False))
            for _ in range(LIMIT // 10_000):
                client.send(many)
                grown = max(grown, memory(server) - before)
            client.send(frame(PING, b"alive"))
            assert client.frame() == (0x80 | PONG, b"alive")
            client.send(frame(CONTINUATION, b"x"))
            assert client.goodbye()[0] == 1009
            client.send(close(1009))
            assert client.rest() == b""

    async with attacked(server, attack):
        assert grown < 8 * MEGABYTE


@pytest.mark.hostile("B2", on="fast, plain")
async def test_a_million_empty_fragments_of_a_message_that_never_ends(server: ServerProcess, path: bytes) -> None:
    many = frame(CONTINUATION, fin=False) * 10_000
    grown = 0

    def attack() -> None:
        nonlocal grown
        with arrive(server, path) as client:
            before = memory(server)
            client.send(frame(TEXT, fin=False))
            for _ in range(100):
                client.send(many)
                grown = max(grown, memory(server) - before)
            client.send(frame(PING, b"alive"))
            assert client.frame() == (0x80 | PONG, b"alive")

    async with attacked(server, attack):
        assert grown < 8 * MEGABYTE


@pytest.mark.hostile("B2", on="fast, plain")
async def test_messages_that_are_never_finished_cost_no_more_than_a_message_each(
    server: ServerProcess, path: bytes
) -> None:
    def attack() -> None:
        before = memory(server)
        clients = [arrive(server, path) for _ in range(20)]
        for client in clients:
            client.send(frame(TEXT, b"4" * (LIMIT // 2), fin=False) + frame(PING))
        for client in clients:
            assert client.frame() == (0x80 | PONG, b"")
        assert memory(server) - before < 40 * MEGABYTE
        for client in clients:
            client.vanish()

    async with attacked(server, attack):
        pass


@pytest.mark.hostile("B13", on="fast, plain")
async def test_pings_without_end_from_a_client_that_does_not_read(server: ServerProcess, path: bytes) -> None:
    many = frame(PING, bytes(125)) * 1000
    grown = 0

    def attack() -> None:
        nonlocal grown
        with arrive(server, path) as client:
            before = memory(server)
            for _ in range(100):
                client.send(many)
                grown = max(grown, memory(server) - before)

    async with attacked(server, attack):
        assert grown < 8 * MEGABYTE


def send_without_end(client: WireClient) -> None:
    for _ in range(100_000):
        client.send(bytes(MEGABYTE))


@pytest.mark.hostile("B13", on="fast")
async def test_a_broken_client_that_goes_on_sending_is_cut(server: ServerProcess) -> None:
    def attack() -> None:
        with arrive(server, PATHS["socket.io"]) as client:
            client.send(frame(3))
            with pytest.raises(OSError):
                send_without_end(client)

    before = bad_frames(server)
    async with attacked(server, attack):
        assert bad_frames(server) - before == 1


@pytest.mark.hostile("A16", on="fast")
async def test_messages_of_one_byte_by_the_hundred_thousand_are_answered_and_forgotten(server: ServerProcess) -> None:
    """Frames that are right, packets that are not: the core refuses the first and the rest goes unread."""

    def attack() -> None:
        with arrive(server, PATHS["socket.io"]) as client:
            client.send(text("x") * 100_000)
            assert client.hear() == "41", "a DISCONNECT, for clients that do not read close codes"
            assert client.goodbye()[0] == 4501
            client.send(close(4501))
            assert client.rest() == b""

    async with attacked(server, attack):
        pass
