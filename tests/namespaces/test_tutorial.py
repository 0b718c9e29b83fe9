"""The plain routes under Starlette's TestClient, not used as a context manager: no lifespan, a loop for each client."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from realtime import Tokens
from tests.namespaces.names import BAD_NAMES, BAD_USERS, FINE_NAMES, SYSTEM_ROOMS
from tests.namespaces.running import SECONDS, fresh, hear, hear_json, pair, plain_client, token

ROUTES = [
    "/ws",
    "/ws/lifecycle",
    "/ws/broadcast",
    "/ws/chat/alice",
    "/ws/json-chat/alice",
    "/ws/notify/orders",
    "/ws/heartbeat",
    "/ws/ratelimited/alice",
    "/ws/rooms/chat/lobby?username=alice",
    "/ws/rooms/notify/orders",
]
"""Every plain route that needs no token."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return plain_client(tmp_path_factory.mktemp("plain"), jwt_leeway_seconds=0)


def refused(client: TestClient, path: str, **options: Any) -> WebSocketDisconnect:
    """The refusal of a handshake, before it was accepted."""
    with pytest.raises(WebSocketDisconnect) as failure, client.websocket_connect(path, **options):
        pass
    return failure.value


def closed(session: WebSocketTestSession) -> WebSocketDisconnect:
    """The close that the server sends next."""
    with pytest.raises(WebSocketDisconnect) as failure:
        hear(session)
    return failure.value


def hear_all(session: WebSocketTestSession) -> None:
    """Until it is closed. How many pings come until then is for a machine that never stands still."""
    while hear_json(session)["type"] == "ping":
        pass


# ── the tutorial's own checks ────────────────────────────────────────────────────────────────────


def test_echo(client: TestClient) -> None:
    with client.websocket_connect("/ws") as session:
        for text in ("hello", "", "two\nlines", "\U0001f600", '{"json": 1}'):
            session.send_text(text)
            assert hear(session) == f"Echo: {text}"


def test_lifecycle(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "realtime.tutorial")
    with client.websocket_connect("/ws/lifecycle") as session:
        session.send_text("my secret words")
        assert hear(session) == "Received: my secret words"
    said = [record.getMessage() for record in caplog.records if record.name == "realtime.tutorial"]
    assert [words.split()[2] for words in said] == ["connected", "sent", "disconnected"]
    assert len({words.split()[1] for words in said}) == 1
    assert "secret" not in caplog.text


def test_a_broadcast_is_the_second_clients_next_message(client: TestClient) -> None:
    with pair(client, "/ws/broadcast", "/ws/broadcast") as (first, second):
        assert hear(first) == "New client joined! Total: 2"
        first.send_text("hello")
        assert hear(second) == "Message: hello"
        assert hear(first) == "Message: hello"
        second.close()
        assert hear(first) == "Client disconnected. Remaining: 1"


def test_ping_and_pong(client: TestClient) -> None:
    with client.websocket_connect("/ws/json-chat/alice") as session:
        session.send_text(json.dumps({"type": "ping"}))
        assert hear_json(session) == {"type": "pong"}


def test_a_chat_message_is_seen_by_the_other(client: TestClient) -> None:
    room = fresh("room")
    with pair(client, f"/ws/chat/alice?room={room}", f"/ws/chat/bob?room={room}") as (alice, bob):
        alice.send_text("hi bob")
        told = hear_json(bob)
        assert told.keys() == {"id", "room", "username", "message", "text", "timestamp"}
        assert (told["room"], told["username"], told["message"], told["text"]) == (room, "alice", "hi bob", "hi bob")
        assert told["timestamp"].endswith("Z")
        arrival = hear_json(alice)
        assert arrival.pop("timestamp").endswith("Z")
        words = "bob joined the chat"
        assert arrival == {"username": "SYSTEM", "message": words, "text": words, "is_system": True}
        assert hear_json(alice) == told  # the sender too
        bob.close()
        assert hear_json(alice)["message"] == "bob left the chat"
    assert [each["text"] for each in client.get(f"/chat/{room}/history").json()["messages"]] == ["hi bob"]


