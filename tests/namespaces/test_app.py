"""The application as a whole: two instances on one Redis, rights that end with their namespace, doors of the house."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr
from socketio.exceptions import ConnectionError as NotConnected
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect

from adapters.memory import MemoryNameHolders
from namespaces.app import create_app
from realtime import UsageError
from tests.end_to_end.clients import chatter, event_stream, raw, socket_io, within
from tests.namespaces.asking import gone, problem_of, refusal
from tests.namespaces.running import SECONDS, RunningApp, fresh, plain_client, settings_for, token
from tests.redis_server import RedisServer
from tests.serving import SECRET


@pytest.fixture(scope="module")
def instances(
    shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningApp, RunningApp]]:
    """Two instances with one Redis, and one database as well."""
    options = {"redis_url": shared_redis.url, "redis_channel": fresh("features"), "jwt_leeway_seconds": 0}
    folder = tmp_path_factory.mktemp("instances")
    with RunningApp(settings_for(folder, **options)) as one, RunningApp(settings_for(folder, **options)) as other:
        asyncio.run(until_they_hear_each_other(one, other))
        yield one, other


async def until_they_hear_each_other(one: RunningApp, other: RunningApp) -> None:
    topic = fresh("topic")
    async with raw(one.ws_url, f"/ws/notify/{topic}") as here, raw(other.ws_url, f"/ws/notify/{topic}") as there:
        for publisher, listener in ((one, there), (other, here)):
            heard = asyncio.ensure_future(listener.until("notification", seconds=SECONDS * 2))
            async with aiohttp.ClientSession() as http:
                while not heard.done():
                    notice = {"title": "is anybody", "message": "there"}
                    async with http.post(f"{publisher.url}/notify/{topic}", params=notice) as answer:
                        assert answer.status == 200
                    await asyncio.wait([heard], timeout=0.05)
            await heard


def guest(server: RunningApp, name: str, **options: Any) -> Any:
    return socket_io(server.url, "/chat", auth={"username": name}, **options)


def holder(server: RunningApp, name: str, *scopes: str) -> Any:
    return socket_io(server.url, "/chat", auth={"token": token(name, *scopes)})


# ── two instances ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_the_name_of_a_token_holder_is_not_free_on_the_other_instance(
    instances: tuple[RunningApp, RunningApp],
) -> None:
    one, other = instances
    alice = fresh("alice")
    async with holder(one, alice) as first:
        await first.ask("members", {"room": "lobby"})  # so that its greeting is over
        for server in (one, other):
            assert (await refusal(server.url, "/chat", {"username": alice}))["data"]["code"] == "name_taken"
        async with holder(other, alice) as second:
            await second.ask("members", {"room": "lobby"})
        assert (await refusal(other.url, "/chat", {"username": alice}))["data"]["code"] == "name_taken"

    async def free() -> None:
        async with guest(other, alice) as late:
            await late.ask("members", {"room": "lobby"})

    await eventually(free)


async def eventually(work: Callable[[], Awaitable[None]]) -> None:
    """Try until it goes well; what is waited for is a good-bye on its way between two servers."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await work()
                return
            except NotConnected:
                continue


@pytest.mark.asyncio
async def test_a_guest_gives_way_to_a_token_holder_on_the_other_instance(
    instances: tuple[RunningApp, RunningApp],
) -> None:
    one, other = instances
    alice, room = fresh("alice"), fresh("room")
    async with (
        chatter(one.url, alice, room, transports=["websocket"]) as tab,
        chatter(one.url, alice, room, transports=["polling"]) as second,
        raw(one.ws_url, f"/ws/json-chat/{alice}?room={room}") as plain,
        chatter(one.url, "bystander", room) as bystander,
    ):
        async with holder(other, alice) as rightful:
            for client in (tab, second):
                assert (await client.until("error"))["error"]["code"] == "name_taken"
                await gone(client)
            assert (await plain.until("error"))["code"] == "name_taken"
            assert (await within(plain.closed))[0] == 4504
            await bystander.until("left", username=alice)
            await bystander.ask("direct", {"to": alice, "text": "for you alone"})
            await rightful.until("message", text="for you alone")
        assert [client.count("message") for client in (tab, second)] == [0, 0]
        assert plain.count("chat") == 0
        await bystander.ask("message", {"room": room, "text": "undisturbed"})
        await bystander.until("message", text="undisturbed")


