"""The connection itself: the handshake, the direct channel, limits, time, and every way it can end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from adapters.fast import protocol
from realtime.encoding.codecs import Encoded
from realtime.encoding.codecs import text as encoded
from tests.adapters.fast.links import Recorded, connect
from tests.adapters.fast.served import Served, echo
from tests.adapters.fast.wire_client import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Unanswered,
    close,
    frame,
    request,
    text,
)

SMALL = 16 << 10
"""Bytes the kernel keeps for a client that is to be slow."""


class TestDirect:
    def test_frames_by_plain_call_and_no_task_is_left(self, served: Served) -> None:
        client, link = connect(served)
        client.say("hello")
        assert link.next() == "hello"
        served.until(lambda: not served.state.tasks)
        assert len(served.tasks()) == served.resting_tasks
        assert served.state.connections == {link.fast}
        client.send(frame(BINARY, b"\x00\xff") + text("") + text("κόσμε") + frame(TEXT, b"x" * 70_000))
        assert [link.next() for _ in range(4)] == [b"\x00\xff", "", "κόσμε", "x" * 70_000]
        client.send(frame(TEXT, b"a", fin=False) + frame(PING, b"!") + frame(CONTINUATION, b"b"))
        assert link.next() == "ab"
        assert client.frame() == (0x80 | PONG, b"!")
        served.call(link.fast.send, encoded("from us"))
        assert client.hear() == "from us"
        client.socket.close()
        assert link.end() == ("lost", "transport close")

    def test_what_comes_after_a_close_that_is_held_is_not_looked_at(self, served: Served) -> None:
        client, link = connect(served)

        def pausing(content: str | bytes) -> None:
            link.fast.pause()
            link.frames.put(content)

        link.hears = pausing
        client.send(text("pauses") + close(4000))
        assert link.next() == "pauses"
        served.call(link.fast.data_received, frame(3))
        served.call(link.fast.resume)
        assert client.goodbye() == (4000, "")
        assert link.end() == ("lost", "transport close")

    def test_a_short_frame_that_comes_while_paused_waits(self, served: Served) -> None:
        """Reading is paused then, but TLS may have decrypted it already."""
        client, link = connect(served)
        served.call(link.fast.pause)
        served.call(link.fast.data_received, text("held"))
        assert link.frames.empty()
        served.call(link.fast.resume)
        assert link.next() == "held"
        client.socket.close()
        link.end()

    def test_after_a_split_frame_the_short_way_is_taken_again(self, served: Served) -> None:
        client, link = connect(served)
        data = text("split")
        client.send(data[:3])
        served.call(lambda: None)
        client.send(data[3:] + text("whole")[:1])
        assert link.next() == "split"
        client.send(text("whole")[1:])
        assert link.next() == "whole"
        assert served.call(lambda: link.fast._reader) is None
        client.socket.close()
        link.end()

    def test_pausing_holds_what_the_same_read_brought(self, served: Served) -> None:
        client, link = connect(served)

        def one_at_a_time(content: str | bytes) -> None:
            link.frames.put(content)
            link.fast.pause()

        link.hears = one_at_a_time
        client.send(b"".join(text(str(number)) for number in range(10)) + frame(PING, b"!") + close(4000))
        for number in range(10):
            assert link.next() == str(number)
            assert link.frames.empty()
            assert link.ends.empty(), "a close is read after what came before it"
            served.call(link.fast.resume)
        assert client.frame() == (0x80 | PONG, b"!")
        assert client.goodbye() == (4000, "")
        assert link.end() == ("lost", "transport close")
        client.socket.close()

    def test_pausing_within_a_pause_and_resuming_within_a_frame(self, served: Served) -> None:
        client, link = connect(served)

        def in_and_out(content: str | bytes) -> None:
            link.frames.put(content)
            link.fast.pause()
            link.fast.pause()
            link.fast.resume()
            link.fast.resume()

        link.hears = in_and_out
        client.send(b"".join(text(str(number)) for number in range(10)))
        assert [link.next() for _ in range(10)] == [str(number) for number in range(10)]
        client.say("more")
        assert link.next() == "more"
        client.socket.close()
        link.end()

    def test_pausing_stops_the_reading(self, served: Served) -> None:
        client, link = connect(served, buffers=SMALL)
        served.call(link.fast.pause)
        begun, left = client.flood(frame(BINARY, bytes(10_000)))
        assert begun < 200
        served.call(link.fast.resume)
        client.send(left + text("last"))
        assert [link.next() for _ in range(begun + 1)] == [bytes(10_000)] * begun + ["last"]
        client.socket.close()
        link.end()

    def test_much_at_once_is_read_in_several_turns(self) -> None:
        """So that everybody else is served meanwhile."""
        with Served(loop="uvloop", buffers=1 << 20) as served:
            client, link = connect(served)
            read_in_turn, most = [0], [0]

            def end_turn() -> None:
                most[0] = max(most[0], read_in_turn[0])
                read_in_turn[0] = 0

            def count(content: str | bytes) -> None:
                if not read_in_turn[0]:
                    asyncio.get_running_loop().call_soon(end_turn)
                read_in_turn[0] += len(content)
                if content == b"last":
                    link.frames.put(content)

            link.hears = count
            served.call(link.fast.pause)
            begun, left = client.flood(frame(BINARY, bytes(100)) * 100)
            assert begun > 50, "more than one read of 256,000 bytes"
            served.call(link.fast.resume)
            client.send(left + frame(BINARY, b"last"))
            assert link.next() == b"last"
            assert most[0] <= 256_000
            client.socket.close()
            link.end()

    def test_full_then_taken_on_drain_in_order(self, served: Served) -> None:
        client, link = connect(served, buffers=SMALL)

        def flood() -> tuple[int, int]:
            for number in range(100):
                link.outbox.offer(encoded(f"{number:3}" + "x" * 50_000))
            return len(link.outbox), link.fast._transport.get_write_buffer_size()

        waiting, buffered = served.call(flood)
        assert waiting > 90
        assert buffered < 200_000
        assert link.takes == 0
        assert [int(client.hear()[:3]) for _ in range(100)] == list(range(100))
        served.call(link.outbox.offer, encoded("after"))
        assert client.hear() == "after"
        assert link.takes > 0
        client.socket.close()
        link.end()

    def test_an_emission_of_several_frames(self, served: Served) -> None:
        client, link = connect(served)
        served.call(link.fast.send, Encoded(((True, b"51-[]"), (False, b"\x01"))))
        assert client.hear() == "51-[]"
        assert client.frame() == (0x80 | BINARY, b"\x01")
        client.socket.close()
        link.end()

    def test_an_unaccepted_client_that_went_raises_an_os_error(self, served: Served) -> None:
        async def late(scope: Any, receive: Any, send: Any) -> None:
            channel = scope["extensions"]["realtime.direct"]
            channel._transport.abort()
            try:
                channel.accept_now()
            except OSError as error:
                served.heard.put(type(error).__name__)
                raise

        client = Unanswered(served.port, request(served.route(late).encode()))
        assert served.told() == "ClientDisconnected"
        client.socket.close()

    def test_a_client_that_went_before_it_was_taken_over(self, served: Served) -> None:
        async def late(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            channel = scope["extensions"]["realtime.direct"]
            channel.accept_now()
            channel.flush()
            channel._transport.abort()
            assert (await receive())["type"] == "websocket.disconnect"
            link = Recorded(channel)
            channel.take_over(link)
            served.heard.put(link.end())
            served.heard.put(link.ends.empty())

        with served.client(late):
            assert served.told() == ("lost", "transport close")
            assert served.told()

    def test_a_config_that_nobody_loaded(self, served: Served) -> None:
        config = uvicorn.Config(echo, log_config=None)
        served.call(protocol.FastProtocol, config, served.state, {})
        assert config.loaded

    def test_accepting_twice(self, served: Served) -> None:
        async def twice(scope: Any, receive: Any, send: Any) -> None:
            channel = scope["extensions"]["realtime.direct"]
            channel.accept_now()
            channel.accept_now()

        with served.client(twice) as client:
            assert client.goodbye()[0] == 1000  # nobody took it over, so the call's end is the connection's


@pytest.fixture(scope="module")
def narrow() -> Iterator[Served]:
    with Served(ws_max_size=100) as served:
        yield served


class TestLimit:
    """It holds on the short way and on the long one."""

    @pytest.mark.parametrize("sent", [text("x" * 101), text("x" * 126), text("x" * 70_000), text("é" * 51)])
    def test_over_it_1009(self, narrow: Served, sent: bytes) -> None:
        with narrow.client(echo) as client:
            client.send(text("x" * 100))
            assert client.hear() == "x" * 100
            client.send(sent)
            assert client.goodbye()[0] == 1009
            assert client.rest() == b""
        narrow.settle()

    def test_the_close_arrives_though_the_client_goes_on_sending(self, served: Served) -> None:
        """A socket closed with unread bytes would be reset, and the reset overtakes the close frame."""
        client, link = connect(served)
        client.send(frame(BINARY, bytes(8 << 20)))
        assert client.goodbye() == (1009, "message too big")
        assert link.end() == ("broken", "1009")
        client.send(close(1009))
        assert client.rest() == b""
        client.socket.close()
        assert link.end()[0] == "lost"
        assert link.ends.empty()


class TestViolation:
    @pytest.mark.parametrize(
        ("code", "sent"),
        [
            (1002, frame(TEXT, b"x", rsv=4)),
            (1002, frame(TEXT, b"x", mask=None)),
            (1002, frame(3)),
            (1002, frame(CONTINUATION)),
            (1002, frame(PING, bytes(126))),
            (1002, close(1005)),
            (1007, frame(TEXT, b"\xff")),
            (1007, frame(TEXT, b"\xce", fin=False) + frame(CONTINUATION, b"\xce")),
        ],
    )
    def test_is_told_to_the_link_and_to_the_client(self, served: Served, code: int, sent: bytes) -> None:
        client, link = connect(served)
        client.send(text("before") + sent + text("after"))
        assert client.goodbye()[0] == code
        assert client.rest() == b""
        client.socket.close()
        assert link.next() == "before"
        assert link.end() == ("broken", str(code))
        assert link.end() == ("lost", "transport close")
        served.settle()
        assert link.frames.empty()
        assert link.ends.empty()

    def test_the_application_answers_first_what_came_before_it(self, served: Served) -> None:
        with served.client(echo) as client:
            client.send(text("one") + text("two") + frame(3))
            assert client.hear() == "one"
            assert client.hear() == "two"
            assert client.goodbye()[0] == 1002
            assert client.rest() == b""

    def test_the_applications_disconnect_has_the_code(self, served: Served) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            served.heard.put(await receive())

        with served.client(app) as client:
            client.send(frame(TEXT, b"\xff"))
            assert client.goodbye() == (1007, "a text must be UTF-8")
        assert served.told() == {"type": "websocket.disconnect", "code": 1007, "reason": "a text must be UTF-8"}

    def test_after_our_close_ends_at_once(self, served: Served) -> None:
        client, link = connect(served)
        served.call(link.fast.close, 4000, "bye")
        client.send(frame(3))
        assert client.goodbye() == (4000, "bye")
        assert client.rest() == b""
        assert link.end() == ("lost", "transport close")
        client.socket.close()

    def test_while_paused(self, served: Served) -> None:
        client, link = connect(served)
        link.hears = lambda content: link.fast.pause()
        client.send(text("pauses") + text("held") + frame(3))
        assert client.goodbye()[0] == 1002
        client.socket.close()
        assert [link.end(), link.end()] == [("broken", "1002"), ("lost", "transport close")]

    def test_data_after_the_clients_close_is_not_looked_at(self, served: Served) -> None:
        client, link = connect(served)
        client.send(close(1000) + text("after") + frame(3) + close(4000))
        assert client.goodbye() == (1000, "")
        assert client.rest() == b""
        client.socket.close()
        assert link.end() == ("lost", "transport close")
        served.settle()
        assert link.frames.empty()
        assert link.ends.empty()


class TestPing:
    def test_is_answered_with_its_payload(self, served: Served) -> None:
        client, link = connect(served)
        for payload in (b"", b"!", bytes(125)):
            client.send(frame(PING, payload))
            assert client.frame() == (0x80 | PONG, payload)
        client.send(frame(PONG, b"unasked"))
        client.say("alive")
        assert link.next() == "alive"
        client.socket.close()
        link.end()

    def test_a_flood_of_them_without_reading_costs_a_bounded_buffer(self, served: Served) -> None:
        client, link = connect(served, buffers=SMALL)
        pings = b"".join(frame(PING, number.to_bytes(4, "big") + bytes(121)) for number in range(1000))
        for _ in range(20):
            client.send(pings)
        client.send(frame(PING, b"latest") + text("done"))
        assert link.next() == "done"
        assert served.call(lambda: link.fast._transport.get_write_buffer_size()) < 300_000
        answered = 0
        while client.frame() != (0x80 | PONG, b"latest"):
            answered += 1
        assert answered < 20_000
        client.socket.close()
        link.end()

    def test_a_client_that_goes_in_the_middle_of_them_leaves_no_log(
        self, served: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        client, link = connect(served)
        client.send(frame(PING) * 20_000)
        client.vanish()
        assert link.end()[0] == "lost"
        assert not caplog.records
