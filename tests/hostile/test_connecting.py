"""Connect steps that go wrong, take long, or are asked for over and over."""

from __future__ import annotations

import asyncio

import pytest

from tests.hostile.ground import Ground, ground
from tests.serving import ServerProcess
from tests.wire.clients import ended, enter, still_there, within
from tests.wire.servers import Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio]


async def tell(field: Ground, event: str) -> None:
    """``shut`` holds back who comes after it, ``open`` lets everybody go."""
    await field.bystander.send(f'420["{event}"]')
    assert await field.bystander.receive() == "430[]"


async def waiting(field: Ground, connects: int) -> None:
    """Until this many connect handlers have begun since the beginning."""
    await field.until(lambda state: state["called"].get("connect", 0) - field.start("connect") >= connects)


@pytest.mark.hostile("A25", "A28")
async def test_a_connect_handler_that_raises_runs_once_and_leaves_nothing(server: ServerProcess, wire: Wire) -> None:
    async with ground(server, "message") as field:
        async with wire.client(server, query="&raise=1") as client:
            await client.send("40")
            assert str(await client.receive()).startswith("44{")
            assert await field.ran("connect") == 1, "a TypeError of the handler's own is no reason to call it again"
            await field.bystander.send('42["nobody"]')
            assert await field.bystander.receive() == '42["ever"]'
            await enter(client, "/custom")
            await client.send('42/custom,["message"]')
            assert await client.receive() == '42/custom,["message-back"]', "and not the broadcast before it"
        assert await field.ran("disconnect") == 0


@pytest.mark.hostile("A26")
async def test_a_client_that_leaves_while_its_connect_handler_runs(server: ServerProcess, wire: Wire) -> None:
    async with ground(server, "open", "shut") as field:
        async with wire.client(server, query="&slow=1") as client:
            await tell(field, "shut")
            await client.send("40")
            await waiting(field, 1)
            await client.send("1")
            await ended(client)
        await field.until(lambda state: state["sessions"] == 1)
        assert (await field.state())["members"] == 1, "the bystander"
        await tell(field, "open")
        await field.until(lambda state: state["work"] == 0)
        assert await field.ran("disconnect") == 0, "who was never let in has nothing to leave"


@pytest.mark.hostile("A26")
async def test_what_is_said_while_connecting_waits_for_the_connect_packet(server: ServerProcess, wire: Wire) -> None:
    async with ground(server, "open", "shut") as field, wire.client(server, query="&slow=1") as client:
        await tell(field, "shut")
        await client.send("40")
        await waiting(field, 1)
        await field.bystander.send('42["nobody"]')
        assert await field.bystander.receive() == '42["ever"]'
        await tell(field, "open")
        assert str(await client.receive()).startswith('40{"sid":')
        assert [await client.receive(), await client.receive()] == ['42["auth",{}]', '42["ever"]']


@pytest.mark.hostile("A26")
async def test_events_before_the_connect_packet_wait_for_it(server: ServerProcess, wire: Wire) -> None:
    async with (
        ground(server, "open", "shut", "message-with-ack") as field,
        wire.client(server, query="&slow=1") as client,
    ):
        await tell(field, "shut")
        await client.send("40", '421["message-with-ack"]')
        await waiting(field, 1)
        assert await field.ran("message-with-ack") == 0
        await tell(field, "open")
        assert str(await client.receive()).startswith('40{"sid":')
        assert [await client.receive(), await client.receive()] == ['42["auth",{}]', "431[]"]


@pytest.mark.hostile("A15")
async def test_coming_and_going_starts_no_more_handlers_than_namespaces(server: ServerProcess, wire: Wire) -> None:
    """20 namespaces in the application under test: so many connect handlers may run for one client."""
    async with ground(server, "open", "shut") as field:
        async with wire.client(server, query="&slow=1") as client:
            await tell(field, "shut")
            await client.send(*(["40", "41"] * 20))
            await waiting(field, 20)
            await client.send("40")
            answer = str(await client.receive())
            assert answer.startswith("44{")
            assert "too_many_namespaces" in answer
            assert await field.ran("connect") == 20
            await field.bystander_is_served()
        await tell(field, "open")
        await field.until(lambda state: state["work"] == 0)
        assert await field.ran("disconnect") == 0


@pytest.mark.hostile("A27")
async def test_the_hook_runs_once_however_it_ends(server: ServerProcess, wire: Wire) -> None:
    async with ground(server, "leave-me") as field:
        async with wire.client(server) as client:
            await enter(client)
            await client.send("41")
            await enter(client)
            await client.send('42["leave-me"]')
            assert await client.receive() == "41"
            await enter(client)
            await client.send("4abc")
            await ended(client)
        await field.until(lambda state: state["sessions"] == 1 and state["work"] == 0)
        assert await field.ran("disconnect") == 3
        assert await field.ran("disconnect: client disconnect") == 1
        assert await field.ran("disconnect: server disconnect") == 1


