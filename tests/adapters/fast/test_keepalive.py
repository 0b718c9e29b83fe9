from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.adapters.fast.links import connect
from tests.adapters.fast.served import Served, echo
from tests.adapters.fast.wire_client import PING, PONG, TEXT, close, frame, text


@pytest.fixture(scope="module")
def pinging() -> Iterator[Served]:
    with Served(ws_ping_interval=0.05, ws_ping_timeout=0.1) as served:
        yield served


class TestKeepalive:
    def test_a_dead_peer_is_closed(self, pinging: Served) -> None:
        with pinging.client(echo) as client:
            assert client.frame() == (0x80 | PING, b"")
            assert client.goodbye() == (1011, "keepalive ping timeout")
            client.send(close(1011))
        pinging.settle()

    def test_one_that_answers_is_pinged_again_and_again(self, pinging: Served) -> None:
        with pinging.client(echo) as client:
            for _ in range(5):
                assert client.frame() == (0x80 | PING, b"")
                client.send(frame(PONG))
            client.say("alive")
            assert client.hear() == "alive"
        pinging.settle()

    def test_while_we_do_not_read_the_time_out_stands_still(self, pinging: Served) -> None:
        go = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await go.wait()
            while (await receive())["type"] == "websocket.receive":
                pass

        with pinging.client(slow) as client:
            client.send(text("x") * 16)
            assert client.frame() == (0x80 | PING, b"")
            client.send(frame(PONG))
            client.socket.settimeout(0.4)  # four time-outs long
            with pytest.raises(TimeoutError):
                client.frame()
            client.socket.settimeout(5)
            pinging.call(go.set)
            assert client.frame() == (0x80 | PING, b"")
        pinging.settle()

    def test_a_direct_link_is_not_pinged(self, pinging: Served) -> None:
        client, link = connect(pinging)
        client.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.frame()
        client.socket.close()
        assert link.end()[0] == "lost"
        pinging.settle()

    def test_without_a_time_out_nobody_is_closed(self) -> None:
        with Served(ws_ping_interval=0.02, ws_ping_timeout=None) as served, served.client(echo) as client:
            assert [client.frame() for _ in range(5)] == [(0x80 | PING, b"")] * 5
            client.say("alive")
            while (found := client.frame()) == (0x80 | PING, b""):
                pass
            assert found == (0x80 | TEXT, b"alive")

    def test_the_interval_counts_from_ping_to_ping(self) -> None:
        """And not from the time-out, where that is shorter: three intervals take three intervals."""
        with Served(ws_ping_interval=0.2, ws_ping_timeout=0.01) as served, served.client(echo) as client:
            began = served.call(lambda: asyncio.get_running_loop().time())
            for _ in range(3):
                assert client.frame() == (0x80 | PING, b"")
                client.send(frame(PONG))
            assert served.call(lambda: asyncio.get_running_loop().time()) - began > 0.5

    @pytest.mark.parametrize("interval", [None, 0])
    def test_without_an_interval_nobody_is_pinged(self, interval: float | None) -> None:
        with Served(ws_ping_interval=interval, ws_ping_timeout=0.05) as served, served.client(echo) as client:
            client.socket.settimeout(0.2)
            with pytest.raises(TimeoutError):
                client.frame()
