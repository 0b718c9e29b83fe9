"""Which server a key lives on, and commands and scripts that are sent there. One server, Sentinel or Cluster."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Any, Final

from redis import exceptions
from redis.crc import key_slot

from adapters.redis.address import Address
from adapters.redis.connection import FAILURES, Connections, describe
from adapters.redis.publisher import PATIENCE_SECONDS, RETRY_SECONDS, CommandRefused, LoginRefused, Publisher
from adapters.redis.refusals import Fault, advice_for, code_of
from adapters.redis.scripts import Script
from realtime.errors import OutsideError
from realtime.metrics import Metrics
from realtime.telemetry.seldom import Seldom

log = logging.getLogger("realtime.bus")

ATTEMPTS: Final = 3
"""For one command: after a slot moved, and after Redis forgot a script."""
_ASKED_LIMIT: Final = 5
"""Servers of a Cluster that are asked for its map, one after the other."""
_ORDINARY: Final = frozenset({"ASK", "MOVED", "NOSCRIPT", "TRYAGAIN"})
"""Refusals that belong to a Cluster's life, and to a script's: nobody need act."""

_Node = tuple[str, int]


class Shards:
    """Belongs to the event loop it is first used in.

    In a Cluster the map of slots is fetched when it is first needed, and again after any sign that it is old: a slot
    that has moved, a server that does not answer.
    """

    def __init__(self, address: Address, metrics: Metrics) -> None:
        self._address = address
        self._metrics = metrics
        self._publishers: dict[Address, Publisher] = {}
        self._by_node: dict[_Node, Address] = {}
        self._map: list[tuple[int, int, _Node]] = []
        self._old = True
        self._lock = asyncio.Lock()
        self._known: dict[Address, set[bytes]] = {}
        self._sharded: bool | None = None
        self._closed = False
        self._seldom = Seldom()

    async def sharded(self, key: bytes) -> bool:
        """Does this server know sharded channels (Redis 7)? Raises OutsideError."""
        if self._sharded is None:
            try:
                answer = await self.send(key, b"COMMAND", b"INFO", b"SPUBLISH")
            except CommandRefused as refusal:
                if refusal.fault is Fault.PASSING:
                    raise
                answer = None  # a user or a proxy without COMMAND: plain channels are understood by all
            self._sharded = bool(answer and answer[0])
        return self._sharded

    @property
    def is_sharded(self) -> bool:
        """What ``sharded`` answered last."""
        return bool(self._sharded)

    def at_hand(self, key: bytes) -> Address | None:
        """The server that has this key, where nothing has to be asked before something is sent there. Raises
        OutsideError."""
        if self._closed:
            raise OutsideError("The bus is closed")
        if self._sharded is None:
            return None
        return self._on_map(key) if self._address.seeds else self._address

    def knows(self, address: Address, script: Script) -> bool:
        """Was this script sent there?"""
        known = self._known.get(address)
        return known is not None and script.sha in known

    def _on_map(self, key: bytes) -> Address | None:
        if self._old:
            return None
        slot = key_slot(key)
        return next((self._by_node[node] for first, last, node in self._map if first <= slot <= last), None)

    async def address_of(self, key: bytes) -> Address:
        """The server (or the Sentinels' service) that has this key. Raises OutsideError."""
        if self._closed:
            raise OutsideError("The bus is closed")
        if not self._address.seeds:
            return self._address
        if self._old:
            await self._refresh()
        found = self._on_map(key)
        if found is not None:
            return found
        self.distrust()
        raise OutsideError("Redis serves no such slot now", retry_after=RETRY_SECONDS)

    async def send(self, key: bytes, *command: bytes) -> Any:
        """The answer of the server that has the key. Raises OutsideError as ``Publisher.send`` does."""
        for attempt in range(ATTEMPTS):
            address = await self.address_of(key)
            try:
                return await self.publisher(address).send(*command)
            except OutsideError as failure:
                told = self.explained(command[0], address, failure)
                moved = isinstance(failure, CommandRefused) and isinstance(failure.error, exceptions.MovedError)
                if not moved or attempt + 1 == ATTEMPTS:
                    raise told from None
        raise AssertionError("unreachable")

    def explained(self, word: bytes, address: Address, failure: OutsideError) -> OutsideError:
        """What whoever sent this command there is to be told of its failure. Where it shows that the map may be old,
        the next command fetches it; an operator is told what to do."""
        if isinstance(failure, CommandRefused):
            if isinstance(failure.error, exceptions.AskError | exceptions.ClusterDownError):  # MOVED is an ASK there
                self.distrust()
            self._tell(word, address, failure)
            return failure
        self.distrust()
        if failure.retry_after is None and not isinstance(failure, LoginRefused) and not self._closed:
            return OutsideError("Redis is elsewhere now", retry_after=RETRY_SECONDS)  # its server has left the Cluster
        return failure

    def _tell(self, word: bytes, address: Address, refusal: CommandRefused) -> None:
        """An operator is told what to do: a line a minute for each command and reason, as long as it lasts."""
        code = code_of(refusal.error)
        if code in _ORDINARY or word == b"COMMAND":
            return
        more = self._seldom.left_out(f"{word.decode()} {code}", asyncio.get_running_loop().time())
        if more is not None:
            words = "%s, when asked at %s for %s (%s, %d more since then)%s"
            advice = advice_for(refusal.error)
            log.warning(words, refusal.message, address.shown, word.decode(), code, more, advice)

    async def run(self, script: Script, keys: Sequence[bytes], *arguments: bytes) -> Any:
        """The answer of a script. It is sent once to each server, ahead of its first use there and again when the
        server has forgotten it, so that calls keep their order; with the call itself where nothing else helps (a user
        who may not load). Raises OutsideError."""
        rest = (b"%d" % len(keys), *keys, *arguments)
        command: tuple[bytes, ...] = (b"EVALSHA", script.sha, *rest)
        for attempt in range(ATTEMPTS):
            address = await self.address_of(keys[0])
            known = self._known.setdefault(address, set())
            if script.sha not in known:
                known.add(script.sha)
                self.publisher(address).post(b"SCRIPT", b"LOAD", script.text)
            try:
                return await self.send(keys[0], *command)
            except CommandRefused as refusal:
                if not isinstance(refusal.error, exceptions.NoScriptError) or attempt + 1 == ATTEMPTS:
                    raise
                self._known.clear()
                if attempt + 2 == ATTEMPTS:
                    command = (b"EVAL", script.text, *rest)
        raise AssertionError("unreachable")

    def distrust(self) -> None:
        """Something went wrong: the map may be old. The next command fetches it."""
        self._old, self._sharded = True, None

    async def close(self) -> None:
        """What is on its way fails with OutsideError. Repeats do nothing."""
        self._closed = True
        publishers = list(self._publishers.values())
        self._publishers.clear()
        await asyncio.gather(*(publisher.close() for publisher in publishers))

    def publisher(self, address: Address) -> Publisher:
        """The way there. Raises OutsideError."""
        if self._closed:
            raise OutsideError("The bus is closed")
        publisher = self._publishers.get(address)
        if publisher is None:
            publisher = self._publishers[address] = Publisher(address, self._metrics)
        return publisher

    async def _refresh(self) -> None:
        async with self._lock:
            if not self._old:
                return
            asked = [*dict.fromkeys([*(node for _, _, node in self._map), *self._address.seeds])]
            random.shuffle(asked)
            failure = "is not there"
            for node in asked[:_ASKED_LIMIT]:
                try:
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        await self._take(node, await _slots(self._address.node(*node)))
                    return
                except FAILURES as error:
                    failure = describe(error)
            raise OutsideError(f"Redis {failure}", retry_after=RETRY_SECONDS)

    async def _take(self, asked: _Node, found: Any) -> None:
        """A new map. Publishers of servers that are in it no longer are closed."""
        self._map = [
            (int(first), int(last), ((master[0] or b"").decode() or asked[0], int(master[1])))
            for first, last, master, *_ in found
        ]
        self._old = False
        nodes = {node for _, _, node in self._map}
        self._by_node = {node: self._by_node.get(node) or self._address.node(*node) for node in nodes}
        kept = set(self._by_node.values())
        gone = [self._publishers.pop(address) for address in list(self._publishers) if address not in kept]
        self._known = {address: known for address, known in self._known.items() if address in kept}
        await asyncio.gather(*(publisher.close() for publisher in gone))


def is_elsewhere(error: OutsideError) -> bool:
    """Was it not carried out because the slot has moved, or the script is not known there? Then ``send`` and ``run``
    find the way."""
    return isinstance(error, CommandRefused) and isinstance(
        error.error, exceptions.MovedError | exceptions.NoScriptError
    )


async def _slots(address: Address) -> Any:
    """What one server of a Cluster says. Raises one of FAILURES."""
    connections = Connections(address, "map", size=1, retries=0)
    try:
        async with connections.connection() as link:
            await link.write((b"CLUSTER", b"SLOTS"))
            return await link.read()
    finally:
        await connections.close()
