from __future__ import annotations

import pytest

from realtime import Server, Socket
from realtime.journal.positions import Position
from realtime.journal.resume import Record
from realtime.recovery.gone import gone
from tests.realtime.living import settings_for

pytestmark = pytest.mark.asyncio


async def test_what_is_known_of_a_client_of_another_node() -> None:
    place = Position("e", 1)
    server = Server(settings=settings_for())
    member = gone(server.core, Record("p", "sid", "/chat", "a", "user", b'{"a":1}', (), place, place, place))
    socket = Socket(member, server)
    assert (socket.sid, socket.namespace, socket.data, socket.user) == ("sid", "/chat", {"a": 1}, None)
    assert (socket.connected, socket.wire, socket.rooms) == (False, "gone", ())
    assert socket.connection.headers.items() == []
    await socket.emit("note", 1)
    assert server.core.sessions == {}
