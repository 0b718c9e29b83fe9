from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from realtime import Metrics, Namespace, Reason, Server, Socket
from realtime.access.identity import Identity
from realtime.journal.passage import PART_BITS
from realtime.recovery.keepers import takes_offsets
from realtime.server.roster import BusManager
from realtime.testing import MemoryWire
from tests.realtime.coming_back import Guest, Place
from tests.realtime.living import SECONDS, settings_for

pytestmark = pytest.mark.asyncio


async def test_who_was_cut_off_goes_on() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    assert await alice.say("join", "lobby") is None
    await alice.say("remember", "colour", "red")
    await place.chat.emit("note", 1, to="lobby")
    assert await alice.catch_up() == [1]
    first, pid = alice.sid, alice.pid
    alice.cut()
    for number, room in ((2, "lobby"), (3, "other"), (4, "user:alice"), (5, None), (6, first)):
        await place.chat.emit("note", number, to=room)
    data = await alice.come()
    assert (data["sid"], data["pid"], data["recovered"]) == (first, pid, True)
    assert alice.before_connect == 4
    await place.chat.emit("note", 7, to="lobby")
    assert await alice.catch_up() == [1, 2, 4, 5, 6, 7]
    assert place.hooks("authorize")[1] == (True, {"colour": "red", "here": True}, {"user": "alice"})
    assert place.hooks("connected")[1] == (True, None, ["lobby", "user:alice"])
    assert place.hooks("disconnected") == [("transport close", True)]
    assert place.server.metrics.recoveries.value("recovered") == 1
    assert place.server.metrics.replayed.value() == 4


async def test_who_has_received_nothing_yet_goes_on_too() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    alice.cut()
    assert (await alice.come())["recovered"] is True
    alice.cut()
    await place.chat.emit("note", 1)
    assert alice.offset is None
    assert (await alice.come())["recovered"] is True
    assert alice.told == [1]


async def test_what_was_lost_on_its_way_comes_again() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    for number in range(1, 6):
        await place.chat.emit("note", number)
    await alice.catch_up()
    alice.events, alice.offset = alice.events[:2], alice.events[1][-1]
    alice.cut()
    await place.chat.emit("note", 6)
    await alice.come()
    assert alice.told == [1, 2, 3, 4, 5, 6]


async def test_who_returns_in_a_loop_starts_clean_and_is_counted() -> None:
    place = Place(recovery_limit_returns=3)
    alice = await place.guest(user="alice")
    outcomes = []
    for _ in range(5):
        alice.cut()
        data = await alice.come()
        outcomes.append(data.get("reason"))
    assert outcomes == [None, None, None, "limit", None], "and then it is somebody new"
    assert place.server.metrics.recoveries.value("limit") == 1
    place.clock.now += 61
    alice.cut()
    assert (await alice.come())["recovered"] is True


async def test_a_pid_of_another_namespace_is_unknown() -> None:
    place = Place()
    place.server.include(Namespace("/news", recovery=True))
    alice = await place.guest(user="alice")
    alice.cut()
    reader = Guest(place.server, "/news")
    reader.pid = alice.pid
    assert (await reader.come())["reason"] == "unknown"
    assert (await alice.come())["recovered"] is True


