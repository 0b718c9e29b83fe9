"""The handshake as uvicorn's HTTP parsers hand it on: what is refused, and what waits for the answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.adapters.fast.served import Served, echo
from tests.adapters.fast.wire_client import (
    Header,
    Unanswered,
    WireClient,
    request,
    text,
)

SMALL = 16 << 10
"""Bytes the kernel keeps for a client that is to be slow."""


class TestHandshake:
    @pytest.fixture
    def never_asked(self, served: Served) -> bytes:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            served.heard.put("the application was asked")

        return served.route(app).encode()

    @pytest.mark.parametrize(
        ("status", "extra"),
        [
            (400, (b"sec-websocket-key", b"tooshort")),
            (400, (b"sec-websocket-key", b"?" * 24)),
            (426, (b"sec-websocket-version", b"8")),
            (400, (b"content-length", b"5")),
            (400, (b"sec-websocket-protocol", "früh".encode())),
            (400, (b"sec-websocket-protocol", b"a,\x85")),
            (431, (b"sec-websocket-protocol", b"a" * 20_000)),
        ],
    )
    def test_is_refused_and_the_application_never_asked(
        self, served: Served, never_asked: bytes, status: int, extra: Header
    ) -> None:
        with WireClient(served.port, request(never_asked, extra)) as client:
            assert client.status == status
            assert client.header(b"connection") == b"close"
            assert (client.header(b"sec-websocket-version") == b"13") == (status == 426)
            assert len(client.rest()) == int(client.header(b"content-length") or 0)

    @pytest.mark.parametrize("missing", [b"host", b"sec-websocket-key", b"sec-websocket-version"])
    def test_without_what_it_needs(self, served: Served, never_asked: bytes, missing: bytes) -> None:
        with WireClient(served.port, request(never_asked, without=[missing])) as client:
            assert client.status == 400

    def test_by_another_method(self, served: Served, never_asked: bytes) -> None:
        with WireClient(served.port, request(never_asked, method=b"POST")) as client:
            assert client.status == 400

    def test_with_200_headers_or_100_kilobytes(self, served: Served, never_asked: bytes) -> None:
        with WireClient(served.port, request(never_asked, *[(b"x-%d" % n, b"y") for n in range(200)])) as client:
            assert client.status == 431
        # h11 has a limit of its own, and another word for it
        with WireClient(served.port, request(never_asked, (b"sec-websocket-protocol", b"a" * 100_000))) as client:
            assert client.status in (431, 400)

    @pytest.mark.parametrize("odd", [b"a\x0bb", b"a\x0cb", b"a\x85b", b"\x85", b"\xff\xfe"])
    def test_odd_header_values_are_refused_or_left_as_they_are(self, served: Served, odd: bytes) -> None:
        async def look(scope: Any, receive: Any, send: Any) -> None:
            served.heard.put(dict(scope["headers"])[b"x-odd"])

        with WireClient(served.port, request(served.route(look).encode(), (b"x-odd", odd))) as client:
            if client.status == 400:
                assert odd[1:2] in (b"\x0b", b"\x0c"), "obs-text is allowed (RFC 9110 section 5.5)"
            else:
                assert served.told() == odd

    def test_a_whole_url_as_target(self, served: Served) -> None:
        path = served.route(echo).encode()
        with WireClient(served.port, request(b"http://localhost" + path)) as client:
            assert client.status == 101

    def test_frames_that_come_before_the_answer_wait_for_it(self, served: Served) -> None:
        go = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            served.heard.put(scope["extensions"]["realtime.direct"])
            await go.wait()
            await echo(scope, receive, send)

        client = Unanswered(served.port, request(served.route(slow).encode()))
        line = served.told()
        client.send(text("early"))
        assert served.call(lambda: line.reading_paused)
        served.call(go.set)
        assert client.answer()[0] == 101
        assert client.hear() == "early"
        client.socket.close()

    def test_bytes_that_come_while_reading_is_paused_are_no_clients_of_ours(self, served: Served) -> None:
        async def waiting(scope: Any, receive: Any, send: Any) -> None:
            served.heard.put(scope["extensions"]["realtime.direct"])
            await receive()
            served.heard.put(await receive())

        client = Unanswered(served.port, request(served.route(waiting).encode()))
        line = served.told()
        served.call(line.data_received, b"\x81")
        assert served.told()["code"] == 1006
        assert client.rest() == b""
        client.socket.close()
