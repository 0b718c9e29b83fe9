"""CONNECT, its answers, and the ways out again; the same on every wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.serving import ServerProcess
from tests.wire.clients import ended, enter, head, still_there, websocket
from tests.wire.servers import USUAL, Servers, Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio]


@pytest.mark.parametrize("namespace", ["/", "/custom"])
@pytest.mark.parametrize("auth", [None, {}, {"token": "123", "nested": {"a": [1, None]}}])
async def test_connect_is_answered_first_and_the_greeting_follows(
    server: ServerProcess, wire: Wire, namespace: str, auth: Any
) -> None:
    async with wire.client(server) as client:
        await client.send(f"40{head(namespace)}{'' if auth is None else json.dumps(auth)}")
        answer = str(await client.receive())
        assert answer.startswith(f"40{head(namespace)}" + "{")
        told = json.loads(answer[2 + len(head(namespace)) :])
        assert list(told) == ["sid"]
        assert told["sid"] != client.handshake["sid"], "the id of the session is a secret of its client"
        greeting = str(await client.receive())
        prefix = f"42{head(namespace)}"
        assert greeting.startswith(prefix)
        assert json.loads(greeting[len(prefix) :]) == ["auth", auth or {}]


async def test_two_namespaces_on_one_connection(server: ServerProcess, wire: Wire) -> None:
    async with wire.client(server) as client:
        assert await enter(client) != await enter(client, "/custom")
        await client.send('42/custom,["message",1]')
        assert await client.receive() == '42/custom,["message-back",1]'
        await still_there(client)


@pytest.mark.hostile("A14")
async def test_the_query_of_a_namespace_is_cut_off(server: ServerProcess, wire: Wire) -> None:
    async with wire.client(server) as client:
        await client.send("40/custom?a=b,")
        assert str(await client.receive()).startswith('40/custom,{"sid":')


@pytest.mark.hostile("A14")
@pytest.mark.parametrize("namespace", ["/random", "/custom2", "/__proto__", "/typed"])
async def test_an_unknown_namespace(server: ServerProcess, wire: Wire, namespace: str) -> None:
    async with wire.client(server) as client:
        await client.send(f"40{namespace},")
        assert await client.receive() == f'44{namespace},{{"message":"Invalid namespace"}}'
        await enter(client)
        await still_there(client)


@pytest.mark.parametrize(
    ("namespace", "query", "refusal"),
    [
        ("/", "&fail=1", {"message": "not today", "data": {"why": "because"}}),
        ("/no", "", None),
    ],
)
async def test_a_connect_handler_that_refuses(
    server: ServerProcess, wire: Wire, namespace: str, query: str, refusal: dict[str, Any] | None
) -> None:
    """CONNECT_ERROR and nothing else: what the handler had emitted to its client is never said."""
    async with wire.client(server, query=query) as client:
        await client.send(f"40{head(namespace)}")
        answer = str(await client.receive())
        assert answer.startswith(f"44{head(namespace)}" + "{")
        told = json.loads(answer[2 + len(head(namespace)) :])
        assert told == refusal if refusal else isinstance(told["message"], str)
        await enter(client, "/custom")
        await client.send(f'42{head("/custom")}["message"]')
        assert await client.receive() == '42/custom,["message-back"]'


async def test_a_connect_handler_that_raises_tells_nothing_of_why(server: ServerProcess, wire: Wire) -> None:
    async with wire.client(server, query="&raise=1") as client:
        await client.send("40")
        answer = str(await client.receive())
        assert answer.startswith("44{")
        assert "secret" not in answer
        assert json.loads(answer[2:])["data"]["code"] == "internal"


async def test_a_typed_refusal_has_message_and_data(server: ServerProcess, wire: Wire) -> None:
    async with wire.client(server, "/strict/") as client:
        await client.send('40/typed,{"refuse":true}')
        answer = str(await client.receive())
        assert answer.startswith("44/typed,{")
        assert json.loads(answer[9:]) == {
            "message": "No place",
            "data": {"code": "room_full", "message": "No place", "details": {"max": 3}},
        }


async def test_a_typed_namespace_greets_after_connect(server: ServerProcess, wire: Wire) -> None:
    async with wire.client(server, "/strict/") as client:
        await client.send("40/typed,")
        answer, greeting = str(await client.receive()), str(await client.receive())
        assert answer.startswith("40/typed,{")
        sid = json.loads(answer[9:])["sid"]
        assert greeting == f'42/typed,["hello",{{"sid":"{sid}"}}]'


async def test_a_refused_client_may_try_again(server: ServerProcess, wire: Wire) -> None:
    async with wire.client(server, "/strict/") as client:
        for _ in range(3):
            await client.send('40/typed,{"refuse":true}')
            assert str(await client.receive()).startswith("44/typed,")
        await client.send("40/typed,")
        assert str(await client.receive()).startswith("40/typed,")


async def test_refused_and_idle_is_not_connected_in_time(server: ServerProcess, wire: Wire) -> None:
    """The connect timeout of the application under test is 1 s; it begins anew with a refusal."""
    async with wire.client(server, query="&fail=1") as client:
        await client.send("40")
        assert str(await client.receive()).startswith("44")
        gone = await ended(client)
        assert gone.code == (400 if wire.polling else 1008)


async def test_leaving_the_main_namespace_keeps_the_connection(server: ServerProcess, wire: Wire) -> None:
    async with wire.client(server) as client:
        await enter(client)
        await enter(client, "/custom")
        await client.send("41", '42/custom,["message"]')
        assert await client.receive() == '42/custom,["message-back"]'


async def test_leaving_another_namespace_keeps_the_main_one(server: ServerProcess, wire: Wire) -> None:
    """Nothing is sent as an answer."""
    async with wire.client(server) as client:
        await enter(client)
        sid = await enter(client, "/custom")
        await client.send("41/custom,")
        await still_there(client)
        assert await enter(client, "/custom") != sid


async def test_who_left_may_come_back_under_another_sid(server: ServerProcess, wire: Wire) -> None:
    async with wire.client(server) as client:
        sid = await enter(client)
        await client.send("41")
        assert await enter(client) != sid


async def test_the_server_ends_a_membership(server: ServerProcess, wire: Wire) -> None:
    async with wire.client(server) as client:
        await enter(client)
        await enter(client, "/custom")
        await client.send('42["leave-me"]')
        assert await client.receive() == "41"
        await client.send('42["message","too late"]', '43["an honest race"]'.replace("43[", "430["), "41")
        await client.send('42/custom,["message"]')
        assert await client.receive() == '42/custom,["message-back"]'
        await enter(client)
        await still_there(client)


async def test_goodbye_runs_the_hook_of_each_namespace_once(servers: Servers, wire: Wire) -> None:
    server = servers.get(wire, USUAL)
    async with wire.client(server) as client, websocket(server.ws_url) as other:
        await enter(other)
        await enter(client)
        sid = await enter(client, "/custom")
        assert sid
        await client.send("1")
        assert (await ended(client)).code == (400 if wire.polling else 1000)
        await still_there(other)
