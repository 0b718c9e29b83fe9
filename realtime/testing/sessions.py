"""What every Sessions adapter promises (`realtime.ports.Sessions`), as tests. An adapter's test class inherits them.

class TestMySessions(SessionsContract):
    def sessions(self, node: str) -> Sessions:
        return open_my_sessions(self.place, node)
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from realtime.journal.positions import Position
from realtime.journal.resume import Record, Stay
from realtime.ports import Claimed, Expired, Sessions
from realtime.testing.alone import alone, fails, hearing

NAMESPACE = "/contract"


def record(pid: str, *rooms: str, node: str = "a", **fields: Any) -> Record:
    """Of a client that is in these rooms."""
    stays = tuple(Stay(room, 0) for room in rooms)
    place = Position("epoch", 7)
    made = Record(pid, f"sid-{pid}", NAMESPACE, node, "user:é", b'{"a": 1}', stays, place, place, place)
    return made._replace(**fields)


class SessionsContract:
    """Inherit, and say in ``sessions`` how to make one. ``place`` differs from test to test."""

    place: str

    def setup_method(self) -> None:
        self.place = f"contract-{uuid.uuid4()}"

    def sessions(self, node: str) -> Sessions:
        """A new store of this node at ``self.place``; those of one test share their records."""
        raise NotImplementedError

    @asynccontextmanager
    async def _open(self, *nodes: str) -> AsyncIterator[list[Sessions]]:
        async with AsyncExitStack() as stack:
            stores = [self.sessions(node) for node in nodes]
            for store in stores:
                stack.push_async_callback(store.close)
            yield stores

    @alone
    async def test_what_was_kept_is_claimed_once(self) -> None:
        stays = (Stay("é x", 1, 5, True), Stay("{y}", 3, None, False), Stay("z", 0))
        whole = record(
            "p", sid="s", user="", data=b"{}", stays=stays, base=Position("e", 1), sent=Position("e", 2),
            position=Position("e", 3), incomplete="alone",
        )  # fmt: skip
        async with self._open("a", "b") as (here, there):
            assert list(await here.keep([whole, record("q")], 60)) == []
            assert await there.claim("p", "b") == whole
            assert await there.claim("p", "b") is None
            assert await here.claim("unknown", "a") is None

    @alone
    async def test_of_many_claims_at_once_one_wins(self) -> None:
        async with self._open("a", "b") as (here, there):
            await here.keep([record("p")], 60)
            claims = [store.claim("p", node) for node, store in (("a", here), ("b", there)) for _ in range(10)]
            found = [each for each in await asyncio.gather(*claims) if each is not None]
            assert found == [record("p")]

    @alone
    async def test_a_look_takes_nothing(self) -> None:
        async with self._open("a", "b") as (here, there):
            await here.keep([record("p", "x")], 60)
            assert await there.enter(NAMESPACE, "sid-p", "y", 9) is True
            found = await there.look("p")
            assert found is not None
            assert found.stays == (Stay("x", 0), Stay("y", 9))
            assert await there.look("unknown") is None
            assert list(await here.keep([record("p")], 60)) == []
            assert await there.claim("p", "b") == record("p")
            assert await here.look("p") is None, "somebody is just about to be this one"

    @alone
    async def test_what_is_kept_again_takes_the_place(self) -> None:
        async with self._open("a") as (store,):
            await store.keep([record("p", "x")], 60)
            await store.keep([record("p", "y", data=b"[]")], 60)
            assert await store.claim("p", "a") == record("p", "y", data=b"[]")

    @alone
    async def test_who_had_it_is_told_and_keeps_it_no_longer(self) -> None:
        async with self._open("a", "b") as (here, there), hearing(here.notices()) as told:
            await here.keep([record("p"), record("q")], 60)
            assert await there.claim("p", "b") is not None
            assert await told.next() == Claimed("p")
            assert list(await here.keep([record("p"), record("q")], 60)) == ["p"]
            assert await here.claim("p", "a") is None
            assert list(await there.keep([record("p", node="b")], 60)) == []
            assert await here.claim("p", "a") == record("p", node="b")

    @alone
    async def test_what_was_forgotten_does_not_come_back(self) -> None:
        async with self._open("a") as (store,):
            await store.keep([record("p"), record("q")], 60)
            await store.forget(["p", "unknown"])
            assert list(await store.keep([record("p")], 60)) == ["p"]
            assert await store.claim("p", "a") is None
            assert await store.claim("q", "a") == record("q")

    @alone
    async def test_time_ends(self) -> None:
        async with self._open("a") as (store,), hearing(store.notices()) as told:
            await store.keep([record("long")], 60)
            await store.keep([record("short")], 0.2)
            assert await told.next() == Expired(record("short"))
            assert await store.claim("short", "a") is None
            assert await store.claim("long", "a") == record("long")

    @alone
    async def test_rooms_are_changed_while_it_is_away(self) -> None:
        async with self._open("a", "b") as (here, there):
            await here.keep([record("p", "x", "y"), record("q", "x")], 60)
            assert await there.enter(NAMESPACE, "sid-p", "z", 9) is True
            assert await there.enter(NAMESPACE, "nobody", "z", 9) is False
            assert await there.leave(NAMESPACE, "sid-p", "y", 10) == 1
            assert await there.leave(NAMESPACE, "sid-q", "y", 10) == 0
            assert await there.leave(NAMESPACE, None, "x", 11) == 2
            found = await here.claim("p", "a")
            assert found is not None
            assert set(found.stays) == {Stay("x", 0, 11), Stay("y", 0, 10), Stay("z", 9)}

    @alone
    async def test_what_others_changed_stays_where_who_is_away_is_written_down(self) -> None:
        """Its node had not heard of it yet when it made the record; or it had, and then it is the same twice."""
        async with self._open("a", "b") as (here, there):
            await here.keep([record("p", "x", "y", "w")], 60)
            assert await there.enter(NAMESPACE, "sid-p", "z", 9) is True
            assert await there.leave(NAMESPACE, "sid-p", "y", 10) == 1
            stays = (Stay("x", 0), Stay("y", 0), Stay("w", 0, 12))
            for kept in (stays, (*stays, Stay("z", 9)), stays):
                assert list(await here.keep([record("p", stays=kept)], 60, away=True)) == []
            assert await there.enter(NAMESPACE, "sid-p", "y", 13) is True
            assert await there.leave(NAMESPACE, None, "z", 14) == 1
            assert list(await here.keep([record("p", stays=stays)], 60, away=True)) == []
            assert await there.leave(NAMESPACE, None, "z", 15) == 0, "by its rooms it is found as it is"
            found = await there.claim("p", "b")
            assert found is not None
            assert set(found.stays) == {
                Stay("x", 0),
                Stay("y", 0, 10),
                Stay("y", 13),
                Stay("w", 0, 12),
                Stay("z", 9, 14),
            }
            assert list(await there.keep([record("p", node="b")], 60, away=True)) == []
            assert await here.claim("p", "a") == record("p", node="b"), "whoever claimed it knows"

    @alone
    async def test_what_a_client_did_itself_later_stays_as_it_is(self) -> None:
        async with self._open("a", "b") as (here, there):
            await here.keep([record("p", "x")], 60)
            await there.enter(NAMESPACE, "sid-p", "z", 9)
            await there.leave(NAMESPACE, "sid-p", "x", 9)
            stays = (Stay("z", 9, 11), Stay("x", 0, 9), Stay("x", 12))
            await here.keep([record("p", stays=stays)], 60, away=True)
            found = await here.claim("p", "a")
            assert found is not None
            assert found.stays == stays

    @alone
    async def test_all_of_a_room_are_forgotten(self) -> None:
        async with self._open("a") as (store,):
            await store.keep([record("p", "x"), record("q", "x"), record("r", "y"), record("s")], 60)
            assert await store.forget_room(NAMESPACE, "x") == 2
            assert await store.forget_room(NAMESPACE, "sid-s") == 1
            assert await store.forget_room("/another", "y") == 0
            claims = [await store.claim(pid, "a") for pid in "pqrs"]
            assert claims == [None, None, record("r", "y"), None]

    @alone
    async def test_one_is_forgotten_by_its_sid(self) -> None:
        async with self._open("a", "b") as (here, there):
            await here.keep([record("p"), record("q")], 60)
            assert await there.forget_sid(NAMESPACE, "sid-p") is True
            assert await there.forget_sid(NAMESPACE, "sid-p") is False
            assert await there.forget_sid("/another", "sid-q") is False
            assert await there.claim("p", "b") is None
            assert list(await here.keep([record("p")], 60)) == ["p"]
            assert await there.claim("q", "b") == record("q")

    @alone
    async def test_of_a_node_that_is_dead_another_tells_what_has_expired(self) -> None:
        async with self._open("dead", "a") as (dead, here), hearing(here.notices()) as told:
            await here.keep([record("mine")], 60)
            kept = record("p", "x", node="dead")
            await dead.keep([kept], 0.2)
            await dead.close()
            assert await told.next(30) == Expired(kept)

    @alone
    async def test_closing(self) -> None:
        store = self.sessions("a")
        async with hearing(store.notices()) as told:
            await store.keep([], 60)
            await store.close()
            await store.close()
            await told.ended()
        await fails(store.keep([record("p")], 60))
        await fails(store.claim("p", "a"))
