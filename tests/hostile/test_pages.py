"""The application over HTTP: publishing, event streams, history, files; and who may come from which page."""

from __future__ import annotations

import io
import json
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from websockets.exceptions import InvalidStatus

from tests.end_to_end.clients import event_stream
from tests.hostile.ground import ground
from tests.hostile.houses import HOUSE_WIRES, Houses, ask, code_of, come_in
from tests.hostile.test_http import get, say
from tests.serving import ServerProcess
from tests.wire.clients import Answer, address, bare_websocket, http_session, request, within
from tests.wire.servers import Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio]

PORTS = [wire for wire in HOUSE_WIRES if not wire.polling]
JSON = {"Content-Type": "application/json"}
NOTICE = {"title": "t", "message": "m"}


@pytest.fixture(params=PORTS, ids=str)
def server(houses: Houses, request: pytest.FixtureRequest) -> ServerProcess:
    """As `realtime serve` has it, with either of its wires."""
    return houses.get(request.param)


@pytest.fixture(params=HOUSE_WIRES, ids=str)
def wire(request: pytest.FixtureRequest) -> Wire:
    found: Wire = request.param
    return found


# ── publishing ───────────────────────────────────────────────────────────────────────────────────


async def post(server: ServerProcess, body: Any, topic: str = "orders", **headers: str) -> Answer:
    async with http_session() as http:
        data = body if isinstance(body, str | bytes) else json.dumps(body)
        return await request(http, "POST", f"{server.url}/notify/{topic}", data, JSON | headers)


@pytest.mark.hostile("C10", on="HTTP")
@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "in chunks"])
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "text/plain"])
async def test_ten_megabytes_are_too_much(server: ServerProcess, kind: str, chunked: bool) -> None:
    async def pieces() -> Any:
        for _ in range(100):
            yield b"x" * 100_000

    async with ground(server), http_session() as http:
        body = pieces() if chunked else io.BytesIO(b"x" * 10_000_000)
        try:
            async with http.post(f"{server.url}/notify/orders", data=body, headers={"Content-Type": kind}) as answer:
                assert answer.status == 413
                assert (await within(answer.json()))["code"] == "too_big"
        except aiohttp.ClientConnectionError:
            pass  # hung up on while it still sent: the answer may be lost behind what it had not read


@pytest.mark.hostile("C10", on="HTTP")
@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        "null",
        "[" * 100_000,
        b'{"title":"\xff","message":"m"}',
        {"title": 5, "message": "m"},
        {"title": "t"},
        {**NOTICE, "level": "fatal"},
        {**NOTICE, "data": [1]},
        {"title": "", "message": ""},
        {"title": {"$ne": 1}, "message": ["m"]},
    ],
    ids=lambda body: str(body)[:20],
)
async def test_a_notice_of_wrong_types_reaches_nobody(server: ServerProcess, body: Any) -> None:
    async with ground(server), event_stream(server.url, "orders") as stream:
        answer = await post(server, body)
        assert (answer.status, answer.json["code"]) == (422, "invalid_payload")
        await post(server, {**NOTICE, "title": "the first"})
        assert (await stream.until("notification"))["title"] == "the first"


@pytest.mark.hostile("C11", on="HTTP")
async def test_a_key_again_with_another_body(server: ServerProcess) -> None:
    key = {"Idempotency-Key": "the same"}
    async with ground(server), event_stream(server.url, "keyed") as stream:
        first = await post(server, NOTICE, "keyed", **key)
        again = await post(server, NOTICE, "keyed", **key)
        other = await post(server, {**NOTICE, "title": "another"}, "keyed", **key)
        assert (first.status, again.json) == (200, first.json)
        assert (other.status, other.json["code"]) == (409, "idempotency_conflict")
        await post(server, {**NOTICE, "title": "the last"}, "keyed")
        await stream.until("notification", title="the last")
        assert stream.count("notification") == 2


# ── event streams ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.hostile("C12", on="SSE")
async def test_no_line_of_a_stream_is_somebody_elses(server: ServerProcess) -> None:
    evil = "a\nid: 666\r\ndata: forged\n\nevent: forged\u2028\x85\x00"
    async with ground(server), http_session() as http, http.get(f"{server.url}/notify/lines/events") as stream:
        assert await within(stream.content.readuntil(b"\n\n")) == b"retry: 2000\n\n"
        await post(server, {"title": evil, "message": evil, "data": {evil: evil}}, "lines")
        said = "id: where the stream begins"
        while "\nevent: " not in said:
            assert said.startswith("id: ")
            said = (await within(stream.content.readuntil(b"\n\n"))).decode()
        lines = said.removesuffix("\n\n").split("\n")
        assert [line.partition(":")[0] for line in lines] == ["id", "event", "data"]
        assert "\r" not in said
        assert json.loads(lines[2].removeprefix("data: "))["title"] == evil


@pytest.mark.hostile("C13", on="SSE")
@pytest.mark.parametrize(
    "last",
    ["", "nonsense", "0" * 5_000, "\u00ff", "-1", "' OR 1", "an id of another topic"],
    ids=lambda last: last[:10],
)
async def test_a_wrong_last_event_id_is_passed_over(server: ServerProcess, last: str) -> None:
    async with ground(server), http_session() as http:
        if last.startswith("an id"):
            last = (await post(server, NOTICE, "another")).json["id"]
        async with http.get(f"{server.url}/notify/last/events", headers={"last-event-id": last}) as stream:
            assert (stream.status, stream.content_type) == (200, "text/event-stream")
            assert await within(stream.content.readuntil(b"\n\n")) == b"retry: 2000\n\n"
            assert (await post(server, NOTICE, "last")).json["sent"] == 1


