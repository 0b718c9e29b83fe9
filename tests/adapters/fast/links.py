"""The core's side of the direct channel, as small as it can be."""

from __future__ import annotations

from collections.abc import Callable
from queue import Queue
from typing import Any

from realtime.encoding.codecs import Encoded
from realtime.ports import Wire
from realtime.session.outbox import Bounds, Outbox
from tests.adapters.fast.served import App, Served
from tests.adapters.fast.wire_client import SECONDS, WireClient


class Recorded:
    """A link with a real outbox that writes down what it is told. ``ends`` and ``takes`` are in order."""

    closed = False

    def __init__(self, wire: Any) -> None:
        self.wire: Wire | None = wire
        self.fast: Any = wire
        self.frames: Queue[str | bytes] = Queue()
        self.ends: Queue[tuple[str, ...]] = Queue()
        self.takes = 0
        self.hears: Callable[[str | bytes], None] = self.frames.put
        self.outbox = Outbox(Bounds(messages=100_000, size_bytes=1 << 30), lambda reason: None)
        if wire is not None:
            self.outbox.attach(wire, free=True)

    def next(self) -> str | bytes:
        return self.frames.get(timeout=SECONDS)

    def end(self) -> tuple[str, ...]:
        return self.ends.get(timeout=SECONDS)

    # --- Link

    def receive(self, frame: str | bytes) -> None:
        self.hears(frame)

    def take(self) -> Encoded | None:
        self.takes += 1
        return self.outbox.take()

    def hold(self) -> None: ...

    def close(self, code: int, text: str, reason: str) -> None:
        self.fast.close(code, text)

    def broken(self, code: int, reason: str, kind: str = "bad_frame") -> None:
        self.ends.put(("broken", str(int(code))))

    def lost(self, reason: str) -> None:
        self.ends.put(("lost", reason))


def direct(served: Served) -> App:
    """Takes the connection over and returns; the link is the next thing told."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        channel = scope["extensions"]["realtime.direct"]
        channel.accept_now()
        link = Recorded(channel)
        channel.take_over(link)
        served.heard.put(link)

    return app


def connect(served: Served, **options: Any) -> tuple[WireClient, Recorded]:
    client = served.client(direct(served), **options)
    assert client.status == 101
    return client, served.told()