def test_json_chat(client: TestClient) -> None:
    room = fresh("room")
    with pair(client, f"/ws/json-chat/alice?room={room}", f"/ws/json-chat/bob?room={room}") as (alice, bob):
        alice.send_text(json.dumps({"type": "chat", "username": "mallory", "text": "hi"}))
        received, own = hear_json(alice), hear_json(alice)
        assert received == {"type": "chat_received", "id": own["id"]}
        assert own == hear_json(bob)
        assert (own["type"], own["username"], own["text"]) == ("chat", "alice", "hi")  # the name of the path counts
        alice.send_text(json.dumps({"type": "typing", "username": "mallory"}))
        assert hear_json(bob) == hear_json(alice) == {"type": "user_typing", "username": "alice"}


def test_a_notification_reaches_a_raw_client_and_counts_it(client: TestClient) -> None:
    topic = fresh("topic")
    wanted = {"title": "Sale", "message": "today"}
    assert client.post(f"/notify/{topic}", params=wanted).json()["sent"] == 0
    with pair(client, f"/ws/notify/{topic}", f"/ws/notify/{topic}") as (first, second):
        first.send_text("whatever comes keeps it alive")
        answer = client.post(f"/notify/{topic}", json={**wanted, "level": "warning", "data": {"n": 1}}).json()
        told = hear_json(first)
        assert answer == {"sent": 2, "id": told["id"]}
        assert told == hear_json(second)
        assert told.pop("timestamp").endswith("Z")
        assert told == {
            "type": "notification",
            "id": answer["id"],
            "topic": topic,
            "level": "warning",
            "title": "Sale",
            "message": "today",
            "data": {"n": 1},
        }


@pytest.mark.hostile("E3", on="plain")
@pytest.mark.parametrize(
    "shown",
    [
        "",
        "?token=",
        "?token=nonsense",
        f"?token={token('alice', expires_in=0.001)}",
        f"?token={token('alice', audience='others')}",
        f"?token={Tokens(secret='another secret of thirty-two bytes').issue('alice', time.time())}",
        f"?token={token('alice')}&token={token('bob')}",
        "?username=alice",
    ],
    ids=["missing", "empty", "bad", "expired", "audience", "another key", "two", "a name"],
)
def test_secure_refuses_before_it_accepts(client: TestClient, shown: str) -> None:
    error = refused(client, f"/ws/secure{shown}")
    assert (error.code, error.reason) == (1008, "Invalid token")


def test_secure_knows_who_speaks(client: TestClient) -> None:
    with client.websocket_connect(f"/ws/secure?token={token('alice')}") as session:
        session.send_text("psst")
        told = hear_json(session)
        assert told.pop("timestamp").endswith("Z")
        assert told == {"type": "received", "user_id": "alice", "data": "psst"}


def test_the_rate_limit_is_ten_in_a_minute_for_a_user_on_all_connections(client: TestClient) -> None:
    user = fresh("user")
    with pair(client, f"/ws/ratelimited/{user}", f"/ws/ratelimited/{user}") as (one, other):
        for number in range(10):
            session = (one, other)[number % 2]
            session.send_text(str(number))
            assert hear_json(session) == {"type": "received", "data": str(number)}
        for session in (one, other):
            session.send_text("eleven")
            told = hear_json(session)
            assert 0 < told.pop("retry_after") <= 60
            assert told == {"type": "error", "code": "rate_limited", "message": "Rate limit exceeded"}
    with client.websocket_connect(f"/ws/ratelimited/{fresh('user')}") as somebody:
        somebody.send_text("free")
        assert hear_json(somebody) == {"type": "received", "data": "free"}


def test_the_heartbeat_pings_at_once_and_acknowledges(client: TestClient) -> None:
    with client.websocket_connect("/ws/heartbeat") as session:
        assert hear_json(session)["type"] == "ping"
        session.send_text('{"type": "pong"}')
        for id in (7, "seven", None, {"a": [1]}, 10**30, "\ud83d"):
            session.send_text(json.dumps({"id": id}))
            assert hear_json(session) == {"type": "ack", "id": id}
        for text, code in (("x", "invalid_json"), ("[]", "invalid_json"), ('{"type": "ping"}', "invalid_payload")):
            session.send_text(text)
            told = hear_json(session)
            assert (told["type"], told["code"]) == ("error", code)
        session.send_text('{"id": 1}')
        assert hear_json(session) == {"type": "ack", "id": 1}


