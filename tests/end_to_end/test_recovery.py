"""Recovery as clients see it: stock clients, plain ones and event streams, over real sockets, on both wires."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
import socketio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.end_to_end.clients import SECONDS, PollingClient, within
from tests.end_to_end.stock_client import WATCHED
from tests.javascript import Node
from tests.serving import ROOT, ServerProcess

pytestmark = pytest.mark.process


@pytest.fixture(scope="module", params=["fast", "portable"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("recovery")
    command = [sys.executable, "-m", "realtime", "serve", "tests.end_to_end.recovery_app:app", "--port", "{port}"]
    database = f"sqlite+aiosqlite:///{(folder / 'chat.db').as_posix()}"
    with ServerProcess(
        folder,
        *("--wire", request.param, "--database", database),
        command=command,
        env={"PYTHONPATH": str(ROOT)},
    ) as running:
        yield running


async def tell(server: ServerProcess, room: str, text: str, **query: str) -> int:
    url = f"{server.url}/board/{room}"
    async with aiohttp.ClientSession() as http, http.post(url, params={"text": text, **query}) as answer:
        return int(await answer.text())


JAVASCRIPT = (
    """
import { io } from "socket.io-client";
const [url, room, options] = process.argv.slice(1);
const socket = io(url + "/board", { reconnectionDelay: 50, reconnectionDelayMax: 100, ...JSON.parse(options) });
const tell = (text, query = "") => fetch(`${url}/board/${room}?text=${text}${query}`, { method: "POST" });
"""
    + WATCHED
    + """
await tell("first");
await heard("first");
for (const round of ["one", "two"]) {
  const back = connected();
  socket.io.reconnection(false); // away until all of it was said, however slow the machine
  socket.io.engine.close();
  await tell(`${round}-a`);
  await tell(`${round}-b`, "&kind=binary");
  await tell(`${round}-lost`, "&volatile=1");
  socket.io.reconnection(true);
  socket.connect();
  await back;
  await tell(`${round}-c`, "&volatile=1");
  await heard(`${round}-c`);
}
const who = await socket.emitWithAck("whoami");
socket.disconnect();
socket.connect();
await connected();
console.log(JSON.stringify({ told, connects, who }));
socket.disconnect();
"""
)


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids="-".join)
def test_the_stock_javascript_client_recovers(server: ServerProcess, node: Node, transports: list[str]) -> None:
    room = f"js-{'-'.join(transports)}"
    out = json.loads(node.run(JAVASCRIPT, server.url, room, json.dumps({"transports": transports})))
    binary = {text: {"type": "Buffer", "data": list(text.encode())} for text in ("one-b", "two-b")}
    expected: list[list[Any]] = [
        ["note", "first"],
        ["note", "one-a"],
        ["binary", {"text": "one-b", "bytes": binary["one-b"]}],
        ["note", "one-c"],
        ["note", "two-a"],
        ["binary", {"text": "two-b", "bytes": binary["two-b"]}],
        ["note", "two-c"],
    ]
    assert [event[:-1] for event in out["told"]] == expected
    sid = out["connects"][0][1]
    assert out["connects"][:3] == [[False, sid, 0], [True, sid, 3], [True, sid, 6]], (
        "the missed ones come before connect"
    )
    assert out["who"] == {"recovered": True, "data": {"joined": [room]}, "rooms": [room], "sid": sid}
    assert out["connects"][3][0] is False, "who leaves starts clean"
    assert out["connects"][3][1] != sid


OFF = """
import { io } from "socket.io-client";
const [url, query] = process.argv.slice(1);
const socket = io(url + "/board", { query: JSON.parse(query) });
const packets = [];
socket.io.on("open", () => socket.io.engine.on("packet", (packet) => packets.push(packet.data)));
await new Promise((resolve) => socket.on("connect", resolve));
await socket.emitWithAck("join", "off");
const told = new Promise((resolve) => socket.on("note", (...args) => resolve(args)));
await fetch(`${url}/board/off?text=hello`, { method: "POST" });
console.log(JSON.stringify({ told: await told, connect: packets.find((data) => data?.startsWith?.("0/board,")) }));
socket.disconnect();
"""


def test_without_recovery_nothing_of_it_is_on_the_wire(server: ServerProcess, node: Node) -> None:
    out = json.loads(node.run(OFF, server.url, '{"recovery": "0"}'))
    assert out["told"] == ["hello"]
    assert json.loads(out["connect"].removeprefix("0/board,")).keys() == {"sid"}
    out = json.loads(node.run(OFF, server.url, "{}"))
    assert json.loads(out["connect"].removeprefix("0/board,")).keys() == {"sid", "pid"}
    assert len(out["told"]) == 2


CHAT = """
import { io } from "socket.io-client";
const [url, room] = process.argv.slice(1);
const join = async (username) => {
  const delays = { reconnectionDelay: 50, reconnectionDelayMax: 100 };
  const socket = io(url + "/chat", { auth: { username }, forceNew: true, ...delays });
  socket.told = [];
  socket.onAny((name, data) => socket.told.push([name, data.text ?? data.username]));
  await new Promise((resolve) => socket.once("connect", resolve));
  const { offset } = await socket.emitWithAck("join", { room });
  if (typeof offset !== "string") throw new Error("no offset");
  return socket;
};
const bob = await join("bob"), alice = await join("alice");
const back = new Promise((resolve) => alice.once("connect", resolve));
alice.io.engine.close();
await bob.emitWithAck("message", { room, text: "while you were away" });
await back;
await bob.emitWithAck("message", { room, text: "welcome back" });
const found = await alice.emitWithAck("members", { room });
const members = found.members.map((each) => [each.username, each.connections]);
console.log(JSON.stringify({ recovered: alice.recovered, alice: alice.told, bob: bob.told, members }));
alice.disconnect(); bob.disconnect();
"""


def test_in_the_chat_nobody_is_told_of_a_short_absence(server: ServerProcess, node: Node) -> None:
    out = json.loads(node.run(CHAT, server.url, "short-absence"))
    assert out["recovered"] is True
    assert out["alice"] == [["message", "while you were away"], ["message", "welcome back"]]
    assert out["bob"] == [["joined", "alice"], *out["alice"]]
    assert sorted(out["members"]) == [["alice", 1], ["bob", 1]]


class Hand:
    """A Socket.IO client written by hand, to show what the wire shows."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket

    async def connect(self, namespace: str, auth: dict[str, Any]) -> dict[str, Any]:
        await within(self.websocket.recv())  # the handshake
        await self.websocket.send(f"40{namespace},{json.dumps(auth)}")
        answer: dict[str, Any] = await self.until(f"40{namespace},")
        return answer

    async def until(self, start: str) -> Any:
        while True:
            frame = await within(self.websocket.recv())
            if isinstance(frame, str) and frame.startswith(start):
                return json.loads(frame.removeprefix(start) or "null")