async def test_the_quota_of_a_user_is_given_back_by_whom_it_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disconnect hook of the connection before takes longer than its client is kept waiting."""
    monkeypatch.setattr("realtime.recovery.returning.SETTLE_SECONDS", 0)
    server = Server(settings=settings_for(connections_per_user=2))
    chat, gate = server.include(Namespace("/chat", recovery=True)), asyncio.Event()

    @chat.hook("authorize")
    async def authorize() -> Identity:
        return Identity("alice")

    @chat.hook("disconnected")
    async def disconnected() -> None:
        await asyncio.wait_for(gate.wait(), SECONDS)

    alice = Guest(server)
    await alice.come()
    alice.cut()
    assert (await alice.come())["recovered"] is True
    gate.set()
    alice.cut()
    await asyncio.wait_for(server.application.rest(SECONDS), SECONDS)
    assert len(server.application._quota) == 0


@pytest.mark.parametrize("how", ["client", "server", "room", "violation", "drain"])
async def test_who_left_or_was_sent_away_has_left(how: str) -> None:
    place = Place()
    alice = await place.guest(user="alice")
    if how == "client":
        alice.client.disconnect("/chat")
    elif how == "server":
        await place.server.disconnect(alice.sid, "/chat")
    elif how == "room":
        await place.chat.disconnect("user:alice", Reason.REPLACED)
    elif how == "drain":
        alice.cut(Reason.DRAINING)
    else:
        alice.client.wire.say("4nonsense")
    data = await alice.come()
    assert (data["recovered"], data["reason"]) == (False, "unknown")


@pytest.mark.parametrize("reason", ["transport close", "transport error", "ping timeout", "slow", "limit"])
async def test_ends_that_nobody_chose(reason: str) -> None:
    place = Place()
    alice = await place.guest(user="alice")
    alice.cut(reason)
    assert (await alice.come())["recovered"] is True


async def test_every_event_carries_an_offset_and_volatile_ones_the_newest() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    await place.chat.emit("note", 1)
    await place.chat.emit("note", "a string at the end", volatile=True)
    await place.chat.emit("note", ["two", "strings"])
    await place.chat.emit("nothing")
    await alice.catch_up()
    epoch = place.server.hub.keepers["/chat"].log.epoch
    ends = [(data[1:-1], data[-1]) for data in alice.events]
    assert ends == [
        ([1], f"{epoch}-1"),
        (["a string at the end"], f"{epoch}-1"),
        ([["two", "strings"]], f"{epoch}-2"),
        ([], f"{epoch}-3"),
    ]
    alice.cut()
    await place.chat.emit("note", "missed", volatile=True)
    await alice.come()
    assert alice.data["recovered"] is True
    assert len(alice.events) == 4, "what is volatile is not told again"


async def test_idle_for_longer_than_the_log_reaches_back() -> None:
    place = Place(log_limit_entries=5)
    alice = await place.guest(user="alice")
    await alice.say("join", "lobby")
    await place.chat.emit("note", 1, to="lobby")
    await alice.catch_up()
    for number in range(20):
        await place.chat.emit("note", number, to="elsewhere")
    alice.cut()
    await place.chat.emit("note", 2, to="lobby")
    assert (await alice.come())["recovered"] is True
    assert alice.told == [1, 2]


async def test_never_a_part_of_what_was_missed() -> None:
    place = Place(log_limit_entries=5)
    alice = await place.guest(user="alice")
    await alice.say("join", "lobby")
    await place.chat.emit("note", 0, to="lobby")
    first = (await alice.catch_up(), alice.sid, alice.pid)[1:]
    alice.cut()
    for number in range(1, 7):
        await place.chat.emit("note", number, to="lobby")
    data = await alice.come()
    assert (data["recovered"], data["reason"], alice.told) == (False, "gone", [0])
    assert {data["sid"], data["pid"]}.isdisjoint(first)
    assert place.hooks("connected")[-1] == (False, "gone", ["user:alice"])
    assert place.hooks("authorize")[-1][:2] == (False, {})
    assert place.hooks("expired") == [("alice", {"here": True})]


async def test_an_offset_of_nobodys_making() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    alice.cut()
    alice.offset = "what the application said last"
    data = await alice.come()
    assert (data["recovered"], data["reason"]) == (False, "offset")


async def test_an_offset_of_another_log() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    alice.cut()
    alice.offset = "anotherlog-7"
    assert (await alice.come())["reason"] == "epoch"


async def test_rooms_that_are_changed_meanwhile() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    for room in ("stays", "left", "closed"):
        await alice.say("join", room)
    alice.cut()
    for room in ("stays", "left", "closed", "entered"):
        await place.chat.emit("note", f"before {room}", to=room)
    await place.server.enter_room(alice.sid, "entered", "/chat")
    await place.server.leave_room(alice.sid, "left", "/chat")
    await place.server.close_room("closed", "/chat")
    for room in ("stays", "left", "closed", "entered"):
        await place.chat.emit("note", f"after {room}", to=room)
    await alice.come()
    assert alice.told == ["before stays", "before left", "before closed", "after stays", "after entered"]
    assert place.hooks("connected")[-1][-1] == ["entered", "stays", "user:alice"]


async def test_rooms_left_before_the_end_are_heard_up_to_then() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    await alice.say("join", "lobby")
    await place.chat.emit("note", 1, to="lobby")
    await alice.say("leave", "lobby")
    await place.chat.emit("note", 2, to="lobby")
    alice.events, alice.offset = [], None  # nothing of it arrived
    alice.cut()
    await alice.come()
    assert alice.told == [1]


@pytest.mark.parametrize("by", ["sid", "room"])
async def test_who_is_sent_away_while_it_is_away_does_not_come_back(by: str) -> None:
    place = Place()
    alice = await place.guest(user="alice")
    alice.cut()
    if by == "sid":
        await place.server.disconnect(alice.sid, "/chat")
    else:
        await place.chat.disconnect("user:alice")
    assert (await alice.come())["reason"] == "unknown"
    assert place.hooks("expired") == [("alice", {})]


async def test_the_rule_of_a_room_is_asked_again() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    await alice.say("join", "lobby")
    alice.cut()
    place.closed_rooms.add("lobby")
    await place.chat.emit("note", 1, to="lobby")
    data = await alice.come()
    assert (data["recovered"], data["reason"], alice.told) == (False, "access", [])


async def test_who_is_refused_may_come_back_with_better_words() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    alice.cut()
    await place.chat.emit("note", 1)
    refused = await alice.come(user="banned")
    assert refused["data"]["code"] == "forbidden"
    assert alice.told == []
    assert (await alice.come())["recovered"] is True
    assert alice.told == [1]


async def test_what_is_said_while_it_is_let_in_comes_after_connect_and_once() -> None:
    server = Server(settings=settings_for())
    chat = server.include(Namespace("/chat", recovery=True))
    gate = asyncio.Event()

    @chat.hook("authorize")
    async def authorize(socket: Socket) -> None:
        socket.enter("everybody")
        await asyncio.wait_for(gate.wait(), SECONDS)

    gate.set()
    guest = Guest(server)
    await guest.come()
    guest.cut()
    await chat.emit("note", "missed", to="everybody")
    gate.clear()
    coming = asyncio.ensure_future(guest.come())
    async with asyncio.timeout(SECONDS):
        while not server.hub.keepers["/chat"].returning or not server.hub.namespaces.get("/chat"):
            await asyncio.wait({coming}, timeout=0)
    for _ in range(5):
        await asyncio.wait({coming}, timeout=0)
    await chat.emit("note", "meanwhile", to="everybody")
    await chat.emit("note", "in vain", to="everybody", volatile=True)
    gate.set()
    await coming
    assert guest.before_connect == 1
    await chat.emit("note", "last", to="everybody")
    frames = [frame for frame in guest.client.wire.frames if isinstance(frame, str) and "note" in frame]
    assert [frame.split('"')[3] for frame in frames] == ["missed", "meanwhile", "last"]
    assert server.hub.keepers["/chat"].returning == 0


async def test_a_replay_is_paced_by_the_wire_and_not_counted() -> None:
    place = Place(backlog_limit_messages=10)
    alice = await place.guest(user="alice")
    alice.cut()
    for number in range(500):
        await place.chat.emit("note", number)
    wire = MemoryWire(capacity=3)
    coming = asyncio.ensure_future(alice.come(wire))
    async with asyncio.timeout(SECONDS):
        while not coming.done():
            await asyncio.wait({coming}, timeout=0)
            taken = len(wire.frames)
            for _ in range(3):
                encoded = wire.link.take()
                if encoded is None:
                    break
                wire.send(encoded)
            assert len(wire.frames) - taken <= 3 << PART_BITS
    assert alice.told == list(range(500))
    assert alice.before_connect == 500
    assert wire.closed is None


@pytest.mark.parametrize("query", ["recovery=0", "transport=websocket&EIO=4", "transport=polling&EIO=4&t=1.5"])
async def test_who_cannot_take_offsets_is_given_none(query: str) -> None:
    place = Place()
    alice = await place.guest(user="alice", query=query)
    assert alice.data == {"sid": alice.sid}
    await place.chat.emit("note", {"a": 1})
    await place.chat.emit("note", {"a": 2}, volatile=True)
    await alice.catch_up()
    assert alice.events == [["note", {"a": 1}], ["note", {"a": 2}]]


async def test_on_request_everybody_is_given_offsets() -> None:
    place = Place()
    alice = await place.guest(user="alice", query="transport=websocket&EIO=4&recovery=1")
    assert alice.pid


async def test_a_namespace_without_recovery_says_what_it_always_said() -> None:
    place = Place()
    place.server.on("echo", lambda sid, data: data, namespace="/plain")
    guest = Guest(place.server, "/plain")
    await guest.come()
    assert guest.data == {"sid": guest.sid}
    await place.server.emit("note", {"a": 1}, namespace="/plain")
    await guest.say("echo", 1)
    assert guest.events == [["note", {"a": 1}]]


async def test_who_polls_is_not_told_a_whole_log_for_a_good_bye() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    member = place.server.hub.find(alice.sid, "/chat")
    assert member is not None
    start, wire = str(place.chat.offset), alice.client.wire
    wire.name, wire.capacity = "polling", 0
    member.session.hold()
    for number in range(500):
        await place.chat.emit("note", number, to="news")
    assert place.server.since(member, start, "news").recovered
    member.session.close(4501, "enough", "limit")
    assert [frame for frame in wire.frames if "note" in str(frame)] == []
    assert member.session.outbox.replays == 0
    assert not place.server.hub.keepers["/chat"]._forms


async def test_python_socketios_way_on_request() -> None:
    server = Server(settings=settings_for(), recovery=True)
    environs: list[Any] = []

    @server.event
    async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
        environs.append((environ["realtime.recovered"], auth))
        async with server.session(sid) as session:
            session["visits"] = session.get("visits", 0) + 1
        await server.emit("note", "hello", to=sid)

    guest = Guest(server, "/")
    await guest.come()
    await server.enter_room(guest.sid, "lobby")
    first = guest.sid
    guest.cut()
    await server.emit("note", "missed", to="lobby")
    assert (await guest.come())["recovered"] is True
    await server.emit("note", "last", to="lobby")
    assert (guest.sid, environs) == (first, [(False, None), (True, None)])
    assert (await server.get_session(first))["visits"] == 2
    frames = [frame for frame in guest.client.wire.frames if isinstance(frame, str) and "note" in frame]
    assert [frame.split('"')[3] for frame in frames] == ["hello", "missed", "hello", "last"]


async def test_python_socketios_way_has_it_off() -> None:
    server = Server(settings=settings_for(), namespaces=["/"])
    guest = Guest(server, "/")
    await guest.come(pid="something", offset="else")
    assert guest.data == {"sid": guest.sid}
    await server.emit("note", "hello")
    assert guest.client.wire.frames[-1] == '42["note","hello"]'


def query_scope(query: str) -> dict[str, Any]:
    return {"query_string": query.encode()}


async def test_who_takes_offsets() -> None:
    javascript, python = "EIO=4&transport=polling&t=abc", "transport=polling&EIO=4&t=1763819059.12"
    assert takes_offsets(query_scope(javascript))
    assert not takes_offsets(query_scope(python))
    assert not takes_offsets(query_scope("token=x&" + python))
    assert takes_offsets(query_scope(python + "&recovery=1"))
    assert not takes_offsets(query_scope(javascript + "&recovery=0"))
    assert takes_offsets(query_scope(javascript + "&recovery=auto"))


async def test_with_a_bus_rooms_are_changed_here_for_who_is_away() -> None:
    server = Server(BusManager(DeafBus(), Metrics()), settings=settings_for())
    server.include(Namespace("/chat", recovery=True))
    guest = Guest(server)
    await guest.come()
    guest.cut()
    await server.enter_room(guest.sid, "news", "/chat")
    await server.emit("note", 1, to="news", namespace="/chat")
    await server.leave_room(guest.sid, "news", "/chat")
    await server.emit("note", 2, to="news", namespace="/chat")
    assert (await guest.come())["recovered"] is True
    assert guest.told == [1]
    guest.cut()
    await server.manager._handle_disconnect({"sid": guest.sid, "namespace": "/chat"})
    assert (await guest.come())["recovered"] is False
    await server.shutdown()


class DeafBus:
    """Keeps the port ``Bus``; there is nobody else."""

    async def publish(self, message: bytes) -> None: ...

    async def listen(self) -> AsyncIterator[bytes]:
        nothing: tuple[bytes, ...] = ()
        for message in nothing:
            yield message

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class Club:
    """Its authorise step puts into ``admins`` whoever says so, and everybody into ``all``."""

    def __init__(self) -> None:
        self.server = Server(settings=settings_for())
        self.club = self.server.include(Namespace("/chat", recovery=True))
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0

        @self.club.hook("authorize")
        async def authorize(socket: Socket, auth: Any = None) -> Identity:
            self.asked += 1
            await asyncio.wait_for(self.gate.wait(), SECONDS)
            socket.enter("all")
            if auth.get("admin"):
                socket.enter("admins")
            return Identity("alice")

    async def come(self, guest: Guest, admin: bool) -> dict[str, Any]:
        guest.auth = {"admin": admin}
        return await guest.come()

    def rooms(self, guest: Guest) -> set[Any]:
        return set(self.server.hub.rooms_of(guest.sid, "/chat"))


async def test_what_the_authorise_step_gave_it_has_to_give_again() -> None:
    club = Club()
    guest = Guest(club.server)
    await club.come(guest, admin=True)
    for number, admin in ((1, True), (3, False), (5, True)):
        guest.cut()
        await club.club.emit("note", number, to="admins")
        await club.club.emit("note", number + 1, to="all")
        assert (await club.come(guest, admin))["recovered"] is True
        assert club.rooms(guest) == {guest.sid, "all", *(["admins"] if admin else [])}
    assert guest.told == [1, 2, 4, 6], "what was said to the admins while it was none is not for it"


async def test_left_meanwhile_it_is_no_longer_told_of_either() -> None:
    club = Club()
    guest = Guest(club.server)
    await club.come(guest, admin=True)
    guest.cut()
    await club.club.emit("note", 1, to="admins")
    await club.server.leave_room(guest.sid, "admins", "/chat")
    assert (await club.come(guest, admin=False))["recovered"] is True
    assert guest.told == []


async def test_put_into_the_room_while_it_is_away_it_is_in_it() -> None:
    club = Club()
    guest = Guest(club.server)
    await club.come(guest, admin=True)
    guest.cut()
    await club.club.emit("note", 1, to="admins")
    await club.server.enter_room(guest.sid, "admins", "/chat")
    assert (await club.come(guest, admin=False))["recovered"] is True
    assert (guest.told, "admins" in club.rooms(guest)) == ([1], True)


async def test_a_room_that_is_sent_away_is_so_with_whom_its_authorise_step_is_asked_about() -> None:
    club = Club()
    guest = Guest(club.server)
    await club.come(guest, admin=True)
    guest.cut()
    club.gate.clear()
    coming = asyncio.ensure_future(club.come(guest, admin=True))
    while club.asked < 2:
        await asyncio.wait({coming}, timeout=0)
    await club.club.emit("note", 1, to="admins")
    club.server.returning.forget("/chat", "admins")
    club.gate.set()
    assert (await coming)["reason"] == "unknown"
    assert (guest.told, club.asked) == ([], 3)
