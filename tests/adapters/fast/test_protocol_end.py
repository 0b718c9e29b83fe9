"""Every way in which a connection can end: who is told, how often, and what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from adapters.fast import protocol
from realtime.encoding.codecs import text as encoded
from tests.adapters.fast.links import connect
from tests.adapters.fast.served import Served
from tests.adapters.fast.wire_client import (
    CLOSE,
    PING,
    Unanswered,
    WireClient,
    close,
    frame,
    request,
    text,
)

SMALL = 16 << 10
"""Bytes the kernel keeps for a client that is to be slow."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that do not answer a close are cut soon."""
    monkeypatch.setattr(protocol, "CLOSE_SECONDS", 0.2)


class TestTheEnd:
    def test_our_close_is_answered_and_nothing_is_sent_after_it(self, served: Served) -> None:
        client, link = connect(served)

        def leave() -> None:
            link.fast.close(4503, "revoked")
            link.fast.close(4000, "again")
            link.fast.send(encoded("too late"))

        served.call(leave)
        assert client.goodbye() == (4503, "revoked")
        client.send(text("still talking") + frame(PING) + close(4503))
        assert client.rest() == b""
        client.socket.close()
        assert link.end() == ("lost", "transport close")
        served.settle()
        assert link.ends.empty()
        assert link.frames.empty()

    def test_a_code_that_may_not_be_sent_leaves_the_connection_as_it_was(self, served: Served) -> None:
        client, link = connect(served)
        with pytest.raises(ValueError):
            served.call(link.fast.close, 1006, "")
        client.say("alive")
        assert link.next() == "alive"
        client.socket.close()
        link.end()

    LEAVING: tuple[Callable[[WireClient], None], ...] = (
        lambda client: client.socket.close(),
        WireClient.vanish,
        lambda client: client.send(close()),
        lambda client: client.send(close(None)),
        lambda client: client.send(frame(CLOSE, b"\x00")),
    )

    @pytest.mark.parametrize("leave", LEAVING)
    @pytest.mark.parametrize("paused", [False, True])
    def test_the_link_is_told_once(self, served: Served, leave: Callable[[WireClient], None], paused: bool) -> None:
        client, link = connect(served)
        if paused:
            served.call(link.fast.pause)
        leave(client)
        client.socket.close()
        served.call(link.fast.resume)
        ends = [link.end()]
        if ends[0][0] == "broken":
            ends.append(link.end())
        served.settle()
        assert [kind for kind, _ in ends].count("lost") == 1
        assert link.ends.empty()

    @pytest.mark.usefixtures("impatient")
    def test_a_client_that_does_not_read_our_close_is_cut(self, served: Served) -> None:
        client, link = connect(served, buffers=SMALL)

        def fill_and_leave() -> None:
            for _ in range(100):
                link.outbox.offer(encoded("x" * 50_000))
            link.fast.close(4430, "too slow to read")

        served.call(fill_and_leave)
        assert link.end()[0] == "lost"
        served.settle()
        client.socket.close()

    @pytest.mark.usefixtures("impatient")
    @pytest.mark.parametrize("end", [close(), frame(3), b""], ids=["close", "violation", "end of file"])
    def test_a_client_that_leaves_and_does_not_read_is_cut(self, served: Served, end: bytes) -> None:
        client, link = connect(served, buffers=SMALL)
        served.call(lambda: [link.outbox.offer(encoded("x" * 50_000)) for _ in range(100)])
        client.send(end)
        client.socket.shutdown(1)
        while link.end()[0] != "lost":
            pass
        served.settle()
        assert 0 < len(client.rest()) < 100 * 50_000, "what it had not read is not kept for it"
        client.socket.close()

    @pytest.mark.usefixtures("impatient")
    def test_a_client_that_does_not_answer_our_close_is_cut(self, served: Served) -> None:
        client, link = connect(served)
        served.call(link.fast.close, 4000, "")
        assert client.goodbye() == (4000, "")
        assert client.rest() == b""
        assert link.end()[0] == "lost"
        client.socket.close()

    @pytest.mark.usefixtures("impatient")
    def test_a_client_that_does_not_read_its_refusal_is_cut(self, served: Served) -> None:
        async def refusing(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.http.response.start", "status": 400})
            await send({"type": "websocket.http.response.body", "body": bytes(16 << 20)})
            served.heard.put(served.state.connections == {scope["extensions"]["realtime.direct"]})

        client = Unanswered(served.port, request(served.route(refusing).encode()), buffers=SMALL)
        assert served.told(), "it is not simply gone"
        served.settle()
        client.socket.close()


class TestShutdown:
    @pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
    def test_everybody_is_told(self, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(protocol, "CLOSE_SECONDS", 0.2)
        served = Served(loop=loop, buffers=16 << 10)

        async def waiting(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            if scope["path"] == "/open":
                await send({"type": "websocket.accept"})
            served.heard.put("waiting")
            served.heard.put((await receive())["code"])

        served.route(waiting, "/open")
        served.route(waiting, "/asked")
        with served:
            client, link = connect(served)
            slow, slow_link = connect(served, buffers=SMALL)
            served.call(lambda: [slow_link.outbox.offer(encoded("x" * 50_000)) for _ in range(100)])
            leaving, leaving_link = connect(served)
            served.call(leaving_link.fast.close, 4000, "")
            accepted = WireClient(served.port, request(b"/open"))
            asked = Unanswered(served.port, request(b"/asked"))
            assert [served.told(), served.told()] == ["waiting"] * 2
            served.server.should_exit = True
            assert client.goodbye() == (1012, "")
            assert client.rest() == b""
            assert link.end() == ("lost", "draining")
            assert accepted.goodbye() == (1012, "")
            assert asked.answer()[0] == 503
            assert leaving.goodbye() == (4000, "")
            assert leaving.rest() == b""
            assert sorted([served.told(), served.told()]) == [1006, 1012]
            assert slow_link.end()[0] == "lost"
            served.stop()
        assert not served.state.connections
        assert not served.state.tasks
        for each in (client, slow, leaving, accepted, asked):
            each.socket.close()
