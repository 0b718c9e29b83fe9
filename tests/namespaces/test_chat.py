"""``/chat`` as Socket.IO clients see it, together with raw ones, over a real server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from namespaces.chat import receipt
from realtime import BusState, Emitted, StoredMessage
from tests.end_to_end.clients import RawClient, SocketIOClient, Told, chatter, raw, socket_io, within
from tests.namespaces.asking import gone, problem_of, refusal
from tests.namespaces.names import BAD_NAMES, BAD_USERS, FINE_NAMES, SYSTEM_ROOMS
from tests.namespaces.running import RunningApp, fresh, settings_for, token

EVENTS_WITH_A_ROOM = ["join", "leave", "message", "typing", "history", "members"]


def guest(server: RunningApp, name: str, **options: Any) -> Any:
    return socket_io(server.url, "/chat", auth={"username": name}, **options)


def holder(server: RunningApp, name: str, **options: Any) -> Any:
    return socket_io(server.url, "/chat", auth={"token": token(name)}, **options)


# ── rooms and messages ───────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_joining_talking_and_leaving(server: RunningApp) -> None:
    room = fresh("room")
    async with guest(server, "alice") as alice, guest(server, "bob") as bob:
        answer = await alice.ask("join", {"room": room})
        assert answer == {"room": room, "members": ["alice"], "history": [], "offset": answer["offset"]}
        answer = await alice.ask("message", {"room": room, "text": "hi"})
        assert answer.keys() == {"id", "timestamp"}
        message = await alice.until("message")
        assert message == {
            **answer,
            "room": room,
            "username": "alice",
            "text": "hi",
            "message": "hi",
        }
        joined = await bob.ask("join", {"room": room})
        expected = {"room": room, "members": ["alice", "bob"], "history": [message]}
        assert joined == {**expected, "offset": joined["offset"]}
        assert (await alice.until("joined", room=room))["username"] == "bob"
        await bob.ask("message", {"room": room, "text": "hello"})
        assert (await alice.until("message"))["username"] == "bob"
        assert await bob.ask("leave", {"room": room}) == {"room": room}
        assert (await alice.until("left", room=room))["username"] == "bob"
        await alice.ask("message", {"room": room, "text": "alone"})
        assert await bob.ask("leave", {"room": room}) == {"room": room}  # no change
        assert [data["text"] for name, data in bob.all if name == "message"] == ["hello"]
        assert bob.count("joined") == 0  # arrivals are told to the others
        assert alice.count("left") == 1


@pytest.mark.asyncio
async def test_joining_twice_is_no_change(server: RunningApp) -> None:
    room = fresh("room")
    async with chatter(server.url, "alice", room) as alice, chatter(server.url, "bob", room) as bob:
        await bob.ask("join", {"room": room})
        assert (await alice.ask("members", {"room": room}))["members"][1]["connections"] == 1
        await bob.ask("leave", {"room": room})
        await alice.until("left", username="bob")
        assert alice.count("joined") == 1


@pytest.mark.asyncio
async def test_the_same_name_twice_is_one_member_with_two_connections(server: RunningApp) -> None:
    room = fresh("room")
    async with chatter(server.url, "watcher", room) as watcher:
        async with chatter(server.url, "bob", room) as first:
            async with chatter(server.url, "bob", room) as second:
                members = (await watcher.ask("members", {"room": room}))["members"]
                assert [(each["username"], each["connections"]) for each in members] == [("watcher", 1), ("bob", 2)]
                assert all(each["since"].endswith("Z") for each in members)
                await watcher.ask("message", {"room": room, "text": "both"})
                await first.until("message", text="both")
                await second.until("message", text="both")
            await first.ask("message", {"room": room, "text": "one is left"})
            await watcher.until("message", text="one is left")
            assert (watcher.count("joined"), watcher.count("left")) == (1, 0)
        await watcher.until("left", username="bob")
        assert [each["username"] for each in (await watcher.ask("members", {"room": room}))["members"]] == ["watcher"]


@pytest.mark.asyncio
async def test_socket_io_and_plain_clients_share_a_room(server: RunningApp) -> None:
    room = fresh("room")
    async with (
        chatter(server.url, "anna", room, transports=["websocket"]) as anna,
        chatter(server.url, "paul", room, transports=["polling"]) as paul,
        raw(server.ws_url, f"/ws/chat/rita?room={room}") as rita,
        raw(server.ws_url, f"/ws/json-chat/jo?room={room}") as jo,
        raw(server.ws_url, f"/ws/rooms/chat/{room}?username=gina") as gina,
    ):
        said: list[tuple[str, Callable[[str], Awaitable[Any]]]] = [
            ("anna", lambda text: anna.ask("message", {"room": room, "text": text})),
            ("paul", lambda text: paul.ask("message", {"room": room, "text": text})),
            ("rita", lambda text: rita.say(text)),
            ("jo", lambda text: jo.say({"type": "chat", "text": text})),
            ("gina", lambda text: gina.say({"event": "message", "data": {"room": room, "text": text}})),
        ]
        everyone: list[Told] = [anna, paul, rita, jo, gina]
        for user, say in said:
            await say(f"from {user}")
            for client in everyone:
                told = await client.until("chat" if client is jo else "message", text=f"from {user}")
                assert (told["room"], told["username"]) == (room, user)
        members = (await anna.ask("members", {"room": room}))["members"]
        assert [each["username"] for each in members] == ["anna", "paul", "rita", "jo", "gina"]
        await jo.say({"type": "typing"})
        assert await anna.until("typing") == {"room": room, "username": "jo", "typing": True}
        history = (await gina_asks(gina, "history", {"room": room}))["messages"]
        assert [each["username"] for each in history] == [user for user, _ in said]


async def gina_asks(client: RawClient, event: str, data: Any) -> Any:
    """The answer on the general route."""
    await client.say({"event": event, "data": data, "id": event})
    return (await client.until("message", reply=event))["data"]


@pytest.mark.asyncio
async def test_typing_is_told_to_the_others_and_never_stored(server: RunningApp) -> None:
    room = fresh("room")
    async with chatter(server.url, "alice", room) as alice, chatter(server.url, "bob", room) as bob:
        await alice.ask("typing", {"room": room, "typing": True})
        assert await bob.until("typing") == {"room": room, "username": "alice", "typing": True}
        await alice.ask("typing", {"room": room, "typing": False})
        assert (await bob.until("typing"))["typing"] is False
        assert alice.count("typing") == 0
        assert (await alice.ask("history", {"room": room}))["messages"] == []


@pytest.mark.asyncio
async def test_the_same_client_id_twice_is_one_message(server: RunningApp) -> None:
    room, other = fresh("room"), fresh("room")
    async with chatter(server.url, "alice", room) as alice, chatter(server.url, "bob", room) as bob:
        said = {"room": room, "text": "once", "client_id": "1"}
        first = await alice.ask("message", said)
        assert await alice.ask("message", said) == first
        async with chatter(server.url, "alice", room) as again:  # it lost its connection and tries again
            assert await again.ask("message", said) == first
        assert (await bob.ask("message", said))["id"] != first["id"]  # somebody else's number
        await alice.ask("join", {"room": other})
        assert (await alice.ask("message", {**said, "room": other}))["id"] != first["id"]
        stored = (await alice.ask("history", {"room": room}))["messages"]
        assert [(each["username"], each["text"]) for each in stored] == [("alice", "once"), ("bob", "once")]
        await bob.until("message", username="bob")
        assert bob.count("message", username="alice") == 1


# ── history ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_history_goes_back_page_by_page(server: RunningApp) -> None:
    room = fresh("room")
    async with chatter(server.url, "alice", room) as alice, aiohttp.ClientSession() as http:
        ids = [(await alice.ask("message", {"room": room, "text": str(number)}))["id"] for number in range(7)]
        page = await alice.ask("history", {"room": room, "limit": 3})
        assert ([each["id"] for each in page["messages"]], page["more"]) == (ids[4:], True)
        page = await alice.ask("history", {"room": room, "limit": 3, "before": ids[4]})
        assert ([each["id"] for each in page["messages"]], page["more"]) == (ids[1:4], True)
        page = await alice.ask("history", {"room": room, "before": ids[1]})
        assert ([each["id"] for each in page["messages"]], page["more"]) == (ids[:1], False)
        for before, found in (("0" * 26, []), ("Z" * 26, ids), ("nonsense", ids), ("", []), ("%_*\x00", [])):
            asked = {"room": room, "before": before}
            assert [each["id"] for each in (await alice.ask("history", asked))["messages"]] == found, before
        async with http.get(f"{server.url}/chat/{room}/history", params={"limit": 2, "before": ids[2]}) as answer:
            assert [each["id"] for each in (await answer.json())["messages"]] == ids[:2]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "wrong",
    [{"limit": 0}, {"limit": 201}, {"limit": -1}, {"limit": "many"}, {"limit": 1.5}, {"before": "x" * 65}],
    ids=str,
)
async def test_a_page_that_does_not_exist_is_refused(server: RunningApp, wrong: dict[str, Any]) -> None:
    room = fresh("room")
    async with chatter(server.url, "alice", room) as alice, aiohttp.ClientSession() as http:
        assert (await problem_of(alice, "history", {"room": room, **wrong}))["code"] == "invalid_payload"
        async with http.get(f"{server.url}/chat/{room}/history", params=wrong) as answer:
            assert answer.status == 422
            assert (await answer.json())["code"] == "invalid_request"


# ── doors ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.hostile("F2", on="websocket")
@pytest.mark.asyncio
async def test_who_has_not_joined_neither_speaks_nor_types(server: RunningApp) -> None:
    room = fresh("room")
    async with chatter(server.url, "alice", room) as alice, guest(server, "mallory") as mallory:
        for event, data in (("message", {"text": "x"}), ("typing", {"typing": True})):
            assert (await problem_of(mallory, event, {"room": room, **data}))["code"] == "not_in_room"
        await mallory.ask("join", {"room": room})
        await mallory.ask("leave", {"room": room})
        assert (await problem_of(mallory, "message", {"room": room, "text": "x"}))["code"] == "not_in_room"
        await alice.ask("message", {"room": room, "text": "undisturbed"})
        await alice.until("message", text="undisturbed")
        assert alice.count("message") == 1
        assert alice.count("typing") == 0


@pytest.mark.hostile("F1", on="websocket")
@pytest.mark.asyncio
async def test_rooms_of_the_system_are_closed_to_everybody(server: RunningApp) -> None:
    bob = fresh("bob")
    async with guest(server, "alice") as alice, guest(server, bob) as victim, aiohttp.ClientSession() as http:
        for room in (*SYSTEM_ROOMS.values(), f"@guest:{bob}", f"@alice:{bob}", "@guest:alice"):
            for event in ("join", "leave", "history", "members"):
                assert (await problem_of(alice, event, {"room": room}))["code"] == "system_room", (event, room)
            for event in ("message", "typing"):
                said = {"room": room, "text": "x", "typing": True}
                assert (await problem_of(alice, event, said))["code"] == "not_in_room", (event, room)
            async with http.get(f"{server.url}/chat/{room}/history") as answer:
                assert (answer.status, (await answer.json())["code"]) == (403, "system_room")
        assert (await problem_of(alice, "join", {"room": victim.client.get_sid("/chat")}))["code"] == "system_room"
        for client in (alice, victim):  # a sid is a room, and never one to speak in
            said = {"room": client.client.get_sid("/chat"), "text": "x"}
            assert (await problem_of(alice, "message", said))["code"] == "not_in_room"
        await alice.ask("direct", {"to": bob, "text": "the first that bob hears"})
        await victim.until("message", text="the first that bob hears")
        assert len(victim.all) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("event", EVENTS_WITH_A_ROOM)
async def test_bad_names_of_rooms_are_refused(server: RunningApp, event: str) -> None:
    async with guest(server, "alice") as alice:
        for what, room in BAD_NAMES.items():
            error = await problem_of(alice, event, {"room": room, "text": "x", "typing": True})
            allowed = {"not_in_room"} if event in ("message", "typing") else {"invalid_payload"}
            assert error["code"] in allowed, what


@pytest.mark.asyncio
async def test_names_that_only_look_odd_are_rooms_of_their_own(server: RunningApp) -> None:
    async with guest(server, "alice") as alice:
        for room in FINE_NAMES.values():
            await alice.ask("join", {"room": room})
        for room in FINE_NAMES.values():
            await alice.ask("message", {"room": room, "text": f"in {room}"})
        for room in FINE_NAMES.values():
            page = await alice.ask("history", {"room": room})
            assert page["messages"][-1]["text"] == f"in {room}"
            assert {each["room"] for each in page["messages"]} == {room}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("join", None),
        ("join", []),
        ("join", "lobby"),
        ("join", 5),
        ("join", {}),
        ("join", {"room": None}),
        ("join", {"room": 5}),
        ("join", {"room": ["lobby"]}),
        ("join", {"room": {"toString": "lobby"}}),
        ("message", {"room": "ours"}),
        ("message", {"room": "ours", "text": ""}),
        ("message", {"room": "ours", "text": 5}),
        ("message", {"room": "ours", "text": None}),
        ("message", {"room": "ours", "text": {"a": 1}}),
        ("message", {"room": "ours", "text": "x", "client_id": ""}),
        ("message", {"room": "ours", "text": "x", "client_id": "x" * 129}),
        ("message", {"room": "ours", "text": "x", "client_id": 5}),
        ("message", b"bytes"),
        ("typing", {"room": "ours", "typing": "perhaps"}),
        ("history", {"room": "ours", "before": 5}),
        ("members", {"name": "ours"}),
        ("direct", {"to": "bob"}),
        ("direct", {"to": "bob", "text": ""}),
        ("direct", {"text": "x"}),
        ("direct", {"to": 5, "text": "x"}),
        ("direct", {"to": ["bob"], "text": "x"}),
        ("leave", {"room": 5}),
    ],
    ids=str,
)
async def test_a_payload_of_the_wrong_form_is_answered_and_the_connection_lives(
    server: RunningApp, event: str, data: Any
) -> None:
    room = fresh("room")
    async with chatter(server.url, "alice", room) as alice, chatter(server.url, "bob", room) as bob:
        await alice.ask("join", {"room": "ours"})
        assert (await problem_of(alice, event, data))["code"] == "invalid_payload"
        await alice.ask("message", {"room": room, "text": "still here"})
        await bob.until("message", text="still here")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "event",
    [
        *("nope", "error", "__proto__", "__init__", "__class__", "authorize", "connected", "disconnected", "joined"),
        *(
            "left",
            "may_join",
            "keep",
            "spread",
            "page",
            "emit",
            "sockets",
            "raw",
            "let_in",
            "handle",
            "check_name",
            "\ud83d",
        ),
    ],
)
async def test_nothing_but_an_event_is_reached_by_name(server: RunningApp, event: str) -> None:
    async with guest(server, "alice") as alice:
        assert (await problem_of(alice, event, {"room": "lobby"}))["code"] == "unknown_event"
        await alice.ask("members", {"room": "lobby"})


@pytest.mark.asyncio
async def test_who_asks_for_no_answer_is_told_an_error_all_the_same(server: RunningApp) -> None:
    async with guest(server, "alice") as alice:
        await alice.emit("join", {"room": ""})
        told = await alice.until("error")
        assert told.keys() == {"error"}
        assert told["error"]["code"] == "invalid_payload"
        await alice.emit("nope")
        assert (await alice.until("error"))["error"]["code"] == "unknown_event"


@pytest.mark.asyncio
async def test_there_is_an_end_to_the_rooms_of_one_connection(tmp_path: Path) -> None:
    assert settings_for(tmp_path).rooms_per_connection == 100
    rooms = [fresh("room") for _ in range(6)]
    with RunningApp(settings_for(tmp_path, rooms_per_connection=5)) as server:
        async with guest(server, "alice") as alice:
            for room in rooms[:5]:
                await alice.ask("join", {"room": room})
            assert (await problem_of(alice, "join", {"room": rooms[5]}))["code"] == "too_many_rooms"
            await alice.ask("join", {"room": rooms[0]})  # it is there already
            await alice.ask("leave", {"room": rooms[0]})
            await alice.ask("join", {"room": rooms[5]})


@pytest.mark.asyncio
async def test_an_oversized_text_harms_its_sender_alone(server: RunningApp) -> None:
    room = fresh("room")
    async with (
        chatter(server.url, "alice", room, transports=["websocket"]) as alice,
        chatter(server.url, "paul", room, transports=["polling"]) as paul,
        chatter(server.url, "bob", room) as bob,
    ):
        for sender in (alice, paul):
            await sender.emit("message", {"room": room, "text": "x" * 1_000_001})
            await gone(sender)
        await bob.ask("message", {"room": room, "text": "undisturbed"})
        await bob.until("message")
        assert bob.count("message") == 1


# ── who is who ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("auth", "code"),
    [
        (None, "unauthorized"),
        ({}, "unauthorized"),
        ({"username": None}, "unauthorized"),
        ({"token": ""}, "unauthorized"),
        ({"token": "nonsense"}, "invalid_token"),
        ({"token": "nonsense", "username": "alice"}, "invalid_token"),
        pytest.param({"token": token("alice", expires_in=0.001)}, "expired_token", id="a token that has expired"),
        pytest.param({"token": token("alice", audience="others")}, "invalid_token", id="a token for others"),
        ({"username": 5}, "invalid_payload"),
        ({"token": 5}, "invalid_payload"),
        ({"token": ["x"]}, "invalid_payload"),
    ],
    ids=str,
)
async def test_who_is_not_let_in(server: RunningApp, auth: Any, code: str) -> None:
    told = await refusal(server.url, "/chat", auth)
    assert told["data"]["code"] == code
    assert isinstance(told["message"], str)


@pytest.mark.asyncio
@pytest.mark.parametrize("name", [name for name in BAD_USERS.values() if name], ids=repr)
async def test_names_that_nobody_may_have(server: RunningApp, name: Any) -> None:
    assert (await refusal(server.url, "/chat", {"username": name}))["data"]["code"] in (
        "invalid_username",
        "invalid_payload",
    )


@pytest.mark.asyncio
async def test_a_name_in_the_query_of_the_handshake_does_as_well(server: RunningApp) -> None:
    room = fresh("room")
    async with socket_io(f"{server.url}?username=quentin", "/chat") as client:
        assert (await client.ask("join", {"room": room}))["members"] == ["quentin"]
    async with socket_io(f"{server.url}?token={token('tilda')}", "/chat", auth={"username": "x"}) as client:
        assert (await client.ask("join", {"room": room}))["members"] == ["tilda"]


@pytest.mark.asyncio
async def test_the_name_of_a_token_holder_is_not_free(server: RunningApp) -> None:
    alice = fresh("alice")
    async with holder(server, alice) as first:
        async with holder(server, alice):
            pass  # a token holder may come as often as it likes
        told = await refusal(server.url, "/chat", {"username": alice})
        assert told["data"]["code"] == "name_taken"
        for twin in (alice.upper(), alice.replace("a", "\uff41")):  # names that pass for hers
            assert (await refusal(server.url, "/chat", {"username": twin}))["data"]["code"] == "name_taken"
        async with guest(server, alice + "x"):
            pass  # another name
        await first.ask("members", {"room": "lobby"})
    async with guest(server, alice) as late:
        await late.ask("members", {"room": "lobby"})


@pytest.mark.hostile("D5", on="websocket")
@pytest.mark.asyncio
async def test_a_guest_gives_way_to_the_token_holder_of_its_name(server: RunningApp) -> None:
    alice, room = fresh("alice"), fresh("room")
    async with (
        chatter(server.url, alice, room) as tab,
        chatter(server.url, alice, room, transports=["polling"]) as other,
        raw(server.ws_url, f"/ws/chat/{alice}?room={room}") as plain,
        chatter(server.url, "bob", room) as bob,
    ):
        await tab.emit("leave", {"room": f"@guest:{alice}"})  # no way to hide
        async with holder(server, alice) as rightful:
            for each in (tab, other):
                assert (await each.until("error", error={"code": "name_taken", "message": NAME_TAKEN}))["error"]
                await gone(each)
            assert (await within(plain.closed))[0] == 4504
            await bob.until("left", username=alice)
            await bob.ask("direct", {"to": alice, "text": "for the token holder"})
            await rightful.until("message", text="for the token holder")
        guests: list[Told] = [tab, other, plain]
        assert [each.count("message") for each in guests] == [0, 0, 0]


NAME_TAKEN = "This name belongs to somebody with a token"


@pytest.mark.hostile("F1", on="websocket, plain")
@pytest.mark.asyncio
async def test_direct_messages_reach_both_users_everywhere_and_nobody_else(server: RunningApp) -> None:
    anna, bob, carol = fresh("anna"), fresh("bob"), fresh("carol")
    async with (
        holder(server, anna) as here,
        holder(server, anna) as there,
        guest(server, bob) as tab,
        raw(server.ws_url, f"/ws/chat/{bob}?room={fresh('room')}") as plain,
        guest(server, carol) as stranger,
    ):
        answer = await here.ask("direct", {"to": bob, "text": "psst"})
        assert answer.keys() == {"id", "timestamp"}
        for client in (here, there, tab, plain):
            told = await client.until("message", text="psst")
            assert (told["room"], told["username"]) == (f"@{anna}:{bob}", anna)
        await tab.ask("direct", {"to": anna, "text": "heard"})
        for client in (here, there, tab, plain):
            told = await client.until("message", text="heard")
            assert (told["room"], told["username"]) == (f"@{anna}:{bob}", bob)
        await tab.ask("direct", {"to": bob, "text": "note to self"})
        await plain.until("message", text="note to self")
        await stranger.ask("direct", {"to": carol, "text": "only mine"})
        await stranger.until("message")
        assert stranger.count("message") == 1


@pytest.mark.asyncio
async def test_a_direct_message_to_a_bad_name_is_refused(server: RunningApp) -> None:
    async with guest(server, "alice") as alice:
        for what, name in BAD_USERS.items():
            error = await problem_of(alice, "direct", {"to": name, "text": "x"})
            assert error["code"] == "invalid_payload", what
        assert alice.all == []


@pytest.mark.hostile("E4", on="websocket")
@pytest.mark.asyncio
async def test_a_token_that_ends_ends_the_connection(server: RunningApp) -> None:
    auth = {"token": token(fresh("alice"), expires_in=0.6)}
    async with socket_io(server.url, "/chat", auth=auth) as client:
        assert (await client.until("token_expired")).keys() == {"message"}
        await gone(client)


@pytest.mark.asyncio
async def test_history_over_http_looks_at_a_token_that_comes_along(server: RunningApp) -> None:
    async with aiohttp.ClientSession() as http:
        for shown, status in ((token("alice"), 200), ("nonsense", 401), (token("a", expires_in=0.001), 401)):
            headers = {"authorization": f"Bearer {shown}"}
            async with http.get(f"{server.url}/chat/lobby/history", headers=headers) as answer:
                assert answer.status == status


@pytest.mark.asyncio
async def test_a_joiner_is_shown_as_much_history_as_the_settings_say(tmp_path: Path) -> None:
    for shown in (0, 2):
        room = fresh("room")
        with RunningApp(settings_for(tmp_path, history_on_join=shown)) as server:
            async with chatter(server.url, "alice", room) as alice, guest(server, "bob") as bob:
                for number in range(3):
                    await alice.ask("message", {"room": room, "text": str(number)})
                history = (await bob.ask("join", {"room": room}))["history"]
                assert [each["text"] for each in history] == ["0", "1", "2"][3 - shown :]


@pytest.mark.asyncio
async def test_events_of_one_client_keep_their_order(server: RunningApp) -> None:
    room = fresh("room")
    async with chatter(server.url, "alice", room) as alice, chatter(server.url, "bob", room) as bob:
        for number in range(30):
            await alice.emit("message", {"room": room, "text": str(number)})
        await alice.ask("message", {"room": room, "text": "last"})
        await bob.until("message", text="last")
        assert _texts(bob) == [*map(str, range(30)), "last"]
        await alice.until("message", text="last")
        assert _texts(alice) == _texts(bob)


def _texts(client: SocketIOClient) -> list[str]:
    return [data["text"] for name, data in client.all if name == "message"]


@pytest.mark.parametrize(
    ("emitted", "told"),
    [
        (Emitted.made(3, BusState.UP, "e-1", due=True), {}),
        (Emitted.made(3, BusState.NONE, "e-1", due=True), {}),
        (Emitted.made(3, BusState.AWAY, "e-1", due=True), {}),
        (Emitted.made(3, BusState.AWAY, due=True), {"durable": False}),
    ],
)
def test_the_sender_is_told_when_its_message_has_no_place(emitted: Emitted, told: dict[str, Any]) -> None:
    message = StoredMessage("1", "den", "ann", "hello", "now")
    assert receipt(message, emitted) == {"id": "1", "timestamp": "now", **told}
