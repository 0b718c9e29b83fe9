from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from realtime.journal.resume import Record
from realtime.ports import Claimed, Expired
from tests.realtime.houses import Guest, House, houses, until
from tests.realtime.living import SECONDS

pytestmark = pytest.mark.asyncio


async def kept(house: House, guest: Guest) -> set[str] | None:
    """The rooms that the store knows it to be in; None where it does not know it."""
    found = await house.sessions[-1].look(guest.pid or "")
    return None if found is None else {stay.room for stay in found.stays if stay.until is None}


async def test_a_record_is_written_when_a_client_comes_and_when_its_rooms_change() -> None:
    async with houses("a") as (a,):
        alice = await a.guest(user="alice")
        await until(lambda: a.has_written)
        assert await kept(a, alice) == {"user:alice"}
        await alice.say("join", "lobby")
        assert await kept(a, alice) == {"user:alice", "lobby"}, "before it is told that it is in it"
        await alice.say("leave", "lobby")
        assert await kept(a, alice) == {"user:alice"}
        await a.server.enter_room(alice.sid, "news", "/chat")
        assert await kept(a, alice) == {"user:alice", "news"}
        await a.server.close_room("news", "/chat")
        await until(lambda: a.has_written)
        assert await kept(a, alice) == {"user:alice"}


async def test_and_every_so_often_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.recovery.store.REFRESH_SECONDS", 0.0)
    monkeypatch.setattr("realtime.recovery.store.TICK_SECONDS", 0.01)
    async with houses("a") as (a,):
        alice = await a.guest(user="alice")
        a.chat.sockets()[0].data["colour"] = "red"

        async def written() -> Record:
            while True:
                found = await a.sessions[-1].look(alice.pid or "")
                if found is not None and b"red" in found.data:
                    return found
                await asyncio.wait({asyncio.ensure_future(a.sessions[-1].look(""))}, timeout=0.01)

        assert (await asyncio.wait_for(written(), SECONDS)).sid == alice.sid


async def test_data_that_cannot_be_written_ends_what_was_written_before() -> None:
    async with houses("a") as (a,):
        alice = await a.guest(user="alice")
        await until(lambda: a.has_written)
        a.chat.sockets()[0].data["socket"] = object()
        await a.written(alice)
        await until(lambda: a.has_written)
        record = await a.sessions[-1].look(alice.pid or "")
        assert record is not None
        assert (record.incomplete, record.data) == ("record", b"{}")  # nobody goes on from it


async def test_what_could_not_be_written_is_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.recovery.store.RETRY_SECONDS", 0.001)
    async with houses("a") as (a,):
        alice, bob = await a.guest(user="alice"), await a.guest(user="bob")
        await until(lambda: a.has_written)
        a.sessions[-1].away = True
        await asyncio.wait_for(alice.say("join", "lobby"), SECONDS)
        bob.cut()
        await until(lambda: a.server.returning.store._failing)  # type: ignore[union-attr]
        assert not a.has_written
        a.sessions[-1].away = False
        await until(lambda: a.has_written)
        assert await kept(a, alice) == {"user:alice", "lobby"}
        assert await kept(a, bob) == {"user:bob"}


async def test_trouble_of_the_store_is_counted_and_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    async with houses("a") as (a,):
        a.journals[-1].away = True
        with caplog.at_level(logging.WARNING, "realtime"):
            for _ in range(3):
                await a.server.enter_room("nobody", "news", "/chat")
        assert a.server.metrics.drops.value("sessions") == 3
        assert len([each for each in caplog.records if "session store" in each.message]) == 1
        a.journals[-1].away = False


async def test_old_news_of_a_claim_end_nobody() -> None:
    """It is here again by now: whose it is, the store says."""
    async with houses("a") as (a,):
        alice = await a.guest(user="alice")
        await until(lambda: a.has_written)
        a.sessions[-1].hear(Claimed(alice.pid or ""))
        await until(lambda: a.has_written)
        await alice.say("remember", "here", True)
        assert alice.client.wire.closed is None


async def test_a_client_that_is_away_and_was_claimed_elsewhere_is_not_away_here_any_more() -> None:
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        alice.cut()
        await until(lambda: a.has_written)
        record = await b.sessions[-1].claim(alice.pid or "", "b")
        assert record is not None
        await b.sessions[-1].keep([record._replace(node="b")], 60)
        await until(lambda: not len(a.server.returning.absence.away))
        assert a.hooks("expired") == []


async def test_who_is_connected_has_not_expired_however_long_the_store_was_away() -> None:
    async with houses("a") as (a,):
        alice = await a.guest(user="alice")
        await until(lambda: a.has_written)
        record = await a.sessions[-1].look(alice.pid or "")
        assert record is not None
        await a.sessions[-1].claim(record.pid, record.node)
        a.sessions[-1].hear(Expired(record))
        await until(lambda: a.has_written)
        await alice.say("remember", "here", True)
        assert (a.hooks("expired"), alice.client.wire.closed) == ([], None)


async def test_at_the_end_everything_is_written() -> None:
    async with houses("a", "b") as (a, b):
        guests = [await a.guest(user=f"u{number}") for number in range(20)]
        await a.server.shutdown()
        assert all([await kept(b, guest) is not None for guest in guests])
        await a.server.shutdown()


async def test_what_another_node_changes_while_its_record_is_on_its_way_is_not_wiped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with houses("a", "b") as (a, b):
        alice = await a.guest(user="alice")
        await alice.say("join", "lobby")
        await a.written(alice)
        store, made, gate = a.sessions[-1], asyncio.Event(), asyncio.Event()
        keep = store.keep

        async def slowly(records: Sequence[Record], seconds: float, *, away: bool = False) -> Any:
            made.set()
            await gate.wait()
            return await keep(records, seconds, away=away)

        monkeypatch.setattr(store, "keep", slowly)
        alice.cut()
        await asyncio.wait_for(made.wait(), SECONDS)
        await b.server.enter_room(alice.sid, "news", "/chat")
        await b.server.leave_room(alice.sid, "lobby", "/chat")
        gate.set()
        await until(lambda: a.has_written)
        for words, room in ((1, "lobby"), (2, "news")):
            await b.chat.emit("note", words, to=room)
        alice.server = b.server
        assert (await alice.come())["recovered"] is True
        assert await alice.catch_up() == [2]


async def test_data_that_was_no_json_for_a_while_ends_nobody() -> None:
    async with houses("a") as (a,):
        alice = await a.guest(user="alice")
        await a.written(alice)
        member = a.server.hub.find(alice.sid, "/chat")
        assert member is not None
        member.data["tags"] = object()
        await a.written(alice)
        record = await a.sessions[-1].look(alice.pid or "")
        assert record is not None
        assert (record.incomplete, record.data) == ("record", b"{}")
        member.data["tags"] = ["a list"]
        await a.written(alice)
        await alice.say("remember", "here", True)
        record = await a.sessions[-1].look(alice.pid or "")
        assert record is not None
        assert record.incomplete is None
