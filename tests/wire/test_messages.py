"""Events and acknowledgements, text and binary, both ways; the same on every wire."""

from __future__ import annotations

import json
import os
from typing import Any

import msgpack
import pytest

from tests.serving import ServerProcess
from tests.wire.clients import Client, enter, polling, still_there, websocket
from tests.wire.servers import SOCKETS, WIRES, Servers, Wire, connected

pytestmark = [pytest.mark.process, pytest.mark.asyncio]


@pytest.mark.parametrize("args", [[], [1], [1, "2", {"3": [True]}], [None], ["ünï", "😀", "\x00\x7f"], [[]], [{}]])
async def test_a_text_event(server: ServerProcess, wire: Wire, args: list[Any]) -> None:
    async with connected(wire, server) as client:
        await client.send("42" + json.dumps(["message", *args]))
        answer = str(await client.receive())
        assert answer[:2] == "42"
        assert json.loads(answer[2:]) == ["message-back", *args]


async def test_a_binary_event(server: ServerProcess, wire: Wire) -> None:
    async with connected(wire, server) as client:
        await client.send(
            '452-["message",{"_placeholder":true,"num":0},{"deep":[{"_placeholder":true,"num":1}]}]', b"\1\2\3", b""
        )
        header = str(await client.receive())
        assert header.startswith("452-")
        assert json.loads(header[4:]) == [
            "message-back",
            {"_placeholder": True, "num": 0},
            {"deep": [{"_placeholder": True, "num": 1}]},
        ]
        assert [await client.receive(), await client.receive()] == [b"\1\2\3", b""]


@pytest.mark.parametrize("number", [0, 1, 456, 2**31])
async def test_an_acknowledgement_carries_the_id_and_the_arguments(
    server: ServerProcess, wire: Wire, number: int
) -> None:
    async with connected(wire, server) as client:
        await client.send(f'42{number}["message-with-ack",1,"2",{{"3":[false]}}]')
        assert await client.receive() == f'43{number}[1,"2",{{"3":[false]}}]'


async def test_a_binary_acknowledgement(server: ServerProcess, wire: Wire) -> None:
    async with connected(wire, server) as client:
        await client.send(
            '452-789["message-with-ack",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', b"\1", b"\2"
        )
        header = str(await client.receive())
        assert header.startswith("462-789[")
        assert json.loads(header[7:]) == [{"_placeholder": True, "num": 0}, {"_placeholder": True, "num": 1}]
        assert [await client.receive(), await client.receive()] == [b"\1", b"\2"]


async def test_none_and_null_of_a_handler_in_python_socketios_style(server: ServerProcess, wire: Wire) -> None:
    async with connected(wire, server) as client:
        await client.send('421["none"]', '422["null"]')
        assert [await client.receive(), await client.receive()] == ["431[]", "432[null]"]


async def test_an_event_that_nobody_handles_is_not_acknowledged(server: ServerProcess, wire: Wire) -> None:
    async with connected(wire, server) as client:
        await client.send('420["no such event",1]', '42[""]', '421["message-with-ack","after"]')
        assert await client.receive() == '431["after"]'


async def test_a_handler_that_raises_is_an_error_without_its_text(server: ServerProcess, wire: Wire) -> None:
    async with connected(wire, server) as client:
        await client.send('421["fails"]', '42["fails"]')
        for prefix in ("431[", '42["error",'):
            answer = str(await client.receive())
            assert answer.startswith(prefix)
            assert "secret" not in answer
            told = json.loads("[" + answer.removeprefix(prefix))[0]["error"]
            assert told["code"] == "internal"
        await still_there(client)


async def test_typed_acknowledgements(server: ServerProcess, wire: Wire) -> None:
    async with wire.client(server, "/strict/") as client:
        await enter(client, "/typed")
        await client.send('42/typed,1["echo",null]', '42/typed,2["echo",{"a":[1]}]', '42/typed,3["echo"]')
        assert [await client.receive() for _ in range(3)] == [
            "43/typed,1[null]",
            '43/typed,2[{"a":[1]}]',
            "43/typed,3[null]",
        ]
        await client.send('42/typed,4["no such event"]', '42/typed,5["secret"]', '42/typed,6["size",{"a":1}]')
        codes = []
        for number in (4, 5, 6):
            answer = str(await client.receive())
            assert answer.startswith(f"43/typed,{number}[")
            assert "secret of" not in answer
            codes.append(json.loads(answer[10:])[0]["error"]["code"])
        assert codes == ["unknown_event", "internal", "invalid_payload"]


async def test_typed_binary_both_ways(server: ServerProcess, wire: Wire) -> None:
    async with wire.client(server, "/strict/") as client:
        await enter(client, "/typed")
        await client.send('451-/typed,1["size",{"_placeholder":true,"num":0}]', b"12345")
        assert await client.receive() == "43/typed,1[5]"
        await client.send('451-/typed,2["echo",{"_placeholder":true,"num":0}]', b"\0\xff")
        assert await client.receive() == '461-/typed,2[{"_placeholder":true,"num":0}]'
        assert await client.receive() == b"\0\xff"


