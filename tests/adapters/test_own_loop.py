from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from functools import partial

import pytest

from adapters.own_loop import GRACE_SECONDS, OwnLoop
from realtime.errors import UsageError
from tests.serving import ROOT

SECONDS = 5.0
"""A bound, not a measurement."""
NAME = "own-loop-of-a-test"


class Owner:
    """What is done on the loop, in order; with ``stubborn`` it does not end until it is let go."""

    def __init__(self, *, stubborn: bool = False, close_seconds: float = SECONDS) -> None:
        self.done: list[str] = []
        self.told = threading.Event()
        self.let_go = threading.Event()
        self._stubborn = stubborn
        refuse = partial(UsageError, "closed")
        self.own = OwnLoop(NAME, self._main, close_seconds=close_seconds, refuse=refuse)

    async def _main(self) -> None:
        self.done.append("main")
        await self.own.closing.wait()
        self.told.set()
        if self._stubborn:
            await asyncio.to_thread(self.let_go.wait, SECONDS)
        self.done.append("end")

    async def _note(self, word: str) -> str:
        self.done.append(word)
        return threading.current_thread().name

    def ask(self, word: str) -> str:
        with self.own.gate:
            asked = self.own.ask(lambda: self._note(word))
        return asked.result(SECONDS)

    def close(self) -> None:
        asyncio.run(self.own.close())


@pytest.fixture
def owner() -> Iterator[Owner]:
    owner = Owner()
    yield owner
    owner.close()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def test_the_first_question_begins_it_and_main_is_before_all_of_them(owner: Owner) -> None:
    assert threads() == []
    with owner.own.gate:
        asked = [owner.own.ask(partial(owner._note, word)) for word in ("one", "two", "three")]
        assert len(threads()) == 1
    assert [each.result(SECONDS) for each in asked] == [NAME] * 3
    assert owner.done == ["main", "one", "two", "three"]


def test_it_serves_any_thread(owner: Owner) -> None:
    asking = [threading.Thread(target=owner.ask, args=(str(number),)) for number in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(SECONDS)
    assert sorted(owner.done) == [*map(str, range(8)), "main"]
    assert len(threads()) == 1


def test_who_closes_waits_for_the_end_and_repeats_do_nothing(owner: Owner) -> None:
    owner.ask("one")
    owner.close()
    assert threads() == []
    owner.close()
    assert owner.done == ["main", "one", "end"]


def test_closing_at_once_lets_main_begin_and_end(owner: Owner) -> None:
    with owner.own.gate:
        owner.own.begun()
    owner.close()
    assert owner.done == ["main", "end"]


def test_after_the_close_the_owners_error_is_raised(owner: Owner) -> None:
    owner.close()
    for _ in range(2):
        with pytest.raises(UsageError, match="closed"):
            owner.ask("late")
    assert owner.done == []
    assert threads() == []


def test_two_who_close_both_wait() -> None:
    owner = Owner(stubborn=True)
    owner.ask("one")

    async def both() -> None:
        closing = [asyncio.create_task(owner.own.close()) for _ in range(2)]
        assert await asyncio.to_thread(owner.told.wait, SECONDS)
        assert not any(task.done() for task in closing)
        owner.let_go.set()
        await asyncio.wait_for(asyncio.gather(*closing), SECONDS)
        assert owner.done[-1] == "end"

    asyncio.run(both())
    assert threads() == []


def test_who_closes_does_not_wait_for_ever() -> None:
    owner = Owner(stubborn=True, close_seconds=0.1)
    owner.ask("one")
    begun = time.monotonic()
    owner.close()
    assert 0.1 + GRACE_SECONDS <= time.monotonic() - begun < SECONDS
    assert "end" not in owner.done
    owner.let_go.set()
    for thread in threads():
        thread.join(SECONDS)
    assert owner.done[-1] == "end"


def test_what_is_closed_is_held_by_nobody() -> None:
    owner = Owner()
    owner.ask("one")
    owner.close()
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


@pytest.mark.process
def test_what_is_not_closed_closes_itself_at_the_end_of_the_process() -> None:
    script = (
        "from tests.adapters.test_own_loop import Owner\n"
        "import atexit\n"
        "owner = Owner()\n"
        "atexit.register(lambda: print(owner.done))\n"  # runs after what was registered later
        "owner.ask('one')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "['main', 'one', 'end']\n", "")


def test_what_has_ended_by_itself_can_be_closed() -> None:
    async def at_once() -> None:
        """Nothing to wait for."""

    own = OwnLoop(NAME, at_once, close_seconds=SECONDS, refuse=partial(UsageError, "closed"))
    with own.gate:
        own.begun()
    left = [each for each in threading.enumerate() if each.name == NAME]  # it may be gone already
    for thread in left:
        thread.join(SECONDS)
    assert not any(thread.is_alive() for thread in left)
    asyncio.run(own.close())
    assert own.closed
