"""What an application sees that knows nothing of the direct channel: real uvicorn, real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from adapters.fast.asgi import MAILBOX_CHARACTERS, MAILBOX_MESSAGES, AsgiSide, State
from adapters.fast.upgrade import Headers
from tests.adapters.fast.served import App, Served, echo
from tests.adapters.fast.wire_client import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Unanswered,
    WireClient,
    close,
    frame,
    request,
    text,
)

ACCEPT = {"type": "websocket.accept"}


async def until_gone(receive: Any) -> Any:
    """The disconnect message, whatever comes before it."""
    while (message := await receive())["type"] != "websocket.disconnect":
        pass
    return message


def telling_the_end(served: Served) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        served.heard.put(await until_gone(receive))

    return app


class TestMessages:
    def test_text_binary_and_fragments_come_back(self, served: Served) -> None:
        with served.client(echo) as client:
            assert client.status == 101
            for content in ("hello", "", "κόσμε", "x" * 126, "y" * 70_000):
                client.say(content)
                assert client.hear() == content
            for payload in (b"", b"\x00\xff", bytes(126), bytes(70_000)):
                client.send(frame(BINARY, payload))
                assert client.frame() == (0x80 | BINARY, payload)
            client.send(frame(TEXT, b"one ", fin=False) + frame(PING, b"!") + frame(CONTINUATION, b"two"))
            assert client.frame() == (0x80 | PONG, b"!")
            assert client.hear() == "one two"

    def test_many_messages_in_one_write_keep_their_order(self, served: Served) -> None:
        with served.client(echo) as client:
            client.send(b"".join(text(str(number)) for number in range(500)))
            assert [client.hear() for _ in range(500)] == [str(number) for number in range(500)]

    def test_messages_that_arrive_with_the_close_are_read_before_it(self, served: Served) -> None:
        async def late(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            while (message := await receive())["type"] == "websocket.receive":
                served.heard.put(message["text"])
            served.heard.put(message["code"])

        with served.client(late) as client:
            client.send(b"".join(text(str(number)) for number in range(50)) + close(4321))
            assert [served.told() for _ in range(51)] == [*map(str, range(50)), 4321]
            assert client.goodbye() == (4321, "")
            assert client.rest() == b""

    def test_lone_surrogates_of_the_application_become_question_marks(self, served: Served) -> None:
        async def half(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            await send({"type": "websocket.send", "text": "a\ud83d"})
            await send({"type": "websocket.send", "bytes": None, "text": ""})
            await until_gone(receive)

        with served.client(half) as client:
            assert client.hear() == "a?"
            assert client.hear() == ""


class TestScope:
    def test_what_the_request_said(self, served: Served) -> None:
        async def look(scope: Any, receive: Any, send: Any) -> None:
            served.heard.put(scope)
            await receive()
            await send({"type": "websocket.close"})

        path = served.route(look, "/räume/a b")
        asked = request(b"/r%C3%A4ume/a%20b?c=%20d&e", (b"X-Odd", b"\xff"), (b"sec-websocket-protocol", b"a, b"))
        with WireClient(served.port, asked) as client:
            scope = served.told()
            assert scope["client"] == client.socket.getsockname()
        assert scope["type"] == "websocket"
        assert scope["asgi"]["spec_version"] == "2.4"
        assert (scope["scheme"], scope["http_version"], scope["root_path"]) == ("ws", "1.1", "")
        assert scope["server"] == ("127.0.0.1", served.port)
        assert scope["path"] == path
        assert scope["raw_path"] == b"/r%C3%A4ume/a%20b"
        assert scope["query_string"] == b"c=%20d&e"
        assert (b"x-odd", b"\xff") in scope["headers"]
        assert (b"host", b"localhost") in scope["headers"]
        assert scope["subprotocols"] == ["a", "b"]
        assert scope["state"] == {}
        assert "websocket.http.response" in scope["extensions"]

    def test_root_path_is_in_front(self) -> None:
        with Served(root_path="/api") as served:

            async def look(scope: Any, receive: Any, send: Any) -> None:
                served.heard.put((scope["root_path"], scope["path"], scope["raw_path"]))
                await receive()
                await send({"type": "websocket.close"})

            served.route(look, "/api/ws")
            with WireClient(served.port, request(b"/ws")):
                assert served.told() == ("/api", "/api/ws", b"/api/ws")
            served.settle()


class TestAccepting:
    def test_the_digest_a_subprotocol_and_headers(self, served: Served) -> None:
        async def accepting(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({**ACCEPT, "subprotocol": "b", "headers": [(b"x-room", b"1"), (b"x-room", b"2")]})
            await until_gone(receive)

        with served.client(accepting, (b"sec-websocket-protocol", b"a, b")) as client:
            assert client.status == 101
            assert client.header(b"sec-websocket-protocol") == b"b"
            assert [value for name, value in client.headers if name == b"x-room"] == [b"1", b"2"]
            assert client.header(b"sec-websocket-extensions") is None

    def test_compression_is_not_negotiated(self, served: Served) -> None:
        offered = (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits")
        with served.client(echo, offered) as client:
            assert client.header(b"sec-websocket-extensions") is None

    @pytest.mark.parametrize(
        "wrong", [{"headers": [(b"x", b"a\r\nb: c")]}, {"subprotocol": "a\nb"}, {"subprotocol": "✓"}]
    )
    def test_what_no_header_can_hold_is_the_applications_error(
        self, served: Served, wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        async def splitting(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({**ACCEPT, **wrong})

        with served.client(splitting) as client:
            assert client.status == 500
            assert b"b: c" not in client.rest()
        served.settle()
        assert "Exception in ASGI application" in caplog.text


class TestTheEnd:
    @pytest.mark.parametrize(
        ("sent", "code", "reason", "answered"),
        [
            (close(1000, b"bye"), 1000, "bye", 1000),
            (close(4321, "später".encode()), 4321, "später", 4321),
            (close(None), 1005, "", 1005),
        ],
    )
    def test_the_clients_close(self, served: Served, sent: bytes, code: int, reason: str, answered: int) -> None:
        with served.client(telling_the_end(served)) as client:
            client.send(sent)
            assert client.goodbye() == (answered, "")
            assert client.rest() == b""
        assert served.told() == {"type": "websocket.disconnect", "code": code, "reason": reason}

    def test_a_lost_connection_is_1006(self, served: Served) -> None:
        leave: list[Callable[[WireClient], None]] = [
            lambda client: client.socket.close(),
            WireClient.vanish,
            lambda client: client.send(text("half")[:-1]),
        ]
        for how in leave:
            with served.client(telling_the_end(served)) as client:
                how(client)
            assert served.told() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}

    def test_the_applications_close_is_answered_before_the_connection_ends(self, served: Served) -> None:
        async def closing(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            await send({"type": "websocket.close", "code": 4000, "reason": "full"})
            served.heard.put(await receive())
            served.heard.put(await receive())

        with served.client(closing) as client:
            assert client.goodbye() == (4000, "full")
            client.send(text("too late") + close(4000))
            assert client.rest() == b""
        assert [served.told(), served.told()] == [{"type": "websocket.disconnect", "code": 4000, "reason": "full"}] * 2

    def test_sending_to_a_client_that_has_gone(self, served: Served) -> None:
        async def talking(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            await until_gone(receive)
            await send({"type": "websocket.close"})  # an honest race: says nothing
            try:
                await send({"type": "websocket.send", "text": "x"})
            except OSError as error:
                served.heard.put(type(error).__name__)
                raise

        with served.client(talking) as client:
            client.send(close())
            client.rest()
        assert served.told() == "ClientDisconnected"

    def test_sending_in_the_turn_in_which_the_client_is_lost(self, served: Served) -> None:
        """An application that sends in a loop would otherwise never let the loop learn of it."""

        async def talking(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            scope["extensions"]["realtime.direct"]._transport.abort()
            try:
                await send({"type": "websocket.send", "bytes": b"x"})
            except OSError as error:
                served.heard.put(type(error).__name__)

        client = Unanswered(served.port, request(served.route(talking).encode()))
        assert served.told() == "ClientDisconnected"
        client.socket.close()

    def test_a_client_that_goes_before_it_is_accepted(self, served: Served) -> None:
        gone = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            served.heard.put("asked")
            await gone.wait()
            try:
                await send(ACCEPT)
                await send({"type": "websocket.send", "text": "x"})
                served.heard.put((await until_gone(receive))["code"])
            except OSError:
                served.heard.put(1006)

        client = Unanswered(served.port, request(served.route(slow).encode()))
        assert served.told() == "asked"
        client.vanish()
        served.call(gone.set)
        assert served.told() == 1006


class TestSeveralTasks:
    def test_all_receivers_learn_of_the_end_and_each_message_goes_to_one(self, served: Served) -> None:
        async def crowd(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            tasks = [asyncio.create_task(until_gone(receive)) for _ in range(3)]
            impatient = asyncio.create_task(receive())
            await send({"type": "websocket.send", "text": "go"})
            await asyncio.wait({impatient}, timeout=0)
            impatient.cancel()
            served.heard.put([(await task)["code"] for task in tasks])

        with served.client(crowd) as client:
            assert client.hear() == "go"
            client.send(text("a") + text("b") + close(4001))
            assert served.told() == [4001] * 3

    def test_all_senders_go_on_when_the_client_reads_again(self, served: Served) -> None:
        async def crowd(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)

            async def one(number: int) -> None:
                for _ in range(20):
                    await send({"type": "websocket.send", "bytes": bytes([number]) * 65_536})

            await asyncio.gather(*(one(number) for number in range(5)))
            await send({"type": "websocket.send", "text": "done"})
            await until_gone(receive)

        with served.client(crowd, buffers=16 << 10) as client:
            received = [client.frame()[1] for _ in range(100)]
            assert client.hear() == "done"
        assert sorted(payload[0] for payload in received) == [number for number in range(5) for _ in range(20)]


class TestBackPressure:
    def test_an_application_that_does_not_read_stops_the_reading(self, served: Served) -> None:
        go = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            await go.wait()
            size = 0
            while (message := await receive())["type"] == "websocket.receive":
                size += len(message["bytes"])
            served.heard.put(size)

        with served.client(slow, buffers=16 << 10) as client:
            sent, unsent = client.flood(frame(BINARY, bytes(50_000)))
            assert sent < 50
            served.call(go.set)
            client.send(unsent + close())
            assert served.told() == sent * 50_000

    def test_a_client_that_does_not_read_makes_send_wait(self, served: Served) -> None:
        async def flood(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            sent = 0
            try:
                while True:
                    await asyncio.wait_for(send({"type": "websocket.send", "bytes": bytes(65_536)}), 0.3)
                    sent += 1
            except TimeoutError:
                served.heard.put(sent)
            await send({"type": "websocket.send", "text": "done"})
            await until_gone(receive)

        with served.client(flood, buffers=16 << 10) as client:
            sent = served.told()
            assert 0 < sent < 60
            for _ in range(sent):
                assert len(client.frame()[1]) == 65_536
            assert client.hear() == "done"

    def test_a_sender_that_waits_is_told_when_the_client_goes(self, served: Served) -> None:
        async def flood(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            try:
                while True:
                    served.heard.put("sending")
                    await send({"type": "websocket.send", "bytes": bytes(1 << 20)})
            except OSError as error:
                served.heard.put(type(error).__name__)

        client = served.client(flood, buffers=16 << 10)
        assert [served.told(), served.told()] == ["sending"] * 2
        client.vanish()
        told = served.told()
        assert (served.told() if told == "sending" else told) == "ClientDisconnected"


class Recorder:
    """A line that writes down what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.state = State.OPEN
        self.full = False

    def pause(self) -> None:
        self.asked.append("pause")

    def resume(self) -> None:
        self.asked.append("resume")

    def accept_now(self, subprotocol: str | None = None, headers: Headers = ()) -> None: ...
    def opened(self) -> None: ...
    def refuse(self, status: int, headers: Headers, body: bytes) -> None: ...
    def write(self, frame: bytes) -> bool:
        return True

    def close(self, code: int, reason: str) -> None: ...


class TestMailbox:
    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        ("message", "most", "resumed_after"),
        [
            ("x", MAILBOX_MESSAGES, MAILBOX_MESSAGES // 2),
            (bytes(MAILBOX_CHARACTERS // 4), 4, 2),
            (bytes(1 << 20), 1, 1),
        ],
    )
    async def test_is_bounded_in_messages_and_in_bytes(
        self, message: str | bytes, most: int, resumed_after: int
    ) -> None:
        line = Recorder()
        side = AsgiSide(line)
        await side.receive()
        for _ in range(most - 1):
            side.put(message)
        assert line.asked == []
        side.put(message)
        side.put(message)  # what the same read of the socket brought
        assert line.asked == ["pause"]
        for _ in range(resumed_after):
            await side.receive()
        assert line.asked == ["pause"]
        await side.receive()
        assert line.asked == ["pause", "resume"]