@pytest.mark.asyncio
async def test_everything_but_counting_crosses_instances(instances: tuple[RunningApp, RunningApp]) -> None:
    one, other = instances
    room, topic, bob = fresh("room"), fresh("topic"), fresh("bob")
    async with (
        chatter(one.url, "anna", room) as anna,
        chatter(other.url, bob, room) as there,
        raw(other.ws_url, f"/ws/chat/rita?room={room}") as rita,
        socket_io(one.url, "/secure", auth={"token": token("anna")}) as secure,
        raw(other.ws_url, f"/ws/secure?token={token(bob)}") as secured,
        event_stream(other.url, topic) as stream,
    ):
        await anna.until("joined", username="rita")
        await anna.ask("message", {"room": room, "text": "across"})
        for client in (anna, there, rita):
            await client.until("message", text="across")
        await anna.ask("direct", {"to": bob, "text": "psst"})
        await there.until("message", text="psst")
        await secure.ask("message", {"to": bob, "text": "secret"})
        await secured.until("message", text="secret")
        async with aiohttp.ClientSession() as http:
            notice = {"title": "t", "message": "m"}
            async with http.post(f"{one.url}/notify/{topic}", params=notice) as answer:
                assert (await answer.json())["sent"] == 0  # of this instance, until presence comes
        await stream.until("notification", title="t")
        assert rita.count("message", text="psst") == 0


@pytest.mark.asyncio
async def test_without_redis_an_instance_goes_on_alone_and_puts_names_right_afterwards(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("namespaces.chat.NAME_CHECK_SECONDS", 0.0)
    alice, room = fresh("alice"), fresh("room")
    with ExitStack() as stack:
        settings = settings_for(tmp_path, redis_url=redis_server.url)
        one, other = (stack.enter_context(RunningApp(settings)) for _ in range(2))
        redis_server.kill()
        async with chatter(one.url, alice, room) as intruder, raw(one.ws_url, f"/ws/chat/bob?room={room}") as bob:
            await intruder.ask("message", {"room": room, "text": "alone"})
            await bob.until("message", text="alone")
            async with holder(other, alice) as rightful:
                await rightful.ask("join", {"room": room})
                redis_server.start()
                leaving = asyncio.ensure_future(intruder.gone.wait())
                async with asyncio.timeout(20):
                    while not leaving.done():
                        await intruder.emit("message", {"room": room, "text": "still alice"})
                        await asyncio.wait([leaving], timeout=0.1)
                assert (await intruder.until("error"))["error"]["code"] == "name_taken"
                await rightful.ask("message", {"room": room, "text": "I am"})


# ── rights end with their namespace ──────────────────────────────────────────────────────────────


@asynccontextmanager
async def engine(server: RunningApp) -> AsyncIterator[ClientConnection]:
    """Packets by hand: no library holds back what it would not send."""
    async with connect(f"{server.ws_url}/socket.io/?EIO=4&transport=websocket") as websocket:
        assert str(await within(websocket.recv())).startswith("0")
        yield websocket


async def packet(websocket: ClientConnection, text: str) -> str:
    await websocket.send(text)
    return str(await within(websocket.recv()))


@pytest.mark.hostile("F3", on="websocket")
@pytest.mark.asyncio
async def test_a_token_shown_to_one_namespace_gives_no_rights_in_another(server: RunningApp) -> None:
    shown = json.dumps({"token": token(fresh("powerful"), "*")})
    async with engine(server) as client:
        assert (await packet(client, f"40/chat,{shown}")).startswith("40/chat,")
        assert (await packet(client, "40/secure,")).startswith("44/secure,")
        assert (await packet(client, '40/secure,{"username":"powerful"}')).startswith("44/secure,")
        assert (await packet(client, "40/notify,")).startswith("40/notify,")
        said = json.dumps(["publish", {"topic": "orders", "title": "t", "message": "m"}])
        assert "unauthorized" in await packet(client, f"42/notify,1{said}")
        assert "members" in await packet(client, '42/chat,2["members",{"room":"lobby"}]')


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "said", ['42/secure,1["whoami"]', '42/secure,1["message",{"text":"x"}]', '42/notify,1["publish",{}]']
)
async def test_an_event_for_a_namespace_that_did_not_let_one_in_ends_the_connection(
    server: RunningApp, said: str
) -> None:
    async with socket_io(server.url, "/secure", auth={"token": token("bystander")}) as bystander:
        async with engine(server) as client:
            assert (await packet(client, '40/chat,{"username":"mallory"}')).startswith("40/chat,")
            await client.send(said)
            await within(client.wait_closed())
            assert client.close_code == 4501
        assert (await bystander.ask("whoami"))["user_id"] == "bystander"
        assert bystander.all == []


