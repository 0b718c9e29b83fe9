from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve

from realtime.bench import work
from realtime.bench.command import measure
from realtime.bench.crowd import Crowd, Entry, Target, raise_file_limit
from realtime.bench.figures import Latency, Result
from realtime.bench.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, BrokenFrame, FrameReader, client_frame
from realtime.bench.polling import read_answer
from realtime.bench.scenarios import SCENARIOS, Plan, run
from realtime.bench.speech import Kind, MsgPack, Packet, Raw, SocketIO, error_code, filled, stamp
from realtime.errors import UsageError
from tests.serving import ROOT, ServerProcess

COMMAND = "import typer; from realtime.bench import bench; typer.run(bench)"


# ── frames ───────────────────────────────────────────────────────────────────────────────────────


def server_frame(payload: bytes, opcode: int = TEXT, *, final: bool = True) -> bytes:
    size = len(payload)
    first = bytes(((0x80 if final else 0) | opcode,))
    if size < 126:
        return first + bytes((size,)) + payload
    if size < 1 << 16:
        return first + b"\x7e" + size.to_bytes(2, "big") + payload
    return first + b"\x7f" + size.to_bytes(8, "big") + payload


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


PAYLOADS = st.binary(max_size=200) | st.sampled_from([bytes(125), bytes(126), bytes(65_535), bytes(65_536)])


@given(st.lists(st.tuples(st.sampled_from([TEXT, BINARY, PING]), PAYLOADS), max_size=5), st.lists(st.integers(0)))
def test_frames_are_read_however_the_network_cut_them(sent: list[tuple[int, bytes]], places: list[int]) -> None:
    stream = b"".join(server_frame(payload, opcode) for opcode, payload in sent)
    reader = FrameReader()
    read = [message for part in cut(stream, places) for message in reader.feed(part)]
    assert read == sent
    assert reader.clean


def test_fragments_become_one_message_and_a_ping_between_them_passes() -> None:
    reader = FrameReader()
    parts = [
        server_frame(b"one ", final=False),
        server_frame(b"?", PING),
        server_frame(b"message", CONTINUATION, final=True),
    ]
    assert reader.feed(parts[0]) == []
    assert not reader.clean
    assert reader.feed(parts[1] + parts[2]) == [(PING, b"?"), (TEXT, b"one message")]
    assert reader.clean


@pytest.mark.parametrize("broken", [b"\xc1\x00", b"\x81\x80\0\0\0\0"], ids=["reserved bit", "masked"])
def test_what_a_server_may_not_send_is_refused(broken: bytes) -> None:
    with pytest.raises(BrokenFrame):
        FrameReader().feed(broken)


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_client_frame_says_its_size_and_is_masked(size: int) -> None:
    frame = client_frame(bytes(size), CLOSE)
    assert frame[0] == 0x80 | CLOSE
    assert frame[1] & 0x80
    unmasked = frame[:1] + bytes((frame[1] & 0x7F,)) + frame[2:]
    head = len(frame) - size - 4
    assert FrameReader().feed(unmasked[:head] + frame[head + 4 :]) == [(CLOSE, bytes(size))]


# ── speech ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("payload", "packet"),
    [
        (b'0{"sid":"a"}', Packet(Kind.OPEN, 0, b'{"sid":"a"}')),
        (b"1", Packet(Kind.CLOSE)),
        (b"2", Packet(Kind.PING)),
        (b"6", Packet(Kind.OTHER)),
        (b'40/chat,{"sid":"a"}', Packet(Kind.CONNECT, 0, b'{"sid":"a"}')),
        (b"41/chat,", Packet(Kind.CLOSE)),
        (b'42/chat,["message",{"text":"#0000042xx"},"offset"]', Packet(Kind.EVENT, 42)),
        (b'42["joined",{"username":"a"}]', Packet(Kind.OTHER)),
        (b'43/chat,12[{"id":"1"}]', Packet(Kind.ACK, 12, b'[{"id":"1"}]')),
        (b"437[]", Packet(Kind.ACK, 7, b"[]")),
        (b'44/chat,{"message":"no"}', Packet(Kind.REFUSED, 0, b'{"message":"no"}')),
    ],
)
def test_packets_of_the_server_are_understood(payload: bytes, packet: Packet) -> None:
    assert SocketIO().read(TEXT, payload) == packet


