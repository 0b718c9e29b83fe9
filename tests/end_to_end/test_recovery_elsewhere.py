"""Recovery over real processes that share a real Redis: on another instance, after a kill, after a restart."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import socketio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.end_to_end.clients import SECONDS, within
from tests.end_to_end.stock_client import WATCHED
from tests.end_to_end.test_recovery import Hand, _event, publish, tell
from tests.javascript import Node
from tests.redis_server import RedisServer
from tests.serving import ROOT, ServerProcess

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


def instance(folder: Path, name: str, redis: RedisServer, port: int | None = None) -> ServerProcess:
    command = [sys.executable, "-m", "realtime", "serve", "tests.end_to_end.recovery_app:app", "--port", "{port}"]
    database = f"sqlite+aiosqlite:///{(folder / 'chat.db').as_posix()}"
    return ServerProcess(
        folder,
        *("--redis", redis.url, "--database", database),
        command=command,
        env={"PYTHONPATH": str(ROOT), "REALTIME_NODE": name},
        port=port,
    )


@pytest.fixture(scope="module")
def b(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Iterator[ServerProcess]:
    with instance(tmp_path_factory.mktemp("b"), "b", redis) as running:
        yield running


@pytest.fixture
def a(tmp_path: Path, redis: RedisServer) -> Iterator[ServerProcess]:
    """Each test may kill it."""
    with instance(tmp_path, "a", redis) as running:
        yield running


JAVASCRIPT = (
    """
import { io } from "socket.io-client";
const [here, there, room, how, pid] = process.argv.slice(1);
const socket = io(here + "/board", { transports: ["websocket"], reconnectionDelay: 50, reconnectionDelayMax: 100 });
const tell = (text, query = "") => fetch(`${there}/board/${room}?text=${text}${query}`, { method: "POST" });
"""
    + WATCHED
    + """