@pytest.mark.parametrize("answers", [False, True])
def test_a_silent_heart_is_closed_after_two_intervals(tmp_path: Path, answers: bool) -> None:
    client = plain_client(tmp_path, heartbeat_interval_seconds=0.2)
    with client.websocket_connect("/ws/heartbeat") as session:
        started = time.monotonic()
        if not answers:
            assert hear_json(session)["type"] == "ping"
            with pytest.raises(WebSocketDisconnect) as caught:
                hear_all(session)
            assert caught.value.code == 4408
            assert 0.35 < time.monotonic() - started < SECONDS
            return
        for _ in range(5):
            assert hear_json(session)["type"] == "ping"
            session.send_text('{"type": "pong"}')
        assert time.monotonic() - started > 0.7


# ── bad input ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nope", "invalid_json"),
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("[1]", "invalid_json"),
        ('"chat"', "invalid_json"),
        ('{"type": "chat", "text": NaN}', "invalid_json"),
        ("[" * 200 + "]" * 200, "invalid_json"),
        ("{}", "unknown_type"),
        ('{"type": "shout"}', "unknown_type"),
        ('{"type": 5}', "unknown_type"),
        ('{"type": null}', "unknown_type"),
        ('{"type": ["chat"]}', "unknown_type"),
        ('{"type": {"chat": 1}}', "unknown_type"),
        ('{"type": "chat_received"}', "unknown_type"),
        ('{"type": "chat"}', "invalid_payload"),
        ('{"type": "chat", "text": ""}', "invalid_payload"),
        ('{"type": "chat", "text": 5}', "invalid_payload"),
        ('{"type": "chat", "text": ["a"]}', "invalid_payload"),
        ('{"type": "chat", "text": null}', "invalid_payload"),
    ],
)
def test_what_the_json_chat_does_not_understand_is_said_and_the_connection_lives(
    client: TestClient, text: str, code: str
) -> None:
    room = fresh("room")
    with pair(client, f"/ws/json-chat/alice?room={room}", f"/ws/json-chat/bob?room={room}") as (alice, bob):
        alice.send_text(text)
        told = hear_json(alice)
        assert (told["type"], told["code"]) == ("error", code)
        assert isinstance(told["message"], str)
        alice.send_text('{"type": "chat", "text": "still here"}')
        assert hear_json(bob)["text"] == "still here"  # the first that the bystander hears


def test_half_an_emoji_harms_nobody(client: TestClient) -> None:
    """Sent through any door, it can be stored, told and read again."""
    room = fresh("room")
    with pair(client, f"/ws/json-chat/alice?room={room}", f"/ws/chat/bob?room={room}") as (alice, bob):
        alice.send_text('{"type": "chat", "text": "cut \\ud83d"}')
        assert hear_json(bob)["text"] == "cut \ud83d"
    answer = client.get(f"/chat/{room}/history")
    assert answer.status_code == 200
    assert [each["text"] for each in answer.json()["messages"]] == ["cut \ud83d"]


def test_an_empty_text_is_no_message(client: TestClient) -> None:
    with client.websocket_connect(f"/ws/chat/alice?room={fresh('room')}") as session:
        session.send_text("")
        session.send_text("after")
        assert hear_json(session)["text"] == "after"


@pytest.mark.parametrize("path", ROUTES)
def test_a_text_over_the_limit_closes_its_sender_alone(tmp_path: Path, path: str) -> None:
    client = plain_client(tmp_path, message_limit_bytes=1_000)
    with pair(client, path, path.replace("alice", "bob")) as (sender, bystander):
        sender.send_text("é" * 501)
        while True:  # what came before: a ping, an arrival
            try:
                hear(sender)
            except WebSocketDisconnect as error:
                assert error.code == 1009
                break
        bystander.send_text('{"type": "chat", "id": 1, "text": "alive", "event": "members", "data": {"room": "lobby"}}')
        if "/notify" not in path:
            hear(bystander)
        else:
            assert client.post("/notify/orders", params={"title": "t", "message": "m"}).json()["sent"] == 1