@pytest.mark.asyncio
async def test_a_room_of_one_namespace_is_no_room_of_another(server: RunningApp) -> None:
    name = fresh("name")
    async with (
        chatter(server.url, "alice", name) as chatting,
        socket_io(server.url, "/notify") as following,
        raw(server.ws_url, f"/ws/notify/{name}") as plain,
    ):
        await following.ask("subscribe", {"topic": name})
        await chatting.ask("message", {"room": name, "text": "chat"})
        notice = {"title": "t", "message": "m"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{server.url}/notify/{name}", params=notice) as answer,
        ):
            assert (await answer.json())["sent"] == 2
        await following.until("notification")
        await plain.until("notification")
        assert following.count("message") == plain.count("message") == 0
        assert chatting.count("notification") == 0
        assert (await problem_of(following, "members", {"room": name}))["code"] == "unknown_event"


# ── the house ────────────────────────────────────────────────────────────────────────────────────


def test_production_says_what_is_not_safe(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as failure:
        create_app(settings_for(tmp_path, environment="production", jwt_secret=SecretStr("short")))
    assert "REALTIME_JWT_SECRET" in str(failure.value)
    assert "REALTIME_ALLOWED_ORIGINS" in str(failure.value)
    assert "short" not in str(failure.value).replace("shortest", "")
    create_app(settings_for(tmp_path, environment="production", allowed_origins=["https://a.example"]))


def test_what_is_handed_over_is_used(tmp_path: Path) -> None:
    holders = MemoryNameHolders()
    asyncio.run(holders.hold("alice"))
    client = TestClient(create_app(settings_for(tmp_path), holders=holders))
    with pytest.raises(WebSocketDisconnect) as failure, client.websocket_connect("/ws/chat/alice"):
        pass
    assert (failure.value.code, failure.value.reason) == (1008, "This name belongs to somebody with a token")


def test_pages_and_files(tmp_path: Path) -> None:
    client = plain_client(tmp_path)
    page = client.get("/")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    for path in (
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/%00",
    ):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert answer.json()["code"] == "not_found"
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}
    assert "realtime_" in client.get("/metrics").text


@pytest.mark.asyncio
async def test_without_its_database_the_chat_goes_on(tmp_path: Path) -> None:
    (tmp_path / "chat.db").mkdir()  # where the file should be
    room = fresh("room")
    with RunningApp(settings_for(tmp_path)) as server:
        async with chatter(server.url, "alice", room) as alice, aiohttp.ClientSession() as http:
            assert (await alice.ask("message", {"room": room, "text": "hi"}))["id"]
            await alice.until("message", text="hi")
            assert (await problem_of(alice, "history", {"room": room}))["code"] == "unavailable"
            async with http.get(f"{server.url}/chat/{room}/history") as answer:
                assert (answer.status, (await answer.json())["code"]) == (503, "unavailable")
                assert answer.headers["retry-after"]
            async with http.get(f"{server.url}/health/ready") as ready:
                assert ready.status == 503
                assert "database" in (await ready.json())["problems"]


@pytest.mark.hostile("E5", on="websocket, plain")
@pytest.mark.asyncio
async def test_a_token_is_in_no_log_line(server: RunningApp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    secret = token(fresh("alice"))
    async with (
        socket_io(server.url, "/secure", auth={"token": secret}) as client,
        raw(server.ws_url, f"/ws/secure?token={secret}"),
        raw(server.ws_url, f"/ws/lifecycle?token={secret}"),
        aiohttp.ClientSession() as http,
    ):
        await problem_of(client, "refresh", {"token": secret + "x"})
        async with http.get(f"{server.url}/chat/lobby/history?token={secret}x") as answer:
            assert answer.status == 401
            assert secret not in await answer.text()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith(("realtime", "uvicorn"))]
    assert lines
    assert [line for line in lines if secret in line or SECRET in line] == []


def test_the_documentation_says_how_an_event_stream_resumes(tmp_path: Path) -> None:
    client = TestClient(create_app(settings_for(tmp_path)))
    parameters = client.get("/openapi.json").json()["paths"]["/notify/{topic}/events"]["get"]["parameters"]
    assert [(each["in"], each["name"]) for each in parameters] == [("path", "topic"), ("header", "Last-Event-ID")]
    assert "Last-Event-ID" in client.get("/docs").text.split("/notify/{topic}/events", 1)[1]
