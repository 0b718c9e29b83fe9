"""What a client can make long under uvicorn's HTTP class has an end; and what all of it is built on."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

import adapters.fast.http
from adapters.fast.http import HEAD_BYTES, PIPELINED, BoundedHttp
from adapters.fast.upgrade import HEADER_FIELDS
from realtime.cli import HTTP
from realtime.eventloop.pacing import HANDSHAKES
from realtime.metrics import HTTP_REFUSED
from realtime.telemetry.seldom import Seldom
from tests.adapters.fast.asking import (
    BIG,
    GET,
    POST,
    Patient,
    answer,
    ask,
    connections,
    head_of,
    refusal,
    serving,
    settled,
)
from tests.adapters.fast.served import Served
from tests.adapters.fast.wire_client import SECONDS

pytest.importorskip("uvloop")


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def _patient(request: pytest.FixtureRequest) -> Iterator[Served]:
    yield from serving(request.param, Patient)


@pytest.fixture
def patient(_patient: Served) -> Iterator[Served]:
    yield from settled(_patient)


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


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (GET + b"a: " + b"x" * HEAD_BYTES, "head_too_big"),
        (GET + b"a: b\r\n" * HEADER_FIELDS + b"\r\n", "head_too_big"),
        (b"HELO there\r\n\r\n", "bad_request"),
    ],
)
def test_what_was_refused_is_counted_by_reason_and_told_seldom(
    patient: Served, data: bytes, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(adapters.fast.http, "_seldom", Seldom())
    before = HTTP_REFUSED.value(reason)
    with caplog.at_level(logging.INFO, "realtime"):
        for _ in range(3):
            with ask(patient, data) as client:
                assert client.rest().startswith(b"HTTP/1.1 4")
    assert HTTP_REFUSED.value(reason) == before + 3
    told = [each for each in caplog.messages if "HTTP request was ended" in each]
    assert told == [f"an HTTP request was ended, {reason} (and 0 more since the last such line)"]


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


def test_who_leaves_while_requests_wait_has_left_the_one_that_is_served(patient: Served) -> None:
    """uvicorn tells the latest request alone: a stream before it would go on for nobody, for ever."""

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            more = (await receive())["type"] == "http.request"
            patient.heard.put(more)

    path = patient.route(stream).encode()
    with ask(patient, b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n" + GET + b"\r\n" + GET + b"\r\n"):
        assert patient.told() is True
    assert patient.told() is False


def test_after_an_upgrade_nothing_is_left_for_the_garbage_collector(patient: Served) -> None:
    """Five thousand that come at once would be five thousand parsers and what they hold on to."""

    async def accept(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        patient.heard.put("accepted")
        await receive()

    def lying() -> int:
        return sum(type(each) is Patient for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = lying()
        with patient.client(accept):
            assert patient.told() == "accepted"
            assert lying() == before
    finally:
        gc.enable()


# --- how many at once


def test_of_many_that_come_together_some_come_in_in_each_turn(patient: Served) -> None:
    """All of them in one turn would hold up everybody else."""
    loop, held, turns = patient.server.loop, threading.Event(), [0]

    def turn() -> None:
        turns[0] += 1
        if turns[0] > 0:
            loop.call_soon(turn)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        patient.heard.put(turns[0])
        await answer(scope, receive, send)

    path = patient.route(app).encode()
    count = 3 * HANDSHAKES
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", patient.port), SECONDS)) for _ in range(count)
        ]
        assert any(len(connections(patient)) == count for _ in range(100 * count))  # each asks in a turn of its own
        loop.call_soon_threadsafe(held.wait, SECONDS)
        for client in clients:
            client.sendall(b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        clients.pop().close()  # who has gone meanwhile is in nobody's way
        patient.server.loop.call_soon_threadsafe(turn)
        held.set()
        for client in clients:
            assert client.recv(17) == b"HTTP/1.1 200 OK\r\n"
    patient.call(turns.__setitem__, 0, -1)
    heard = Counter([patient.told() for _ in range(count - 1)])
    assert max(heard.values()) <= HANDSHAKES
    assert len(heard) >= 3


def test_what_comes_while_it_waits_for_its_turn_is_taken_then() -> None:
    """TLS hands on what it has read already."""

    async def come() -> None:
        loop = asyncio.get_running_loop()
        config = Config(answer, log_config=None, lifespan="off")
        config.load()
        protocol = BoundedHttp(config, ServerState(), {}, loop)
        transport = Still()
        protocol.connection_made(transport)
        for door in adapters.fast.http._doors(loop):
            for _ in range(HANDSHAKES):
                assert door.ask(lambda: True)
        protocol.data_received(GET)
        protocol.data_received(b"\r\n")
        assert (transport.reads, transport.said) == (False, b"")
        assert protocol._wants_no_more, "it owes nothing meanwhile"
        async with asyncio.timeout(SECONDS):
            await transport.told.wait()
        assert transport.said.endswith(b"[0, 1]")
        assert transport.reads
        protocol.connection_lost(None)

    asyncio.run(come())


class Still(asyncio.Transport):
    """What a protocol says to it, and whether it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads, self.said = True, b""
        self.told = asyncio.Event()

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def write(self, data: Any) -> None:
        self.said += data
        if self.said.endswith(b"]"):
            self.told.set()


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
        "_start_asgi_task": ["cycle", "app"],
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
    for name in ("response_complete", "waiting_for_100_continue", "disconnected", "message_event"):
        assert f"self.{name} = " in cycle, name


def test_realtime_serve_uses_it() -> None:
    config = Config(answer, http=HTTP, log_config=None)
    config.load()
    assert config.http_protocol_class is BoundedHttp