def test_messagepack_says_the_same() -> None:
    speech = MsgPack()
    assert speech.read(BINARY, speech.event("/", ["msg", stamp(7, 20)])) == Packet(Kind.EVENT, 7)
    assert speech.read(BINARY, speech.connect("/", None)) == Packet(Kind.CONNECT, 0, b"null")
    assert speech.read(TEXT, b"2") == Packet(Kind.PING)


def test_events_name_their_namespace_and_their_acknowledgement() -> None:
    assert SocketIO().event("/", ["a", 1]) == b'42["a",1]'
    assert SocketIO().event("/chat", ["a"], 5) == b'42/chat,5["a"]'
    assert SocketIO().connect("/chat", {"token": "t"}) == b'40/chat,{"token":"t"}'
    assert Raw().event("/", ["hello"]) == b"hello"


@given(st.integers(0, 9_999_999), st.integers(8, 300))
def test_a_stamped_text_has_its_size_and_gives_its_number_back(number: int, size: int) -> None:
    text = stamp(number, size)
    assert len(text) == size
    assert Raw().read(TEXT, text.encode()) == Packet(Kind.EVENT, number)


def test_templates_are_filled_at_any_depth() -> None:
    template = ["message", {"room": "$room", "tags": ["$client", 1, None]}]
    assert filled(template, {"room": "lobby", "client": "7"}) == ["message", {"room": "lobby", "tags": ["7", 1, None]}]


def test_an_acknowledgement_of_failure_has_its_code() -> None:
    assert error_code(b'[{"error":{"code":"rate_limited","message":"m"}}]') == "rate_limited"
    assert error_code(b'[{"room":"error"}]') is None


@given(st.binary(max_size=50), st.booleans(), st.lists(st.integers(0)))
def test_http_answers_are_read_however_the_network_cut_them(body: bytes, chunked: bool, places: list[int]) -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    if chunked:
        chunk = b"%x\r\n" % len(body) + body + b"\r\n" if body else b""
        answer = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"
    else:
        answer = head + b"content-length: %d\r\n\r\n" % len(body) + body
    received, needed = b"", 0
    for part in cut(answer, places):
        received += part
        found, needed = read_answer(received)
        assert (found is not None) == (received == answer)
        assert needed >= len(received)
    assert read_answer(answer + b"next") == (body, len(answer))


def test_another_status_is_an_error() -> None:
    with pytest.raises(ConnectionError, match="400 Bad Request"):
        read_answer(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")


# ── figures ──────────────────────────────────────────────────────────────────────────────────────


def test_percentiles_are_milliseconds_that_were_measured() -> None:
    assert Latency.of([]) is None
    assert Latency.of([0.001]) == Latency(1, 1, 1)
    assert Latency.of([n / 1000 for n in range(100, 0, -1)]) == Latency(50, 100, 100)


def test_a_result_is_flawless_only_if_nothing_is_wrong() -> None:
    assert Result("echo", "raw", 1).flawless
    for flaw in ({"missing": 1}, {"repeated": 1}, {"lost": 1}, {"refused": {"timeout": 1}}):
        assert not Result("echo", "raw", 1, **flaw).flawless


# ── addresses ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "wire", "expected"),
    [
        ("http://127.0.0.1:8000", "socketio", ("127.0.0.1", 8000, "/socket.io/?EIO=4&transport=websocket")),
        ("127.0.0.1:8000", "polling", ("127.0.0.1", 8000, "/socket.io/?EIO=4&transport=polling")),
        ("ws://host/rt/?token=t", "socketio", ("host", 80, "/rt/?token=t&EIO=4&transport=websocket")),
        ("ws://host:1/ws/chat/me?room=a", "raw", ("host", 1, "/ws/chat/me?room=a")),
        ("ws://host:1", "raw", ("host", 1, "/ws?room=$room")),
    ],
)
def test_a_url_names_a_server_and_a_route(url: str, wire: str, expected: tuple[str, int, str]) -> None:
    default = "/ws?room=$room" if wire == "raw" else "/socket.io/"
    target = Target.of(url, wire, default)
    assert (target.host, target.port, target.resource) == expected
    assert target.tls is None


