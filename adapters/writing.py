"""The writer of an ASGI wire: a task only while it has to wait for the client. Held by the wires, not inherited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from realtime.encoding.codecs import Encoded
from realtime.eventloop.loops import PerLoop
from realtime.eventloop.workers import Workers
from realtime.ports import Send

Message = Mapping[str, Any]

_workers = PerLoop(Workers)


class Writer:
    """Writes frames through an ASGI ``send``, in order, asking ``take`` for more until there is none.

    Most servers take a message without making us wait; then it is written before ``write`` returns.
    """

    def __init__(
        self,
        send: Send,
        messages: Callable[[Encoded], Iterable[Message]],
        take: Callable[[], Encoded | None],
        on_lost: Callable[[], None],
    ) -> None:
        self._send = send
        self._messages = messages
        self._take = take
        self._on_lost = on_lost
        self._workers = _workers(asyncio.get_running_loop())
        self._busy = False
        self._task: asyncio.Task[Any] | None = None
        self._farewell: Message | None = None
        self._stopped = False
        self._idle: asyncio.Future[None] | None = None

    def write(self, encoded: Encoded) -> bool:
        """Only called while idle. False: it has to wait, and will ``take`` when it is done."""
        if not self._stopped and self._farewell is None:
            self._busy = True
            self._workers.run(self._write(encoded))
        return not self._busy

    def say_farewell(self, message: Message) -> None:
        """The last message, after everything that still waits; how long that may take is the wire's to say."""
        if self._farewell is None and not self._stopped:
            self._farewell = message
            if not self._busy:
                self._busy = True
                self._workers.run(self._write(self._take()))

    @property
    def ending(self) -> bool:
        return self._farewell is not None

    def stop(self) -> None:
        """Write nothing more; what hangs in the server's buffers is the server's."""
        self._stopped = True
        task = self._task
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def settle(self, seconds: float) -> None:
        """Returns when nothing is being written any more, or cuts it after this long."""
        if self._busy and self._task is not asyncio.current_task():
            self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._idle,), timeout=seconds)
            if self._busy:
                self.stop()

    async def _write(self, encoded: Encoded | None) -> None:
        self._task = asyncio.current_task()
        try:
            while encoded is not None and not self._stopped:
                if not await self._deliver(self._messages(encoded)):
                    return
                encoded = self._take()
            if self._farewell is not None and not self._stopped:
                await self._deliver((self._farewell,))
        finally:
            self._task = None
            self._busy = False
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)

    async def _deliver(self, messages: Iterable[Message]) -> bool:
        """False when the client turned out to be gone."""
        try:
            for message in messages:
                await self._send(message)
        except Exception:  # each server has its own way to say so
            self._on_lost()
            return False
        return not self._stopped
