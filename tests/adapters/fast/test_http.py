"""Everything that a client can hold open or make long under uvicorn's HTTP class, and that it has an end."""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from adapters.fast.http import HEAD_BYTES, PIPELINED, BoundedHttp
from adapters.fast.upgrade import HEADER_FIELDS
from realtime.cli import HTTP
from tests.adapters.fast.served import Served, echo
from tests.adapters.fast.wire_client import SECONDS, Unanswered, WireClient

pytest.importorskip("uvloop")
BIG = b"x" * (4 << 20)
SMALL = 16 << 10
"""Bytes the kernel keeps for a client that is to be slow."""
GET = b"GET / HTTP/1.1\r\nhost: x\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\n"


class Hasty(BoundedHttp):
    """The same with short times."""

    TICK_SECONDS = 0.02
    HEAD_SECONDS = PAUSE_SECONDS = LINGER_SECONDS = 0.15
    BODY_SECONDS = UNREAD_SECONDS = 0.3


class Patient(Hasty):
    """Its clocks do not matter to the test."""

    HEAD_SECONDS = PAUSE_SECONDS = BODY_SECONDS = UNREAD_SECONDS = LINGER_SECONDS = 60.0


def serving(loop: str, http: type[BoundedHttp]) -> Iterator[Served]:
    with Served(loop=loop, http=http, buffers=SMALL, timeout_keep_alive=60) as served:
        yield served


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def _hasty(request: pytest.FixtureRequest) -> Iterator[Served]:
    yield from serving(request.param, Hasty)


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def _patient(request: pytest.FixtureRequest) -> Iterator[Served]:
    yield from serving(request.param, Patient)


@pytest.fixture
def hasty(_hasty: Served) -> Iterator[Served]:
    yield from settled(_hasty)


@pytest.fixture
def patient(_patient: Served) -> Iterator[Served]:
    yield from settled(_patient)


def settled(served: Served) -> Iterator[Served]:
    served.route(answer, "/")
    yield served
    served.settle()
    served.heard.queue.clear()


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Reads the whole request and says how much it was."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    body = json.dumps([size, len(scope["headers"])]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def ask(served: Served, data: bytes, **options: Any) -> Unanswered:
    return Unanswered(served.port, data, **options)


def connections(served: Served) -> list[Any]:
    return served.call(lambda: list[Any](served.state.connections))


def refusal(client: WireClient) -> tuple[int, str]:
    """Status and code of the answer, after which the connection ends."""
    head, _, body = client.rest().partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["code"]


def head_of(size: int) -> bytes:
    """A whole request head of so many bytes."""
    return GET + b"a: " + b"x" * (size - len(GET) - 7) + b"\r\n\r\n"


# --- how long


def test_a_head_may_have_so_many_bytes_and_no_more(patient: Served) -> None:
    with ask(patient, head_of(HEAD_BYTES)) as client:
        assert client.answer()[0] == 200
        assert client.take(6) == b"[0, 2]"
        client.send(head_of(HEAD_BYTES))
        assert client.answer()[0] == 200
        assert client.take(6) == b"[0, 2]"
        client.send(head_of(HEAD_BYTES + 1))
        assert refusal(client) == (431, "head_too_big")


