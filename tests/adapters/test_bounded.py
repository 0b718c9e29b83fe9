from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from adapters.bounded import BULK_BYTES, REFUSED, BoundedWebSockets
from adapters.fast.http import BoundedHttp
from tests.adapters.fast.served import Served, echo
from tests.adapters.fast.wire_client import PING, PONG, WireClient, frame, request

SMALL = 16 << 10
"""Bytes that the kernel keeps for a client that is to be slow."""


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def _running(request: pytest.FixtureRequest) -> Iterator[Served]:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    with Served(loop=request.param, http=BoundedHttp, ws=BoundedWebSockets, buffers=SMALL) as served:
        yield served


@pytest.fixture
def served(_running: Served) -> Iterator[Served]:
    yield _running
    _running.hang_up()
    _running.settle()


def arrived(served: Served) -> tuple[WireClient, Any]:
    """A client that is let in, and the server's end of it."""
    client = served.client(echo, buffers=SMALL)
    assert client.status == 101
    [connection] = served.state.connections
    return client, connection


def waiting(served: Served, connection: Any) -> int:
    """Bytes that the client has not read, beyond those in the kernel."""
    return served.call(lambda: int(connection.transport.get_write_buffer_size()))


def test_who_reads_is_answered_as_ever(served: Served) -> None:
    client, _ = arrived(served)
    client.say("hello")
    assert client.hear() == "hello"
    for payload in (b"", b"one", b"two"):
        client.send(frame(PING, payload))
        assert client.frame() == (0x80 | PONG, payload)


def test_of_many_pings_that_nobody_reads_the_answers_of_the_latest_alone_wait(served: Served) -> None:
    client, connection = arrived(served)
    for _ in range(100):
        client.send(frame(PING, bytes(125)) * 1000)
    assert waiting(served, connection) < 4 * BULK_BYTES, "of 13 MB"
    client.send(frame(PING, b"the last"))
    answers = 0
    while (found := client.frame()) != (0x80 | PONG, b"the last"):
        assert found == (0x80 | PONG, bytes(125))
        answers += 1
    assert answers < 10_000
    client.say("still there")
    assert client.hear() == "still there"


def test_who_left_without_reading_is_answered_no_more(served: Served) -> None:
    client, connection = arrived(served)
    client.send(frame(PING, bytes(125)) * 10_000)
    served.call(connection.transport.abort)
    served.until(lambda: not served.state.connections)
    served.call(connection.resume_writing)
    assert connection._pong == b""


def test_after_much_at_once_everybody_else_has_a_turn(served: Served) -> None:
    client, connection = arrived(served)
    reading = served.call(lambda: (connection.data_received(frame(PING, b"x" * 100) * 1000), is_reading(connection))[1])
    assert reading is False
    for _ in range(1000):
        assert client.frame() == (0x80 | PONG, b"x" * 100)
    client.say("read on")
    assert client.hear() == "read on"


def is_reading(connection: Any) -> bool:
    return bool(connection.transport.is_reading())


def test_a_head_that_its_parser_does_not_take_is_answered_and_ended(served: Served) -> None:
    asked = request(served.route(echo).encode(), (b"sec-websocket-key", b"A" * 9000))
    with WireClient(served.port, asked) as client:
        assert client.status == 431
        client.rest()  # comes to an end


def test_one_without_any_answer_of_its_parser_as_well(served: Served) -> None:
    """What is handed over is whole: whatever the parser still waits for does not come."""
    written: list[bytes] = []

    class Deaf:
        def is_closing(self) -> bool:
            return bool(written) and written[-1] == b"closed"

        def write(self, data: bytes) -> None:
            written.append(data)

        def close(self) -> None:
            written.append(b"closed")

    def hand_over() -> None:
        connection = BoundedWebSockets(served.server.config, served.server.server_state, {})
        connection.transport = Deaf()  # type: ignore[assignment]
        connection.data_received(b"GET / HTTP/1.1\r\n")
        connection.data_received(b"more")

    served.call(hand_over)
    assert written == [REFUSED, b"closed"]
