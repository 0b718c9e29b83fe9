"""What a namespace asks of the server that it is included in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from realtime.clients.context import Publishing, Socket
from realtime.clients.peer import Peer
from realtime.encoding.codecs import Dialect
from realtime.metrics import Metrics
from realtime.rooms.index import Target


class Home(Publishing, Protocol):
    """What a namespace asks of the server it is included in."""

    metrics: Metrics

    @property
    def dependency_overrides(self) -> Mapping[Callable[..., Any], Callable[..., Any]]: ...

    def sockets(self, namespace: str, target: Target) -> list[Socket]: ...

    async def disconnect_room(self, namespace: str, room: str, reason: str) -> None: ...

    def raw(
        self,
        namespace: str,
        websocket: WebSocket,
        auth: Any,
        dialect: Dialect | None,
        enter: Iterable[str],
        refusal: str | None,
        since: str | None,
    ) -> AbstractAsyncContextManager[Peer]: ...

    def stream(self, namespace: str, request: HTTPConnection, *args: Any) -> Awaitable[Response]:
        """``auth``, ``dialect``, ``enter``, ``since``."""

    def newest(self, namespace: str) -> str | None: ...
