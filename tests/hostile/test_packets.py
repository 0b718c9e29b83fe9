"""Malformed packets on every wire: one counted violation, the connection ends, and nobody else notices."""

from __future__ import annotations

import json

import pytest

from tests.hostile.ground import ground
from tests.serving import ServerProcess
from tests.wire.clients import Frame, PollingClient, ended, enter, join, still_there
from tests.wire.servers import Wire

pytestmark = [pytest.mark.process, pytest.mark.asyncio]

HEAD = '451-["message-with-ack",{"_placeholder":true,"num":0}]'


def binary(count: str, *placeholders: str) -> str:
    """A binary event that announces ``count`` attachments."""
    return f'45{count}-["message",{",".join(placeholders)}]'


def place(number: str) -> str:
    return f'{{"_placeholder":true,"num":{number}}}'


RESERVED = ["connect", "disconnect", "connect_error", "disconnecting", "newListener", "removeListener", "*"]

VIOLATIONS: dict[str, tuple[str, list[Frame]]] = {
    **{f"event {name}": ("reserved_event", [f"42{json.dumps([name, 'text'])}"]) for name in RESERVED},
    **{f"event {name}, with ack": ("reserved_event", [f'421["{name}",{{}},{{}}]']) for name in RESERVED[:2]},
    **{
        f"event name {name}": ("bad_event_name", [f'42[{name},"x"]'])
        for name in ("1", "null", "true", "[]", "{}", "1.5")
    },
    "event name of 129 characters": ("bad_event_name", [f'42["{"n" * 129}"]']),
    "empty list": ("bad_payload", ["42[]"]),
    "no payload": ("bad_payload", ["42"]),
    "object": ("bad_payload", ["42{}"]),
    "bare string": ("bad_payload", ['42"message"']),
    "not JSON": ("bad_json", ["42[abc]"]),
    "JSON cut off": ("bad_json", ['42["message"']),
    "two lists": ("bad_json", ['42["message"]["message"]']),
    "ack id over 2^31": ("bad_ack_id", ['422147483649["message-with-ack"]']),
    "ack id of 5,000 digits": ("bad_ack_id", [f'42{"9" * 5_000}["message-with-ack"]']),
    "negative ack id": ("bad_ack_id", ['42-1["message-with-ack"]']),
    "ack id in Arabic digits": ("bad_ack_id", ['42٣["message-with-ack"]']),
    "ack without id": ("bad_ack_id", ["43[]"]),
    "ack with letters": ("bad_ack_id", ["43abc[]"]),
    "ack that is no list": ("bad_payload", ["431{}"]),
    "ack for another namespace": ("ack_before_connect", ["43/custom,1[]"]),
    "0 attachments": ("bad_attachment_count", ['450-["message"]']),
    "11 attachments": ("too_many_attachments", [binary("11", *(place(str(number)) for number in range(11)))]),
    "14 digits of attachments": ("too_many_attachments", ['4599999999999999-["message"]']),
    "attachments in Arabic digits": ("bad_attachment_count", [binary("٣", place("0"))]),
    "no count": ("bad_attachment_count", ['45["message"]']),
    "a count on a text event": ("bad_attachment_count", ['421-["message"]']),
    **{
        f"placeholder {number}": ("bad_placeholder", [binary("1", place(number))])
        for number in ("-1", "1", '"0"', "0.5", "true", "null", "[]")
    },
    "placeholder twice": ("bad_placeholder", [binary("1", place("0"), place("0"))]),
    "no placeholder": ("bad_placeholder", [binary("1", "1")]),
    "text while an attachment is due": ("attachment_due", [HEAD, '42["message","x"]']),
    "an attachment that nothing announced": ("unexpected_binary", [b"x"]),
    "one attachment too many": ("unexpected_binary", ['451-["message",{"_placeholder":true,"num":0}]', b"x", b"y"]),
    "depth 65": ("too_deep", [f'42["message",{"[" * 64}{"]" * 64}]']),
    "depth 100,000": ("too_deep", [f'42["message",{"[" * 100_000}{"]" * 100_000}]']),
    "unknown type": ("bad_packet_type", ['47["message"]']),
    "no type": ("bad_packet_type", ["4"]),
    "letters": ("bad_packet_type", ["4abc"]),
    "CONNECT_ERROR": ("bad_packet_type", ['44{"message":"x"}']),
    "CONNECT twice": ("connect_twice", ["40"]),
    "CONNECT with a list": ("bad_payload", ["40/custom,[]"]),
    "CONNECT with a string": ("bad_payload", ['40/custom,"x"']),
    "CONNECT with an id": ("bad_payload", ["40/custom,1{}"]),
    "DISCONNECT with a payload": ("bad_payload", ['41["x"]']),
    "DISCONNECT from elsewhere": ("disconnect_before_connect", ["41/custom,"]),
    "event elsewhere": ("event_before_connect", ['42/custom,["message"]']),
    "event after the own DISCONNECT": ("event_before_connect", ["41", '42["message"]']),
    "namespace of 100,000 characters": ("bad_namespace", [f"40/{'n' * 100_000},"]),
    "namespace with a control character": ("bad_namespace", ["40/a\x01b,"]),
    "namespace with a right-to-left mark": ("bad_namespace", ["40/a\u202eb,"]),
    **{
        f"Engine.IO packet {frame!r}": ("bad_engine_packet", [frame])
        for frame in ("2", "2probe", "5", "0{}", "7", "1 ", "3x")
    },
}