FIELDS = b"a: b\r\n" * 100


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET /", b"x" * 1000),
        (GET + b"a", b"x" * 1000),
        (GET + b"a: ", b"x" * 1000),
        (GET, FIELDS),
        (b"", b"\r\n" * 500),
        (GET + b"\r\n", b"\r\n" * 500),
    ],
    ids=["target", "name", "value", "fields", "blank", "blank-after-request"],
)
def test_what_never_ends_is_ended(patient: Served, start: bytes, more: bytes) -> None:
    """Whatever of it is a request already may be answered before."""
    with ask(patient, start) as client:
        for _ in range(8 * HEAD_BYTES // len(more)):
            client.send(more)
        assert b"HTTP/1.1 431 " in client.rest()


@pytest.mark.parametrize("refused", [GET + b"a: " + b"x" * HEAD_BYTES, b"HELO there\r\n\r\n"])
def test_what_was_refused_keeps_nothing_and_the_answer_arrives(patient: Served, refused: bytes) -> None:
    with ask(patient, refused) as client:
        client.send(BIG)  # most of it has been taken when this returns
        [protocol] = connections(patient)
        assert protocol._room <= HEAD_BYTES
        assert len(protocol.headers or ()) <= 2
        assert refusal(client)[0] in (400, 431)


def test_a_head_may_have_so_many_fields_and_no_more(patient: Served) -> None:
    with ask(patient, GET + b"a: b\r\n" * (HEADER_FIELDS - 1) + b"\r\n") as client:
        assert client.answer()[0] == 200
        client.take(8)
        client.send(GET + b"a: b\r\n" * HEADER_FIELDS + b"\r\n")
        assert refusal(client) == (431, "head_too_big")


def test_nothing_is_parsed_after_a_refusal(patient: Served) -> None:
    with ask(patient, GET + b"a: b\r\n" * HEADER_FIELDS + b"\r\n" + GET + b"\r\n") as client:
        assert client.rest().count(b"HTTP/1.1") == 1


def test_what_is_no_http_is_told_so(patient: Served) -> None:
    with ask(patient, b"HELO there\r\n\r\n") as client:
        assert refusal(client) == (400, "bad_request")


@pytest.mark.parametrize(
    "junk", [b"1;" + b"x" * 100_000, b"0\r\na: " + b"x" * 100_000, b"0\r\n" + b"a: b\r\n" * 20_000]
)
def test_a_chunked_body_has_no_endless_extensions_and_trailers(patient: Served, junk: bytes) -> None:
    with ask(patient, POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n" + junk) as client:
        assert client.rest() == b""


def test_trailers_are_no_headers(patient: Served) -> None:
    body = b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
    with ask(patient, POST + body + b"0\r\nx-forwarded-for: me\r\n\r\n") as client:
        assert client.answer()[0] == 200
        assert client.take(6) == b"[3, 2]"
        client.send(POST + body + b"0\r\na: " + b"x" * (HEAD_BYTES // 2) + b"\r\n\r\n")
        assert client.answer()[0] == 200
        assert client.take(6) == b"[3, 2]"
        client.send(head_of(HEAD_BYTES))
        assert client.answer()[0] == 200


def test_a_body_has_no_limit_of_ours(patient: Served) -> None:
    with ask(patient, POST + b"content-length: %d\r\n\r\n" % len(BIG) + BIG) as client:
        assert client.answer()[0] == 200
        assert client.take(12) == b"[4194304, 2]"
        client.send(POST + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n")
        assert client.answer()[0] == 200
        assert client.take(10) == b"[50000, 2]"


# --- pipelined requests


def test_pipelined_requests_are_answered_one_after_the_other(patient: Served) -> None:
    each = POST + b"content-length: %d\r\n\r\n"
    sizes = list(range(0, PIPELINED * 700, 700))
    with ask(patient, b"".join(each % size + b"x" * size for size in sizes)) as client:
        for size in sizes:
            assert client.answer()[0] == 200
            assert client.take(len(f"[{size}, 2]")) == f"[{size}, 2]".encode()


def test_more_than_may_wait_end_the_connection(patient: Served) -> None:
    """uvicorn reads on after each answer; the requests that wait would be without number."""
    with ask(patient, (GET + b"\r\n") * 20_000) as client:
        assert client.rest().count(b"HTTP/1.1") <= PIPELINED + 1


def test_a_refusal_is_not_written_into_another_answer(patient: Served) -> None:
    release = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        patient.heard.put("half")
        await release.wait()

    path = patient.route(slow).encode()
    with ask(patient, b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n") as client:
        assert patient.told() == "half"
        client.send(b"NONSENSE\r\n\r\n")
        assert client.rest().endswith(b"\r\n\r\nab")
    patient.call(release.set)


# --- how slow


def test_half_a_head_is_ended(hasty: Served) -> None:
    with ask(hasty, GET) as client:
        assert refusal(client) == (408, "request_timeout")


def test_a_head_byte_by_byte_is_ended(hasty: Served) -> None:
    """Every byte is progress, and the time is for all of them."""
    with ask(hasty, GET + b"a: ") as client:
        assert drip(client, b"x").startswith(b"HTTP/1.1 408")


def test_half_a_head_after_an_answer_is_ended(hasty: Served) -> None:
    with ask(hasty, GET + b"\r\n") as client:
        assert client.answer()[0] == 200
        client.take(6)
        client.send(GET)
        assert refusal(client) == (408, "request_timeout")


def test_half_a_head_in_the_same_read_as_a_whole_request_is_ended(hasty: Served) -> None:
    with ask(hasty, GET + b"\r\n" + GET) as client:
        assert client.answer()[0] == 200
        client.take(6)
        assert client.rest() == b"" or refusal(client) == (408, "request_timeout")


def test_blank_lines_do_not_keep_a_connection(hasty: Served) -> None:
    with ask(hasty, GET + b"\r\n") as client:
        assert client.answer()[0] == 200
        client.take(6)
        assert drip(client, b"\r\n").startswith(b"HTTP/1.1 408")


def test_who_says_nothing_is_ended_without_a_word(hasty: Served) -> None:
    with ask(hasty, b"") as client:
        assert client.rest() == b""


def test_a_refused_client_that_goes_on_is_ended(hasty: Served) -> None:
    with ask(hasty, GET + b"a: " + b"x" * HEAD_BYTES) as client:
        assert client.answer()[0] == 431
        with pytest.raises(ConnectionError):
            client.flood(b"x" * 1000, SECONDS)


def test_half_a_body_is_ended(hasty: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hasty, "BODY_SECONDS", 60.0)
    with ask(hasty, POST + b"content-length: 10\r\n\r\nabc") as client:
        assert client.rest() == b""


def test_a_body_that_trickles_is_ended(hasty: Served) -> None:
    with ask(hasty, POST + b"content-length: 1000000\r\n\r\n") as client:
        assert drip(client, b"x") == b""


def test_a_long_upload_goes_on(hasty: Served) -> None:
    """For longer than a short body may take, and at more than the least rate."""
    with ask(hasty, POST + b"content-length: %d\r\n\r\n" % (10 << 14)) as client:
        client.socket.settimeout(0.05)
        for _ in range(9):
            client.send(b"x" * (1 << 14))
            with pytest.raises(TimeoutError):
                client.socket.recv(1)
        client.socket.settimeout(SECONDS)
        client.send(b"x" * (1 << 14))
        assert client.answer()[0] == 200


def test_a_body_that_nobody_reads_is_ended(hasty: Served) -> None:
    """The answer came before it, so nobody waits for it."""
    with ask(hasty, POST + b"transfer-encoding: chunked\r\n\r\n") as client:
        client.send(b"1\r\nx\r\n")
        path = hasty.route(refuse).encode()
        with ask(hasty, POST.replace(b"/", path, 1) + b"transfer-encoding: chunked\r\n\r\n") as other:
            assert b" 413 " in drip(other, b"1\r\nx\r\n")
        client.rest()


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def drip(client: WireClient, data: bytes) -> bytes:
    """Send this again and again, twenty times a second, until the server ends it; what it had said."""
    client.socket.settimeout(0.05)
    said = b""
    for _ in range(int(SECONDS * 20)):
        try:
            client.send(data)
            received = client.socket.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            return said
        if not received:
            return said
        said += received
    raise AssertionError(f"not ended: {said!r}")


# --- answers that are not read


async def tell_much(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(BIG))]})
    await send({"type": "http.response.body", "body": BIG})


@pytest.mark.parametrize("last", [False, True])
def test_an_answer_that_is_not_read_is_cut(hasty: Served, last: bool) -> None:
    async def tell(scope: Any, receive: Any, send: Any) -> None:
        hasty.heard.put("begun")
        await tell_much(scope, receive, send)

    head = b"GET " + hasty.route(tell).encode() + b" HTTP/1.1\r\nhost: x\r\n"
    with ask(hasty, head + (b"connection: close\r\n" if last else b"") + b"\r\n", buffers=SMALL) as client:
        assert hasty.told() == "begun"
        hasty.settle()
        assert len(client.rest()) < len(BIG)


def test_an_answer_that_is_read_slowly_is_not_cut(hasty: Served) -> None:
    """For longer than nothing may be read, in pieces that are more than nothing."""
    head = b"GET " + hasty.route(tell_much).encode() + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with ask(hasty, head, buffers=SMALL) as client:
        client.answer()
        idle = socket.socketpair()
        with idle[0], idle[1]:
            idle[0].settimeout(0.06)
            for _ in range(6):
                client.take(128 << 10)
                with pytest.raises(TimeoutError):
                    idle[0].recv(1)
        assert client.take(len(BIG) - 6 * (128 << 10))


class Still(asyncio.Transport):
    """So many bytes wait in it for the client to read."""

    waiting = 0
    closing = False

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.closing


@pytest.mark.asyncio
@pytest.mark.parametrize("closing", [False, True])
async def test_reading_is_measured_in_bytes(closing: bool) -> None:
    """With times as numbers: what counts as progress, and what does not."""
    transport = Still()
    protocol = BoundedHttp(Config(answer, log_config=None), ServerState(), {})
    protocol.connection_made(transport)
    late = protocol.UNREAD_SECONDS + 1
    step = protocol.UNREAD_BYTES
    transport.waiting = 10 * step
    assert not protocol._does_not_read(0)
    assert not protocol._does_not_read(late), "an application that may write more has not been kept waiting"
    if closing:
        transport.closing = True
    else:
        protocol.pause_writing()
    assert not protocol._does_not_read(late)
    transport.waiting -= step
    assert not protocol._does_not_read(2 * late)
    transport.waiting -= step - 1
    assert protocol._does_not_read(3 * late)
    protocol.resume_writing()
    protocol.pause_writing()
    assert not protocol._does_not_read(3 * late), "it was read, and more was written since"
    transport.waiting = 0
    assert not protocol._does_not_read(5 * late)
    protocol.connection_lost(OSError())


def test_who_owes_nothing_is_left_alone(hasty: Served) -> None:
    """A long poll, an event stream: the answer is under way and there is nothing to read of it."""
    release = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await release.wait()
        await send({"type": "http.response.body", "body": b"b"})

    async def poll(scope: Any, receive: Any, send: Any) -> None:
        await release.wait()
        await answer(scope, receive, send)

    paths = [hasty.route(app).encode() for app in (stream, poll)]
    idle = [ask(hasty, b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n") for path in paths]
    for _ in range(2):  # twice as long as anybody may owe something
        with ask(hasty, POST + b"content-length: 1\r\n\r\n") as debtor:
            assert debtor.rest() == b""
    hasty.call(release.set)
    for client in idle:
        assert client.answer()[0] == 200
        client.socket.close()


def test_a_client_that_waits_for_us_to_read_its_body_owes_nothing(hasty: Served) -> None:
    release = asyncio.Event()

    async def later(scope: Any, receive: Any, send: Any) -> None:
        await release.wait()
        await answer(scope, receive, send)

    path = hasty.route(later).encode()
    head = b"POST " + path + b" HTTP/1.1\r\nhost: x\r\n"
    asking = ask(hasty, head + b"expect: 100-continue\r\ncontent-length: 3\r\n\r\n")
    full = ask(hasty, head + b"content-length: %d\r\n\r\n" % len(BIG))
    begun, left = full.flood(BIG[: 1 << 16], 0.1)
    for _ in range(2):
        with ask(hasty, POST + b"content-length: 1\r\n\r\n") as debtor:
            assert debtor.rest() == b""
    hasty.call(release.set)
    assert asking.answer()[0] == 100
    asking.send(b"abc")
    assert asking.answer()[0] == 200
    full.send(left + BIG[begun << 16 :])
    assert full.answer()[0] == 200
    asking.socket.close()
    full.socket.close()


# --- WebSockets


def test_after_an_upgrade_no_timer_is_left(hasty: Served) -> None:
    made: list[BoundedHttp] = []

    def watch(protocol: Any, transport: Any) -> None:
        made.append(protocol)
        original(protocol, transport)

    original = Hasty.connection_made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hasty, "connection_made", watch)
        client = hasty.client(echo)
    assert client.status == 101
    [protocol] = made
    assert protocol._timer is None
    assert protocol.timeout_keep_alive_task is None
    with ask(hasty, GET) as debtor:
        assert refusal(debtor)[0] == 408
    client.say("still here")
    assert client.hear() == "still here"
    client.socket.close()


# --- what is relied upon


def test_uvicorn_still_is_what_this_is_built_on() -> None:
    """Each name is used or overridden in adapters/fast/http.py: look there if one of them has gone."""
    protocol: Any = HttpToolsProtocol
    for name, parameters in {
        "__init__": ["config", "server_state", "app_state", "_loop"],
        "connection_made": ["transport"],
        "connection_lost": ["exc"],
        "data_received": ["data"],
        "resume_writing": [],
        "handle_websocket_upgrade": [],
        "on_message_begin": [],
        "on_headers_complete": [],
        "on_body": ["body"],
        "on_message_complete": [],
        "send_400_response": ["msg"],
    }.items():
        assert list(inspect.signature(getattr(protocol, name)).parameters) == ["self", *parameters], name
    loop = asyncio.new_event_loop()
    try:
        made: Any = HttpToolsProtocol(Config(answer, log_config=None), ServerState(), {}, loop)
        names = {"loop", "parser", "transport", "flow", "cycle", "pipeline", "headers", "server_state"}
        assert names <= set(vars(made))
        assert not set(BoundedHttp.__slots__) & set(vars(made)), "a name of ours is one of uvicorn's now"
    finally:
        loop.close()
    flow = FlowControl(asyncio.Transport())
    assert (flow.read_paused, flow.write_paused) == (False, False)
    cycle = inspect.getsource(RequestResponseCycle.__init__)
    for name in ("response_complete", "waiting_for_100_continue"):
        assert f"self.{name} = " in cycle, name


def test_realtime_serve_uses_it() -> None:
    config = Config(answer, http=HTTP, log_config=None)
    config.load()
    assert config.http_protocol_class is BoundedHttp
