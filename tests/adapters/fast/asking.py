"""Plain HTTP by hand: servers with short times and with long ones, and what is asked of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from adapters.fast.http import BoundedHttp
from tests.adapters.fast.served import Served
from tests.adapters.fast.wire_client import SECONDS, Unanswered, WireClient

BIG = b"x" * (4 << 20)
SMALL = 16 << 10
"""Bytes the kernel keeps for a client that is to be slow."""
GET = b"GET / HTTP/1.1\r\nhost: x\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\n"


class Hasty(BoundedHttp):
    """The same with short times."""

    TICK_SECONDS = 0.02
    HEAD_SECONDS = PAUSE_SECONDS = LINGER_SECONDS = 0.15
    BODY_SECONDS = UNREAD_SECONDS = 0.3


class Patient(Hasty):
    """Its clocks do not matter to the test."""

    HEAD_SECONDS = PAUSE_SECONDS = BODY_SECONDS = UNREAD_SECONDS = LINGER_SECONDS = 60.0


def serving(loop: str, http: type[BoundedHttp]) -> Iterator[Served]:
    with Served(loop=loop, http=http, buffers=SMALL, timeout_keep_alive=60) as served:
        yield served


def settled(served: Served) -> Iterator[Served]:
    served.route(answer, "/")
    yield served
    served.settle()
    served.heard.queue.clear()


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Reads the whole request and says how much it was."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    body = json.dumps([size, len(scope["headers"])]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def ask(served: Served, data: bytes, **options: Any) -> Unanswered:
    return Unanswered(served.port, data, **options)


def connections(served: Served) -> list[Any]:
    return served.call(lambda: list[Any](served.state.connections))


def refusal(client: WireClient) -> tuple[int, str]:
    """Status and code of the answer, after which the connection ends."""
    head, _, body = client.rest().partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["code"]


def head_of(size: int) -> bytes:
    """A whole request head of so many bytes."""
    return GET + b"a: " + b"x" * (size - len(GET) - 7) + b"\r\n\r\n"


def drip(client: WireClient, data: bytes) -> bytes:
    """Send this again and again, twenty times a second, until the server ends it; what it had said."""
    client.socket.settimeout(0.05)
    said = b""
    for _ in range(int(SECONDS * 20)):
        try:
            client.send(data)
            received = client.socket.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            return said
        if not received:
            return said
        said += received
    raise AssertionError(f"not ended: {said!r}")
