"""The end of a server, and what ends a connection because the client broke the protocol."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any
from urllib.parse import urlsplit

import pytest
import socketio as stock
from fastapi import FastAPI

from realtime import Realtime
from tests.behaviour.stage import POLLING, Wire, new_server, stage
from tests.realtime.living import settings_for
from tests.serving import ServerProcess, free_port
from tests.wire.clients import SEPARATOR, PollingClient, ended, within

pytestmark = pytest.mark.asyncio


def mounted(kind: str) -> tuple[Any, Any]:
    """(server, application)."""
    if kind == "alone":
        sio = new_server()
        return sio, stock.ASGIApp(sio)
    app = FastAPI()
    return Realtime(app, settings=settings_for()).server, app


@pytest.mark.parametrize("kind", ["alone", "on FastAPI"])
async def test_a_server_that_is_closed_lets_go_of_its_clients_and_of_its_port(wire: Wire, kind: str) -> None:
    sio, app = mounted(kind)
    async with stage(sio, wire, app=app) as here:
        guest = await here.guest()
        assert len(sio.core.sessions) == 1
        await sio.shutdown()
        await ended(guest.client)
        assert sio.core.sessions == {}
        port = urlsplit(here.url).port
    with socket.create_server(("127.0.0.1", port or 0)):
        assert sio.hub.namespaces == {}


ECHO = """
from realtime import Server, socketio
sio = Server()
sio.on("ev", lambda sid, data: data)
app = socketio.ASGIApp(sio)
"""


@pytest.mark.process
async def test_a_client_goes_on_after_the_server_was_closed_and_started_again(tmp_path: Any) -> None:
    (tmp_path / "again.py").write_text(ECHO)
    port = free_port()
    command = [sys.executable, "-m", "realtime", "serve", "again:app", "--port", "{port}"]
    server = ServerProcess(tmp_path, command=command, port=port, ready=None)
    client = stock.AsyncClient(reconnection_delay=0.05, reconnection_delay_max=0.1, randomization_factor=0)
    back = asyncio.Event()
    await asyncio.to_thread(server.start)
    try:
        await within(client.connect(server.url))
        client.on("connect", back.set)
        assert await client.call("ev", "payload", timeout=5) == "payload"
    finally:
        await asyncio.to_thread(server.stop)  # the client answers the end meanwhile
    await asyncio.to_thread(server.start)
    try:
        await within(back.wait(), 10)
        assert await client.call("ev", "payload", timeout=5) == "payload"
        await within(client.disconnect())
    finally:
        await asyncio.to_thread(server.stop)


@pytest.mark.parametrize("frame", ["40", "4abc"])
async def test_the_next_poll_tells_of_the_end(frame: str) -> None:
    async with stage(new_server(), POLLING) as here:
        guest = await here.guest()
        polling = guest.client
        assert isinstance(polling, PollingClient)
        assert (await polling.post(frame)).status == 400
        assert (await polling.get()).text == f"41{SEPARATOR}1"
        assert (await polling.get()).status == 400


@pytest.mark.parametrize("frame", ["40", "4abc", '42/other,["some event"]'])
async def test_a_violation_is_the_end(wire: Wire, frame: str) -> None:
    async with stage(new_server(), wire) as here:
        guest = await here.guest()
        await guest.client.send(frame)
        assert (await ended(guest.client)).code == (400 if wire.polling else 4501)


async def test_an_event_before_connect_is_the_end(wire: Wire) -> None:
    async with stage(new_server(), wire) as here:
        guest = await here.knock()
        await guest.client.send('42["some event"]')
        assert (await ended(guest.client)).code == (400 if wire.polling else 4501)


@pytest.mark.parametrize("frame", ["5woooot", "5", '44["handle me please"]', "45woooot", "45"])
async def test_a_frame_that_is_no_packet_ends_its_sender_alone(wire: Wire, frame: str) -> None:
    sio = new_server()
    sio.on("echo", lambda sid, data: data)
    async with stage(sio, wire) as here:
        bystander, guest = await here.guests(2)
        await guest.client.send(frame)
        assert (await ended(guest.client)).code == (400 if wire.polling else 4501)
        assert await bystander.ask("echo", "served") == ["served"]
