from __future__ import annotations

import json

import pytest

from realtime.codecs import text
from realtime.errors import LimitError
from realtime.guests import _knock
from realtime.peer import PlainDialect
from realtime.since import REPLAYS_LIMIT, Since, replay_since
from realtime.testing import MemoryWire
from tests.realtime.coming_back import Place

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
    found = replay_since(place.server.hub, place.server.metrics, member, "e-1")
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
        replay_since(place.server.hub, place.server.metrics, member, str(start), ["news"])
    with pytest.raises(LimitError):
        replay_since(place.server.hub, place.server.metrics, member, str(start), ["news"])