async def test_the_server_asks_and_the_client_answers(server: ServerProcess, wire: Wire) -> None:
    async with connected(wire, server) as client:
        await client.send('429["ask",{"q":1}]')
        question = str(await client.receive())
        assert question.startswith("42")
        number, _, body = question[2:].partition("[")
        assert json.loads("[" + body) == ["question", {"q": 1}]
        await client.send(f'43{number}["yes"]')
        assert await client.receive() == '439["yes"]'


async def test_the_server_asks_and_the_answer_is_binary(server: ServerProcess, wire: Wire) -> None:
    async with connected(wire, server) as client:
        await client.send('429["ask",1]')
        number = str(await client.receive())[2:].partition("[")[0]
        await client.send(f'461-{number}[{{"_placeholder":true,"num":0}}]', b"\7")
        assert [await client.receive(), await client.receive()] == ['461-9[{"_placeholder":true,"num":0}]', b"\7"]


@pytest.mark.hostile("A6")
async def test_a_few_answers_that_nobody_asked_for_are_ignored(server: ServerProcess, wire: Wire) -> None:
    async with connected(wire, server) as client:
        await client.send("430[]", "431[1]", "432147483648[]", '421["message-with-ack","after"]')
        assert await client.receive() == '431["after"]'


async def test_order_is_kept_through_a_burst(server: ServerProcess, wire: Wire) -> None:
    """More than the inbox of the application under test holds (16)."""
    async with connected(wire, server) as client:
        await client.send(*(f'42{number}["message-with-ack",{number}]' for number in range(200)))
        assert [await client.receive() for _ in range(200)] == [f"43{number}[{number}]" for number in range(200)]


@pytest.mark.parametrize("size", [60_000, 70_000, 900_000])
async def test_big_messages_both_ways_three_times(server: ServerProcess, wire: Wire, size: int) -> None:
    if wire.polling and size > 700_000:
        size = 700_000  # as base64 it has to fit into a POST
    blob = os.urandom(size)
    text = json.dumps(["message-with-ack", {"items": ["x" * 1_000] * (size // 1_010)}], separators=(",", ":"))
    async with connected(wire, server) as client:
        for number in range(3):
            await client.send(f"42{number}{text}")
            assert (
                await client.receive() == f"43{number}{text.replace(chr(34) + 'message-with-ack' + chr(34) + ',', '')}"
            )
            await client.send('451-["message",{"_placeholder":true,"num":0}]', blob)
            assert await client.receive() == '451-["message-back",{"_placeholder":true,"num":0}]'
            assert await client.receive() == blob


@pytest.mark.hostile("A28")
async def test_to_everyone_and_to_nobody(server: ServerProcess, wire: Wire) -> None:
    async with connected(wire, server) as client, connected(wire, server) as other:
        await client.send('42["nobody"]')
        assert await client.receive() == '42["ever"]'
        assert await other.receive() == '42["ever"]'


async def test_a_binary_broadcast_reaches_every_kind_of_client_in_its_own_form(servers: Servers) -> None:
    for wire in SOCKETS:
        server = servers.get(wire)
        async with (
            websocket(server.ws_url) as socket,
            polling(server.url) as poller,
            websocket(server.ws_url, "/packed/") as packed,
        ):
            for client in (socket, poller):
                await enter(client)
                await client.send('420["enter","r"]')
                assert await client.receive() == '430["r"]'
            assert (await packed_enter(packed, "r"))["data"] == ["r"]
            await socket.send('451-["shout","r",{"what":{"_placeholder":true,"num":0}}]', b"\0\1\xff")
            for client in (socket, poller):
                assert await client.receive() == '451-["shouted",{"what":{"_placeholder":true,"num":0}}]'
                assert await client.receive() == b"\0\1\xff"
            told = await packed.receive()
            assert isinstance(told, bytes)
            assert msgpack.unpackb(told) == {"type": 2, "nsp": "/", "data": ["shouted", {"what": b"\0\1\xff"}]}


async def packed_enter(client: Client, room: str) -> Any:
    """CONNECT, then enter the room: the acknowledgement."""
    await client.send(msgpack.packb({"type": 0, "nsp": "/"}))
    answer = await client.receive()
    assert isinstance(answer, bytes)
    assert msgpack.unpackb(answer)["type"] == 0
    await client.send(msgpack.packb({"type": 2, "nsp": "/", "id": 0, "data": ["enter", room]}))
    answer = await client.receive()
    assert isinstance(answer, bytes)
    return msgpack.unpackb(answer)


async def test_msgpack_over_polling(servers: Servers) -> None:
    async with polling(servers.get(WIRES[-1]).url, "/packed/") as client:
        assert await packed_enter(client, "room") == {"type": 3, "nsp": "/", "id": 0, "data": ["room"]}


@pytest.mark.parametrize("wire", SOCKETS, ids=str)
async def test_binary_may_be_said_in_text_on_a_websocket(server: ServerProcess, wire: Wire) -> None:
    """A client without binary frames (``forceBase64``) says ``b`` and base64."""
    async with connected(wire, server) as client:
        await client.send('451-["message",{"_placeholder":true,"num":0}]', "bAQID")
        assert await client.receive() == '451-["message-back",{"_placeholder":true,"num":0}]'
        assert await client.receive() == b"\1\2\3"
