"""Nodes that share a journal, as whole servers: what is said on one is heard on all, once and in one order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from realtime import BusState, OutsideError, PlainDialect, Socket, UsageError
from realtime.journal.debts import UNPROVED
from realtime.ports import Notice, NoticeKind
from tests.realtime.living import SECONDS
from tests.realtime.nodes import SPACE, MemoryLogs, Node, heard, node, until


@pytest.mark.asyncio
async def test_what_is_said_on_one_is_heard_on_both_with_one_offset() -> None:
    logs = MemoryLogs()
    async with node("a", logs) as a, node("b", logs) as b:
        ann, ben, bystander = await a.client("den"), await b.client("den"), await b.client("elsewhere")
        emitted = await a.emit("hello", "den")
        assert (emitted, emitted.bus, emitted.durable) == (1, BusState.UP, True)
        await until(lambda: heard(ben))
        assert heard(ann) == heard(ben) == ["hello"]
        assert heard(bystander) == []
        for client in (ann, ben):
            assert f'"{emitted.offset}"' in client.wire.frames[-1]
        assert str(a.lane.newest) == str(b.lane.newest) == emitted.offset


@pytest.mark.asyncio
async def test_everybody_hears_everything_in_one_order() -> None:
    logs = MemoryLogs()
    async with node("a", logs) as a, node("b", logs) as b:
        clients = [await each.client("den") for each in (a, b, a, b)]
        await asyncio.gather(*(each.emit(f"{each.name}{n}", "den") for n in range(50) for each in (a, b)))
        await until(lambda: all(len(heard(client)) == 100 for client in clients))
        assert len({tuple(heard(client)) for client in clients}) == 1
        for name in "ab":
            assert [words for words in heard(clients[0]) if words[0] == name] == [f"{name}{n}" for n in range(50)]


@pytest.mark.asyncio
async def test_a_client_in_two_rooms_hears_an_emission_for_both_once_and_skip_holds_everywhere() -> None:
    logs = MemoryLogs()
    async with node("a", logs) as a, node("b", logs) as b:
        ann, ben, cal = await a.client("x", "y"), await b.client("x", "y"), await b.client("y")
        await a.emit("both", ["x", "y"], skip_sid=[cal.sid])
        await a.emit("all", None)
        await a.emit("one", ben.sid)
        await a.emit("nobody", [])
        await until(lambda: len(heard(ben)) == 3)
        assert heard(ann) == ["both", "all"]
        assert heard(ben) == ["both", "all", "one"]
        assert heard(cal) == ["all"]


@pytest.mark.asyncio
async def test_who_has_just_joined_hears_what_is_said_next_wherever_and_nothing_of_before() -> None:
    logs = MemoryLogs()
    async with node("a", logs) as a, node("b", logs) as b:
        await a.client("den")
        for number in range(5):
            await a.emit(f"before{number}", "den")
        ben = await b.client()
        await ben.call(SPACE, "join", "den")
        await a.emit("next", "den")
        await until(lambda: heard(ben))
        assert heard(ben) == ["next"]
        assert b.journal.reads == 0, "nothing had to be looked for"


@pytest.mark.asyncio
async def test_one_who_enters_and_speaks_in_one_turn_is_heard_by_itself() -> None:
    async with node("a", MemoryLogs()) as a:
        ann = await a.client()
        a.server.hub.join(ann.sid, SPACE, "den")
        assert await a.emit("at once", "den") == 1
        assert heard(ann) == ["at once"]


@pytest.mark.asyncio
async def test_volatile_ones_are_delivered_at_once_and_told_to_others() -> None:
    logs = MemoryLogs()
    async with node("a", logs) as a, node("b", logs) as b:
        ann, ben = await a.client("den"), await b.client("den")
        kept = await a.emit("kept", "den")
        emitted = await a.emit("typing", "den", volatile=True)
        assert (emitted, emitted.bus, emitted.durable, emitted.offset) == (1, BusState.UP, None, None)
        await until(lambda: len(heard(ben)) == 2)
        assert heard(ann) == heard(ben) == ["kept", "typing"]
        for client in (ann, ben):
            assert f'"{kept.offset}"' in client.wire.frames[-1], "it carries the newest offset there is"
        assert [draft.event for draft in a.journal.appended] == ["said"]


@pytest.mark.asyncio
async def test_bytes_and_several_arguments_cross() -> None:
    logs = MemoryLogs()
    async with node("a", logs) as a, node("b", logs) as b:
        ben = await b.client("den")
        await a.server.emit("blob", (1, b"\x00\x01", {"é": None}), to="den", namespace=SPACE)
        await until(lambda: b"\x00\x01" in ben.wire.frames)
        assert f'["blob",1,{{"_placeholder":true,"num":0}},{{"é":null}},"{b.lane.newest}"]' in ben.wire.frames[-2]


@pytest.mark.asyncio
async def test_rooms_are_strings_where_others_are_to_know_them() -> None:
    async with node("a", MemoryLogs()) as a:
        ann = await a.client()
        with pytest.raises(UsageError, match="strings, not int"):
            await a.emit("hello", 5)
        with pytest.raises(UsageError, match="strings, not tuple"):
            a.server.hub.join(ann.sid, SPACE, (1, 2))
        with pytest.raises(UsageError):
            await a.server.emit("said", object(), namespace=SPACE)


# ── channels come and go ─────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_only_channels_with_members_are_watched_and_they_are_asked_for_together() -> None:
    async with node("a", MemoryLogs()) as a:
        ann = await a.client()
        for number in range(50):
            a.server.hub.join(ann.sid, SPACE, f"r{number}")
        assert await a.server.heard(SPACE, "r49")
        assert sum("r49" in channels or "r0" in channels for channels in a.journal.watching) == 1
        assert a.journal.watched == {(SPACE, channel) for channel in (None, ann.sid, *(f"r{n}" for n in range(50)))}


@pytest.mark.asyncio
async def test_what_nobody_is_in_is_given_up_a_little_later() -> None:
    async with node("a", MemoryLogs()) as a:
        a.lane.incoming.watches._linger = 0.01
        ann = await a.client("den", "nook")
        a.server.hub.leave(ann.sid, SPACE, "den")
        await until(lambda: a.journal.unwatched)
        assert a.journal.unwatched == ["den"]
        assert not a.lane.mirror.covers(["den"], a.lane.newest)
        assert a.lane.mirror.covers(["nook"], a.lane.newest)


@pytest.mark.asyncio
async def test_rooms_of_who_may_come_back_stay_watched() -> None:
    async with node("a", MemoryLogs(), recovery_window_seconds=60) as a:
        a.lane.incoming.watches._linger = 0.01
        ann, ben = await a.client("den"), await a.client("nook")
        ann.wire.cut()
        ben.disconnect(SPACE)
        await until(lambda: "nook" in a.journal.unwatched)
        assert (SPACE, "den") in a.journal.watched
        assert ann.sid not in a.journal.unwatched


# ── the way breaks ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_what_was_missed_is_read_and_comes_in_its_order() -> None:
    logs = MemoryLogs()
    async with node("a", logs) as a, node("b", logs) as b:
        ben = await b.client("den", "nook")
        await a.emit("one", "den")
        b.journal.deaf = True
        for words, room in (("two", "nook"), ("three", "den"), ("four", "elsewhere")):
            await a.emit(words, room)
        b.journal.deaf = False
        b.journal.hear(Notice(NoticeKind.BACK))
        await until(lambda: len(heard(ben)) == 3)
        await a.emit("five", "nook")
        await until(lambda: len(heard(ben)) == 4)
        assert heard(ben) == ["one", "two", "three", "five"]
        assert b.server.metrics.journal_gaps.value("healed") == 1
        assert b.server.metrics.journal_gaps.value("lost") == 0


@pytest.mark.asyncio
async def test_what_comes_in_before_its_answer_is_delivered_once() -> None:
    async with node("a", MemoryLogs()) as a:
        ann = await a.client("den")
        a.journal.gate = asyncio.Event()
        emitted = await a.emit("hello", "den")
        assert (emitted, emitted.durable) == (1, True)
        a.journal.gate.set()
        await a.emit("again", "den")
        assert heard(ann) == ["hello", "again"]


@pytest.mark.asyncio
async def test_what_does_not_come_in_by_itself_is_read() -> None:
    async with node("a", MemoryLogs(), bus_patience_seconds=30) as a:
        ann = await a.client("den")
        a.journal.deaf = True
        emitted = await a.emit("hello", "den")
        assert (emitted, emitted.durable) == (1, True)
        assert heard(ann) == ["hello"]


@pytest.mark.asyncio
async def test_waiting_for_less_than_the_patience_changes_nothing() -> None:
    logs = MemoryLogs()
    async with node("a", logs, bus_patience_seconds=30) as a, node("b", logs) as b:
        ann, ben = await a.client("den"), await b.client("den")
        a.journal.away = True
        saying = [asyncio.ensure_future(a.emit(f"{n}", "den")) for n in range(5)]
        await until(lambda: len(a.lane.outgoing.spool) == 5)
        assert heard(ann) == []
        a.journal.away = False
        found = await asyncio.gather(*saying)
        assert [(each, each.durable, each.bus) for each in found] == [(1, True, BusState.UP)] * 5
        await until(lambda: len(heard(ben)) == 5)
        assert heard(ann) == heard(ben) == ["0", "1", "2", "3", "4"]


@pytest.mark.asyncio
async def test_after_the_patience_it_goes_on_alone_and_hands_over_later() -> None:
    logs = MemoryLogs()
    told: list[str] = []
    async with node("a", logs, bus_patience_seconds=0.05) as a, node("b", logs) as b:
        assert a.server.backplane is not None
        a.server.backplane.hooks["bus_lost"].append(lambda: told.append("lost"))
        a.server.backplane.hooks["bus_regained"].append(lambda: told.append("regained"))
        ann, ben = await a.client("den"), await b.client("den")
        await a.emit("before", "den")
        a.journal.away = True
        first = await asyncio.gather(*(a.emit(f"{n}", "den") for n in range(3)))
        assert [(each, each.durable, each.offset, each.bus) for each in first] == [(1, False, None, BusState.AWAY)] * 3
        at = asyncio.get_running_loop().time()
        assert (await a.emit("3", "den")).durable is False
        assert asyncio.get_running_loop().time() - at < 0.05, "nothing waits any more"
        assert heard(ann) == ["before", "0", "1", "2", "3"]
        assert f'"{UNPROVED}"' in ann.wire.frames[-1], "with an offset of before it would hear them twice elsewhere"
        assert a.space.offset == UNPROVED
        with pytest.raises(OutsideError):
            await a.server.backplane.check()
        assert told == ["lost"]
        assert heard(ben) == ["before"]
        a.journal.away = False
        await until(lambda: len(heard(ben)) == 5)
        assert (await a.emit("after", "den")).durable is True
        await until(lambda: len(heard(ben)) == 6)
        assert heard(ann) == heard(ben) == ["before", "0", "1", "2", "3", "after"]
        assert UNPROVED not in ann.wire.frames[-1], "everything before it has its place"
        assert not any(UNPROVED in frame for frame in ben.wire.frames), "elsewhere everything has one"
        assert told == ["lost", "regained"]
        await a.server.backplane.check()
        assert a.server.metrics.emissions_alone.value(SPACE) == 4
        assert a.server.metrics.bus_alone.value() == 0


@pytest.mark.asyncio
async def test_its_absence_is_noticed_while_nobody_speaks() -> None:
    async with node("a", MemoryLogs(), bus_patience_seconds=0.05) as a:
        await a.client("den")
        a.journal.away = True
        a.journal.hear(Notice(NoticeKind.BROKEN))
        await until(lambda: a.lane.alone)
        assert (await a.emit("hello", "den")).bus is BusState.AWAY
        a.journal.away = False
        a.journal.hear(Notice(NoticeKind.BACK))
        await until(lambda: not a.lane.alone)


@pytest.mark.asyncio
async def test_whoever_heard_something_without_a_place_is_not_proved_complete_until_it_has_one() -> None:
    async with node("a", MemoryLogs(), bus_patience_seconds=0.02) as a:
        ann, cal = await a.client("den"), await a.client("nook")
        a.journal.away = True
        await a.emit("hello", "den")
        assert _incomplete(a, ann) == "alone"
        assert _incomplete(a, cal) is None
        a.journal.away = False
        await until(lambda: _incomplete(a, ann) is None)
        assert _trail(a, ann).base.offset == 1, "who shows an older offset would hear it twice"


@pytest.mark.asyncio
async def test_who_is_being_let_in_again_is_told_from_the_log_and_not_as_well_by_a_node_that_is_alone() -> None:
    async with node("a", MemoryLogs(), bus_patience_seconds=0.02) as a:
        ann, ben = await a.client("den"), await a.client("den")
        trail = _trail(a, ann)
        trail.record, trail.returning = trail.record_of(a.lane.mirror, ann.sid, SPACE, "", "", b""), True
        a.lane.keeper.returning += 1
        a.journal.away = True
        await a.emit("hello", "den")
        assert (heard(ann), heard(ben)) == ([], ["hello"])
        assert a.lane.owes(["den"]), "so it is not let in before that is in the log"


@pytest.mark.asyncio
async def test_what_waits_is_bounded_and_what_is_given_up_is_counted() -> None:
    logs = MemoryLogs()
    async with node("a", logs, bus_patience_seconds=30, spool_limit_messages=3) as a, node("b", logs) as b:
        ann, ben = await a.client("den"), await b.client("den")
        a.journal.away = True
        found = await asyncio.gather(*(a.emit(f"{n}", "den") for n in range(5)))
        assert [each.durable for each in found] == [False] * 5
        assert heard(ann) == ["0", "1", "2", "3", "4"]
        assert len(a.lane.outgoing.spool) == 3
        assert a.server.metrics.drops.value("spool") == 2
        a.journal.away = False
        await until(lambda: len(heard(ben)) == 3)
        assert heard(ben) == ["2", "3", "4"]


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [OutsideError("no permission"), UsageError("too big", code="too_big")])
async def test_what_is_refused_for_good_is_delivered_here_and_said_to_be_lost(error: Exception) -> None:
    async with node("a", MemoryLogs()) as a:
        ann = await a.client("den")
        a.journal.refusing = error
        emitted = await a.emit("hello", "den")
        assert (emitted, emitted.durable, heard(ann)) == (1, False, ["hello"])
        a.journal.refusing = None
        assert (await a.emit("again", "den")).durable is True
        assert heard(ann) == ["hello", "again"]
        assert sum(a.server.metrics.emissions_refused.values.values()) == 1
        assert _incomplete(a, ann) is None


@pytest.mark.asyncio
async def test_a_log_that_was_lost_is_offered_what_was_said_lately_and_nobody_hears_it_twice() -> None:
    logs = MemoryLogs()
    async with node("a", logs) as a, node("b", logs) as b:
        ann, ben = await a.client("den"), await b.client("den")
        await a.emit("one", "den")
        b.journal.deaf = True
        await a.emit("two", "den")
        logs.begin_anew()
        b.journal.deaf = False
        b.journal.hear(Notice(NoticeKind.EPOCH))
        await until(lambda: len(heard(ben)) == 2)
        await b.emit("three", "den")
        await until(lambda: len(heard(ann)) == 3)
        assert all(UNPROVED in client.wire.frames[-1] for client in (ann, ben)), "some may be offered anew behind it"
        assert heard(ann) == heard(ben) == ["one", "two", "three"]
        assert _incomplete(a, ann) == _incomplete(b, ben) == "lost", "what others had said may be gone"
        fresh = await a.client("den")
        await a.emit("four", "den")
        assert heard(fresh) == ["four"]
        assert _incomplete(a, fresh) is None


@pytest.mark.asyncio
async def test_who_joins_while_the_bus_is_away_hears_what_others_said_since() -> None:
    logs = MemoryLogs()
    async with node("a", logs) as a, node("b", logs, bus_patience_seconds=0.02) as b:
        await b.client("den")
        await a.emit("before", "nook")
        await until(lambda: True)
        ben = await b.client()
        b.journal.away = True
        b.server.hub.join(ben.sid, SPACE, "nook")
        assert not await b.server.heard(SPACE, "nook")
        await a.emit("meanwhile", "nook")
        b.journal.away = False
        await until(lambda: "meanwhile" in heard(ben))


@pytest.mark.asyncio
async def test_volatile_ones_do_not_wait_for_a_bus_that_is_away() -> None:
    async with node("a", MemoryLogs(), bus_patience_seconds=30) as a:
        ann = await a.client("den")
        a.journal.away = True
        assert await a.emit("typing", "den", volatile=True) == 1
        assert heard(ann) == ["typing"]
        await until(lambda: a.server.metrics.drops.value("bus") == 1)


def _trail(node: Any, client: Any) -> Any:
    return node.server.hub.find(client.sid, SPACE).trail


def _incomplete(node: Any, client: Any) -> str | None:
    record = _trail(node, client).record_of(node.lane.mirror, client.sid, SPACE, "", "", b"")
    found: str | None = record.incomplete
    return found


@pytest.mark.asyncio
async def test_after_a_break_nothing_overtakes_what_was_missed() -> None:
    """A client in both rooms that is cut off between the two would never hear the first."""
    logs = MemoryLogs()
    async with node("a", logs) as a, node("b", logs) as b:
        ben = await b.client("den", "nook")
        b.journal.deaf = True
        await a.emit("one", "den")
        b.journal.deaf = False
        b.journal.hear(Notice(NoticeKind.BROKEN))
        await a.emit("two", "nook")
        await a.emit("three", "den")
        b.journal.hear(Notice(NoticeKind.BACK))
        await until(lambda: len(heard(ben)) == 3)
        assert heard(ben) == ["one", "two", "three"]


@pytest.mark.asyncio
async def test_what_is_owed_is_known_by_whom_it_concerns() -> None:
    async with node("a", MemoryLogs(), bus_patience_seconds=0.02) as a:
        await a.client("den")
        a.journal.away = True
        await a.emit("hello", ["den", "nook"])
        await a.emit("again", "den")
        assert [a.lane.owes([channel]) for channel in ("den", "nook", "hall", None)] == [True, True, False, False]
        a.journal.away = False
        await until(lambda: not a.lane.owes(["hall", "den"]))
        assert not a.lane.owes(["nook"])
        assert a.lane.seen("den") == 2
        assert a.lane.seen("nook") == 0


@pytest.mark.asyncio
async def test_what_was_said_alone_is_owed_until_it_came_out_where_its_room_is_only_asked_for() -> None:
    """Else who comes back into that room just then is told it neither from the log nor when it comes out."""
    async with node("a", MemoryLogs(), bus_patience_seconds=0.02) as a:
        ann = await a.client()
        a.journal.away = True
        a.server.hub.join(ann.sid, SPACE, "den")
        await until(lambda: a.lane.alone)
        await a.emit("hello", "den")
        a.journal.watch_gate = asyncio.Event()
        a.journal.away = False
        await until(lambda: not a.lane.outgoing.spool)
        assert a.lane.owes(["den"])
        a.journal.watch_gate.set()
        await until(lambda: not a.lane.owes(["den"]))
        assert a.lane.seen("den") == 1
        assert heard(ann) == ["hello"]


@pytest.mark.asyncio
async def test_what_another_instance_has_shown_is_reached_here() -> None:
    """Somebody comes back with an offset of rooms that nobody here is in."""
    logs = MemoryLogs()
    async with node("a", logs) as a, node("b", logs, bus_patience_seconds=0.05) as b:
        ann, ben = await a.client("den"), await b.client("nook")
        await a.emit("one", "nook")
        for _ in range(5):
            await a.emit("more", "den")
        await until(lambda: heard(ben))
        shown = a.lane.newest
        assert b.lane.newest < shown
        assert await b.lane.reach(shown)
        assert b.lane.newest == shown
        assert await b.lane.reach(shown)
        assert b.journal.reads == 0, "none of it was for anybody here"
        assert not await b.lane.reach(shown._replace(offset=shown.offset + 1)), "nobody has seen that"
        assert not await b.lane.reach(shown._replace(epoch="another"))
        b.journal.away = True
        assert not await b.lane.reach(shown._replace(offset=shown.offset + 1))
        assert len(heard(ann)) == 5


@pytest.mark.asyncio
async def test_what_is_for_a_room_that_is_only_being_watched_waits_for_that() -> None:
    """Kept now, it would not come in: whoever said it would hear it late."""
    async with node("a", MemoryLogs()) as a:
        ann = await a.client("nook")
        a.journal.watch_gate = asyncio.Event()
        a.server.hub.join(ann.sid, SPACE, "den")
        speaking = asyncio.ensure_future(a.emit("hello", "den"))
        await until(lambda: a.journal.watching[-1] == ("den",) and len(a.lane.outgoing.spool) == 1)
        assert a.journal.appended == []
        a.journal.watch_gate.set()
        assert await speaking == 1
        assert heard(ann) == ["hello"]
        assert a.journal.reads == 0


@pytest.mark.asyncio
async def test_who_joins_a_room_that_was_not_watched_is_known_to_hear_it_from_there() -> None:
    logs = MemoryLogs()
    async with node("a", logs) as a, node("b", logs) as b:
        ben = await b.client()
        for _ in range(5):
            await a.emit("before", "den")
        await ben.call(SPACE, "join", "den")
        record = _trail(b, ben).record_of(b.lane.mirror, ben.sid, SPACE, "", "", b"")
        assert [(stay.room, stay.after) for stay in record.stays] == [("den", 5)]


@pytest.mark.asyncio
async def test_who_is_being_let_in_hears_what_is_said_meanwhile_once() -> None:
    async with node("a", MemoryLogs()) as a:
        gate, inside = asyncio.Event(), asyncio.Event()

        async def authorize() -> None:
            inside.set()
            await gate.wait()

        await a.client()  # so that everybody is watched already
        a.space.hook("authorize")(authorize)
        coming = asyncio.ensure_future(a.client())
        async with asyncio.timeout(SECONDS):
            await inside.wait()
        await a.emit("meanwhile")
        gate.set()
        ann = await coming
        await a.emit("after")
        assert heard(ann) == ["meanwhile", "after"]


@pytest.mark.asyncio
async def test_what_is_offered_again_and_known_to_everybody_is_settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.cluster.incoming.LATE_SECONDS", 600)
    logs = MemoryLogs()
    async with node("a", logs) as a:
        ann = await a.client("den")
        await a.emit("one", "den")
        logs.begin_anew()
        await until(lambda: len(a.journal.appended) == 2)
        await until(lambda: not a.lane.owes(["den"]) and not list(a.lane.outgoing.spool.kept))
        assert heard(ann) == ["one"]


@pytest.mark.asyncio
async def test_a_dialect_without_words_for_it_is_in_nobodys_way(caplog: pytest.LogCaptureFixture) -> None:
    def say(name: str, data: Any) -> str:
        raise ValueError("not in this form")

    async with node("a", MemoryLogs(), bus_patience_seconds=0.05) as a:
        ann, ben = await a.client("den"), await a.client("den")
        odd = a.server.hub.find(ben.sid, SPACE)
        assert odd is not None
        odd.session.dialect = PlainDialect(say)
        assert await a.emit("hello", "den") == 1
        a.journal.away = True
        assert await a.emit("alone", "den") == 1
        assert heard(ann) == ["hello", "alone"]
        assert a.server.metrics.drops.value("dialect") == 2
        assert "not in this form" in caplog.text


@pytest.mark.asyncio
async def test_who_is_being_let_in_hears_what_is_said_alone_once_also_where_it_was_handed_over_since() -> None:
    async with node("a", MemoryLogs(), bus_patience_seconds=0.02) as a:
        gate, inside = asyncio.Event(), asyncio.Event()

        async def authorize() -> None:
            inside.set()
            await gate.wait()

        await a.client()
        a.space.hook("authorize")(authorize)
        coming = asyncio.ensure_future(a.client())
        async with asyncio.timeout(SECONDS):
            await inside.wait()
        await until(lambda: not a.lane.incoming.watches.next(1))
        a.journal.away = True
        await a.emit("alone")
        a.journal.away = False
        await until(lambda: not a.lane.owes([None]) and not a.lane.alone)
        await a.emit("meanwhile")
        gate.set()
        ann = await coming
        await a.emit("after")
        assert sorted(heard(ann)) == ["after", "alone", "meanwhile"]
        assert heard(ann)[-1] == "after"


@pytest.mark.asyncio
async def test_who_could_miss_what_is_still_being_read_is_shown_no_offset() -> None:
    async with node("a", MemoryLogs()) as a:
        ann = await a.client("den")
        await a.emit("one", "den")
        assert UNPROVED not in ann.wire.frames[-1]
        assert a.lane.incoming.merge is not None
        a.lane.incoming.merge.behind = True
        await a.emit("typing", "den", volatile=True)
        assert UNPROVED in ann.wire.frames[-1]
        a.lane.incoming.merge.behind = False
        await a.emit("two", "den")
        assert UNPROVED not in ann.wire.frames[-1]


@asynccontextmanager
async def somebody_at_the_door(a: Node, room: str) -> AsyncIterator[tuple[asyncio.Event, asyncio.Future[Any]]]:
    """A client in its authorise step, in which it has entered the room; it goes on with the event."""
    gate, inside = asyncio.Event(), asyncio.Event()

    async def authorize(socket: Socket) -> None:
        socket.enter(room)
        inside.set()
        await gate.wait()

    a.space.hook("authorize")(authorize)
    coming = asyncio.ensure_future(a.client())
    async with asyncio.timeout(SECONDS):
        await inside.wait()
    await until(lambda: not a.lane.incoming.watches.next(1))
    yield gate, coming


@pytest.mark.asyncio
@pytest.mark.parametrize("handed_over", [False, True])
async def test_who_is_let_in_while_its_node_goes_alone_misses_nothing(handed_over: bool) -> None:
    logs = MemoryLogs()
    async with node("a", logs, bus_patience_seconds=0.02) as a, node("b", logs) as b:
        ben = await a.client("den")
        async with somebody_at_the_door(a, "den") as (gate, coming):
            await b.emit("one", "den")
            await until(lambda: heard(ben) == ["one"])
            a.journal.away = a.journal.deaf = True
            a.journal.hear(Notice(NoticeKind.BROKEN))
            await a.emit("two", "den")
            await b.emit("three", "den")
            assert a.lane.owes(["den"])
            if handed_over:
                await _bring_back(a)
            gate.set()
            ann = await coming
        if not handed_over:
            assert heard(ann) == ["one", "two"]
            await a.emit("four", "den")
            await _bring_back(a)
        await a.emit("five", "den")
        said = ["five", "one", "three", "two"] if handed_over else ["five", "four", "one", "three", "two"]
        for each in (ann, ben):
            await until(lambda: "five" in heard(each))  # noqa: B023
            assert sorted(heard(each)) == said
        assert _incomplete(a, ann) is None


async def _bring_back(a: Node) -> None:
    a.journal.away = a.journal.deaf = False
    a.journal.hear(Notice(NoticeKind.BACK))
    await until(lambda: not a.lane.owes(["den"]) and not a.lane.alone)


@pytest.mark.asyncio
async def test_who_joins_while_the_bus_is_only_slow_hears_what_others_said_since() -> None:
    logs = MemoryLogs()
    async with node("a", logs) as a, node("b", logs, bus_patience_seconds=0.02) as b:
        ben = await b.client("yard")
        await a.emit("before", "nook")
        await a.emit("one", "yard")
        await until(lambda: heard(ben) == ["one"])
        gate = b.journal.watch_gate = asyncio.Event()
        b.server.hub.join(ben.sid, SPACE, "den")
        await until(lambda: ("den",) in b.journal.watching)
        b.server.hub.join(ben.sid, SPACE, "nook")
        assert not await b.server.heard(SPACE, "nook")
        await a.emit("meanwhile", "nook")
        gate.set()
        assert await b.server.heard(SPACE, "nook")
        await a.emit("after", "nook")
        await until(lambda: "after" in heard(ben))
        assert heard(ben) == ["one", "meanwhile", "after"]
