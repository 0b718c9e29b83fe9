"""Two `realtime serve` on one real Redis are one to clients of every wire; and what happens while it is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import socketio
from pydantic import SecretStr

from realtime import CloseCode, Settings, Tokens
from tests.end_to_end.clients import (
    RawClient,
    SocketIOClient,
    Told,
    chatter,
    event_stream,
    publish,
    raw,
    socket_io,
    within,
)
from tests.redis_server import RedisServer
from tests.serving import SECRET, ServerProcess, fetch

pytestmark = pytest.mark.process

CHANNEL = "socketio"
"""python-socketio's own default: writers that know nothing of us use it."""


@dataclass
class Pair:
    a: ServerProcess
    b: ServerProcess
    redis: RedisServer


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        folder = tmp_path_factory.mktemp("pair")
        yield start_pair(stack, folder, redis)


def start_pair(stack: ExitStack, folder: Path, redis: RedisServer) -> Pair:
    a, b = (stack.enter_context(instance(folder, name, redis)) for name in "ab")
    return Pair(a, b, redis)


def instance(folder: Path, name: str, redis: RedisServer) -> ServerProcess:
    """Both write to one database file, as both would to one PostgreSQL."""
    return ServerProcess(folder, "--redis", redis.url, env={"REALTIME_NODE": name, "REALTIME_WRITERS_CHANNEL": CHANNEL})


def token(user: str) -> str:
    return Tokens.from_settings(Settings(jwt_secret=SecretStr(SECRET))).issue(
        user, time.time(), 600, ["notify:publish:*"]
    )


async def say(client: Told, room: str, text: str) -> None:
    if isinstance(client, SocketIOClient):
        await client.ask("message", {"room": room, "text": text})
    else:
        assert isinstance(client, RawClient)
        await client.say(text)


@asynccontextmanager
async def six_in(pair: Pair, room: str) -> AsyncIterator[dict[str, Told]]:
    """On each instance: Socket.IO over WebSocket, Socket.IO over polling, and a raw client."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        found: dict[str, Told] = {}
        for name, server in (("a", pair.a), ("b", pair.b)):
            found[f"web-{name}"] = await enter(chatter(server.url, f"web-{name}", room, transports=["websocket"]))
            found[f"poll-{name}"] = await enter(chatter(server.url, f"poll-{name}", room, transports=["polling"]))
            found[f"raw-{name}"] = await enter(raw(server.ws_url, f"/ws/chat/raw-{name}?room={room}"))
        yield found


async def everybody_hears_everybody(clients: dict[str, Told], room: str, words: str) -> None:
    for name, speaker in clients.items():
        await say(speaker, room, f"{words} from {name}")
        for client in clients.values():
            await client.until("message", username=name, text=f"{words} from {name}", room=room)
    for client in clients.values():
        assert client.count("message") == len(set(_ids(client))), "nothing is told twice"


def _ids(client: Told) -> list[str]:
    return [data["id"] for name, data in client.all if name == "message"]


# ── chat ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_room_messages_reach_every_wire_of_both(pair: Pair) -> None:
    async with six_in(pair, "both") as clients, chatter(pair.b.url, "elsewhere", "another") as bystander:
        await everybody_hears_everybody(clients, "both", "hello")
        assert not bystander.count("message")


@pytest.mark.asyncio
async def test_arrivals_typing_and_departures_cross(pair: Pair) -> None:
    async with chatter(pair.a.url, "ada", "hall") as ada, raw(pair.a.ws_url, "/ws/chat/old?room=hall") as old:
        async with raw(pair.b.ws_url, "/ws/json-chat/ben?room=hall") as ben:
            await ada.until("joined", username="ben")
            await old.until("system", text="ben joined the chat")
            await ada.emit("typing", {"room": "hall", "typing": True})
            await ben.until("user_typing", username="ada")
            await ben.say({"type": "typing", "username": "ben"})
            await ada.until("typing", username="ben", typing=True)
        await ada.until("left", username="ben", seconds=8)
        await old.until("system", text="ben left the chat", seconds=8)
        for event in ("joined", "left"):
            assert ada.count(event, username="ben") == 1
        for text in ("ben joined the chat", "ben left the chat"):
            assert old.count("system", text=text) == 1


@pytest.mark.asyncio
async def test_direct_messages_find_every_connection_of_both_users(pair: Pair) -> None:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        alice = await enter(chatter(pair.a.url, "alice", "d1"))
        alice_too = await enter(chatter(pair.b.url, "alice", "d2", transports=["polling"]))
        bob = await enter(raw(pair.b.ws_url, "/ws/chat/bob?room=d3"))
        carol = await enter(chatter(pair.b.url, "carol", "d1"))
        sent = await alice.ask("direct", {"to": "bob", "text": "psst"})
        for client in (alice, alice_too, bob):
            told = await client.until("message", id=sent["id"])
            assert (told["room"], told["text"]) == ("@alice:bob", "psst")
        await say(alice, "d1", "to all")
        await carol.until("message", text="to all")
        assert carol.count("message") == 1, "a direct message is for two"


# ── notifications ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_notifications_cross_to_every_wire(pair: Pair) -> None:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        clients: list[Told] = []
        for server in (pair.a, pair.b):
            browser = await enter(socket_io(server.url, "/notify"))
            await browser.ask("subscribe", {"topic": "orders"})
            clients.append(browser)
            clients.append(await enter(raw(server.ws_url, "/ws/notify/orders")))
            clients.append(await enter(event_stream(server.url, "orders")))
        other = await enter(event_stream(pair.b.url, "invoices"))
        publisher = await enter(socket_io(pair.b.url, "/notify", auth={"token": token("publisher")}))
        notice = {"topic": "orders", "title": "from b", "message": "over Socket.IO"}
        for answer in (await publish(pair.a.url, "orders", "from a"), await publisher.ask("publish", notice)):
            for client in clients:
                await client.until("notification", id=answer["id"])
        for client in clients:
            assert client.count("notification") == 2
        assert not other.all


# ── secure ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_secure_messages_find_a_user_on_the_other_instance(pair: Pair) -> None:
    async with (
        socket_io(pair.a.url, "/secure", auth={"token": token("alice")}) as alice,
        socket_io(pair.b.url, "/secure", auth={"token": token("bob")}) as bob,
        raw(pair.b.ws_url, f"/ws/secure?token={token('bob')}") as bob_raw,
        socket_io(pair.b.url, "/secure", auth={"token": token("carol")}) as carol,
    ):
        await alice.ask("message", {"to": "bob", "text": "for bob"})
        for client in (bob, bob_raw):
            told = await client.until("message", text="for bob")
            assert told["from"] == "alice"
        await bob.ask("message", {"text": "for all"})
        for client in (alice, bob, bob_raw, carol):
            await client.until("message", text="for all")
        assert carol.count("message") == 1
        assert alice.count("message") == 1


@pytest.mark.asyncio
async def test_the_name_of_a_token_holder_is_taken_on_both(pair: Pair) -> None:
    """A guest of that name has to go, wherever he is, and no other gets in."""
    async with AsyncExitStack() as stack:
        guest = await stack.enter_async_context(chatter(pair.b.url, "dora", "names"))
        plain = await stack.enter_async_context(raw(pair.b.ws_url, "/ws/chat/dora?room=names"))
        ed = await stack.enter_async_context(chatter(pair.b.url, "ed", "names"))
        holder = await stack.enter_async_context(socket_io(pair.a.url, "/chat", auth={"token": token("dora")}))
        await within(guest.gone.wait())
        code, _ = await within(plain.closed)
        assert code == CloseCode.REPLACED
        with pytest.raises(socketio.exceptions.ConnectionError):
            await stack.enter_async_context(chatter(pair.b.url, "dora", "names"))
        sent = await ed.ask("direct", {"to": "dora", "text": "for the holder"})
        await holder.until("message", id=sent["id"])
        assert not guest.count("message")


# ── the server's own API, and writers that only know python-socketio ─────────────────────────────


@pytest.mark.asyncio
async def test_a_plain_python_socketio_writer_reaches_our_clients(pair: Pair) -> None:
    message = {"id": "w1", "room": "works", "username": "cron", "text": "tea is ready", "message": "tea is ready"}
    async with six_in(pair, "works") as clients:
        writer = socketio.RedisManager(pair.redis.url, channel=CHANNEL, write_only=True)
        try:
            await asyncio.to_thread(writer.emit, "message", {**message, "timestamp": "now"}, "/chat", "works")
            for client in clients.values():
                await client.until("message", id="w1", text="tea is ready")
                assert client.count("message") == 1
        finally:
            await asyncio.to_thread(writer.redis.close)


OWN_APP = """
from fastapi import FastAPI
from realtime import Realtime, socketio