def test_the_limit_as_it_comes_is_one_million_bytes(client: TestClient) -> None:
    with client.websocket_connect("/ws") as session:
        session.send_text("x" * 1_000_000)
        assert len(hear(session)) == 1_000_006
        session.send_text("x" * 1_000_001)
        assert closed(session).code == 1009


@pytest.mark.parametrize("path", [*ROUTES, f"/ws/secure?token={token('alice')}"])
def test_binary_frames_are_not_for_plain_routes(client: TestClient, path: str) -> None:
    with client.websocket_connect(path) as session:
        session.send_bytes(b"\x00\x01")
        while True:
            try:
                hear(session)
            except WebSocketDisconnect as error:
                assert error.code == 1003
                break


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://testserver.evil.example"])
@pytest.mark.parametrize("path", [*ROUTES, f"/ws/secure?token={token('alice')}"])
def test_a_foreign_page_may_not_connect(client: TestClient, path: str, origin: str) -> None:
    repeated = {"origin": origin, "x-forwarded-host": origin.removeprefix("http://")}
    assert refused(client, path, headers=repeated).code == 1008


@pytest.mark.parametrize("origin", [None, "http://testserver"])
def test_our_own_page_and_no_page_may(client: TestClient, origin: str | None) -> None:
    with client.websocket_connect("/ws", headers={"origin": origin} if origin else {}) as session:
        session.send_text("x")
        assert hear(session) == "Echo: x"


def percent(name: str) -> str:
    return "".join(f"%{byte:02X}" for byte in name.encode())


ROOM_DOORS = [
    "/ws/chat/alice?room={}",
    "/ws/json-chat/alice?room={}",
    "/ws/notify/{}",
    "/ws/rooms/chat/{}?username=alice",
    "/ws/rooms/notify/{}",
    "/ws/rooms/broadcast/{}",
]


@pytest.mark.hostile("F1", on="plain")
@pytest.mark.parametrize("door", ROOM_DOORS)
def test_rooms_of_the_system_are_nobodys_to_enter(client: TestClient, door: str) -> None:
    for room in SYSTEM_ROOMS.values():
        path = door.format(percent(room))
        assert refused(client, path).code == 1008, room
        with_token = f"{path}{'&' if '?' in path else '?'}token={token('bob')}"
        assert refused(client, with_token).code == 1008, room


@pytest.mark.parametrize("door", ROOM_DOORS)
def test_bad_names_of_rooms_are_refused(client: TestClient, door: str) -> None:
    for what, room in BAD_NAMES.items():
        if room:  # an empty one is another route
            assert refused(client, door.format(percent(room))).code == 1008, what


@pytest.mark.parametrize("door", [door for door in ROOM_DOORS if "?room=" in door or "/notify" in door])
def test_names_that_only_look_odd_are_rooms_of_their_own(client: TestClient, door: str) -> None:
    rooms = [room for room in FINE_NAMES.values() if "/" not in room]
    hub = client.app.state.realtime.server.hub  # type: ignore[attr-defined]
    for room in rooms:
        with client.websocket_connect(door.format(percent(room))):
            here = hub.namespaces["/notify" if "/notify" in door else "/chat"]
            assert len(here.members(room)) == 1


def test_rooms_that_look_alike_are_different_rooms(client: TestClient) -> None:
    with pair(client, f"/ws/chat/al?room={percent('é')}", f"/ws/chat/bo?room={percent('e' + chr(0x301))}") as (al, bo):
        al.send_text("composed")
        assert hear_json(al)["text"] == "composed"
        bo.send_text("decomposed")
        assert hear_json(bo)["text"] == "decomposed"


