"""How connections to Redis are made, lent, cut and closed, and what is said about their failures."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Sentinel
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, SentinelConnectionPool
from redis.backoff import ExponentialWithJitterBackoff

from adapters.redis.address import Address
from adapters.redis.refusals import words_of

SOCKET_SECONDS: Final = 2.0
"""For one connect, one write, one answer. redis-py's own 5 s, twice, made an emit wait 10 s on a frozen server."""
HEALTH_CHECK_SECONDS: Final = 15
"""A connection unused for so long is pinged first: NAT and load balancers drop idle links without a word."""
FAILURES: Final = (exceptions.RedisError, OSError)
"""What redis-py raises when the server is at fault or away; asyncio's TimeoutError is an OSError too."""
_ANSWERS: Final = (
    exceptions.ResponseError,
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.BusyLoadingError,
)
"""What the server itself has said."""


class Link:
    """An open connection on loan. Every method raises one of FAILURES when it breaks."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        # Not public, and fetched now because redis-py forgets it when it closes. Closing alone waits for a
        # frozen server: over TLS for its good-bye, and with unsent bytes until it reads them.
        writer = connection._writer
        self._transport = None if writer is None else writer.transport

    async def write(self, *commands: tuple[bytes, ...]) -> None:
        if not self.connection.is_connected:  # redis-py would open another one, which nobody would know of
            raise exceptions.ConnectionError("the link is closed")
        before = _cancellations()
        await self.connection.send_packed_command(self.connection.pack_commands(commands), check_health=False)
        _heed(before)

    async def read(self, seconds: float | None = None) -> Any:
        """One answer. With ``seconds``: None when none came; without: TimeoutError after SOCKET_SECONDS."""
        return await self.connection.read_response(timeout=seconds)

    @property
    def parse_error(self) -> Any:
        """Makes an exception of an error of the server's."""
        return self.connection._parser.parse_error

    def hand_over(self, protocol: asyncio.Protocol) -> tuple[Any, Any]:
        """The transport, whose bytes go to this protocol from now on, and the one that had them until now (it is to be
        told of the end). Only with every answer read. Raises one of FAILURES."""
        reader = self.connection._reader
        if self._transport is None or self._transport.is_closing() or reader is None or reader.at_eof():
            raise exceptions.ConnectionError("the link is closed")
        before = self._transport.get_protocol()
        self._transport.set_protocol(protocol)
        return self._transport, before

    def abort(self) -> None:
        """Close at once, whatever is in the middle of its way. Repeats do nothing."""
        if self._transport is not None:
            self._transport.abort()


class Connections:
    """A bounded pool for one role (``pub``, ``sub``, …), used in the one event loop that it is made in.

    ``retries`` are those of connecting; a command is not repeated here, because only its author knows
    whether that is safe. RESP2: it needs no greeting, and redis-py's RESP3 path renders every pushed
    message into a debug text first.
    """

    def __init__(self, address: Address, role: str, *, size: int, retries: int) -> None:
        options = {
            "socket_timeout": SOCKET_SECONDS,
            "socket_connect_timeout": SOCKET_SECONDS,
            "health_check_interval": HEALTH_CHECK_SECONDS,
            **address.options,
            "client_name": f"realtime-rooms:{os.getpid()}:{role}",
            "protocol": 2,
            "retry": Retry(ExponentialWithJitterBackoff(cap=0.2, base=0.01), retries),
            "max_connections": size,
        }
        self._links: dict[Any, Link] = {}  # the newest of each connection, so at most ``size``
        self._sentinel: Sentinel | None = None
        self._pool: Any  # redis-py types its pools only in part
        self._seeds = list(address.seeds)
        random.shuffle(self._seeds)
        self._options = options
        if address.sentinels:
            seconds = {name: options[name] for name in ("socket_timeout", "socket_connect_timeout")}
            once = Retry(ExponentialWithJitterBackoff(), 0)  # the other sentinels are the retry
            named = {**seconds, "client_name": options["client_name"], "protocol": 2, "retry": once}
            self._sentinel = Sentinel(address.sentinels, sentinel_kwargs=named)  # type: ignore[no-untyped-call]
            self._pool = SentinelConnectionPool(address.service, self._sentinel, **options)  # type: ignore[no-untyped-call]
        elif address.seeds:
            self._pool = self._next_seed()
        else:
            self._pool = BlockingConnectionPool(timeout=SOCKET_SECONDS, **options)

    def _next_seed(self) -> Any:
        """Of a Cluster: for what any of its servers can do."""
        self._seeds.append(self._seeds.pop(0))
        host, port = self._seeds[0]
        return BlockingConnectionPool(timeout=SOCKET_SECONDS, **self._options | {"host": host, "port": port})

    async def lend(self) -> Link:
        """A connection that is open now, to be given back or cut. Raises one of FAILURES."""
        before = _cancellations()
        try:
            connection = await self._pool.get_connection()
        except FAILURES:
            if self._seeds:
                old, self._pool = self._pool, self._next_seed()
                with suppress(*FAILURES):
                    await old.aclose()
            raise
        try:
            await connection.check_health()
            _heed(before)
        except BaseException:
            await self._pool.release(connection)
            raise
        link = self._links[connection] = Link(connection)
        return link

    async def give_back(self, link: Link) -> None:
        """Only with every answer read: what is still on its way would reach the next borrower."""
        await self._pool.release(link.connection)

    async def cut(self, link: Link) -> None:
        """Instead of giving back what is dead, or in the middle of something."""
        link.abort()
        with suppress(*FAILURES):
            await link.connection.disconnect(nowait=True)
        await self._pool.release(link.connection)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Link]:
        """``lend`` for a block; cut when the block raises or is cancelled."""
        link = await self.lend()
        try:
            yield link
        except BaseException:
            await self.cut(link)
            raise
        await self.give_back(link)

    async def close(self) -> None:
        """Close every connection at once, lent ones too. Repeats do nothing."""
        for link in self._links.values():
            link.abort()
        with suppress(*FAILURES):
            await self._pool.aclose()
        if self._sentinel is not None:
            with suppress(*FAILURES):
                await self._sentinel.aclose()


def _cancellations() -> int:
    """How often this task was cancelled."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _heed(before: int) -> None:
    """redis-py writes with ``asyncio.wait_for``, which loses a cancellation (before Python 3.12) that comes in the turn
    in which what it waits for is done: whoever closes us would wait for ever."""
    if _cancellations() > before:
        raise asyncio.CancelledError


def describe(error: BaseException) -> str:
    """What went wrong, as the end of a sentence that begins with "Redis".

    Put together from kinds, never from the error's own text: a server repeats arguments in its
    errors, which may be a password or a payload, and a client need not learn our hosts.
    """
    if isinstance(error, MasterNotFoundError):
        return "has no master that a Sentinel knows"
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return "did not answer in time"
    if isinstance(error, _ANSWERS):
        return words_of(error)
    cause = error if isinstance(error, OSError) else error.__context__
    if isinstance(cause, ssl.SSLError):  # its errno is OpenSSL's
        return "cannot be reached (TLS: certificate or protocol)"
    if not isinstance(cause, OSError):
        return "closed the connection"
    known = cause.errno if cause.errno in errno.errorcode else None
    return "cannot be reached" + (f" ({os.strerror(known)})" if known else "")