@pytest.mark.asyncio
async def test_a_connection_that_is_half_open_is_closed_with_4504(server: ServerProcess) -> None:
    url = f"{server.ws_url}/socket.io/?EIO=4&transport=websocket"
    async with connect(url) as first, connect(url) as second:
        old, new = Hand(first), Hand(second)
        before = await old.connect("/board", {})
        await first.send('42/board,1["join","half-open"]')
        await old.until("43/board,1")
        assert await tell(server, "half-open", "missed") == 1
        after = await new.connect("/board", {"pid": before["pid"]})
        assert after == {"sid": before["sid"], "pid": before["pid"], "recovered": True}
        await old.until("41/board,")
        with pytest.raises(ConnectionClosed):
            await within(first.recv())
        assert first.close_code == 4504
        assert await tell(server, "half-open", "again") == 1
        assert (await new.until("42/board,"))[:2] == ["note", "again"]


@pytest.mark.asyncio
async def test_a_polling_client_that_fell_silent_goes_on_over_a_websocket(server: ServerProcess) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(SECONDS)) as http:
        first = PollingClient(http, server.url)
        await first.open()
        await first.post("40/board,")
        before = json.loads((await first.get_until("40/board,")).removeprefix("40/board,"))
        await first.post('42/board,1["join","silent"]')
        await first.get_until("43/board,1")
        await tell(server, "silent", "waits for a poll that does not come")
        async with connect(f"{server.ws_url}/socket.io/?EIO=4&transport=websocket") as websocket:
            second = Hand(websocket)
            await within(websocket.recv())
            await websocket.send("40/board," + json.dumps({"pid": before["pid"]}))
            missed = await second.until("42/board,")
            assert missed[:2] == ["note", "waits for a poll that does not come"]
            after = await second.until("40/board,")
            assert (after["sid"], after["recovered"]) == (before["sid"], True)


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.asyncio
async def test_python_socketios_clients_keep_their_handlers_of_one_argument(
    server: ServerProcess, transport: str
) -> None:
    if transport == "websocket":
        pytest.importorskip("websocket", reason="python-socketio's blocking client needs the package websocket-client")
    heard: asyncio.Queue[Any] = asyncio.Queue()
    room = f"python-{transport}"
    client = socketio.AsyncClient()
    client.on("note", heard.put, namespace="/board")
    await within(client.connect(server.url, namespaces=["/board"], transports=[transport]))
    await within(client.call("join", room, namespace="/board"))
    loop = asyncio.get_running_loop()
    blocking = socketio.Client()
    blocking.on("note", lambda data: loop.call_soon_threadsafe(heard.put_nowait, data), namespace="/board")
    await asyncio.to_thread(blocking.connect, server.url, namespaces=["/board"], transports=[transport])
    await asyncio.to_thread(blocking.call, "join", room, namespace="/board")
    assert await tell(server, room, "hello") == 2
    assert [await within(heard.get()) for _ in range(2)] == ["hello", "hello"]
    await asyncio.to_thread(blocking.disconnect)
    await within(client.disconnect())