if (how !== "silent") {
  await tell("first");
  await heard("first");
}
const back = connected();
socket.io.uri = there;
if (how === "killed" || how === "silent") process.kill(Number(pid), "SIGKILL");
else if (how === "stopped") process.kill(Number(pid), "SIGTERM");
else socket.io.engine.close();
await tell("one");
await tell("two", "&kind=binary");
await tell("lost", "&volatile=1");
await back;
await tell("three");
await heard("three");
const who = await socket.emitWithAck("whoami");
console.log(JSON.stringify({ told, connects, who }));
socket.disconnect();
"""
)


@pytest.mark.parametrize("how", ["cut", "killed", "silent", "stopped"])
def test_the_stock_javascript_client_goes_on_at_another_instance(
    a: ServerProcess, b: ServerProcess, node: Node, how: str
) -> None:
    room = f"js-{how}"
    out = json.loads(node.run(JAVASCRIPT, a.url, b.url, room, how, str(a.pid), timeout=40))
    first = [] if how == "silent" else [["note", "first"]]
    binary = {"type": "Buffer", "data": list(b"two")}
    missed = [["note", "one"], ["binary", {"text": "two", "bytes": binary}]]
    assert [event[:-1] for event in out["told"] if event[1] != "lost"] == [*first, *missed, ["note", "three"]]
    sid = out["connects"][0][1]
    assert [connect[:2] for connect in out["connects"]] == [[False, sid], [True, sid]]
    assert out["who"] == {"recovered": True, "data": {"joined": [room]}, "rooms": [room], "sid": sid}


RESTART = """
import { io } from "socket.io-client";
const [here, there, room] = process.argv.slice(1);
const socket = io(here + "/board", { transports: ["websocket"], reconnectionDelay: 100, reconnectionDelayMax: 200 });
const told = [], connects = [];
socket.onAny((name, ...args) => told.push(args[0]));
socket.on("connect", () => connects.push(socket.recovered));
const connected = () => new Promise((resolve) => socket.once("connect", resolve));
await connected();
await socket.emitWithAck("join", room);
const back = connected();
socket.once("disconnect", () => fetch(`${there}/board/${room}?text=meanwhile`, { method: "POST" }));
console.error("ready");
await back;
console.log(JSON.stringify({ told, connects }));
socket.disconnect();
"""


@pytest.mark.asyncio
async def test_and_at_the_same_one_after_its_restart(
    a: ServerProcess, b: ServerProcess, redis: RedisServer, node: Node, tmp_path: Path
) -> None:
    script = node.arguments(RESTART, a.url, b.url, "restart")
    running = await asyncio.create_subprocess_exec(
        *script, cwd=node.folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert running.stderr is not None
    assert running.stdout is not None
    assert await within(running.stderr.readline(), 20) == b"ready\n"
    await asyncio.to_thread(a.stop)
    with instance(tmp_path, "a", redis, a.port):
        out = json.loads(await within(running.stdout.read(), 30))
        await within(running.wait())
    assert out == {"told": ["meanwhile"], "connects": [False, True]}


@pytest.mark.asyncio
async def test_a_connection_that_is_half_open_elsewhere_is_closed_with_4504(a: ServerProcess, b: ServerProcess) -> None:
    query = "/socket.io/?EIO=4&transport=websocket"
    async with connect(a.ws_url + query) as first, connect(b.ws_url + query) as second:
        old, new = Hand(first), Hand(second)
        before = await old.connect("/board", {})
        await first.send('42/board,1["join","half-open"]')
        await old.until("43/board,1")
        await tell(b, "half-open", "missed")
        assert (await old.until("42/board,"))[:2] == ["note", "missed"]
        after = await new.connect("/board", {"pid": before["pid"]})
        assert after == {"sid": before["sid"], "pid": before["pid"], "recovered": True}
        await old.until("41/board,")
        with pytest.raises(ConnectionClosed):
            await within(first.recv())
        assert first.close_code == 4504
        await tell(a, "half-open", "again")
        assert (await new.until("42/board,"))[:2] == ["note", "again"]


@pytest.mark.asyncio
async def test_of_two_that_show_one_pid_one_has_the_session(a: ServerProcess, b: ServerProcess) -> None:
    """Whoever comes right behind may take it over; then the other is closed."""
    query = "/socket.io/?EIO=4&transport=websocket"
    for number in range(5):
        room = f"twins-{number}"
        async with connect(a.ws_url + query) as websocket:
            hand = Hand(websocket)
            before = await hand.connect("/board", {})
            await websocket.send(f'42/board,1["join","{room}"]')
            await hand.until("43/board,1")
        async with connect(a.ws_url + query) as first, connect(b.ws_url + query) as second:
            twins = (Hand(first), Hand(second))
            outcomes = await asyncio.gather(*(each.connect("/board", {"pid": before["pid"]}) for each in twins))
            recovered = [hand for hand, outcome in zip(twins, outcomes, strict=True) if outcome["recovered"]]
            assert {each.get("reason") for each in outcomes} <= {None, "unknown"}
            assert recovered
            await tell(b, room, "hello")
            heard = await asyncio.gather(*(each.until("42/board,") for each in recovered), return_exceptions=True)
            closed = [each for each in heard if isinstance(each, ConnectionClosed)]
            assert [each[:2] for each in heard if isinstance(each, list)] == [["note", "hello"]]
            codes = [each.rcvd.code for each in closed if each.rcvd is not None]
            assert codes == [4504] * (len(recovered) - 1)


@pytest.mark.asyncio
async def test_python_socketios_clients_keep_their_handlers_of_one_argument(a: ServerProcess, b: ServerProcess) -> None:
    heard: asyncio.Queue[Any] = asyncio.Queue()
    client = socketio.AsyncClient()
    client.on("note", heard.put, namespace="/board")
    await within(client.connect(a.url, namespaces=["/board"], transports=["websocket"]))
    await within(client.call("join", "python", namespace="/board"))
    await tell(b, "python", "hello")
    assert await within(heard.get()) == "hello"
    await within(client.disconnect())


@pytest.mark.asyncio
async def test_plain_clients_resume_at_another_instance(a: ServerProcess, b: ServerProcess) -> None:
    place = "/ws/rooms/board/plain"
    async with connect(a.ws_url + place) as websocket:
        await tell(b, "plain", "one")
        first = json.loads(await within(websocket.recv()))
        assert (first["event"], first["data"]) == ("note", "one")
    a.process.send_signal(signal.SIGKILL)
    await tell(b, "plain", "two")
    await tell(b, "elsewhere", "no")
    await tell(b, "plain", "three", volatile="1")
    await tell(b, "plain", "four", kind="binary")
    async with connect(f"{b.ws_url}{place}?since={first['offset']}") as websocket:
        told = [json.loads(await within(websocket.recv())) for _ in range(3)]
        assert [each["data"] for each in told[:2]] == ["two", {"text": "four", "bytes": {"_base64": "Zm91cg=="}}]
        assert (told[2]["event"], told[2]["data"]) == ("resumed", {"recovered": True})
        await tell(b, "plain", "five")
        assert json.loads(await within(websocket.recv()))["data"] == "five"


@pytest.mark.asyncio
async def test_followers_of_a_topic_resume_at_another_instance(a: ServerProcess, b: ServerProcess) -> None:
    async with connect(f"{a.ws_url}/ws/notify/moving?since=") as websocket:
        start = json.loads(await within(websocket.recv()))
    for title in ("one", "two"):
        await publish(a, "moving", title)
    await publish(b, "another", "no")
    async with connect(f"{b.ws_url}/ws/notify/moving?since={start['offset']}") as websocket:
        told = [json.loads(await within(websocket.recv())) for _ in range(3)]
        assert [each.get("title", each.get("recovered")) for each in told] == ["one", "two", True]
        await publish(a, "moving", "three")
        assert json.loads(await within(websocket.recv()))["title"] == "three"
    timeout = aiohttp.ClientTimeout(total=None, sock_read=SECONDS)
    events = f"{b.url}/notify/moving/events"
    resumed = {"Last-Event-ID": told[0]["offset"]}
    async with aiohttp.ClientSession(timeout=timeout) as http, http.get(events, headers=resumed) as stream:
        heard = [await _event(stream) for _ in range(3)]
    assert [json.loads(each["data"]).get("title") for each in heard[:2]] == ["two", "three"]
    assert (heard[2]["event"], json.loads(heard[2]["data"])) == ("resumed", {"recovered": True})


@pytest.mark.asyncio
async def test_while_redis_is_away_a_return_is_answered_soon_and_starts_clean(tmp_path: Path) -> None:
    query = "/socket.io/?EIO=4&transport=websocket"
    with RedisServer() as redis, instance(tmp_path, "alone", redis) as server:
        async with connect(server.ws_url + query) as websocket:
            before = await Hand(websocket).connect("/board", {})
        redis.kill()
        async with connect(server.ws_url + query) as websocket:
            after = await Hand(websocket).connect("/board", {"pid": before["pid"]})
            assert (after["recovered"], after["reason"]) == (False, "store")
