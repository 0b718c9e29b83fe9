"""What is particular to long-polling."""

from __future__ import annotations

import asyncio

import pytest
from websockets.exceptions import InvalidStatus

from tests.serving import ServerProcess
from tests.wire.clients import (
    SEPARATOR,
    Answer,
    PollingClient,
    bare_websocket,
    enter,
    join,
    polling,
    request,
    split,
    still_there,
)
from tests.wire.servers import WIRES, Servers

pytestmark = [pytest.mark.process, pytest.mark.asyncio]

UNKNOWN_SID = (400, {"code": 1, "message": "Session ID unknown"})


@pytest.fixture
def server(servers: Servers) -> ServerProcess:
    return servers.get(WIRES[-1])


async def pending(client: PollingClient) -> asyncio.Task[Answer]:
    """A poll that the server holds: what is asked on another connection afterwards arrives after it."""
    poll = asyncio.ensure_future(client.get())
    await client.post("6")
    await client.post("6")
    assert not poll.done()
    return poll


async def test_a_post_is_answered_ok(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        answer = await client.post("40")
        assert (answer.status, answer.text) == (200, "ok")


async def test_text_and_binary_come_back_in_one_poll(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        await enter(client)
        await client.send(
            '42["message","one"]', '451-["message",{"_placeholder":true,"num":0}]', b"\1\2", '42["message"]'
        )
        answer = await client.get()
        frames = split(answer.text)
        while len(frames) < 4:  # the handlers of one POST may end in more than one turn of the loop
            frames += split((await client.get()).text)
        assert frames == [
            '42["message-back","one"]',
            '451-["message-back",{"_placeholder":true,"num":0}]',
            b"\1\2",
            '42["message-back"]',
        ]
        assert f"{SEPARATOR}bAQI=" in join(*frames)


async def test_what_waits_goes_in_one_answer(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        await enter(client)
        await client.send('420["message-with-ack",1]', '421["message-with-ack",2]')
        await client.send('422["message-with-ack",3]')
        assert split((await client.get()).text) == ["430[1]", "431[2]", "432[3]"]


@pytest.mark.hostile("A20", on="polling")
@pytest.mark.parametrize("count", [17, 40, 1000])
async def test_all_packets_of_a_post_are_served(server: ServerProcess, count: int) -> None:
    async with polling(server.url) as client:
        await enter(client)
        posted = asyncio.ensure_future(
            client.post(join(*(f'42{number}["message-with-ack",{number}]' for number in range(count))))
        )
        assert [await client.receive() for _ in range(count)] == [f"43{number}[{number}]" for number in range(count)]
        assert (await posted).status == 200


@pytest.mark.hostile("A21", on="polling")
@pytest.mark.parametrize(
    "body", ["abc", "", SEPARATOR, f"40{SEPARATOR}", f"{SEPARATOR}40", "b", "b!!!!", "7", "0{}", "2", "5", "\x00"]
)
async def test_a_malformed_body_ends_the_session(server: ServerProcess, body: str) -> None:
    async with polling(server.url) as client:
        await enter(client)
        answer = await client.post(body)
        assert (answer.status, answer.json) == (400, {"code": 3, "message": "Bad request"})
        told = await client.get()
        assert (told.status, told.text) == (200, f"41{SEPARATOR}1"), "what keeps a stock client from coming back"
        after = await client.get()
        assert (after.status, after.json) == UNKNOWN_SID


async def test_who_was_ended_may_say_goodbye_all_the_same(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        await enter(client)
        assert (await client.post("abc")).status == 400
        assert (await client.post("1x")).status == 400, "nothing else is taken"
        for _ in range(2):  # a stock JavaScript client does when it reads DISCONNECT
            answer = await client.post("1")
            assert (answer.status, answer.text) == (200, "ok")
        assert (await client.get()).text == f"41{SEPARATOR}1"
        assert (await client.get()).status == 400


async def test_who_was_in_no_namespace_has_nothing_to_be_told(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        assert (await client.post("abc")).status == 400
        after = await client.get()
        assert (after.status, after.json) == UNKNOWN_SID


async def test_last_words_are_for_a_poll_of_the_same_session_alone(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        await enter(client)
        await enter(client, "/custom")
        await client.post("4abc")
        assert (await client.post("6")).status == 400
        url = client.url.replace("transport=polling", "transport=websocket")
        with pytest.raises(InvalidStatus):
            async with bare_websocket(url.replace("http", "ws", 1)):
                raise AssertionError("let in")
        assert (await client.get()).text == SEPARATOR.join(["41", "41/custom,", "1"])
        assert (await client.get()).status == 400


async def test_a_body_that_is_not_utf8(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        assert (await client.post(b"4\xff\xfe")).status == 400
        assert (await client.get()).status == 400


@pytest.mark.hostile("A22", on="polling")
async def test_two_polls_at_once_end_the_session(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        first = await pending(client)
        second = await client.get()
        assert (second.status, second.json) == (400, {"code": 3, "message": "Bad request"})
        answer = await asyncio.wait_for(first, 5)
        assert (answer.status, answer.text) == (200, "1")
        after = await client.get()
        assert (after.status, after.json) == UNKNOWN_SID


async def test_two_polls_in_the_same_breath_end_the_session(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        answers = await asyncio.gather(*(client.get() for _ in range(3)))
        assert sorted(answer.status for answer in answers) == [200, 400, 400]
        assert [answer.text for answer in answers if answer.status == 200] == ["1"]


async def test_a_poll_that_is_given_up_ends_the_session(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        await enter(client)
        poll = await pending(client)
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)

        async def refused() -> None:
            while (await client.post("6")).status == 200:
                pass  # the server hears of it from the connection, not from us

        await asyncio.wait_for(refused(), 2)
        after = await client.get()
        assert (after.status, after.json) == UNKNOWN_SID


async def test_a_goodbye_releases_the_pending_poll_at_once(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        await enter(client)
        poll = await pending(client)
        assert (await client.post("1")).text == "ok"
        answer = await asyncio.wait_for(poll, 2)
        assert (answer.status, answer.text) == (200, "6")
        after = await client.get()
        assert (after.status, after.json) == UNKNOWN_SID
        posted = await client.post("6")
        assert (posted.status, posted.json) == UNKNOWN_SID


@pytest.mark.parametrize("frame", ["40", '42["message"', "4abc"])
async def test_a_violation_ends_the_pending_poll_with_a_close_packet(server: ServerProcess, frame: str) -> None:
    """After the DISCONNECT that keeps a stock client from coming back."""
    async with polling(server.url) as client:
        await enter(client)
        poll = await pending(client)
        assert (await client.post(frame)).status == 400
        answer = await asyncio.wait_for(poll, 2)
        assert (answer.status, answer.text) == (200, f"41{SEPARATOR}1")
        assert (await client.get()).status == 400


@pytest.mark.hostile("A21", on="polling")
@pytest.mark.parametrize("size", [1_000_001, 3_000_000])
async def test_a_body_over_the_limit(server: ServerProcess, size: int) -> None:
    async with polling(server.url) as client:
        await enter(client)
        answer = await client.post("4" * size)
        assert (answer.status, answer.body) == (413, b"")
        assert (await client.get()).status == 400


async def test_a_body_of_exactly_the_limit(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        await enter(client)
        frame = '420["message-with-ack","' + "x" * (1_000_000 - 26) + '"]'
        assert len(frame) == 1_000_000
        assert (await client.post(frame)).text == "ok"
        assert await client.receive() == "430" + frame[len('420["message-with-ack",') - 1 :].replace(",", "[", 1)


@pytest.mark.hostile("A22", on="polling")
async def test_two_posts_at_once_end_the_session(server: ServerProcess) -> None:
    """Clients send one at a time; more would make the server hold the bodies of a full inbox."""
    async with polling(server.url) as client:
        await enter(client)
        full = join(*(f'42{number}["wait"]' for number in range(300)))
        held = asyncio.ensure_future(client.post(full))
        other = await client.post("6")
        while other.status == 200 and not held.done():
            other = await client.post("6")  # the first has not begun to be read yet
        assert {(await held).status, other.status} == {400}


async def test_answers_are_compressed_for_those_who_take_it(server: ServerProcess) -> None:
    async with polling(server.url) as client:
        await enter(client)
        for accepted, encoding in [("gzip, deflate", "gzip"), ("identity", None), ("gzip;q=0", None)]:
            await client.post('420["message-with-ack","' + "x" * 5_000 + '"]')
            answer = await request(client.http, "GET", client.url, headers={"Accept-Encoding": accepted})
            assert answer.headers.get("content-encoding") == encoding
            assert answer.text == '430["' + "x" * 5_000 + '"]'


async def test_a_session_of_somebody_else_is_served_to_who_knows_its_id(server: ServerProcess) -> None:
    """The id is the secret: 120 random bits. What is near it opens nothing."""
    async with polling(server.url) as client:
        sid = client.handshake["sid"]
        for wrong in (sid[:-1], sid + "A", sid.swapcase(), sid[::-1], f"{sid}%00", f"%20{sid}"):
            answer = await request(client.http, "GET", client.url.replace(sid, wrong))
            assert (answer.status, answer.json) == UNKNOWN_SID
        await enter(client)
        await still_there(client)
