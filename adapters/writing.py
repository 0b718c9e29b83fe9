"""The writer of an ASGI wire: a task only while something is being written. Held by the wires, not inherited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from realtime.codecs import Encoded
from realtime.ports import Send

Message = Mapping[str, Any]


class Writer:
    """Writes frames through an ASGI ``send``, in order, asking ``take`` for more until there is none."""

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
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._farewell: Message | None = None
        self._stopped = False

    def write(self, encoded: Encoded) -> None:
        """Only called while idle: ``Wire.send`` has answered "full" for everything else."""
        if not self._stopped and self._farewell is None:
            self._task = self._loop.create_task(self._write(encoded))

    def say_farewell(self, message: Message) -> None:
        """The last message, after everything that still waits; how long that may take is the wire's to say."""
        if self._farewell is None and not self._stopped:
            self._farewell = message
            if self._task is None:
                self._task = self._loop.create_task(self._write(self._take()))

    @property
    def ending(self) -> bool:
        return self._farewell is not None

    def stop(self) -> None:
        """Write nothing more; what hangs in the server's buffers is the server's."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    async def settle(self, seconds: float) -> None:
        """Returns when nothing is being written any more, or cuts it after this long."""
        task = self._task
        if task is not None and task is not asyncio.current_task():
            await asyncio.wait([task], timeout=seconds)
            self.stop()

    async def _write(self, encoded: Encoded | None) -> None:
        try:
            while encoded is not None:
                if not await self._deliver(self._messages(encoded)):
                    return
                encoded = self._take()
            if self._farewell is not None:
                await self._deliver((self._farewell,))
        finally:
            self._task = None

    async def _deliver(self, messages: Iterable[Message]) -> bool:
        """False when the client turned out to be gone."""
        try:
            for message in messages:
                await self._send(message)
        except Exception:  # each server has its own way to say so
            self._on_lost()
            return False
        return not self._stopped