@pytest.mark.parametrize(
    "door", ["/ws/chat/{}", "/ws/json-chat/{}", "/ws/ratelimited/{}", "/ws/rooms/chat/x?username={}"]
)
def test_bad_names_of_users_are_refused(client: TestClient, door: str) -> None:
    for what, user in BAD_USERS.items():
        if user and isinstance(user, str):
            assert refused(client, door.format(percent(user))).code == 1008, what


# ── who is who ───────────────────────────────────────────────────────────────────────────────────


def test_a_token_counts_more_than_the_name_of_the_path(client: TestClient) -> None:
    user, room = fresh("alice"), fresh("room")
    with client.websocket_connect(f"/ws/chat/somebody?room={room}&token={token(user)}") as session:
        session.send_text("who am I")
        assert hear_json(session)["username"] == user
    error = refused(client, f"/ws/chat/somebody?room={room}&token=nonsense")
    assert error.code == 1008


@pytest.mark.parametrize("path", ["/ws/chat/{}", "/ws/json-chat/{}", "/ws/rooms/chat/lobby?username={}"])
def test_the_name_of_a_token_holder_is_not_free(client: TestClient, path: str) -> None:
    user = fresh("alice")
    with client.websocket_connect(f"/ws/chat/x?room={fresh('room')}&token={token(user)}") as holder:
        holder.send_text("let in")
        hear(holder)
        assert refused(client, path.format(user)).code == 1008
    with client.websocket_connect(path.format(user)):
        pass  # free again


def test_a_guest_gives_way_to_the_token_holder_of_its_name(client: TestClient) -> None:
    user, room = fresh("alice"), fresh("room")
    holder = f"/ws/chat/x?room={fresh('elsewhere')}&token={token(user)}"
    here, there = f"/ws/chat/{user}?room={room}", f"/ws/json-chat/{user}?room={room}"
    with pair(client, here, there) as guests, client.websocket_connect(holder):
        for session in guests:
            told = hear_json(session)
            assert (told["type"], told["code"]) == ("error", "name_taken")
            assert closed(session).code == 4504


def test_the_same_name_twice_joins_once_and_leaves_at_the_last(client: TestClient) -> None:
    path = f"/ws/chat/{{}}?room={fresh('room')}"
    bob = path.format("bob")
    with client.websocket_connect(path.format("watcher")) as watcher, pair(client, bob, bob) as (first, second):
        first.send_text("one")
        assert hear_json(second)["text"] == "one"
        second.close()
        first.send_text("two")
        first.close()
        told = [hear_json(watcher)["text"] for _ in range(4)]
    assert told == ["bob joined the chat", "one", "two", "bob left the chat"]


def test_announcing_to_oneself_is_a_setting(tmp_path: Path) -> None:
    client = plain_client(tmp_path, raw_announce_self=True)
    with client.websocket_connect("/ws/chat/alice") as session:
        assert hear_json(session)["text"] == "alice joined the chat"
    with pair(client, "/ws/broadcast", "/ws/broadcast") as (first, second):
        assert [hear(first), hear(first)] == ["New client joined! Total: 1", "New client joined! Total: 2"]
        assert hear(second) == "New client joined! Total: 2"


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.hostile("E4", on="plain")
@pytest.mark.parametrize("path", ["/ws/secure?", "/ws/chat/x?room=brief&", "/ws/notify/brief?", "/ws/rooms/notify/x?"])
def test_a_token_that_ends_ends_the_connection(client: TestClient, path: str) -> None:
    with client.websocket_connect(f"{path}token={token(fresh('alice'), expires_in=0.4)}") as session:
        told = hear_json(session)
        assert "token_expired" in (told.get("code"), told.get("event"))
        assert closed(session).code == 1008


def test_a_configured_audience_is_asked_for(tmp_path: Path) -> None:
    client = plain_client(tmp_path, jwt_audience="realtime")
    assert refused(client, f"/ws/secure?token={token('alice')}").reason == "Invalid token"
    with client.websocket_connect(f"/ws/secure?token={token('alice', audience='realtime')}") as session:
        session.send_text("x")
        assert hear_json(session)["user_id"] == "alice"
