"""The three things that hold after every hostile case: no handler saw it, nothing has grown, all others were served."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

from tests.serving import ServerProcess, fetch
from tests.wire.clients import WebSocketClient, enter, still_there, websocket

LIFECYCLE = ("connect", "disconnect")
GROWN = ("sessions", "members", "rooms", "work", "tasks")
SECONDS = 8.0
"""Until everything is back: a client that does not answer our close frame is cut after 5."""
STATE_SECONDS = 20.0
"""It counts every object of the process, and after thousands of clients those are many."""
BYSTANDER_SECONDS = 2.0
"""For one question of the bystander while an attack runs."""


class Ground:
    """One server under attack, with a bystander on it."""

    def __init__(self, server: ServerProcess, bystander: WebSocketClient) -> None:
        self.server = server
        self.bystander = bystander
        self._start: dict[str, Any] = {}
        self._served = 0

    async def state(self) -> dict[str, Any]:
        return await asyncio.to_thread(self._state)

    def _state(self) -> dict[str, Any]:
        status, body = fetch(self.server.url + "/debug/state", STATE_SECONDS)
        assert status == 200
        found: dict[str, Any] = json.loads(body)
        return found

    async def begin(self) -> None:
        await still_there(self.bystander)
        self._start = await self.state()

    async def until(self, check: Any) -> dict[str, Any]:
        """Ask for the state until it is as wanted, and return it."""

        def ask() -> dict[str, Any] | None:
            found = self._state()
            return found if check(found) else None

        found: dict[str, Any] | None = await asyncio.to_thread(self.server.until, ask, SECONDS)
        assert found is not None
        return found

    async def bystander_is_served(self) -> None:
        self._served += 1
        await still_there(self.bystander)

    async def end(self, handled: Collection[str]) -> None:
        await self.bystander_is_served()
        last: dict[str, Any] = {}

        def back(state: dict[str, Any]) -> bool:
            last.update(state)
            # The request that asks has a connection of its own each time, and so had the first one.
            return all(state[name] <= self._start[name] for name in (*GROWN, "files"))

        try:
            await self.until(back)
        except AssertionError:
            grown = {name: (self._start[name], last.get(name)) for name in (*GROWN, "files")}
            raise AssertionError(f"(before, after): {grown}") from None
        self._check_handlers(last, handled)

    def _check_handlers(self, state: dict[str, Any], handled: Collection[str]) -> None:
        ran = Counter(state["called"])
        ran.subtract(self._start["called"])
        ran["message"] -= self._served
        unexpected = {
            name: count
            for name, count in ran.items()
            if count and not name.startswith(LIFECYCLE) and name not in handled
        }
        assert not unexpected, "these handlers ran"

    async def counted(self, kind: str, reason: str) -> bool:
        """Has this counter (``violations`` or ``drops``) grown since the beginning?"""
        state = await self.state()
        return bool(state[kind].get(reason, 0) > self._start[kind].get(reason, 0))

    def start(self, name: str) -> int:
        """How often a handler had run at the beginning."""
        return int(self._start["called"].get(name, 0))

    async def ran(self, name: str) -> int:
        """How often a handler has run since the beginning."""
        return int((await self.state())["called"].get(name, 0)) - self.start(name)


@asynccontextmanager
async def ground(server: ServerProcess, *handled: str) -> AsyncIterator[Ground]:
    """The attack happens inside the block; ``handled`` names handlers that it may reach."""
    async with websocket(server.ws_url) as bystander:
        await enter(bystander)
        field = Ground(server, bystander)
        await field.begin()
        yield field
        await field.end(handled)


@asynccontextmanager
async def attacked(server: ServerProcess, attack: Callable[[], None]) -> AsyncIterator[Ground]:
    """The bystander is served again and again while the attack runs, and everything is back after it."""
    async with ground(server) as field:
        running = asyncio.ensure_future(asyncio.to_thread(attack))
        while not running.done():
            await asyncio.wait_for(field.bystander_is_served(), BYSTANDER_SECONDS)
        await running
        yield field
