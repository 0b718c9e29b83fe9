"""Names at every door: of rooms, topics and users, over Socket.IO, on plain routes, over HTTP."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from _pytest.mark import ParameterSet
from websockets.exceptions import InvalidStatus

from tests.hostile.ground import ground
from tests.hostile.houses import HOUSE_WIRES, Houses, ask, code_of, come_in
from tests.namespaces.names import BAD_NAMES, BAD_USERS, FINE_NAMES, SYSTEM_ROOMS
from tests.serving import ServerProcess
from tests.wire.clients import bare_websocket, http_session, request, within
from tests.wire.servers import Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio]

PORTS = [wire for wire in HOUSE_WIRES if not wire.polling]
JOINS = ("/chat join", "/notify subscribe")
"""Handlers that run with a bad name: the name is theirs to refuse."""
ROWS_OF = {"empty": "D1", "too long": "D1", "right-to-left": "D3", "zero-width": "D3", "byte order mark": "D3"}
"""The others are rows D2."""


@pytest.fixture(params=HOUSE_WIRES, ids=str)
def wire(request: pytest.FixtureRequest) -> Wire:
    found: Wire = request.param
    return found


def bad_names() -> list[ParameterSet]:
    return [
        pytest.param(name, id=what, marks=pytest.mark.hostile(ROWS_OF.get(what, "D2")))
        for what, name in BAD_NAMES.items()
    ]


@pytest.mark.parametrize("name", bad_names())
async def test_a_bad_name_is_answered_with_an_error(house: ServerProcess, wire: Wire, name: str) -> None:
    handled = (*JOINS, "/chat history", "/chat members", "/chat message", "/chat direct")
    async with ground(house, *handled) as field, wire.client(house) as client:
        refused = await come_in(client, "/chat", {"username": name})
        assert refused["data"]["code"] in ("invalid_username", "unauthorized")
        await come_in(client, "/chat", {"username": "alice"})
        await come_in(client, "/notify")
        own = (await field.state())["rooms"]
        for event in ("join", "history", "members"):
            assert code_of(await ask(client, "/chat", event, {"room": name})) == "invalid_payload"
        assert code_of(await ask(client, "/chat", "message", {"room": name, "text": "x"})) == "not_in_room"
        assert code_of(await ask(client, "/chat", "direct", {"to": name, "text": "x"})) == "invalid_payload"
        assert code_of(await ask(client, "/notify", "subscribe", {"topic": name})) == "invalid_payload"
        assert (await field.state())["rooms"] == own


ROUTES = [
    "/ws/chat/alice?room={}",
    "/ws/notify/{}",
    "/ws/rooms/chat/{}?username=alice",
    "/ws/chat/{}",
    "/ws/json-chat/{}",
]
PAGES = [("GET", "/chat/{}/history"), ("POST", "/notify/{}?title=t&message=m"), ("GET", "/notify/{}/events")]


async def route_status(server: ServerProcess, path: str) -> int:
    """403 for who is refused before the WebSocket is one; 101 otherwise."""
    try:
        async with bare_websocket(server.ws_url + path):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


async def page_status(server: ServerProcess, method: str, path: str) -> int:
    async with http_session() as http, http.request(method, server.url + path) as answer:
        return answer.status


def written(name: str) -> str:
    return quote(name, safe="")


@pytest.mark.parametrize("port", PORTS, ids=str)
@pytest.mark.parametrize("name", bad_names())
@pytest.mark.hostile(on="plain, HTTP")
async def test_a_bad_name_in_an_address_is_refused(houses: Houses, port: Wire, name: str) -> None:
    server = houses.get(port)
    async with ground(server):
        for route in ROUTES:
            # An empty segment is another route, and no room at all is the lobby.
            assert await route_status(server, route.format(written(name))) == 403 or name == ""
        for method, page in PAGES:
            assert await page_status(server, method, page.format(written(name))) in (404, 422)


@pytest.mark.hostile("D4", "D5", "D7")
async def test_names_that_only_look_odd_are_rooms_of_their_own(house: ServerProcess, wire: Wire) -> None:
    """Each is heard in its own room alone; among them are pairs in case, in composition, and around separators."""
    names = [*FINE_NAMES.values(), "a:b", "a|b", "a,b", "a", "b", "[a]", "a*", "?", "__proto__", "/chat", "chat/lobby"]
    events = ("/chat join", "/chat message", "/chat history")
    async with ground(house, *events), wire.client(house) as client:
        await come_in(client, "/chat", {"username": "odd"})
        for room in names:
            assert code_of(await ask(client, "/chat", "join", {"room": room})) == ""
        for room in names:
            assert code_of(await ask(client, "/chat", "message", {"room": room, "text": f"in {room}"})) == ""
            told = await ask(client, "/chat", "history", {"room": room})
            assert {each["text"] for each in told["messages"]} == {f"in {room}"}


@pytest.mark.parametrize("port", PORTS, ids=str)
@pytest.mark.parametrize(
    "pair", [("Lobby", "lobby"), ("é", "e\u0301"), ("a:b", "a|b"), ("*", "anything"), ("a.b", "a?b")]
)
@pytest.mark.hostile("D4", "D5", "D7", on="plain, HTTP")
async def test_what_is_said_in_one_room_is_not_heard_in_its_twin(
    houses: Houses, port: Wire, pair: tuple[str, str]
) -> None:
    server = houses.get(port)
    one, other = (f"/ws/chat/u{number}?room={written(room)}" for number, room in enumerate(pair))
    async with (
        ground(server),
        bare_websocket(server.ws_url + one) as first,
        bare_websocket(server.ws_url + other) as second,
    ):
        for websocket, room in zip((first, second), pair, strict=True):
            await websocket.send(f"in {room}")
            heard = json.loads(await within(websocket.recv()))
            assert (heard["room"], heard["text"]) == (room, f"in {room}")
        async with http_session() as http:
            for room in pair:
                found = (await request(http, "GET", f"{server.url}/chat/{written(room)}/history")).json
                assert {each["room"] for each in found["messages"]} == {room}


@pytest.mark.hostile("D6")
async def test_a_room_named_like_a_sid_is_nobodys(house: ServerProcess, wire: Wire) -> None:
    async with (
        ground(house, "/chat join", "/chat direct", *JOINS),
        wire.client(house) as alice,
        wire.client(house) as mallory,
    ):
        for namespace, event, key in (("/chat", "join", "room"), ("/notify", "subscribe", "topic")):
            sid = (await come_in(alice, namespace, {"username": "alice"}))["sid"]
            await come_in(mallory, namespace, {"username": "mallory"})
            for name in (sid, alice.handshake["sid"]):
                await ask(mallory, namespace, event, {key: name})
            await alice.send(f'42{namespace},["there is no such event"]')
            assert str(await alice.receive()).startswith(f'42{namespace},["error"')
            assert code_of(await ask(mallory, namespace, "no event either", None)) == "unknown_event"


@pytest.mark.hostile("D8", "D7")
async def test_a_user_that_nobody_may_be(house: ServerProcess, wire: Wire) -> None:
    events = ("/chat join", "/chat history", "/chat members", "/notify subscribe")
    async with ground(house, *events), wire.client(house) as client:
        for user in BAD_USERS.values():
            refused = await come_in(client, "/chat", {"username": user})
            assert refused["data"]["code"] in ("invalid_username", "invalid_payload", "unauthorized")
        await come_in(client, "/chat", {"username": "alice"})
        await come_in(client, "/notify")
        for room in SYSTEM_ROOMS.values():
            for event in ("join", "history", "members"):
                assert code_of(await ask(client, "/chat", event, {"room": room})) == "system_room"
            assert code_of(await ask(client, "/notify", "subscribe", {"topic": room})) == "system_room"


@pytest.mark.parametrize("port", PORTS, ids=str)
@pytest.mark.hostile("D8", "D7", on="plain, HTTP")
async def test_a_system_name_in_an_address_is_refused(houses: Houses, port: Wire) -> None:
    server = houses.get(port)
    async with ground(server):
        for user in ("SYSTEM", "a:b"):
            for route in ("/ws/chat/{}", "/ws/json-chat/{}", "/ws/rooms/chat/x?username={}", "/ws/ratelimited/{}"):
                assert await route_status(server, route.format(written(user))) == 403
        for room in SYSTEM_ROOMS.values():
            for route in ROUTES[:3]:
                assert await route_status(server, route.format(written(room))) == 403
            for method, page in PAGES:
                assert await page_status(server, method, page.format(written(room))) == 403
