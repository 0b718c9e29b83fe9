"""``/ws/rooms/{namespace}/{room}``: the same doors as for Socket.IO, for clients without a library."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from namespaces.rooms_route import general_route
from realtime import Realtime, Settings
from tests.namespaces.names import SYSTEM_ROOMS
from tests.namespaces.running import fresh, hear, hear_json, pair, plain_client, token


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return plain_client(tmp_path_factory.mktemp("rooms"))


def ask(session: WebSocketTestSession, event: str, data: Any, id: Any = 1) -> Any:
    """The reply; what comes before it is left out."""
    session.send_text(json.dumps({"event": event, "data": data, "id": id}))
    while "reply" not in (told := hear_json(session)):
        pass
    assert told["reply"] == id
    return told


def refused(client: TestClient, path: str) -> WebSocketDisconnect:
    with pytest.raises(WebSocketDisconnect) as failure, client.websocket_connect(path):
        pass
    return failure.value


def test_a_chat_room(client: TestClient) -> None:
    room = fresh("room")
    path = f"/ws/rooms/chat/{room}?username="
    with pair(client, path + "alice", path + "bob") as (alice, bob):
        arrival = hear_json(alice)
        assert (arrival["event"], arrival["data"]["username"]) == ("joined", "bob")
        answer = ask(alice, "message", {"room": room, "text": "hi"})
        told = hear_json(bob)
        assert told["event"] == "message"
        assert told["data"] == {**answer["data"], "room": room, "username": "alice", "text": "hi", "message": "hi"}
        members = ask(bob, "members", {"room": room}, "who")["data"]["members"]
        assert [each["username"] for each in members] == ["alice", "bob"]
        other = fresh("room")
        assert ask(alice, "join", {"room": other})["data"]["members"] == ["alice"]
        assert ask(alice, "leave", {"room": room})["data"] == {"room": room}
        assert hear_json(bob)["event"] == "left"
        assert ask(alice, "message", {"room": room, "text": "x"})["error"]["code"] == "not_in_room"


@pytest.mark.parametrize("id", [0, -1, 7, 10**30, "", "seven", "x" * 128, "\ud83d"])
def test_an_id_comes_back_as_it_was(client: TestClient, id: Any) -> None:
    with client.websocket_connect("/ws/rooms/chat/lobby?username=alice") as session:
        assert ask(session, "nope", None, id)["error"]["code"] == "unknown_event"


def test_without_an_id_only_an_error_is_answered(client: TestClient) -> None:
    room = fresh("room")
    with client.websocket_connect(f"/ws/rooms/chat/{room}?username=alice") as session:
        session.send_text(json.dumps({"event": "members", "data": {"room": room}}))
        session.send_text(json.dumps({"event": "members", "data": {"room": ""}}))
        told = hear_json(session)
        assert told["event"] == "error"
        assert told["data"]["error"]["code"] == "invalid_payload"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "invalid_json"),
        ("nope", "invalid_json"),
        ("[]", "invalid_json"),
        ('"event"', "invalid_json"),
        ('{"event": "members", "data": NaN}', "invalid_json"),
        ('{"event":' * 65 + "1" + "}" * 65, "invalid_json"),
        ("{}", "invalid_payload"),
        ('{"event": ""}', "invalid_payload"),
        ('{"event": 5}', "invalid_payload"),
        ('{"event": null}', "invalid_payload"),
        ('{"event": ["members"]}', "invalid_payload"),
        ('{"event": "%s"}' % ("x" * 129), "invalid_payload"),
        ('{"event": "members", "id": true}', "invalid_payload"),
        ('{"event": "members", "id": 1.5}', "invalid_payload"),
        ('{"event": "members", "id": []}', "invalid_payload"),
        ('{"event": "members", "id": {"a": 1}}', "invalid_payload"),
        ('{"event": "members", "id": "%s"}' % ("x" * 129), "invalid_payload"),
    ],
    ids=lambda text: text[:40],
)
def test_what_is_not_understood_is_said_and_the_connection_lives(client: TestClient, text: str, code: str) -> None:
    with client.websocket_connect("/ws/rooms/chat/lobby?username=alice") as session:
        session.send_text(text)
        told = hear_json(session)
        assert (told["type"], told["code"]) == ("error", code)
        assert ask(session, "members", {"room": "lobby"})["data"]["members"]


@pytest.mark.parametrize(
    "name",
    ["connect", "disconnect", "connect_error", "*", "newListener", "authorize", "joined", "__init__", "keep", "emit"],
)
@pytest.mark.parametrize("namespace", ["chat", "notify", "broadcast", "echo"])
def test_nothing_but_an_event_is_reached_by_name(client: TestClient, namespace: str, name: str) -> None:
    with client.websocket_connect(f"/ws/rooms/{namespace}/lobby?username=alice") as session:
        assert ask(session, name, {"room": "lobby"})["error"]["code"] == "unknown_event"


@pytest.mark.parametrize("name", ["connect", "disconnect"])
def test_no_client_runs_the_life_cycle_of_a_namespace_in_the_older_style(name: str) -> None:
    app = FastAPI()
    realtime = Realtime(app, settings=Settings())
    app.include_router(general_route(realtime))
    calls: list[str] = []

    async def on_connect(sid: str, environ: Any, auth: Any = None) -> None:
        calls.append("connect")

    async def on_disconnect(sid: str, reason: Any = None) -> None:
        calls.append("disconnect")

    realtime.server.on("connect", on_connect, namespace="/old")
    realtime.server.on("disconnect", on_disconnect, namespace="/old")
    with TestClient(app).websocket_connect("/ws/rooms/old/lobby") as session:
        session.send_text(json.dumps({"event": name, "data": "forged", "id": 1}))
        session.send_text("the next frame is answered")
        while hear_json(session).get("code") != "invalid_json":
            pass
        assert calls == ["connect"]


@pytest.mark.parametrize("data", [None, [], "text", 5, {"room": 5}, {"room": ["lobby"]}, {}])
def test_a_payload_of_the_wrong_form_is_answered(client: TestClient, data: Any) -> None:
    with client.websocket_connect("/ws/rooms/chat/lobby?username=alice") as session:
        assert ask(session, "members", data)["error"]["code"] == "invalid_payload"
        session.send_text('{"event": "members", "id": 2}')
        assert hear_json(session)["error"]["code"] == "invalid_payload"


@pytest.mark.parametrize("namespace", ["nope", "chat/x", "Chat", "@chat", "socket.io", "%00", "chat%2F"])
def test_a_namespace_that_is_not_there(client: TestClient, namespace: str) -> None:
    error = refused(client, f"/ws/rooms/{namespace}/lobby?username=alice&token={token('alice', '*')}")
    assert (error.code, error.reason) == (1008, "Invalid namespace")


def test_the_root_namespace_is_spelt_root(client: TestClient) -> None:
    with client.websocket_connect("/ws/rooms/root/lobby") as session:
        session.send_text("nope")
        assert hear_json(session)["code"] == "invalid_json"


@pytest.mark.hostile("F3", on="plain")
def test_the_authorise_step_of_each_namespace_is_asked(client: TestClient) -> None:
    good, bad = token("alice"), token("alice", expires_in=0.001, audience="others")
    for path in ("secure/x", "secure/x?username=alice", f"secure/x?token={bad}", "chat/x", f"chat/x?token={bad}"):
        assert refused(client, f"/ws/rooms/{path}").code == 1008, path
    assert refused(client, f"/ws/rooms/chat/x?username=alice&token={bad}").code == 1008
    assert refused(client, f"/ws/rooms/notify/x?token={bad}").code == 1008
    with client.websocket_connect(f"/ws/rooms/secure/x?token={good}") as session:
        assert ask(session, "whoami", None)["error"]["code"] == "invalid_payload"  # it takes no payload
        session.send_text('{"event": "whoami", "id": 1}')
        assert hear_json(session)["data"]["user_id"] == "alice"
    with client.websocket_connect("/ws/rooms/secure/x", headers={"authorization": f"Bearer {good}"}):
        pass


@pytest.mark.hostile("F1", "F3", on="plain")
@pytest.mark.parametrize("namespace", ["chat", "notify", "secure", "broadcast", "echo", "root"])
def test_the_join_rule_of_each_namespace_is_asked(client: TestClient, namespace: str) -> None:
    for room in SYSTEM_ROOMS.values():
        path = f"/ws/rooms/{namespace}/{room}?token={token('alice', '*')}"
        assert refused(client, path).code == 1008, room


@pytest.mark.hostile("F2", "F3", on="plain")
def test_publishing_needs_its_scope_here_too(client: TestClient) -> None:
    said = {"topic": "orders", "title": "t", "message": "m"}
    with client.websocket_connect("/ws/rooms/notify/orders?username=alice") as session:
        assert ask(session, "publish", said)["error"]["code"] == "unauthorized"
    with client.websocket_connect(f"/ws/rooms/notify/orders?token={token('alice')}") as session:
        assert ask(session, "publish", said)["error"]["code"] == "forbidden"
    with client.websocket_connect(f"/ws/rooms/notify/orders?token={token('a', 'notify:publish:orders')}") as session:
        assert ask(session, "publish", said)["data"]["sent"] == 1


def test_the_tutorials_crowd_is_a_namespace_too(client: TestClient) -> None:
    with pair(client, "/ws/broadcast", "/ws/rooms/broadcast/anywhere") as (plain, general):
        assert hear(plain) == "New client joined! Total: 2"
        plain.send_text("hello")
        assert hear_json(general) == {"event": "message", "data": "hello"}
        general.send_text('{"event": "message", "data": 5, "id": 1}')
        assert hear_json(general)["error"]["code"] == "invalid_payload"
