"""Beside test_http.py: what a client can hold open has an end, and who owes nothing is left alone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from adapters.fast.http import HEAD_BYTES, BoundedHttp
from tests.adapters.fast.asking import (
    BIG,
    GET,
    POST,
    SMALL,
    Hasty,
    answer,
    ask,
    drip,
    refusal,
    serving,
    settled,
)
from tests.adapters.fast.served import Served, echo
from tests.adapters.fast.wire_client import SECONDS

pytest.importorskip("uvloop")


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def _hasty(request: pytest.FixtureRequest) -> Iterator[Served]:
    yield from serving(request.param, Hasty)


@pytest.fixture
def hasty(_hasty: Served) -> Iterator[Served]:
    yield from settled(_hasty)


# --- how slow


@pytest.mark.hostile("C6", on="HTTP")
def test_half_a_head_is_ended(hasty: Served) -> None:
    with ask(hasty, GET) as client:
        assert refusal(client) == (408, "request_timeout")


@pytest.mark.hostile("C6", on="HTTP")
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


@pytest.mark.hostile("C6", on="HTTP")
def test_half_a_body_is_ended(hasty: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hasty, "BODY_SECONDS", 60.0)
    with ask(hasty, POST + b"content-length: 10\r\n\r\nabc") as client:
        assert client.rest() == b""


@pytest.mark.hostile("C6", on="HTTP")
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