@pytest.mark.hostile("A17")
async def test_what_was_sent_behind_a_dismissal_is_not_handled(server: ServerProcess, wire: Wire) -> None:
    """An honest race: the client could not know yet. Ignored, counted, and the connection lives."""
    async with ground(server, "leave-me", "message") as field:
        async with wire.client(server) as client:
            await enter(client)
            await enter(client, "/custom")
            await client.send('42["leave-me"]')
            assert await client.receive() == "41"
            await client.send('421["message-with-ack"]', '42["message"]', "430[]", "41")
            await client.send('42/custom,["message"]')
            assert await client.receive() == '42/custom,["message-back"]'
        assert await field.counted("drops", "after_disconnect")
        assert await field.ran("message-with-ack") == 0


@pytest.mark.hostile("A27")
async def test_a_client_that_goes_without_a_word(server: ServerProcess, wire: Wire) -> None:
    async with ground(server, "enter") as field:
        async with wire.client(server) as client:
            await enter(client)
            await client.send('420["enter","room"]')
            assert await client.receive() == '430["room"]'
            await client.leave()
            await field.until(lambda state: state["sessions"] == 1)
        assert await field.ran("disconnect: transport close") == 1


@pytest.mark.hostile("H10")
async def test_a_full_inbox_slows_its_client_and_nobody_else(server: ServerProcess, wire: Wire) -> None:
    """16 events in the application under test; what is over that stays unread, and all of it is served in the end."""
    async with ground(server, "wait", "message") as field, wire.client(server) as client:
        await tell(field, "shut")
        await enter(client)
        sending = asyncio.ensure_future(client.send(*(f'42{number}["wait"]' for number in range(100))))
        await field.until(lambda state: state["called"].get("wait", 0) - field.start("wait") == 17)
        await field.bystander_is_served()
        assert await field.ran("wait") == 17, "16 beside each other, and one that holds up the rest"
        await tell(field, "open")
        assert {await client.receive() for _ in range(100)} == {f'43{number}["waited"]' for number in range(100)}
        await within(sending)
        await still_there(client)


@pytest.mark.hostile("H10")
async def test_a_handler_does_not_wait_for_an_answer_behind_the_full_inbox_of_its_client(
    server: ServerProcess, wire: Wire
) -> None:
    """The answer would be read only when the handler that waits for it is done."""
    async with ground(server, "typed echo") as field, wire.client(server, "/strict/") as client:
        await enter(client, "/typed")
        await client.send('42/typed,1["ask"]')
        assert await client.receive() == '42/typed,1["question"]'
        await client.send(*(f'42/typed,{number}["echo",{number}]' for number in range(2, 20)), '43/typed,1["late"]')
        answer = str(await client.receive())
        assert answer.startswith('43/typed,1[{"error":{"code":"inbox_full"')
        assert [await client.receive() for _ in range(18)] == [
            f"43/typed,{number}[{number}]" for number in range(2, 20)
        ]
        await client.send('42/typed,20["echo",20]')
        assert await client.receive() == "43/typed,20[20]"
        assert not await field.counted("drops", "stray_ack")


@pytest.mark.hostile("H10")
async def test_a_client_that_is_not_read_from_cannot_be_asked(server: ServerProcess, wire: Wire) -> None:
    async with ground(server, "wait", "message") as field, wire.client(server) as client:
        await tell(field, "shut")
        sid = await enter(client)
        sending = asyncio.ensure_future(client.send(*(f'42{number}["wait"]' for number in range(100))))
        await field.until(lambda state: state["called"].get("wait", 0) - field.start("wait") == 17)
        await field.bystander.send(f'421["ask-other","{sid}"]')
        assert str(await field.bystander.receive()).startswith('431[{"error":{"code":"inbox_full"')
        await tell(field, "open")
        heard: set[str] = set()
        while len(heard) < 100:
            frame = str(await client.receive())
            heard |= set() if "question" in frame else {frame}  # sent, if the inbox was not quite full yet
        assert heard == {f'43{number}["waited"]' for number in range(100)}
        await within(sending)
        await still_there(client)


@pytest.mark.hostile("H10")
async def test_a_client_may_leave_with_a_full_inbox(server: ServerProcess, wire: Wire) -> None:
    async with ground(server, "wait", "message") as field:
        await tell(field, "shut")
        async with wire.client(server) as client:
            await enter(client)
            sending = asyncio.ensure_future(client.send(*(f'42{number}["wait"]' for number in range(100))))
            await field.until(lambda state: state["called"].get("wait", 0) - field.start("wait") == 17)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            if not wire.polling:
                await client.leave()  # a close frame would be read when there is room for it
        assert await field.ran("wait") == 17, "nothing more was begun for one who is gone"
        await tell(field, "open")
