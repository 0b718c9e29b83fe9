"""A route that pulls its frames, while what is said to it goes straight to the transport."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from realtime.encoding.codecs import text as encoded
from tests.adapters.fast.links import Recorded
from tests.adapters.fast.served import App, Served
from tests.adapters.fast.wire_client import BINARY, WireClient, close, frame, text


def pulling(served: Served, *, go: asyncio.Event | None = None) -> App:
    """Tells its link, every frame that it pulled, and at last None."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        link = Recorded(None)
        wire = link.fast = scope["extensions"]["realtime.direct"].raw(receive, send, link)
        assert wire.link is link
        assert wire.name == "raw"
        await wire.accept("plain", [(b"x-wire", b"fast")])
        link.outbox.attach(wire, free=True)
        served.heard.put(link)
        if go is not None:
            await go.wait()
        while (found := await wire.read()) is not None:
            served.heard.put(found)
        await wire.finish()
        served.heard.put(None)

    return app


def connect(served: Served, **options: Any) -> tuple[WireClient, Recorded]:
    client = served.client(
        pulling(served, go=options.pop("go", None)), (b"sec-websocket-protocol", b"plain"), **options
    )
    assert client.status == 101
    return client, served.told()


class TestRaw:
    def test_is_accepted_with_subprotocol_and_headers(self, served: Served) -> None:
        client, link = connect(served)
        assert client.header(b"sec-websocket-protocol") == b"plain"
        assert client.header(b"x-wire") == b"fast"
        client.socket.close()
        assert served.told() is None
        assert link.end() == ("lost", "transport close")

    def test_frames_are_pulled_and_said(self, served: Served) -> None:
        client, link = connect(served)
        client.send(text("hello") + frame(BINARY, b"\x00") + text(""))
        assert [served.told() for _ in range(3)] == ["hello", b"\x00", ""]
        served.call(link.outbox.offer, encoded("answer"))
        assert client.hear() == "answer"
        assert link.frames.empty(), "nothing is pushed to a link whose route pulls"
        client.send(close(4000))
        assert client.goodbye() == (4000, "")
        client.socket.close()
        assert served.told() is None
        assert link.end() == ("lost", "transport close")

    def test_a_full_client_is_served_by_take(self, served: Served) -> None:
        client, link = connect(served, buffers=16 << 10)
        served.call(lambda: [link.outbox.offer(encoded(f"{n:3}" + "x" * 50_000)) for n in range(50)])
        assert served.call(lambda: len(link.outbox)) > 40
        assert [int(client.hear()[:3]) for _ in range(50)] == list(range(50))
        client.socket.close()
        assert served.told() is None
        link.end()

    def test_our_close_ends_the_pulling(self, served: Served) -> None:
        client, link = connect(served)
        served.call(link.fast.close, 4408, "silent")
        assert served.told() is None
        assert client.goodbye() == (4408, "silent")
        client.send(close(4408))
        assert client.rest() == b""
        client.socket.close()
        assert link.end()[0] == "lost"
        served.settle()
        assert link.ends.empty()

    @pytest.mark.parametrize("sent", [frame(3), frame(BINARY, bytes(2 << 20))])
    def test_a_violation_is_told_to_the_link_and_ends_the_pulling(self, served: Served, sent: bytes) -> None:
        client, link = connect(served)
        client.send(sent)
        assert served.told() is None
        assert client.goodbye()[0] in (1002, 1009)
        client.socket.close()
        assert [link.end()[0], link.end()[0]] == ["broken", "lost"]

    def test_what_the_route_does_not_take_is_not_read(self, served: Served) -> None:
        go = asyncio.Event()
        client, link = connect(served, go=go, buffers=16 << 10)
        served.call(link.fast.pause)  # neither stops nor starts anything: the route pulls
        served.call(link.fast.resume)
        begun, left = client.flood(frame(BINARY, bytes(50_000)))
        assert begun < 50
        served.call(go.set)
        client.send(left + close())
        assert [served.told() for _ in range(begun + 1)] == [bytes(50_000)] * begun + [None]
        link.end()
        client.socket.close()