@pytest.mark.asyncio
async def test_a_plain_client_resumes(server: ServerProcess) -> None:
    url = f"{server.ws_url}/ws/rooms/board/plain"
    async with connect(url) as websocket:
        await tell(server, "plain", "one")
        first = json.loads(await within(websocket.recv()))
        assert (first["event"], first["data"]) == ("note", "one")
    await tell(server, "plain", "two")
    await tell(server, "elsewhere", "no")
    await tell(server, "plain", "three", volatile="1")
    await tell(server, "plain", "four", kind="binary")
    async with connect(f"{url}?since={first['offset']}") as websocket:
        told = [json.loads(await within(websocket.recv())) for _ in range(3)]
    assert [each["data"] for each in told[:2]] == ["two", {"text": "four", "bytes": {"_base64": "Zm91cg=="}}]
    assert told[2] == {"event": "resumed", "data": {"recovered": True}, "offset": told[1]["offset"]}
    async with connect(f"{url}?since=another-1") as websocket:
        told = [json.loads(await within(websocket.recv()))]
    assert told[0]["data"] == {"recovered": False, "reason": "gone"}


async def publish(server: ServerProcess, topic: str, title: str) -> None:
    url, notice = f"{server.url}/notify/{topic}", {"title": title, "message": "m"}
    async with aiohttp.ClientSession() as http, http.post(url, json=notice) as answer:
        assert answer.status == 200


@pytest.mark.asyncio
async def test_a_follower_of_a_topic_resumes(server: ServerProcess) -> None:
    url = f"{server.ws_url}/ws/notify/resuming"
    async with connect(f"{url}?since=") as websocket:
        start = json.loads(await within(websocket.recv()))
        assert (start["type"], start["recovered"]) == ("resumed", False)
    await publish(server, "resuming", "one")
    await publish(server, "another", "no")
    async with connect(f"{url}?since={start['offset']}") as websocket:
        told = [json.loads(await within(websocket.recv())) for _ in range(2)]
        assert (told[0]["title"], told[1]["recovered"]) == ("one", True)
    async with connect(url) as websocket:
        await publish(server, "resuming", "two")
        assert "offset" not in json.loads(await within(websocket.recv()))


@pytest.mark.asyncio
async def test_an_event_stream_resumes_as_browsers_do_it(server: ServerProcess) -> None:
    url = f"{server.url}/notify/streamed/events"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_read=SECONDS)) as http:
        async with http.get(url) as stream:
            start = await _event(stream)
            assert list(start) == ["id"]
        await publish(server, "streamed", "one")
        await publish(server, "streamed", "two")
        async with http.get(url, headers={"Last-Event-ID": start["id"]}) as stream:
            told = [await _event(stream) for _ in range(3)]
        assert [json.loads(each["data"]).get("title") for each in told[:2]] == ["one", "two"]
        assert (told[2]["event"], json.loads(told[2]["data"])) == ("resumed", {"recovered": True})
        async with http.get(url, headers={"Last-Event-ID": told[0]["id"]}) as stream:
            assert json.loads((await _event(stream))["data"])["title"] == "two"
        async with http.get(url, headers={"Last-Event-ID": "01ABC"}) as stream:
            assert json.loads((await _event(stream))["data"]) == {"recovered": False, "reason": "offset"}


async def _event(stream: aiohttp.ClientResponse) -> dict[str, str]:
    """The fields of the next event that has any but ``retry``."""
    fields: dict[str, str] = {}
    while True:
        line = (await within(stream.content.readline())).decode().rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            fields |= {name: value} if name in ("id", "event", "data") else {}
        elif fields:
            return fields
