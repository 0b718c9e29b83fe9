"""A Server behind a real uvicorn, and real python-socketio clients of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import socketio
from socketio.exceptions import ConnectionError as CannotConnect

from realtime import Server
from tests.end_to_end.clients import SECONDS, SocketIOClient, reading_session, socket_io, within
from tests.realtime.living import living, settings_for

__all__ = ["SECONDS", "SocketIOClient", "socket_io", "within"]


def new_server(**options: Any) -> Server:
    return Server(settings=settings_for(), **options)


class House:
    """A served Server; ``client()`` connects, and answers the client with its ``sid``."""

    def __init__(self, sio: Server, url: str, stack: AsyncExitStack) -> None:
        self.sio = sio
        self.url = url
        self._stack = stack

    async def client(self, namespace: str = "/", **options: Any) -> SocketIOClient:
        return await self._stack.enter_async_context(socket_io(self.url, namespace, **options))

    def is_empty(self) -> bool:
        return not (self.sio.hub.namespaces or self.sio.hub._leaving or self.sio.core.sessions)

    async def fence(self, *clients: SocketIOClient) -> None:
        """Returns when whatever was emitted before has arrived at each of these clients."""
        for client in clients:
            await self.sio.emit("fence", to=sid_of(client), namespace=client.namespace)
        for client in clients:
            await client.until("fence")


def sid_of(client: SocketIOClient) -> str:
    sid = client.client.get_sid(client.namespace)
    assert isinstance(sid, str)
    return sid


async def refused(url: str, namespace: str = "/") -> tuple[list[Any], list[Any]]:
    """Try to connect; what the client was told as ``connect_error``, and every event it heard."""
    http = reading_session()
    client = socketio.AsyncClient(reconnection=False, http_session=http)
    errors: list[Any] = []
    heard: list[Any] = []
    client.on("connect_error", errors.append, namespace=namespace)
    client.on("*", lambda *args: heard.append(args), namespace=namespace)
    with pytest.raises(CannotConnect):
        await within(client.connect(url, namespaces=[namespace], wait_timeout=SECONDS))
    for task in (client.eio.write_loop_task, client.eio.read_loop_task):
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=SECONDS)
    await within(client.eio.disconnect(abort=True))
    await http.close()
    return errors, heard


@asynccontextmanager
async def house(sio: Server) -> AsyncIterator[House]:
    async with living(socketio.ASGIApp(sio)) as url, AsyncExitStack() as stack:
        yield House(sio, url, stack)


async def turn() -> None:
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(done.set_result, None)
    await done


async def settle(here: House) -> None:
    """Returns when the server has let go of every client; polling it is the only way to know."""
    async with asyncio.timeout(SECONDS):
        while not here.is_empty():
            await turn()
