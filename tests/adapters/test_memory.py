from __future__ import annotations

import asyncio
import threading

import pytest

from adapters.memory import (
    MemoryAnswers,
    MemoryJournal,
    MemoryLogs,
    MemoryNameHolders,
    MemorySessions,
    MemoryStore,
)
from adapters.memory.mailbox import Mailbox
from realtime.errors import OutsideError
from realtime.journal.positions import Entry
from realtime.ports import Answers, Expired, Journal, NameHolders, Notice, NoticeKind, Sessions
from realtime.testing.answers import AnswersContract
from realtime.testing.journal import JournalContract, draft
from realtime.testing.names import NamesContract
from realtime.testing.sessions import SessionsContract, record


class TestNames(NamesContract):
    def names(self) -> NameHolders:
        return MemoryNameHolders()


class TestJournal(JournalContract):
    def setup_method(self) -> None:
        super().setup_method()
        self.logs = MemoryLogs()

    def journal(self, node: str) -> Journal:
        return MemoryJournal(node, self.logs)


class TestSessions(SessionsContract):
    def setup_method(self) -> None:
        super().setup_method()
        self.store = MemoryStore()

    def sessions(self, node: str) -> Sessions:
        return MemorySessions(node, self.store)


class TestAnswers(AnswersContract):
    def answers(self) -> Answers:
        return MemoryAnswers()


@pytest.mark.asyncio
async def test_a_log_that_was_lost_begins_anew() -> None:
    logs = MemoryLogs()
    journal = MemoryJournal("a", logs)
    before = await journal.append(draft("a", 1))
    logs.begin_anew()
    after = await journal.append(draft("a", 1))
    assert after.position.epoch != before.position.epoch
    assert await journal.since("/contract", before.position) is None
    assert await anext(journal.follow()) == Notice(NoticeKind.EPOCH)


@pytest.mark.asyncio
async def test_a_follower_that_does_not_listen_is_told_that_something_is_missing() -> None:
    mailbox: Mailbox[int] = Mailbox(lambda: [-1], limit=3)
    for number in range(5):
        mailbox.put(number)
    assert [await mailbox.take(), await mailbox.take(0)] == [-1, 4]
    assert await mailbox.take(0) is None


def test_a_listener_on_another_loop_is_woken() -> None:
    mailbox: Mailbox[int] = Mailbox(list)
    ready = threading.Event()
    heard: list[int | None] = []

    async def listen() -> None:
        asyncio.get_running_loop().call_soon(ready.set)
        heard.append(await mailbox.take(5))

    thread = threading.Thread(target=lambda: asyncio.run(listen()))
    thread.start()
    assert ready.wait(5)
    mailbox.put(7)
    thread.join(5)
    assert heard == [7]


@pytest.mark.asyncio
async def test_bounded_stores_give_up_the_oldest() -> None:
    store = MemorySessions("a", MemoryStore(limit=1))
    await store.keep([record("p"), record("q")], 60)
    assert await anext(store.notices()) == Expired(record("p"))
    answers = MemoryAnswers(keys=1)
    assert await answers.begin("one", b"") is None
    assert await answers.begin("two", b"") is None
    assert await answers.begin("one", b"") is None


@pytest.mark.asyncio
async def test_who_waits_for_ever_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.memory.answers.FIRST_SECONDS", 0.01)
    answers = MemoryAnswers()
    assert await answers.begin("key", b"") is None
    with pytest.raises(OutsideError) as late:
        await answers.begin("key", b"")
    assert late.value.retry_after == 1


def test_on_one_node_nothing_is_waited_for() -> None:
    journal = MemoryJournal("a")
    assert isinstance(journal.append_now(draft("a", 1)), Entry)
