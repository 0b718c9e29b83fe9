"""Waiting for one client's acknowledgement: its answer, or at once that none will come."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from socketio.exceptions import TimeoutError as StockTimeout

from realtime.errors import LimitError, RealtimeError


class ClientGone(RealtimeError, StockTimeout):  # type: ignore[misc]
    """The client left before it answered; python-socketio's TimeoutError, only at once.

    A handler that lets it out answers with the code ``client_gone``: nobody's fault, and nothing for the log.
    """

    code = "client_gone"

    def __init__(self) -> None:
        super().__init__("The client left before it answered")


class InboxFull(LimitError, StockTimeout):  # type: ignore[misc]
    """So many events of the client wait for handlers that nothing is read from it: its answer cannot arrive.

    python-socketio's TimeoutError, only at once; a handler that lets it out answers with the code ``inbox_full``.
    """

    code = "inbox_full"

    def __init__(self) -> None:
        super().__init__("Too many events of this client wait: its answer is not read")


class Answer:
    """The callback of a call. It may be called from any thread, and its loop may be closed by then."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[tuple[Any, ...]] = self._loop.create_future()
        self._clients = 1
        self._failed = 0

    def of(self, clients: int) -> None:
        """So many were asked (one, unless this is said): it fails when none of them is left to answer."""
        self._clients = max(1, clients)

    def __call__(self, *args: Any) -> None:
        """The client answered this."""
        self._say(args, None)

    def abandoned(self) -> None:
        """A client is gone."""
        self._say((), ClientGone())

    def blocked(self) -> None:
        """A client's answer is not read for now."""
        self._say((), InboxFull())

    async def wait(self, timeout: float | None) -> Any:
        """As python-socketio answers: nothing is None, one argument is itself, several are a tuple.

        Raises ClientGone or InboxFull or, after ``timeout`` seconds, python-socketio's TimeoutError.
        """
        try:
            async with asyncio.timeout(timeout):
                args = await self._future
        except TimeoutError:
            raise StockTimeout from None
        return args[0] if len(args) == 1 else args or None

    def _say(self, args: tuple[Any, ...], error: Exception | None) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._set, args, error)

    def _set(self, args: tuple[Any, ...], error: Exception | None) -> None:
        if self._future.done():
            return
        if error is None:
            self._future.set_result(args)
            return
        self._failed += 1
        if self._failed >= self._clients:
            self._future.set_exception(error)
            self._future.exception()  # looked at: perhaps nobody waits any more
