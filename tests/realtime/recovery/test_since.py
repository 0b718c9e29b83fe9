from __future__ import annotations

import asyncio
import json

import pytest

from realtime.clients.guests import _knock
from realtime.clients.peer import PlainDialect
from realtime.encoding.codecs import text
from realtime.errors import LimitError
from realtime.recovery.since import REPLAYS_LIMIT, Since, replay_since
from realtime.testing import MemoryWire
from tests.realtime.coming_back import Guest, Place
from tests.realtime.living import SECONDS

pytestmark = pytest.mark.asyncio


async def plain(place: Place, since: str | None, *rooms: str) -> list[dict[str, object]]:
    """What a plain client is told first."""
    scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b""}
    session, _ = await _knock(place.server, "/chat", scope, {"user": "alice"}, None, rooms, since)
    wire = MemoryWire("raw")
    await place.chat.emit("note", "live", to=list(rooms))
    assert session.attend(wire)
    session.lost("transport close")
    return [json.loads(frame) for frame in wire.frames]


async def test_a_plain_client_is_told_what_was_said_in_its_rooms() -> None:
    place = Place()
    start = place.chat.offset
    for number, room in enumerate(("a", "b", None, "user:alice", "user:bob"), 1):
        await place.chat.emit("note", number, to=room)
    epoch = str(start).partition("-")[0]
    told = await plain(place, start, "a")
    assert told == [
        {"event": "note", "data": 1, "offset": f"{epoch}-1"},
        {"event": "note", "data": 3, "offset": f"{epoch}-3"},
        {"event": "note", "data": 4, "offset": f"{epoch}-4"},
        {"event": "resumed", "data": {"recovered": True}, "offset": f"{epoch}-5"},
        {"event": "note", "data": "live", "offset": f"{epoch}-6"},
    ]


@pytest.mark.parametrize(("since", "reason"), [("", "offset"), ("nonsense", "offset"), ("other-1", "gone")])
async def test_or_that_it_cannot_be_told(since: str, reason: str) -> None:
    place = Place()
    await place.chat.emit("note", 1, to="a")
    newest = place.chat.offset
    first, second = await plain(place, since, "a")
    assert first == {"event": "resumed", "data": {"recovered": False, "reason": reason}, "offset": newest}
    assert second["data"] == "live"


async def test_who_asks_for_nothing_is_told_nothing() -> None:
    place = Place()
    assert [told["data"] for told in await plain(place, None, "a")] == ["live"]


async def test_a_newcomer_to_a_room() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    start = place.chat.offset
    await place.chat.emit("note", 1, to="news")
    await place.chat.emit("note", 2, to="other")
    await place.chat.emit("note", 3, to="news")
    assert await alice.say("join", "news", start) == {"recovered": True}
    assert alice.told == [1, 3]
    assert alice.offset == place.chat.offset, "its own place must not go back"
    assert await alice.say("join", "news", start) is None
    assert await alice.say("join", "other", "e-1") == {"recovered": False, "reason": "gone"}


async def test_a_namespace_that_keeps_nothing() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    member = place.server.hub.find(alice.sid, "/chat")
    assert member is not None
    del place.server.hub.keepers["/chat"]
    found = replay_since(place.server.hub, place.server.missed, place.server.metrics, member, "e-1")
    assert found == Since(False, "off", None)
    assert found.as_dict() == {"recovered": False, "reason": "off"}
    assert place.chat.offset is None


async def test_plain_forms_with_and_without_offsets() -> None:
    with_offset = PlainDialect(lambda name, data, offset: f"{name} {data} {offset}", offsets=True)
    without = PlainDialect(lambda name, data: f"{name} {data}")
    assert with_offset.noted("/", "e", [1], "e-1") is not None
    assert with_offset.noted("/", "e", [1], "e-1").frames == text("e 1 e-1").frames  # type: ignore[union-attr]
    assert without.noted("/", "e", [1], "e-1").frames == text("e 1").frames  # type: ignore[union-attr]
    assert without.opening(None, "e-1") is None