# ── history ──────────────────────────────────────────────────────────────────────────────────────

PAGES: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing": ({"limit": 0}, False),
    "negative": ({"limit": -1}, False),
    "huge": ({"limit": 10**30}, False),
    "201": ({"limit": 201}, False),
    "a word": ({"limit": "many"}, False),
    "a long id": ({"before": "x" * 65}, False),
    "before everything": ({"before": "0" * 26}, True),
    "of nowhere": ({"before": "nonsense"}, True),
    "a pattern": ({"before": "%_*\x00'"}, True),
    "of another room": ({"before": "another"}, True),
}


@pytest.mark.hostile("H7", on="HTTP")
@pytest.mark.parametrize(("asked", "fine"), PAGES.values(), ids=PAGES.keys())
async def test_a_page_that_is_not_there(house: ServerProcess, wire: Wire, asked: dict[str, Any], fine: bool) -> None:
    events = ("/chat join", "/chat message", "/chat history")
    async with ground(house, *events), wire.client(house) as client, http_session() as http:
        await come_in(client, "/chat", {"username": "pages"})
        if asked.get("before") == "another":
            await ask(client, "/chat", "join", {"room": "another"})
            asked = {"before": (await ask(client, "/chat", "message", {"room": "another", "text": "x"}))["id"]}
        answer = await ask(client, "/chat", "history", {"room": "nowhere", **asked})
        assert code_of(answer) == ("" if fine else "invalid_payload")
        found = await request(http, "GET", f"{house.url}/chat/nowhere/history?{urlencode(asked)}")
        assert found.status == (200 if fine else 422)
        if fine:
            assert answer == found.json == {"messages": [], "more": False}


@pytest.mark.hostile("H7", on="plain")
async def test_a_page_that_is_not_there_on_a_plain_route(server: ServerProcess) -> None:
    events = ("/chat history",)
    async with ground(server, *events), bare_websocket(f"{server.ws_url}/ws/rooms/chat/x?username=u") as client:
        for asked, fine in PAGES.values():
            await client.send(json.dumps({"event": "history", "data": {"room": "nowhere", **asked}, "id": 1}))
            answer = json.loads(await within(client.recv()))
            assert ("error" not in answer) == fine, asked


# ── pages of others, and files ───────────────────────────────────────────────────────────────────

FOREIGN = ["null", "https://evil.example", "HTTP://EVIL.EXAMPLE", "http://127.0.0.1.evil.example", "x", "http://"]
LOOPS = ["/ws", "/ws/chat/alice", "/ws/rooms/echo/x", "/socket.io/?EIO=4&transport=websocket"]


def headers_of(origin: str) -> dict[str, str]:
    host = origin.rpartition("/")[2] or origin
    return {"Origin": origin, "X-Forwarded-Host": host, "X-Forwarded-Proto": "https", "Forwarded": f"host={host}"}


@pytest.mark.hostile("C1", on="plain")
@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_foreign_page_opens_no_door(house: ServerProcess, wire: Wire, origin: str) -> None:
    headers = headers_of(origin)
    async with ground(house), http_session() as http:
        if wire.polling:
            assert (await request(http, "GET", address(house.url, "polling"), headers=headers)).status == 403
            assert (await request(http, "GET", f"{house.url}/notify/x/events", headers=headers)).status == 403
            return
        for path in LOOPS:
            with pytest.raises(InvalidStatus) as caught:
                async with bare_websocket(house.ws_url + path, headers):
                    pass
            assert caught.value.response.status_code == 403
        assert (await request(http, "POST", f"{house.url}/notify/x", json.dumps(NOTICE), JSON | headers)).status == 403


@pytest.mark.hostile("C1", on="plain")
async def test_no_page_and_our_own_page_may_come_in(house: ServerProcess, wire: Wire) -> None:
    async with ground(house), http_session() as http:
        for headers in ({}, {"Origin": house.url}, {"Origin": house.url.upper()}):
            if wire.polling:
                assert (await request(http, "GET", address(house.url, "polling"), headers=headers)).status == 200
            else:
                for path in LOOPS:
                    async with bare_websocket(house.ws_url + path, headers):
                        pass


@pytest.mark.hostile("C9", on="HTTP")
@pytest.mark.parametrize(
    "path",
    [
        "/static/../../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/static//etc/passwd",
        "/static/%00/etc/passwd",
        "/static/..%5c..%5capp.py",
        "/socket.io/../namespaces/app.py",
        "/socket.io/%2e%2e/app.py",
    ],
)
async def test_a_path_that_climbs_leads_nowhere(server: ServerProcess, path: str) -> None:
    async with ground(server):
        found = await say(server, get(path, "Connection: close"))
        assert int(found.split(b" ", 2)[1]) in (400, 404)
        assert b"root:" not in found
        assert b"import" not in found


@pytest.mark.hostile("C8", on="HTTP")
async def test_other_methods(server: ServerProcess) -> None:
    async with ground(server), http_session() as http:
        for method in ("PUT", "PATCH", "DELETE", "PROPFIND", "TRACE"):
            for path in ("/", "/notify/x", "/chat/x/history", "/health/live", "/metrics", "/socket.io/"):
                assert (await request(http, method, server.url + path)).status in (400, 405)