ROWS_OF = {
    "reserved_event": "A1",
    "bad_event_name": "A3",
    "bad_payload": "A4",
    "bad_json": "A4",
    "bad_ack_id": "A5",
    "ack_before_connect": "A6",
    "bad_attachment_count": "A7",
    "too_many_attachments": "A7",
    "attachment_due": "A8",
    "unexpected_binary": "A8",
    "bad_placeholder": "A10",
    "too_deep": "A11",
    "bad_namespace": "A14",
    "bad_packet_type": "A16",
    "connect_twice": "A16",
    "disconnect_before_connect": "A16",
    "event_before_connect": "A16",
    "bad_engine_packet": "A16",
}
"""What the server counts a violation under, and the row of the table that it belongs to."""


@pytest.mark.parametrize(
    ("reason", "frames"),
    [
        pytest.param(reason, frames, id=name, marks=pytest.mark.hostile(ROWS_OF[reason]))
        for name, (reason, frames) in VIOLATIONS.items()
    ],
)
async def test_a_violation_ends_the_connection(
    server: ServerProcess, wire: Wire, reason: str, frames: list[Frame]
) -> None:
    # "one attachment too many" is a whole event first.
    allowed = ("message",) if reason == "unexpected_binary" else ()
    async with ground(server, *allowed) as field:
        async with wire.client(server) as client:
            await enter(client)
            await client.send(*frames)
            assert (await ended(client)).code == (400 if wire.polling else 4501)
        assert await field.counted("violations", reason)


EARLY: dict[str, list[Frame]] = {
    "event": ['42["message"]'],
    "ack": ["431[]"],
    "disconnect": ["41"],
    "letters": ["4abc"],
    "CONNECT_ERROR": ['44["handle me please"]'],
    "binary": [b"x"],
    "binary event": [HEAD, b"x"],
    "upgrade": ["5"],
    "upgrade with words": ["5woooot"],
}


@pytest.mark.hostile("A16")
@pytest.mark.parametrize("frames", EARLY.values(), ids=EARLY.keys())
async def test_nothing_goes_before_connect(server: ServerProcess, wire: Wire, frames: list[Frame]) -> None:
    async with ground(server), wire.client(server) as client:
        await client.send(*frames)
        assert (await ended(client)).code == (400 if wire.polling else 4501)


@pytest.mark.hostile("A16", "A25")
@pytest.mark.parametrize("frames", [["40", '42["message"]'], ["40", '42["message-with-ack",1]', HEAD, b"x"]])
async def test_events_sent_along_with_a_connect_that_is_refused(
    server: ServerProcess, wire: Wire, frames: list[Frame]
) -> None:
    async with ground(server), wire.client(server, query="&fail=1") as client:
        await client.send(*frames)
        assert str(await client.receive()).startswith("44")


@pytest.mark.hostile("A11", "A13")
@pytest.mark.parametrize(
    "body",
    [
        '"\\ud83d"',
        '{"\\ud83d":1}',
        "1" * 30,
        "1" * 5_000,
        "-" + "1" * 5_000,
        "1e400",
        "NaN",
        "Infinity",
        '{"a":1,"a":2}',
        '{"__proto__":{"x":1},"constructor":{}}',
        '{"_placeholder":true,"num":0}',
    ],
    ids=lambda body: str(body)[:24],
)
async def test_odd_json_never_takes_down_more_than_its_sender(server: ServerProcess, wire: Wire, body: str) -> None:
    """Taken, or answered with a payload error, and the connection lives; NaN and Infinity are no JSON at all."""
    async with ground(server, "message", "message-with-ack"), wire.client(server) as client:
        await enter(client)
        await client.send(f'427["message-with-ack",{body}]')
        if body in ("NaN", "Infinity"):
            assert (await ended(client)).code == (400 if wire.polling else 4501)
            return
        answer = str(await client.receive())
        assert answer.startswith("437[")
        json.loads(answer[3:])
        await still_there(client)


@pytest.mark.hostile("A2")
@pytest.mark.parametrize(
    "name", ["error", "__proto__", "__init__", "constructor", "toString", "emit", "\x00", " ", "🙈"]
)
async def test_an_unknown_event_is_like_any_other(server: ServerProcess, wire: Wire, name: str) -> None:
    async with ground(server, "message", "message-with-ack") as field, wire.client(server) as client:
        await enter(client)
        await client.send(f"421{json.dumps([name, 'x'])}", '422["message-with-ack"]')
        assert await client.receive() == "432[]", "nothing was sent for the first one"
        assert await field.ran("message") == 0


