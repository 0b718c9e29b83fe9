from __future__ import annotations

from typing import Any

import pytest

from realtime import Server
from realtime.clients.engine import NUDGE_SECONDS
from realtime.errors import CloseCode
from realtime.names import Reason
from realtime.testing import MemoryClient, MemoryWire
from tests.realtime.clients.test_engine import make_server, polling

pytestmark = pytest.mark.asyncio


class Upgrade:
    """A polling client and the WebSocket that wants to take its session over."""

    def __init__(self, server: Server, client: MemoryClient) -> None:
        self.server, self.client = server, client
        self.session: Any = client.link
        self.wire = MemoryWire()
        self.probe = server.eio.upgrade(client.link.id, self.wire)
        self.start = self.session.loop.time()

    def goodbye(self) -> tuple[int, str] | None:
        return self.wire.closed

    def wait_until(self, seconds: float) -> None:
        self.server.core.deadlines(self.session.loop).run(self.start + seconds)


async def begin(**options: Any) -> Upgrade:
    server = make_server(**options)
    return Upgrade(server, await polling(server))


async def test_an_upgrade_takes_the_session_over() -> None:
    upgrade = await begin()
    upgrade.wire.say("2probe")
    assert upgrade.wire.frames == ["3probe"]
    upgrade.wire.say("5")
    assert upgrade.client.wire.closed == (1000, "")
    assert upgrade.session.wire is upgrade.wire
    assert upgrade.session.upgrading is None
    upgrade.wire.say('420["echo",1]')
    await upgrade.wire.next()
    assert await upgrade.wire.next() == "430[1]"
    assert upgrade.server.eio.transport(upgrade.session.id) == "websocket"
    assert upgrade.server.metrics.connections.value("polling") == 0
    assert upgrade.server.metrics.connections.value("websocket") == 1


async def test_what_is_said_while_a_probe_is_under_way_leaves_once_and_before_what_follows() -> None:
    upgrade = await begin()
    upgrade.wire.say("2probe")
    upgrade.session.hold()  # the poll was answered, and the client does not come again
    await upgrade.server.emit("between", 1)
    upgrade.wire.say("5")
    await upgrade.server.emit("after", 2)
    told = [*upgrade.client.wire.frames, *upgrade.wire.frames]
    assert told.count('42["between",1]') == 1, "by the old wire, if it can still say it, or by the new one"
    assert told.index('42["between",1]') < told.index('42["after",2]')
    assert upgrade.wire.frames[-1] == '42["after",2]'


async def test_a_pending_poll_is_ended_with_a_noop_and_again_if_the_client_polls_once_more() -> None:
    upgrade = await begin()
    before = len(upgrade.client.wire.frames)
    upgrade.wire.say("2probe")
    assert upgrade.client.wire.frames[before:] == ["6"]
    upgrade.session.hold()
    upgrade.wait_until(2 * NUDGE_SECONDS)
    assert upgrade.client.wire.frames[before:] == ["6"], "nobody polls"
    upgrade.client.wire.read_on()
    upgrade.wait_until(4 * NUDGE_SECONDS)
    assert upgrade.client.wire.frames[before:] == ["6", "6"]


async def test_nobody_is_nudged_before_the_probe() -> None:
    upgrade = await begin()
    before = len(upgrade.client.wire.frames)
    upgrade.wait_until(5)
    assert upgrade.client.wire.frames[before:] == []


@pytest.mark.parametrize(
    "frames", [["5"], ["2"], ['42["echo"]'], [b"2probe"], ["2probe", "2probe"], ["2probe", "3"], [""]]
)
async def test_anything_else_ends_the_attempt_and_the_polling_session_goes_on(frames: list[Any]) -> None:
    upgrade = await begin()
    upgrade.wire.say(*frames)
    assert upgrade.wire.closed == (4501, "not an upgrade")
    assert upgrade.session.core.metrics.violations.values == {("bad_upgrade",): 1}
    assert upgrade.session.upgrading is None
    assert not upgrade.session.closed
    assert await upgrade.client.call("/", "echo", 1) == 1
    upgrade.wire.say("2probe", "5")
    assert upgrade.session.wire is upgrade.client.wire, "what comes after that is nothing"


@pytest.mark.parametrize("frames", [[], ["2probe"]])
async def test_an_upgrade_that_is_not_finished_in_time_is_given_up(frames: list[str]) -> None:
    upgrade = await begin(settings={"upgrade_timeout_seconds": 3})
    upgrade.wire.say(*frames)
    upgrade.wait_until(2.9)
    assert upgrade.goodbye() is None
    upgrade.wait_until(3.1)
    assert upgrade.goodbye() == (4501, "the upgrade took too long")
    assert not upgrade.session.closed
    assert upgrade.session.upgrading is None


async def test_a_websocket_that_goes_before_the_end_may_be_followed_by_another() -> None:
    upgrade = await begin()
    upgrade.wire.cut()
    again = Upgrade(upgrade.server, upgrade.client)
    again.wire.say("2probe", "5")
    assert upgrade.session.wire is again.wire


async def test_a_broken_frame_ends_the_attempt_alone() -> None:
    upgrade = await begin()
    upgrade.wire.link.broken(1002, "a bad frame")
    assert upgrade.wire.closed == (1002, "a bad frame")
    assert not upgrade.session.closed


async def test_one_at_a_time_and_only_from_polling() -> None:
    upgrade = await begin()
    assert upgrade.probe is not None
    assert upgrade.server.eio.upgrade(upgrade.session.id, MemoryWire()) is None
    upgrade.wire.say("2probe", "5")
    assert upgrade.server.eio.upgrade(upgrade.session.id, MemoryWire()) is None


async def test_not_where_upgrades_are_switched_off() -> None:
    assert (await begin(allow_upgrades=False)).probe is None


async def test_a_session_that_ends_ends_its_probe() -> None:
    upgrade = await begin()
    upgrade.wire.say("2probe")
    upgrade.session.close(CloseCode.DRAINING, "", Reason.DRAINING)
    assert upgrade.wire.closed == (1000, "")
    upgrade.wire.say("5")
    assert upgrade.session.wire is upgrade.client.wire


async def test_a_probe_neither_takes_nor_holds_anything() -> None:
    upgrade = await begin()
    assert upgrade.probe is not None
    assert upgrade.probe.take() is None
    upgrade.probe.hold()
    assert await upgrade.client.call("/", "echo", 1) == 1
