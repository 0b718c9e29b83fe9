from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.fast import protocol
from tests.adapters.fast.links import connect
from tests.adapters.fast.served import Served, echo
from tests.adapters.fast.tls import certificate
from tests.adapters.fast.wire_client import BINARY, close, frame, text

__all__ = ["certificate"]  # a fixture


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def secure(request: pytest.FixtureRequest, certificate: tuple[Path, Path]) -> Iterator[tuple[Served, ssl.SSLContext]]:
    """The server, and how a client comes to trust it."""
    context = ssl.create_default_context(cafile=certificate[0])
    with Served(loop=request.param, ssl_certfile=certificate[0], ssl_keyfile=certificate[1]) as served:
        yield served, context


class TestTls:
    def test_echo(self, secure: tuple[Served, ssl.SSLContext]) -> None:
        served, context = secure

        async def look(scope: Any, receive: Any, send: Any) -> None:
            served.heard.put(scope["scheme"])
            await echo(scope, receive, send)

        with served.client(look, tls=context) as client:
            assert served.told() == "wss"
            for content in ("hello", "x" * 300_000):
                client.say(content)
                assert client.hear() == content
            client.send(close(4000))
            assert client.goodbye() == (4000, "")
        served.settle()

    def test_direct_with_many_frames_in_one_read_and_pauses(self, secure: tuple[Served, ssl.SSLContext]) -> None:
        served, context = secure
        client, link = connect(served, tls=context)

        def one_at_a_time(content: str | bytes) -> None:
            link.frames.put(content)
            link.fast.pause()

        link.hears = one_at_a_time
        client.send(b"".join(text(str(number)) for number in range(100)))
        for number in range(100):
            assert link.next() == str(number)
            assert link.frames.empty()
            served.call(link.fast.resume)
        served.call(link.fast.close, 4501, "bad protocol")
        assert client.goodbye() == (4501, "bad protocol")
        client.send(close(4501))
        assert client.rest() == b""
        client.socket.close()
        assert link.end()[0] == "lost"
        served.settle()

    def test_the_close_arrives_though_the_client_goes_on_sending(
        self, secure: tuple[Served, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(protocol, "CLOSE_SECONDS", 60.0)  # it has to end by the client's answer
        served, context = secure
        client, link = connect(served, tls=context)
        client.send(frame(BINARY, bytes(20 << 20)))
        assert client.goodbye() == (1009, "message too big")
        client.send(close(1009))  # there is no half-close in TLS: our end comes when the client has answered
        assert client.rest() == b""
        client.socket.close()
        assert [link.end()[0], link.end()[0]] == ["broken", "lost"]
        served.settle()