@pytest.mark.hostile("A2")
@pytest.mark.parametrize(
    "name", ["helper", "emit", "trigger_event", "server", "__class__", "_set_server", "hello ", "Hello", "on_hello"]
)
async def test_methods_of_a_handler_class_are_no_events(server: ServerProcess, wire: Wire, name: str) -> None:
    async with ground(server, "hello"), wire.client(server) as client:
        await client.send("40/class,")
        assert str(await client.receive()).startswith("40/class,")
        await client.send(f"42/class,1{json.dumps([name, 'x'])}", '42/class,2["hello"]')
        assert await client.receive() == '43/class,2["hello"]'


@pytest.mark.hostile("A12")
async def test_too_many_bytes_for_one_message(server: ServerProcess, wire: Wire) -> None:
    """Bytes are counted, not characters."""
    for text in ('42["message","' + "x" * 1_000_000 + '"]', '42["message","' + "é" * 500_000 + '"]'):
        async with ground(server), wire.client(server) as client:
            await enter(client)
            await client.send(text)
            assert (await ended(client)).code == (400 if wire.polling else 1009)


@pytest.mark.hostile("A9", "A12")
async def test_too_many_bytes_in_attachments_together(server: ServerProcess, wire: Wire) -> None:
    async with ground(server), wire.client(server) as client:
        await enter(client)
        await client.send(binary("3", *(place(str(number)) for number in range(3))))
        for _ in range(3):
            await client.send(b"x" * 350_000)
        assert (await ended(client)).code == (400 if wire.polling else 1009)


@pytest.mark.hostile("A9")
async def test_attachments_that_never_come(server: ServerProcess, wire: Wire) -> None:
    """The time for them is the connect timeout: 1 s in the application under test."""
    async with ground(server) as field:
        async with wire.client(server) as client:
            await enter(client)
            await client.send(binary("2", place("0"), place("1")), b"x")
            assert (await ended(client)).code == (400 if wire.polling else 4501)
        assert await field.counted("violations", "attachments_late")


@pytest.mark.hostile("A9")
async def test_a_connection_lost_between_attachments(server: ServerProcess, wire: Wire) -> None:
    async with ground(server) as field:
        async with wire.client(server) as client:
            await enter(client)
            await client.send(binary("2", place("0"), place("1")), b"x" * 300_000)
            await client.leave()
        await field.until(lambda state: state["called"].get("disconnect", 0) - field.start("disconnect") == 1)
        assert not await field.counted("violations", "attachments_late")


@pytest.mark.hostile("A6")
async def test_a_flood_of_answers_that_nobody_asked_for(server: ServerProcess, wire: Wire) -> None:
    async with ground(server, "ask") as field:
        async with wire.client(server) as client:
            await enter(client)
            await client.send('429["ask",1]')
            question = str(await client.receive())
            number = question[2:].partition("[")[0]
            await client.send(*("430[]" for _ in range(50)), f'43{number}["ours"]')
            assert await client.receive() == '439["ours"]', "the pending one is not disturbed"
            await client.send(*(f"43{number}[]" for number in range(100, 200)))
            assert (await ended(client)).code == (400 if wire.polling else 4501)
        assert await field.counted("violations", "ack_flood")


@pytest.mark.hostile("A14", "A15")
async def test_a_thousand_unknown_namespaces(server: ServerProcess, wire: Wire) -> None:
    async with ground(server, "message"), wire.client(server) as client:
        await enter(client)
        for first in range(0, 1_000, 100):
            await client.send(*(f"40/unknown{number}," for number in range(first, first + 100)))
            for number in range(first, first + 100):
                assert await client.receive() == f'44/unknown{number},{{"message":"Invalid namespace"}}'
        await still_there(client)


@pytest.mark.hostile("A15")
async def test_more_namespaces_than_one_connection_may_have(server: ServerProcess, wire: Wire) -> None:
    """20 in the application under test."""
    async with ground(server), wire.client(server) as client:
        await client.send(*(f"40/many{number}," for number in range(30)))
        answers = [str(await client.receive()) for _ in range(30)]
        refused = [answer for answer in answers if answer.startswith("44")]
        assert len(refused) == 10
        assert all('"code":"too_many_namespaces"' in answer for answer in refused)


@pytest.mark.hostile("A16")
async def test_violations_of_many_clients_at_once(server: ServerProcess, wire: Wire) -> None:
    async with ground(server):
        for _ in range(20):
            async with wire.client(server) as client:
                await client.send("40", "4abc")
                assert (await ended(client)).code == (400 if wire.polling else 4501)


@pytest.mark.hostile("A16")
async def test_a_violation_is_the_end_of_what_came_with_it(server: ServerProcess, wire: Wire) -> None:
    """What stands behind it in the same POST, or arrives behind it on a WebSocket, is nothing any more."""
    async with ground(server), wire.client(server) as client:
        await enter(client)
        frames = ("4abc", '42["message"]', '421["message-with-ack"]')
        if isinstance(client, PollingClient):
            assert (await client.post(join(*frames))).status == 400
        else:
            await client.send(*frames)
        await ended(client)
