"""Malformed packets in MessagePack: refused like those in text."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from tests.hostile.ground import ground
from tests.serving import ServerProcess
from tests.wire.clients import ended, websocket
from tests.wire.servers import SOCKETS, Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio, pytest.mark.hostile("A29", on="MessagePack")]

EVENT = {"type": 2, "nsp": "/"}
PAYLOADS: list[Any] = [[], {}, "enter", None, [5], [None], [["enter"]], [b"enter"], ["n" * 129]]
IDS: list[Any] = [-1, (1 << 31) + 1, "1", 0.5, []]
TYPES: list[Any] = [4, 7, -1, "2", None, 2.5, 1 << 60]
NAMESPACES: list[Any] = [None, 5, "", "/" + "n" * 100_000, "/a\x01b", [], b"/"]


def deep(levels: int) -> bytes:
    """An event with a list in a list in a list."""
    head = msgpack.packb({**EVENT, "data": ["enter"]})
    return bytes(head.replace(b"\x91\xa5enter", b"\x92\xa5enter" + b"\x91" * levels + b"\xc0"))


PACKETS: dict[str, bytes] = {
    **{
        f"event {name}": msgpack.packb({**EVENT, "data": [name, 1]})
        for name in ("connect", "disconnect", "connect_error", "disconnecting", "newListener", "removeListener", "*")
    },
    **{f"payload {data!r}": msgpack.packb({**EVENT, "data": data}) for data in PAYLOADS},
    "no payload": msgpack.packb(EVENT),
    **{f"id {id!r}": msgpack.packb({**EVENT, "id": id, "data": ["enter", "r"]}) for id in IDS},
    **{f"type {kind!r}": msgpack.packb({"type": kind, "nsp": "/"}) for kind in TYPES},
    "no type": msgpack.packb({"nsp": "/"}),
    **{f"namespace {str(name)[:9]!r}": msgpack.packb({"type": 0, "nsp": name}) for name in NAMESPACES},
    "CONNECT twice": msgpack.packb({"type": 0, "nsp": "/"}),
    "an event elsewhere": msgpack.packb({"type": 2, "nsp": "/elsewhere", "data": ["enter", "r"]}),
    "depth 65": deep(65),
    "depth 100,000": deep(100_000),
    "a list": msgpack.packb([1, 2]),
    "a number": b"\x05",
    "nothing": b"",
    "cut off": msgpack.packb({**EVENT, "data": ["enter", "r"]})[:-2],
    "two in one": msgpack.packb({**EVENT, "data": ["enter", "r"]}) * 2,
    "an array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "a map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "a text of 4 GB": b"\xdb\xff\xff\xff\xff",
    "a reserved byte": b"\xc1",
    "a text that is no UTF-8": msgpack.packb({**EVENT, "data": ["enter", "r"]}).replace(b"\xa1r", b"\xa1\xff"),
}


@pytest.mark.parametrize("packet", PACKETS.values(), ids=PACKETS.keys())
@pytest.mark.parametrize("port", SOCKETS, ids=str)
async def test_a_violation_ends_the_connection(servers: Any, port: Wire, packet: bytes) -> None:
    server: ServerProcess = servers.get(port)
    async with ground(server), websocket(server.ws_url, "/packed/") as client:
        await client.send(msgpack.packb({"type": 0, "nsp": "/"}))
        answer = await client.receive()
        assert isinstance(answer, bytes)
        assert msgpack.unpackb(answer)["type"] == 0
        await client.send(packet)
        assert (await ended(client)).code == 4501
