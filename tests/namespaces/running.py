"""The application for the feature tests: in a thread of its own behind a real uvicorn, or under Starlette's TestClient.

Nothing waits without an end: ``receive_text`` of a TestClient knows no time-out, so ``hear`` calls it in a thread.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient, WebSocketTestSession

from namespaces.app import create_app
from realtime import Realtime, Settings, Tokens
from tests.prompt_uvicorn import PromptUvicorn
from tests.serving import SECRET, free_port

SECONDS = 5.0
"""For anything that happens inside one machine, a busy one too."""

_numbers = itertools.count(1)


def fresh(word: str) -> str:
    """A name that no other test has: one server is shared by many."""
    return f"{word}-{next(_numbers)}"


def settings_for(folder: Path, **changes: Any) -> Settings:
    """Settings of a test's own; those of whoever runs the tests do not reach it."""
    database = f"sqlite+aiosqlite:///{(folder / 'chat.db').as_posix()}"
    values: dict[str, Any] = {"database_url": database, "jwt_secret": SecretStr(SECRET), "name_hold_seconds": 0}
    return Settings(_env_prefix="NOBODY_SETS_THESE_", **(values | changes))


def token(user: str, *scopes: str, expires_in: float | None = 3600, **options: Any) -> str:
    return Tokens(secret=SECRET, **options).issue(user, time.time(), expires_in, scopes)


class RunningApp:
    """``create_app(settings)`` behind uvicorn on a free port, in a thread with an event loop of its own."""

    def __init__(self, settings: Settings) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}"
        self.app: FastAPI = create_app(settings)
        self.realtime: Realtime = self.app.state.realtime
        config = uvicorn.Config(
            self.app, port=self.port, loop="asyncio", ws="websockets-sansio", log_config=None, access_log=False
        )
        self._server = _Uvicorn(config)
        self._thread = threading.Thread(target=self._server.run, name="the application", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._server.up.wait(SECONDS), "the application did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(SECONDS * 2)
        assert not self._thread.is_alive(), "the application did not stop"


class _Uvicorn(PromptUvicorn):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()


# ── under Starlette's TestClient ─────────────────────────────────────────────────────────────────


def plain_client(folder: Path, **changes: Any) -> TestClient:
    """Not used as a context manager: no lifespan runs, and each connection has a thread and a loop of its own."""
    return TestClient(create_app(settings_for(folder, **changes)), raise_server_exceptions=False)


def hear(session: WebSocketTestSession, seconds: float = SECONDS) -> str:
    """The next text. AssertionError when none comes in time."""
    heard: Future[str] = Future()

    def listen() -> None:
        try:
            heard.set_result(session.receive_text())
        except BaseException as error:
            heard.set_exception(error)

    threading.Thread(target=listen, daemon=True).start()
    try:
        return heard.result(seconds)
    except TimeoutError:
        raise AssertionError(f"nothing was heard within {seconds} s") from None


def hear_json(session: WebSocketTestSession, seconds: float = SECONDS) -> Any:
    return json.loads(hear(session, seconds))


@contextmanager
def pair(client: TestClient, first: str, second: str) -> Iterator[tuple[WebSocketTestSession, WebSocketTestSession]]:
    """Two clients at once, the second arriving after the first."""
    with client.websocket_connect(first) as one, client.websocket_connect(second) as two:
        yield one, two