app = FastAPI()
realtime = Realtime(app, health=True)
sio = realtime.server


@sio.event
async def put_out(sid, other):
    await sio.disconnect(other)


@sio.event
async def enter(sid, room):
    await sio.enter_room(sid, room)


@sio.event
async def shout(sid, room, words):
    await sio.emit("shouted", words, to=room)
"""


@pytest.mark.asyncio
async def test_disconnect_and_emit_of_the_server_cross(pair: Pair, tmp_path: Path) -> None:
    """In an application of one's own, on its own channel."""
    (tmp_path / "own.py").write_text(OWN_APP)
    env = {"REALTIME_REDIS_CHANNEL": "own"}
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(ServerProcess(tmp_path, "own:app", "--redis", pair.redis.url, env=env)) for _ in "12"
        )
        async with socket_io(one.url, "/") as ann, socket_io(two.url, "/") as ben:
            await ann.call("enter", "den")
            await ben.call("enter", "den")
            await ann.emit("shout", ("den", "hey"))
            for client in (ann, ben):
                await _until_text(client, "hey")
            await ann.emit("put_out", ben.client.get_sid("/"))
            await within(ben.gone.wait())
            assert not ann.gone.is_set()


async def _until_text(client: SocketIOClient, words: str) -> None:
    assert await client.until("shouted") == words


# ── Redis goes away ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_redis_away_and_back(tmp_path: Path) -> None:
    """Not ready meanwhile; local traffic goes on; afterwards messages cross again, for those who stayed."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        pair = start_pair(stack, tmp_path, redis)
        async with six_in(pair, "storm") as clients:
            await everybody_hears_everybody(clients, "storm", "before")
            redis.kill()
            for server in (pair.a, pair.b):
                await asyncio.to_thread(server.until, lambda server=server: not is_ready(server))
                assert fetch(server.url + "/health/live")[0] == 200
            for name in "ab":
                neighbours = {key: client for key, client in clients.items() if key.endswith(name)}
                await everybody_hears_everybody(neighbours, "storm", "meanwhile")
            redis.start()
            for server in (pair.a, pair.b):
                await asyncio.to_thread(server.until, lambda server=server: is_whole(server), 10)
            await everybody_hears_everybody(clients, "storm", "after")


def is_ready(server: ServerProcess) -> bool:
    status = fetch(server.url + "/health/ready")[0]
    assert status in (200, 503)
    return status == 200


def is_whole(server: ServerProcess) -> bool:
    """Ready, and subscribed again."""
    return is_ready(server) and b"realtime_bus_up 1.0" in fetch(server.url + "/metrics")[1]
