from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from threading import get_ident
from typing import Any

import pytest
from fastapi import FastAPI

from realtime import Dropped, Namespace, Realtime, Server, UsageError
from realtime.metrics import Counter
from realtime.session.drops import BATCH_SECONDS, Drops
from tests.realtime.living import SECONDS, living, settings_for, within
from tests.wire.clients import polling, websocket


class HandLoop:
    """Time goes on when a test says so."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.calls: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.closed = False

    def call_later(self, delay: float, call: Callable[[], None]) -> None:
        self.timers.append((delay, call))

    def call_soon_threadsafe(self, call: Callable[..., None], *args: Any) -> None:
        if self.closed:
            raise RuntimeError("closed")
        self.calls.append((call, args))

    def is_closed(self) -> bool:
        return self.closed

    def pass_batch(self) -> None:
        timers, self.timers = self.timers, []
        assert [delay for delay, _ in timers] == [BATCH_SECONDS], "one timer, however much is dropped"
        timers[0][1]()


class Named:
    def __init__(self, name: str) -> None:
        self.name = self.sid = name


class Someone:
    """Keeps the protocol ``Client``."""

    def __init__(self, loop: HandLoop, id: str, **sids: str) -> None:
        self.loop: Any = loop
        self.id = id
        self.thread = get_ident()
        self.wire: Any = Named("websocket")
        self.members: dict[str, Any] = {f"/{name}": Named(sid) for name, sid in sids.items()}


def counted() -> Counter:
    return Counter("drops", "", ("reason",))


def test_a_flood_is_one_call_for_each_client_and_batch() -> None:
    told: list[Dropped] = []
    loop, counter = HandLoop(), counted()
    drops = Drops(counter, told.append)
    ann, ben = Someone(loop, "a", chat="ann"), Someone(loop, "b")
    ben.wire = None
    for _ in range(1_000):
        drops.add(ann, "volatile")
    drops.add(ben, "held")
    drops.add(ann, "slow")
    ann.members.clear()  # it is closed for that, before anybody is told
    assert told == []
    loop.pass_batch()
    reasons = {"volatile": 1_000, "slow": 1}
    assert told == [Dropped("a", "websocket", {"/chat": "ann"}, reasons), Dropped("b", "", {}, {"held": 1})]
    drops.add(ben, "callback")
    loop.pass_batch()
    assert told[2:] == [Dropped("b", "", {}, {"callback": 1})]
    assert counter.values == {("volatile",): 1_000, ("slow",): 1, ("held",): 1, ("callback",): 1}


def test_without_a_function_drops_are_counted_and_nothing_else() -> None:
    loop, counter = HandLoop(), counted()
    Drops(counter).add(Someone(loop, "a"), "slow")
    assert counter.value("slow") == 1
    assert (loop.timers, loop.calls) == ([], [])


def test_what_the_function_raises_is_logged_once_and_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    def fail(dropped: Dropped) -> None:
        told.append(dropped.id)
        raise RuntimeError("of the application")

    loop = HandLoop()
    drops = Drops(counted(), fail)
    for id in "abc":
        drops.add(Someone(loop, id), "slow")
    with caplog.at_level(logging.ERROR):
        loop.pass_batch()
    assert told == ["a", "b", "c"]
    assert [record.message for record in caplog.records] == ["on_drop failed"]
    drops.add(Someone(loop, "d"), "slow")
    loop.pass_batch()
    assert told[-1] == "d"


def test_drops_of_other_threads_are_told_on_the_loop_of_their_client() -> None:
    told: list[Dropped] = []
    loop, counter = HandLoop(), counted()
    drops, ann = Drops(counter, told.append), Someone(loop, "a")
    thread = threading.Thread(target=drops.add, args=(ann, "slow"))
    thread.start()
    thread.join(SECONDS)
    assert counter.value("slow") == 1
    assert loop.timers == []
    ((call, args),) = loop.calls
    call(*args)
    loop.pass_batch()
    assert told == [Dropped("a", "websocket", {}, {"slow": 1})]


def test_a_loop_that_is_closed_tells_nobody() -> None:
    loop, counter = HandLoop(), counted()
    drops = Drops(counter, lambda dropped: pytest.fail("told"))
    loop.closed = True
    drops.add(Someone(loop, "a"), "loop_closed")
    assert counter.value("loop_closed") == 1
    assert loop.timers == []


def test_a_coroutine_function_is_refused() -> None:
    async def later(dropped: Dropped) -> None: ...

    with pytest.raises(UsageError, match="on_drop must be a plain function"):
        Server(settings=settings_for(), on_drop=later)
    with pytest.raises(UsageError, match="to the server"):
        Realtime(FastAPI(), server=Server(settings=settings_for()), on_drop=print)


class Told:
    """An application's function, and a way to wait for it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Dropped] = asyncio.Queue()

    def __call__(self, dropped: Dropped) -> None:
        self.queue.put_nowait(dropped)

    async def next(self) -> Dropped:
        return await within(self.queue.get())


@pytest.mark.asyncio
async def test_over_real_sockets_the_application_hears_of_each_client() -> None:
    told, app, chat = Told(), FastAPI(), Namespace("/chat")

    @chat.event
    async def hello() -> None: ...

    settings = settings_for(backlog_limit_messages=2, events_per_second=0.01)
    realtime = Realtime(app, settings=settings, on_drop=told)
    realtime.include(chat)
    async with living(app) as url, polling(url) as quiet, websocket(url.replace("http", "ws")) as loud:
        await quiet.send("40/chat,")
        assert str(await quiet.receive()).startswith("40/chat,")
        for number in range(50):
            await chat.emit("typing", number, volatile=True)
        dropped = await told.next()
        assert (dropped.id, dropped.wire) == (quiet.handshake["sid"], "polling")
        assert list(dropped.sids) == ["/chat"]
        assert dropped.reasons == {"volatile": 48}
        for number in range(3):
            await chat.emit("message", number)
        dropped = await told.next()
        assert dropped.reasons == {"volatile": 2, "slow": 1}, "the volatile ones first, then it is cut off"
        assert list(dropped.sids) == ["/chat"], "what it was when that happened"

        await loud.send("40/chat,", *['42/chat,["hello"]' for _ in range(4)])
        refused = 0
        while refused < 3:  # in one batch, or in two on a machine that pauses
            dropped = await told.next()
            assert (dropped.id, dropped.wire) == (loud.handshake["sid"], "websocket")
            refused += dropped.reasons["rate_limited"]
        assert (refused, told.queue.empty()) == (3, True)