def test_a_secure_url_is_spoken_to_with_tls() -> None:
    target = Target.of("wss://host", "raw", "/ws")
    assert target.port == 443
    assert target.tls is not None


def test_what_is_no_url_is_said() -> None:
    with pytest.raises(UsageError, match=r"begins with http"):
        Target.of("ftp://host", "raw", "/ws")


# ── against the application ──────────────────────────────────────────────────────────────────────


@pytest.mark.process
@pytest.mark.parametrize("wire", ["socketio", "raw", "polling"])
def test_fifty_clients_are_counted_to_the_last_delivery(app_server: ServerProcess, wire: str) -> None:
    """The defaults stay below the limits of the application, so that everything comes through."""
    arguments = [app_server.url, "--wire", wire, "--clients", "50", "--seconds", "0.5", "--room", f"b-{wire}", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = {result["scenario"]: result for result in json.loads(done.stdout)["results"]}
    assert list(results) == list(SCENARIOS)
    fan_out = results["fan-out"]
    assert fan_out["sent"] > 10
    assert fan_out["counted"] == fan_out["expected"] == fan_out["sent"] * 50
    assert results["echo"]["counted"] == results["echo"]["sent"] >= 50
    assert results["connect"]["counted"] == results["idle"]["counted"] == 50
    for result in results.values():
        assert result["flawless"]
        assert result["missing"] == result["repeated"] == result["lost"] == 0
    latency = fan_out["latency_ms"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["max"]


def test_help_names_every_option() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    for option in ("--scenario", "--wire", "--clients", "--seconds", "--rate", "--size", "--burst", "--json"):
        assert option in done.stdout
    for word in ("stays in the history", "$client", "/ws/rooms/", "--namespace"):
        assert word in " ".join(done.stdout.split())


@pytest.mark.process
def test_what_a_limit_refuses_is_told_apart_from_what_is_lost(app_server: ServerProcess) -> None:
    arguments = [app_server.url, "--scenario", "echo", "--clients", "1", "--seconds", "0.6", "--rate", "0"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "refused with rate_limited" in done.stdout
    assert "REALTIME_EVENTS_PER_SECOND" in done.stdout
    assert "0 repeated" in done.stdout


@pytest.mark.process
def test_idle_clients_answer_pings(tmp_path: Path) -> None:
    env = {"REALTIME_PING_INTERVAL_SECONDS": "0.2", "REALTIME_PING_TIMEOUT_SECONDS": "0.4"}
    with ServerProcess(tmp_path, env=env) as server:
        for wire in ("socketio", "polling"):
            (result,) = measure(Plan(server.url, wire, 20, seconds=1.5), "idle")
            assert result.flawless
            assert result.counted == 20


@pytest.mark.process
def test_a_polling_client_that_posts_seldom_is_not_lost(tmp_path: Path) -> None:
    """The server ends the connection for posts after one second, and wants a pong after two."""
    command = [sys.executable, "-m", "uvicorn", "namespaces.app:app", "--port", "{port}", "--timeout-keep-alive", "1"]
    env = {
        "REALTIME_PING_INTERVAL_SECONDS": "2",
        "REALTIME_PING_TIMEOUT_SECONDS": "2",
        "REALTIME_DATABASE_URL": f"sqlite+aiosqlite:///{(tmp_path / 'realtime.db').as_posix()}",
    }
    with ServerProcess(tmp_path, command=command, env=env) as server:
        (result,) = measure(Plan(server.url, "polling", 5, seconds=5), "idle")
        assert result.flawless
        assert result.counted == 5


@pytest.mark.process
def test_a_refused_connection_is_counted_with_its_code(app_server: ServerProcess) -> None:
    (result,) = measure(Plan(app_server.url, clients=3, namespace="/secure", seconds=0.2), "connect")
    assert sum(result.refused.values()) == 3
    assert "timeout" not in result.refused
    assert not result.flawless


def test_more_clients_than_open_files_are_refused_before_anything_happens() -> None:
    with pytest.raises(UsageError, match="open files"):
        measure(Plan("http://127.0.0.1:1", clients=raise_file_limit()), "idle")


@pytest.mark.parametrize(("wire", "scenario"), [("carrier pigeon", "all"), ("raw", "siege")])
def test_unknown_words_are_refused(wire: str, scenario: str) -> None:
    with pytest.raises(UsageError):
        measure(Plan("http://127.0.0.1:1", wire), scenario)


def test_nobody_listening_is_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "http://127.0.0.1:1"], cwd=ROOT, capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "realtime: nobody answers at 127.0.0.1:1: Connection refused\n"


# ── against servers that do it wrong ─────────────────────────────────────────────────────────────


Handler = Callable[[ServerConnection], Any]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/any"


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "GRACE_SECONDS", 0.5)


class Room:
    """Everybody hears everybody; ``copies`` says how often this connection hears this text."""

    def __init__(self, copies: Callable[[int, str], int]) -> None:
        self._people: list[ServerConnection] = []
        self._copies = copies

    async def __call__(self, connection: ServerConnection) -> None:
        self._people.append(connection)
        async for text in connection:
            for place, other in enumerate(self._people):
                for _ in range(self._copies(place, str(text))):
                    await other.send(text)


def plan(url: str, **options: Any) -> Plan:
    return Plan(url, "raw", 4, seconds=0.3, rate=100, **options)


@pytest.mark.asyncio
async def test_an_honest_room_is_flawless() -> None:
    for size, burst in ((8, 1), (100, 16), (100_000, 1)):
        async with serving(Room(lambda place, text: 1)) as url:
            result = await run("fan-out", plan(url, size=size, burst=burst))
        assert result.flawless
        assert result.counted == result.sent * 4 > 0


@pytest.mark.asyncio
async def test_a_lost_delivery_is_missing() -> None:
    async with serving(Room(lambda place, text: 0 if place == 2 and text.startswith("#0000003") else 1)) as url:
        result = await run("fan-out", plan(url))
    assert (result.missing, result.repeated) == (1, 0)
    assert result.counted == result.expected - 1
    assert not result.flawless


@pytest.mark.asyncio
async def test_a_delivery_that_comes_twice_is_repeated() -> None:
    async with serving(Room(lambda place, text: 2 if place == 1 and text.startswith("#0000003") else 1)) as url:
        result = await run("fan-out", plan(url))
    assert (result.missing, result.repeated) == (0, 1)
    assert not result.flawless


@pytest.mark.asyncio
async def test_a_client_that_is_cut_off_is_lost() -> None:
    async def hang_up(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.close(4429)

    async with serving(hang_up) as url:
        result = await run("echo", plan(url))
    assert result.lost == 4
    assert result.missing == 4


@pytest.mark.asyncio
async def test_echoes_of_something_else_are_not_answers() -> None:
    async def mishear(connection: ServerConnection) -> None:
        async for text in connection:
            await connection.send("#9999999")
            await connection.send(text)

    async with serving(mishear) as url:
        result = await run("echo", plan(url))
    assert result.repeated == result.counted > 0


@pytest.mark.asyncio
async def test_a_server_that_does_not_upgrade_lets_nobody_in() -> None:
    async def never(connection: ServerConnection) -> None:
        raise AssertionError("nobody gets here")

    async with serve(never, "127.0.0.1", 0, process_request=lambda c, r: c.respond(503, "full\n")) as server:
        port = server.sockets[0].getsockname()[1]
        crowd = Crowd(Target.of(f"ws://127.0.0.1:{port}/", "raw", "/any"), "raw", Entry())
        assert await crowd.open(3) == []
    (reason,) = crowd.refused
    assert "503" in reason
