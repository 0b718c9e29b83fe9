"""Honest and hostile clients of every kind against one server process, for as long as one likes.

20 seconds with the other tests. The long one: ``SOAK_SECONDS=600 SOAK_WRITE=1 python -m pytest tests/hostile/soak -s``;
``SOAK_SEED`` is any text, and ``SOAK_WRITE`` puts the numbers into NUMBERS.md.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.exceptions import WebSocketException

from realtime.eventloop.workers import SPARE
from tests.end_to_end.clients import get_json
from tests.hostile.soak.honest import ROUNDS, Account, bystander, go_round, pause
from tests.hostile.soak.packets import PACKETS
from tests.hostile.soak.sockets import SOCKETS
from tests.hostile.soak.watch import MEGABYTE, Attacks, Result, Watch, state_of
from tests.serving import ServerProcess
from tests.wire.clients import Gone

SECONDS = float(os.environ.get("SOAK_SECONDS", "20"))
SEED = os.environ.get("SOAK_SEED", "1")
PAGE = Path(__file__).parent / "NUMBERS.md"

ATTACKERS = 4
"""At once; more of them take the processor from the honest clients of a machine with two cores."""
ATTACK_SECONDS = 20.0
BACK_SECONDS = 15.0
"""Until all are forgotten: a polling client that said nothing is there until its ping time-out."""
GROWTH = 8 * MEGABYTE
"""Of private memory, from the second fifth of a long run to its last. The allocator's own coming and going is half of
it; one kilobyte kept of each message would be ten times as much."""
LONG_SECONDS = 300.0
"""A shorter run has hardly warmed up: there the bound is for what is gross."""
SHORT_GROWTH = 48 * MEGABYTE

SETTINGS = {
    "REALTIME_PING_INTERVAL_SECONDS": "4",
    "REALTIME_PING_TIMEOUT_SECONDS": "4",
    "REALTIME_CONNECT_TIMEOUT_SECONDS": "2",
    "REALTIME_UPGRADE_TIMEOUT_SECONDS": "2",
    "REALTIME_HEARTBEAT_INTERVAL_SECONDS": "1",
    "REALTIME_HISTORY_ON_JOIN": "5",
    "REALTIME_LOG_LIMIT_BYTES": "1000000",
    "REALTIME_RECOVERY_WINDOW_SECONDS": "5",
}
"""Times are short, and logs small, so that what ends or fills by itself does so within a short run."""

EXPECTED = (Gone, WebSocketException, aiohttp.ClientError, OSError, EOFError, TimeoutError, asyncio.IncompleteReadError)
"""What an attacker meets when the server has had enough of it."""


async def attack(server: ServerProcess, attacks: Attacks, seed: str, stop: asyncio.Event) -> None:
    chance = random.Random(seed)
    while not stop.is_set():
        chosen: Any = chance.choice((*PACKETS, *SOCKETS))
        name = chosen.__name__.replace("_", " ")
        try:
            await asyncio.wait_for(chosen(server, chance), ATTACK_SECONDS)
            attacks[name, "to its end"] += 1
        except EXPECTED as met:
            attacks[name, type(met).__name__] += 1
        await pause(stop, chance.random() / 5)


async def everybody(server: ServerProcess, watch: Watch) -> tuple[Account, Attacks]:
    """All at once until the time is over; whatever an honest client misses ends it at once."""
    account, attacks, stop = Account(), Attacks(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(watch.run(stop))
        group.create_task(bystander(server, account, stop))
        for kind in ROUNDS:
            group.create_task(go_round(server, account, kind, f"{SEED} {kind}", stop))
        for number in range(ATTACKERS):
            group.create_task(attack(server, attacks, f"{SEED} attacker {number}", stop))
        await pause(stop, SECONDS)
        stop.set()
    return account, attacks


async def once(server: ServerProcess) -> None:
    """A round of each kind, before anything is counted and after everything is over; and as many questions to the
    database at once as it has connections, which it then keeps."""
    chance = random.Random(SEED)
    for _ in range(3):
        await asyncio.gather(*(get_json(f"{server.url}/chat/nowhere/history") for _ in range(20)))
    for go in ROUNDS.values():
        await go(server, Account(), 0, chance)


def gone(server: ServerProcess) -> dict[str, Any]:
    """Waits until nobody is left, and tells what is."""

    def nobody() -> dict[str, Any] | None:
        state = state_of(server)
        return state if not (state["sessions"] or state["members"] or state["rooms"] or state["work"]) else None

    return server.until(nobody, BACK_SECONDS) or {}


def back(server: ServerProcess, start: dict[str, Any]) -> dict[str, Any]:
    last: dict[str, Any] = {}

    def as_before() -> bool:
        last.update(state_of(server))
        return all(last[name] <= start[name] for name in ("sessions", "members", "rooms", "work", "tasks", "files"))

    try:
        server.until(as_before, BACK_SECONDS)
    except AssertionError:
        raise AssertionError(f"before: {start}\nafter: {last}") from None
    assert last["idle workers"] <= 2 * SPARE
    return last


@pytest.mark.process
@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 150)
def test_honest_clients_notice_nothing_and_nothing_is_left(tmp_path: Path) -> None:
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("this system does not tell what a process has (Linux does, in /proc)")
    with ServerProcess(tmp_path, "tests.hostile.application:app", env=SETTINGS) as server:
        asyncio.run(once(server))
        start = gone(server)
        watch = Watch(server.pid)
        account, attacks = asyncio.run(everybody(server, watch))
        end = back(server, start)
        asyncio.run(once(server))
        assert "Traceback" not in server.output()
        result = Result(SECONDS, SEED, account, attacks, watch, start, end)
        print(result.page())  # noqa: T201
        if os.environ.get("SOAK_WRITE"):
            PAGE.write_text(result.page())
        assert watch.growth() < (GROWTH if SECONDS >= LONG_SECONDS else SHORT_GROWTH)
    assert min(account.rounds.values()) > 0
    assert len({name for name, _ in attacks}) > len(PACKETS + SOCKETS) // 2