async def test_who_does_not_read_cannot_ask_for_ever() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    start = place.chat.offset
    for number in range(5):
        await place.chat.emit("note", number, to="news")
    member = place.server.hub.find(alice.sid, "/chat")
    assert member is not None
    alice.client.wire.capacity = 1
    for _ in range(REPLAYS_LIMIT):
        replay_since(place.server.hub, place.server.missed, place.server.metrics, member, str(start), ["news"])
    with pytest.raises(LimitError):
        replay_since(place.server.hub, place.server.missed, place.server.metrics, member, str(start), ["news"])


async def slow_newcomer(place: Place) -> tuple[Guest, list[str], str]:
    """In ``live``, where two events wait for it, and just now in ``topic``, where three had been said before."""
    alice = await place.guest(user="alice")
    await alice.say("join", "live")
    start = place.chat.offset
    for number in range(3):
        await place.chat.emit("note", f"old{number}", to="topic")
    wire = alice.client.wire
    wire.capacity = len(wire.frames) + 1
    for number in range(3):
        await place.chat.emit("note", f"live{number}", to="live")
    alice.client.send("2", "/chat", None, json.dumps(["join", "topic", start]))
    member = place.server.hub.find(alice.sid, "/chat")
    assert member is not None
    await asyncio.wait_for(place.server.application.rest(SECONDS), SECONDS)
    assert member.session.outbox.replays == 1
    await place.chat.emit("note", "later", to="topic")
    waiting = []
    while (encoded := member.session.take()) is not None:
        waiting.append(str(encoded.payload))
    return alice, waiting, str(place.chat.offset)


async def test_what_waits_leaves_before_what_a_newcomer_is_told() -> None:
    place = Place()
    _, waiting, newest = await slow_newcomer(place)
    told = [json.loads(each[each.index("[") :]) for each in waiting if each.startswith("42")]
    assert [data[1] for data in told] == ["live1", "live2", "old0", "old1", "old2", "later"]
    offsets = [int(data[-1].partition("-")[2]) for data in told]
    last = int(newest.partition("-")[2])
    assert offsets[-2:] == [last - 1, last], "all of what was said before has come: that is the newest place"
    assert max(offsets[2:4]) < last - 1, "before that it must not be shown: the rest would never come"


@pytest.mark.parametrize("shown", [2, 4, None])
async def test_who_is_cut_off_before_it_has_all_of_it_starts_clean(shown: int | None) -> None:
    """By its offset alone it could not be told the rest."""
    place = Place()
    alice, waiting, _ = await slow_newcomer(place)
    told = [json.loads(each[each.index("[") :]) for each in waiting if each.startswith("42")]
    alice.cut()
    alice.offset = None if shown is None else told[shown][-1]
    data = await alice.come()
    assert (data["recovered"], data.get("reason")) == ((True, None) if shown == 4 else (False, "rooms"))
    assert alice.told[-1:] == (["later"] if shown == 4 else [])


async def test_or_while_it_does_not_read() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    start = place.chat.offset
    for number in range(3):
        await place.chat.emit("note", number, to="news")
    await place.chat.emit("note", 3)
    await alice.catch_up()
    alice.client.wire.capacity = len(alice.client.wire.frames) + 1
    member = place.server.hub.find(alice.sid, "/chat")
    assert member is not None
    place.server.enter(member, "news")
    assert replay_since(
        place.server.hub, place.server.missed, place.server.metrics, member, str(start), ["news"]
    ).recovered
    alice.cut()
    assert (await alice.come())["reason"] == "incomplete"


async def test_who_is_told_before_it_is_let_in_does_not_show_more_than_it_had() -> None:
    place = Place()
    alice = await place.guest(user="alice")
    start = place.chat.offset
    await place.chat.emit("note", 1, to="user:alice")
    await place.chat.emit("note", 2, to="news")
    await alice.catch_up()
    alice.cut()
    await place.chat.emit("note", 3, to="user:alice")
    place.gate.clear()
    coming = asyncio.ensure_future(alice.come())
    while len(place.hooks("authorize")) < 2:
        await asyncio.wait({coming}, timeout=0)
    member = place.server.hub.find(alice.sid, "/chat")
    assert member is not None
    replay_since(place.server.hub, place.server.missed, place.server.metrics, member, str(start), ["news"])
    assert f'"{start}"'.replace("-0", "-1") in str(alice.client.wire.frames[-1])
    place.gate.set()
    assert (await coming)["recovered"] is True
    assert alice.told == [1, 2, 3]
