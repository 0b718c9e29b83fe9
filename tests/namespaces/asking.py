"""What Socket.IO clients of the feature tests ask: connects that are refused, errors that are expected."""

from __future__ import annotations

import asyncio
from typing import Any

import socketio
from socketio.exceptions import ConnectionError as NotConnected

from tests.end_to_end.clients import SocketIOClient, within
from tests.namespaces.running import SECONDS


async def refusal(url: str, namespace: str, auth: Any = None, **options: Any) -> Any:
    """The ``data`` of CONNECT_ERROR; AssertionError when the client was let in."""
    client = socketio.AsyncClient(reconnection=False)
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def refused(data: Any) -> None:
        told.set_result(data)

    client.on("connect_error", refused, namespace=namespace)
    try:
        await within(
            client.connect(url, namespaces=[namespace], auth=auth, transports=["websocket"], wait=True, **options)
        )
    except NotConnected:
        return await within(told)
    else:
        raise AssertionError(f"{auth} was let in")
    finally:
        await client.disconnect()


async def problem_of(client: SocketIOClient, event: str, *data: Any) -> dict[str, Any]:
    """The error object that acknowledges an event; AssertionError where it succeeded."""
    payload = data if len(data) != 1 else data[0]
    answer = await client.client.call(event, payload or None, namespace=client.namespace, timeout=SECONDS)
    assert isinstance(answer, dict), answer
    assert answer.keys() == {"error"}, answer
    error: dict[str, Any] = answer["error"]
    assert error.keys() >= {"code", "message"}
    assert isinstance(error["message"], str)
    return error


async def gone(client: SocketIOClient) -> None:
    """The server ended this client's namespace, or its connection."""
    await within(client.gone.wait())
