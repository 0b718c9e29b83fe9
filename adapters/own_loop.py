"""A thread with an event loop of its own: for what must outlive the loop of whoever came first."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, TypeVar

GRACE_SECONDS: Final = 0.5
"""What ``close`` waits for longer than ``main`` may take: for tasks that were cancelled, and for the thread."""

Result = TypeVar("Result")


class OwnLoop:
    """Made anywhere, begun by the first who needs it, closed from any thread and any event loop.

    ``main`` runs on the loop from its begin, waits for ``closing``, and then has ``close_seconds`` to finish; where it
    ends earlier, the loop ends with it. The owner has its error in ``refuse``: what is asked after ``close`` raises it.
    Not closed at the interpreter's end, it closes itself.
    """

    def __init__(
        self,
        name: str,
        main: Callable[[], Coroutine[Any, Any, None]],
        *,
        close_seconds: float,
        refuse: Callable[[], Exception],
    ) -> None:
        self.gate = threading.Lock()
        """Held around ``begun`` and ``ask``, and by the owner around what has to change together with them."""
        self.closed = False
        self.closing = asyncio.Event()  # belongs to the loop
        self._name = name
        self._main = main
        self._seconds = close_seconds + GRACE_SECONDS
        self._refuse = refuse
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def begun(self) -> asyncio.AbstractEventLoop:
        """The loop. Called with the gate held; raises what ``refuse`` makes after ``close``."""
        if self.closed:
            raise self._refuse()
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._run, args=(self._loop,), name=self._name, daemon=True)
            self._thread.start()
            atexit.register(self._close_at_exit)
        return self._loop

    def ask(self, question: Callable[[], Coroutine[Any, Any, Result]]) -> Future[Result]:
        """Begins after ``main``, in the order of the calls. Called with the gate held; raises as ``begun``."""
        loop = self.begun()
        return asyncio.run_coroutine_threadsafe(question(), loop)

    async def close(self) -> None:
        """Returns when the thread has ended, or ``close_seconds`` and a half later. Two callers at once both wait."""
        thread = self._begin_close()
        if thread is not None:
            await asyncio.to_thread(thread.join, self._seconds)

    def _begin_close(self) -> threading.Thread | None:
        with self.gate:
            first, self.closed = not self.closed, True
            if first and self._loop is not None:
                with suppress(RuntimeError):  # it has ended by itself, perhaps in this moment
                    self._loop.call_soon_threadsafe(self.closing.set)
            return self._thread

    def _close_at_exit(self) -> None:
        thread = self._begin_close()
        if thread is not None:
            thread.join(self._seconds)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_until_complete(self._main())
        finally:
            loop.close()
            atexit.unregister(self._close_at_exit)
