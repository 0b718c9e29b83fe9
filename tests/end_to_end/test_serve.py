"""`realtime serve` as a real process: every HTTP route, and clients of every kind in one room."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from tests.end_to_end.clients import chatter, event_stream, get_json, polling, raw, socket_io, within
from tests.javascript import Node
from tests.serving import ServerProcess, fetch

pytestmark = pytest.mark.process

NODE_CLIENT = """
import { io } from "socket.io-client";
const [url, room, ...others] = process.argv.slice(1);
const socket = io(`${url}/chat`, { auth: { username: "nora" } });
const heard = new Promise((resolve) => {
  const missing = new Set([...others, "nora"]);
  socket.on("message", (message) => {
    if (message.text !== `hello from ${message.username}` || message.room !== room) throw new Error(message.text);
    missing.delete(message.username);
    if (!missing.size) resolve();
  });
});
const joined = await socket.timeout(5000).emitWithAck("join", { room });
const said = await socket.timeout(5000).emitWithAck("message", { room, text: "hello from nora" });
await heard;
console.log(JSON.stringify({ joined, said, transport: socket.io.engine.transport.name }));
socket.disconnect();
"""


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("/", "text/html", b"<title>realtime-rooms</title>"),
        ("/static/demo.js", "text/javascript", b"socket.io.esm.min.js"),
        ("/socket.io/socket.io.esm.min.js", "text/javascript", b"Socket.IO v4.8.4"),
        ("/health/live", "application/json", b"live"),
        ("/health/ready", "application/json", b"ready"),
        ("/metrics", "text/plain", b"# TYPE realtime_"),
        ("/docs", "text/html", b"/notify/{topic}"),
    ],
)
@pytest.mark.asyncio
async def test_pages(app_server: ServerProcess, path: str, kind: str, words: bytes) -> None:
    async with aiohttp.ClientSession() as session, session.get(app_server.url + path) as response:
        assert response.status == 200
        assert response.content_type == kind
        assert words in await response.read()


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_nothing_from_elsewhere(app_server: ServerProcess, path: str) -> None:
    page = fetch(app_server.url + path)[1].decode()
    for attribute in ('src="http', 'src="//', 'href="http', 'href="//', "@import", "url(http"):
        assert attribute not in page


@pytest.mark.parametrize("form", ["params", "data", "json"])
@pytest.mark.asyncio
async def test_publish_reaches_subscribers_of_every_wire_and_counts_them(app_server: ServerProcess, form: str) -> None:
    topic = f"orders-{form}"
    notice = {"title": "Paid", "message": "Order 7", "level": "success"}
    async with AsyncExitStack() as stack:
        browser = await stack.enter_async_context(socket_io(app_server.url, "/notify"))
        plain = await stack.enter_async_context(raw(app_server.ws_url, f"/ws/notify/{topic}"))
        stream = await stack.enter_async_context(event_stream(app_server.url, topic))
        bystander = await stack.enter_async_context(raw(app_server.ws_url, "/ws/notify/another"))
        await browser.ask("subscribe", {"topic": topic})
        session = await stack.enter_async_context(aiohttp.ClientSession())
        body: Any = {form: notice}
        async with session.post(f"{app_server.url}/notify/{topic}", **body) as response:
            assert response.status == 200
            answer = await response.json()
        assert answer == {"sent": 3, "id": answer["id"]}
        wanted = {**notice, "topic": topic, "id": answer["id"]}
        for client, name in ((browser, "notification"), (stream, "notification"), (plain, "notification")):
            told = await client.until(name)
            assert wanted.items() <= told.items()
            assert told["timestamp"].endswith("Z")
        assert bystander.all == []


@pytest.mark.asyncio
async def test_history_over_http(app_server: ServerProcess) -> None:
    async with chatter(app_server.url, "hilda", "archive") as hilda:
        ids = [(await hilda.ask("message", {"room": "archive", "text": f"line {n}"}))["id"] for n in range(5)]
    status, page = await get_json(f"{app_server.url}/chat/archive/history?limit=3")
    assert status == 200
    assert [message["text"] for message in page["messages"]] == ["line 2", "line 3", "line 4"]
    assert page["more"] is True
    status, older = await get_json(f"{app_server.url}/chat/archive/history?before={page['messages'][0]['id']}")
    assert [message["id"] for message in older["messages"]] == ids[:2]
    assert older["more"] is False
    for limit in ("0", "201", "x"):
        status, refusal = await get_json(f"{app_server.url}/chat/archive/history?limit={limit}")
        assert status == 422
        assert {"code", "message"} <= refusal.keys()
    status, refusal = await get_json(f"{app_server.url}/chat/@alice:bob/history")
    assert (status, refusal["code"]) == (403, "system_room")


# ── one room ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_every_kind_of_client_in_one_room(app_server: ServerProcess, node: Node) -> None:
    """Node, python-socketio over both transports, Engine.IO by hand, and both raw chats hear each other."""
    url, ws_url, room = app_server.url, app_server.ws_url, "everyone"
    others = ["webber", "pollux", "handy", "rawly", "jason", "gene"]
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        webber = await enter(chatter(url, "webber", room, transports=["websocket"]))
        pollux = await enter(chatter(url, "pollux", room, transports=["polling"]))
        rawly = await enter(raw(ws_url, f"/ws/chat/rawly?room={room}"))
        jason = await enter(raw(ws_url, f"/ws/json-chat/jason?room={room}"))
        gene = await enter(raw(ws_url, f"/ws/rooms/chat/{room}?username=gene"))
        handy = await enter(polling(url, "/chat", {"username": "handy"}))
        await handy.post(f'42/chat,1["join",{{"room":"{room}"}}]')
        await handy.get_until("43/chat,1[")

        report = asyncio.create_task(node.run_beside(NODE_CLIENT, url, room, *others))
        first = await webber.until("message", seconds=15, username="nora")
        for client, name in ((pollux, "message"), (rawly, "message"), (jason, "chat"), (gene, "message")):
            told = await client.until(name, username="nora")
            told.pop("type", None)
            assert told == first
        heard = json.loads((await handy.get_until('42/chat,["message"'))[len("42/chat,") :])
        assert heard == ["message", first, heard[-1]]
        assert isinstance(heard[-1], str), "its offset"
        text = "hello from nora"
        assert first == {**first, "room": room, "text": text, "message": text}
        assert first.keys() == {"id", "room", "username", "text", "message", "timestamp"}

        await webber.ask("message", {"room": room, "text": "hello from webber"})
        await pollux.ask("message", {"room": room, "text": "hello from pollux"})
        await handy.post(f'42/chat,2["message",{{"room":"{room}","text":"hello from handy"}}]')
        await rawly.say("hello from rawly")
        await jason.say({"type": "chat", "username": "somebody else", "text": "hello from jason"})
        data = {"room": room, "text": "hello from gene"}
        await gene.say({"event": "message", "data": data, "id": 7})

        found = json.loads(await within(report, 15))
        assert set(found["joined"]["members"]) == {*others, "nora"}
        assert found["said"]["id"] == first["id"]
        assert found["transport"] == "websocket"
        for client, name in ((webber, "message"), (pollux, "message"), (rawly, "message"), (jason, "chat")):
            for other in set(others) - {"webber"}:
                if not client.count(name, username=other):
                    await client.until(name, username=other)
            assert [client.count(name, username=other) for other in [*others, "nora"]] == [1] * 7


@pytest.mark.asyncio
async def test_typing_members_direct_and_departure(app_server: ServerProcess) -> None:
    url, room = app_server.url, "manners"
    async with chatter(url, "ada", room) as ada, chatter(url, "ben", room, transports=["polling"]) as ben:
        async with raw(app_server.ws_url, f"/ws/json-chat/cy?room={room}") as cy:
            assert (await ada.until("joined", username="cy"))["room"] == room
            await ada.emit("typing", {"room": room, "typing": True})
            await ben.until("typing", username="ada", typing=True)
            await cy.until("user_typing", username="ada")
            await cy.say({"type": "typing", "username": "cy"})
            await ada.until("typing", username="cy", typing=True)
            members = (await ben.ask("members", {"room": room}))["members"]
            assert {one["username"]: one["connections"] for one in members} == {"ada": 1, "ben": 1, "cy": 1}
            sent = await ada.ask("direct", {"to": "cy", "text": "psst"})
            for client, name in ((ada, "message"), (cy, "chat")):
                told = await client.until(name, id=sent["id"])
                assert (told["room"], told["text"]) == ("@ada:cy", "psst")
            await cy.say("not json")
            assert (await cy.until("error"))["code"] == "invalid_json"
        await ben.until("left", username="cy", seconds=8)
        assert not ben.count("message"), "a direct message is for two"
