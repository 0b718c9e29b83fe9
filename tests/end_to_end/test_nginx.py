"""examples/deploy/nginx.conf in a real nginx, in front of two real instances on one real Redis.

What nginx itself does with requests is looked at in tests/examples/test_deploy_nginx.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from websockets.exceptions import InvalidStatus

from tests.end_to_end.clients import (
    SocketIOClient,
    Told,
    chatter,
    event_stream,
    polling,
    publish,
    raw,
    socket_io,
    within,
)
from tests.examples.test_deploy_nginx import enterable_folder, rendered
from tests.redis_server import RedisServer
from tests.serving import ServerProcess, free_port, program

pytestmark = pytest.mark.process


@dataclass
class Site:
    nginx: ServerProcess
    instances: dict[str, ServerProcess]


def instance(folder: Path, name: str, redis: RedisServer) -> ServerProcess:
    env = {"REALTIME_NODE": name, "REALTIME_TRUSTED_PROXIES": "127.0.0.1"}
    env["REALTIME_CHAT_TEXT_LIMIT_CHARACTERS"] = "300000"  # a message that a proxy has to take in several pieces
    return ServerProcess(folder, "--redis", redis.url, env=env)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    nginx = program("nginx", package="nginx")
    with ExitStack() as stack:
        folder = stack.enter_context(enterable_folder())
        redis = stack.enter_context(RedisServer())
        instances = {name: stack.enter_context(instance(folder, name, redis)) for name in "ab"}
        port = free_port()
        conf = folder / "nginx.conf"
        conf.write_text(rendered(port, instances["a"].port, instances["b"].port))
        command = [nginx, "-p", f"{folder}/", "-e", "stderr", "-c", str(conf), "-g", "daemon off;"]
        yield Site(stack.enter_context(ServerProcess(folder, command=command, port=port)), instances)


def node_of(client: SocketIOClient) -> str:
    return str(client.client.eio.sid).partition(".")[0]


@pytest.mark.asyncio
async def test_clients_of_every_wire_meet_whatever_instance_they_came_to(site: Site) -> None:
    url, ws_url, room = site.nginx.url, site.nginx.ws_url, "meeting"
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        pollers = [await enter(chatter(url, f"poll-{n}", room, transports=["polling"])) for n in range(4)]
        upgraded = [await enter(chatter(url, f"up-{n}", room)) for n in range(4)]
        webs = [await enter(chatter(url, f"web-{n}", room, transports=["websocket"])) for n in range(2)]
        raws = [await enter(raw(ws_url, f"/ws/chat/raw-{n}?room={room}")) for n in range(2)]
        handy = await enter(polling(url, "/chat", {"username": "handy"}))
        assert handy.sid.partition(".")[0] in ("a", "b")
        assert {node_of(client) for client in pollers} == {"a", "b"}, "the fewest connections first"
        assert {node_of(client) for client in upgraded} == {"a", "b"}
        assert {client.client.transport() for client in pollers} == {"polling"}
        assert {client.client.transport() for client in (*upgraded, *webs)} == {"websocket"}

        everybody: list[Told] = [*pollers, *upgraded, *webs, *raws]
        large = "x" * 200_000
        for speaker in (pollers[0], upgraded[0], webs[0]):
            for text in (f"hello from {node_of(speaker)}", large):
                sent = await speaker.ask("message", {"room": room, "text": text})
                for listener in everybody:
                    await listener.until("message", id=sent["id"], text=text)
        await raws[0].say("hello from raw")
        for listener in everybody:
            await listener.until("message", username="raw-0")


@pytest.mark.asyncio
async def test_events_and_publishing_through_it(site: Site) -> None:
    """The stream is passed on as it comes, from whichever instance."""
    async with (
        event_stream(site.nginx.url, "orders") as one,
        event_stream(site.nginx.url, "orders") as two,
        raw(site.nginx.ws_url, "/ws/notify/orders") as three,
        socket_io(site.nginx.url, "/notify") as four,
    ):
        await four.ask("subscribe", {"topic": "orders"})
        for _ in range(2):
            answer = await publish(site.nginx.url, "orders", "through nginx")
            for client in (one, two, three, four):
                await client.until("notification", id=answer["id"])
                assert client.count("notification", id=answer["id"]) == 1


@pytest.mark.asyncio
async def test_the_page_behind_it_may_connect_and_a_foreign_one_may_not(site: Site) -> None:
    """The instances compare Origin with the Host that the browser used, port included."""
    for origin, allowed in ((site.nginx.url, True), ("https://evil.example", False)):
        headers = {"Origin": origin, "X-Forwarded-Host": "evil.example"}
        handshake = f"{site.nginx.url}/socket.io/?EIO=4&transport=polling"
        async with aiohttp.ClientSession(headers=headers) as session, session.get(handshake) as response:
            assert response.status == (200 if allowed else 403)
        try:
            async with raw(site.nginx.ws_url, "/ws", additional_headers=headers) as plain:
                await plain.say("hi")
                await plain.until("text", text="Echo: hi")
                assert allowed
        except InvalidStatus as refused:
            assert not allowed
            assert refused.response.status_code == 403


@pytest.mark.asyncio
async def test_an_instance_taken_away_sends_its_clients_to_the_other(site: Site) -> None:
    url, ws_url = site.nginx.url, site.nginx.ws_url
    try:
        async with AsyncExitStack() as stack:
            raws = [await stack.enter_async_context(raw(ws_url, f"/ws/chat/raw-{n}?room=r")) for n in range(4)]
            await asyncio.to_thread(site.instances["b"].stop)
            async with asyncio.timeout(5):
                await asyncio.wait([client.closed for client in raws], return_when=asyncio.FIRST_COMPLETED)
            told = [client.closed.result() for client in raws if client.closed.done()]
            assert len(told) == 2, "those of the other instance stay"
            assert {code for code, _ in told} == {4440}
            stayed = next(client for client in raws if not client.closed.done())
            async with chatter(url, "back", "r") as back, raw(ws_url, "/ws/chat/back-too?room=r") as back_too:
                assert node_of(back) == "a"
                await back.ask("message", {"room": "r", "text": "here again"})
                for client in (stayed, back_too):
                    await within(client.until("message", text="here again"))
    finally:
        await asyncio.to_thread(site.instances["b"].start)
