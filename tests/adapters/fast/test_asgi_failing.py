"""Applications that refuse their clients, raise, return too soon or speak out of turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.adapters.fast.served import Served
from tests.adapters.fast.wire_client import (
    close,
)

ACCEPT = {"type": "websocket.accept"}


class TestRefusing:
    def test_close_before_accept_is_403(self, served: Served) -> None:
        async def refusing(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "no"})
            served.heard.put(await receive())

        with served.client(refusing) as client:
            assert client.status == 403
            assert client.header(b"connection") == b"close"
            assert client.rest() == b""
        assert served.told() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}

    def test_an_http_response_in_parts(self, served: Served) -> None:
        async def refusing(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            headers = [(b"content-type", b"application/json"), (b"x-why", b"full")]
            await send({"type": "websocket.http.response.start", "status": 429, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": b'{"code"', "more_body": True})
            await send({"type": "websocket.http.response.body", "body": b":1}"})

        with served.client(refusing) as client:
            assert client.status == 429
            assert client.header(b"x-why") == b"full"
            assert client.header(b"content-length") == b"10"
            assert client.rest() == b'{"code":1}'

    def test_a_large_http_response_arrives_whole(self, served: Served) -> None:
        async def refusing(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.http.response.start", "status": 400})
            await send({"type": "websocket.http.response.body", "body": bytes(1 << 20)})

        with served.client(refusing) as client:
            assert client.rest() == bytes(1 << 20)


class TestAnApplicationThatFails:
    @pytest.fixture(autouse=True)
    def logged(self, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
        return caplog

    def test_before_accept_500(self, served: Served, logged: pytest.LogCaptureFixture) -> None:
        async def failing(scope: Any, receive: Any, send: Any) -> None:
            raise ZeroDivisionError("secret")

        with served.client(failing) as client:
            assert client.status == 500
            assert client.rest() == b"Internal Server Error"
        served.settle()
        assert "Exception in ASGI application" in logged.text

    def test_after_accept_1011(self, served: Served, logged: pytest.LogCaptureFixture) -> None:
        async def failing(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            raise ZeroDivisionError("secret")

        with served.client(failing) as client:
            assert client.goodbye() == (1011, "")
            client.send(close(1011))
            assert client.rest() == b""
        served.settle()
        assert "ZeroDivisionError" in logged.text

    def test_after_half_an_http_response_500(self, served: Served, logged: pytest.LogCaptureFixture) -> None:
        async def failing(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.http.response.start", "status": 401})

        with served.client(failing) as client:
            assert client.status == 500
            assert client.rest() == b"Internal Server Error"
        served.settle()
        assert "without completing handshake" in logged.text

    def test_that_returns_without_accepting_500(self, served: Served, logged: pytest.LogCaptureFixture) -> None:
        async def silent(scope: Any, receive: Any, send: Any) -> None:
            await receive()

        with served.client(silent) as client:
            assert client.status == 500
        served.settle()
        assert "without completing handshake" in logged.text

    def test_that_returns_after_accepting_ends_with_1000(self, served: Served) -> None:
        async def brief(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)

        with served.client(brief) as client:
            assert client.goodbye() == (1000, "")

    def test_that_is_cancelled_ends_its_client_with_1011(self, served: Served) -> None:
        async def cancelled(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            raise asyncio.CancelledError

        with served.client(cancelled) as client:
            assert client.goodbye() == (1011, "")

    @pytest.mark.parametrize(
        ("messages", "kind"),
        [
            ([{"type": "websocket.send", "text": "x"}], RuntimeError),
            ([{"type": "websocket.http.response.body", "body": b""}], RuntimeError),
            ([{"type": "websocket.http.response.start", "status": 400}, ACCEPT], RuntimeError),
            ([{"type": "websocket.http.response.start", "status": 400}] * 2, RuntimeError),
            ([{"type": "websocket.nonsense"}], RuntimeError),
            ([ACCEPT, ACCEPT], RuntimeError),
            ([ACCEPT, {"type": "websocket.http.response.start", "status": 400}], RuntimeError),
            ([ACCEPT, {"type": "websocket.close"}, {"type": "websocket.send", "text": "x"}], RuntimeError),
            ([ACCEPT, {"type": "websocket.close"}, {"type": "websocket.close"}], RuntimeError),
            ([{"type": "websocket.close"}, ACCEPT], RuntimeError),
            ([ACCEPT, {"type": "websocket.close", "code": 1006}], ValueError),
            ([ACCEPT, {"type": "websocket.close", "code": 70_000}], ValueError),
            (
                [
                    {"type": "websocket.http.response.start", "status": 101},
                    {"type": "websocket.http.response.body", "body": b""},
                ],
                ValueError,
            ),
        ],
    )
    def test_that_speaks_out_of_turn_is_told_so(
        self, served: Served, messages: list[dict[str, Any]], kind: type[Exception]
    ) -> None:
        async def confused(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            for message in messages[:-1]:
                await send(message)
            try:
                await send(messages[-1])
            except Exception as error:
                served.heard.put(type(error))

        with served.client(confused) as client:
            assert served.told() is kind
            client.rest() if client.status != 101 else client.goodbye()
