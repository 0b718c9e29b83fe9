from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.encoding.codecs import SocketIOText
from realtime.encoding.packets import ACK_LIMIT, Decoder, Packet, PacketLimits, PacketType, UnreadablePayload
from realtime.errors import CloseCode, ProtocolError
from realtime.names import LIFECYCLE_EVENTS
from tests.realtime.fuzz_packets import run

EVENT, ACK, CONNECT, DISCONNECT = PacketType.EVENT, PacketType.ACK, PacketType.CONNECT, PacketType.DISCONNECT
PLACE = '{"_placeholder":true,"num":%s}'

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
plain_values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
values = st.recursive(
    leaves | st.binary(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
names = st.text(max_size=128).filter(lambda name: name not in LIFECYCLE_EVENTS)
namespaces = st.sampled_from(["/", "/chat", "/привет", "/a b", "/" + "n" * 127])
ack_ids = st.none() | st.integers(0, ACK_LIMIT)
frames = st.text() | st.binary() | st.from_regex(r"[0-6]([0-9]-)?(/[a-z?]*,)?[0-9]{0,12}[\[{\"].*")


def feed(*frames: str | bytes, decoder: Decoder | None = None) -> Packet | None:
    """Everything at once; the answer to the last. All before it must ask for more."""
    decoder = decoder or Decoder()
    for frame in frames[:-1]:
        assert decoder.feed(frame) is None
        assert decoder.pending
    quick = None if isinstance(frames[-1], bytes) else decoder.quick("4" + frames[-1])
    packet = decoder.feed(frames[-1])
    if quick is not None:
        assert packet == Packet(EVENT, quick[1], quick[0], quick[2])
    return packet


def refused(*frames: str | bytes, decoder: Decoder | None = None) -> ProtocolError:
    decoder = decoder or Decoder()
    with pytest.raises(ProtocolError) as caught:
        feed(*frames, decoder=decoder)
    assert not decoder.pending
    assert decoder.pending_bytes == 0
    assert decoder.feed('2["next"]') == Packet(EVENT, "/", ["next"]), "a refused packet left something behind"
    return caught.value


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + closing * depth


@pytest.mark.parametrize(
    ("frame", "packet"),
    [
        ("0", Packet(CONNECT, "/")),
        ('0{"token":"abc"}', Packet(CONNECT, "/", {"token": "abc"})),
        ("0/chat,", Packet(CONNECT, "/chat")),
        ("0/chat", Packet(CONNECT, "/chat")),
        ('0/chat,{"a":1}', Packet(CONNECT, "/chat", {"a": 1})),
        ("0/chat?token=x&a=b,", Packet(CONNECT, "/chat")),
        ('0/?a=b,{"a":1}', Packet(CONNECT, "/", {"a": 1})),
        ("1", Packet(DISCONNECT, "/")),
        ("1/chat,", Packet(DISCONNECT, "/chat")),
        ('2["hi"]', Packet(EVENT, "/", ["hi"])),
        ('2["hi",1,null,{"a":[]}]', Packet(EVENT, "/", ["hi", 1, None, {"a": []}])),
        ('20["hi"]', Packet(EVENT, "/", ["hi"], 0)),
        ('21["hi"]', Packet(EVENT, "/", ["hi"], 1)),
        ('2007["hi"]', Packet(EVENT, "/", ["hi"], 7)),
        ('22147483648["hi"]', Packet(EVENT, "/", ["hi"], ACK_LIMIT)),
        ('2/chat,["hi"]', Packet(EVENT, "/chat", ["hi"])),
        ('2/chat,12["hi"]', Packet(EVENT, "/chat", ["hi"], 12)),
        ('2/chat?a=1,12["hi"]', Packet(EVENT, "/chat", ["hi"], 12)),
        ('2/a[b,12["hi"]', Packet(EVENT, "/a[b", ["hi"], 12)),
        (f'2/{"n" * 127},12["hi"]', Packet(EVENT, "/" + "n" * 127, ["hi"], 12)),
        ('2[""]', Packet(EVENT, "/", [""])),
        (f'2["{"n" * 128}"]', Packet(EVENT, "/", ["n" * 128])),
        ('2["a","[{"]', Packet(EVENT, "/", ["a", "[{"])),
        ("30[]", Packet(ACK, "/", [], 0)),
        ('31["ok"]', Packet(ACK, "/", ["ok"], 1)),
        ('3/chat,5["ok",2]', Packet(ACK, "/chat", ["ok", 2], 5)),
        ('3/chat?x,5["ok",2]', Packet(ACK, "/chat", ["ok", 2], 5)),
    ],
)
def test_a_packet_is_read(frame: str, packet: Packet) -> None:
    assert Decoder().feed(frame) == packet


@pytest.mark.parametrize("name", ["error", "__proto__", "__class__", "constructor", "on_message", "message\n", " "])
def test_any_other_name_is_an_event_like_any_other(name: str) -> None:
    assert feed(f"2[{json.dumps(name)}]") == Packet(EVENT, "/", [name])


@pytest.mark.parametrize(
    ("frame", "packet"),
    [
        (f'51-["up",{PLACE % 0}]', Packet(EVENT, "/", ["up", b"A"])),
        (f'51-/chat,7["up",{PLACE % 0}]', Packet(EVENT, "/chat", ["up", b"A"], 7)),
        (f'52-["up",{{"a":[{PLACE % 1}],"b":{PLACE % 0}}}]', Packet(EVENT, "/", ["up", {"a": [b"B"], "b": b"A"}])),
        (f"61-/chat,3[{PLACE % 0}]", Packet(ACK, "/chat", [b"A"], 3)),
        (f'501-["up",{PLACE % 0}]', Packet(EVENT, "/", ["up", b"A"])),
        (
            f'51-["up",{{"_placeholder":false,"num":0}},{{"_placeholder":1}},{PLACE % 0}]',
            Packet(EVENT, "/", ["up", {"_placeholder": False, "num": 0}, {"_placeholder": 1}, b"A"]),
        ),
    ],
)
def test_attachments_get_their_places(frame: str, packet: Packet) -> None:
    count = 2 if frame[1] == "2" else 1
    assert feed(frame, *[b"A", b"B"][:count]) == packet


def test_a_placeholder_in_an_event_without_attachments_is_data() -> None:
    assert feed(f'2["up",{PLACE % 9}]') == Packet(EVENT, "/", ["up", {"_placeholder": True, "num": 9}])


def test_pending_counts_text_and_attachments() -> None:
    decoder = Decoder()
    header = f'52-["é",{PLACE % 0},{PLACE % 1}]'
    assert (decoder.pending, decoder.pending_bytes) == (False, 0)
    assert decoder.feed(header) is None
    assert (decoder.pending, decoder.pending_bytes) == (True, len(header.encode()))
    assert decoder.feed(b"123") is None
    assert decoder.pending_bytes == len(header.encode()) + 3
    assert decoder.feed(b"") == Packet(EVENT, "/", ["é", b"123", b""])
    assert (decoder.pending, decoder.pending_bytes) == (False, 0)


def test_clear_drops_a_half_received_packet() -> None:
    decoder = Decoder()
    assert decoder.feed(f'51-["up",{PLACE % 0}]') is None
    decoder.clear()
    assert (decoder.pending, decoder.pending_bytes) == (False, 0)
    assert decoder.feed('2["next"]') == Packet(EVENT, "/", ["next"])


@pytest.mark.parametrize("frame", ["", "7", "9[]", "abc", "٢[]", " 2[]", "x", '4{"message":"x"}', '4/chat,"x"', "4"])
def test_an_unknown_packet_type_is_refused(frame: str) -> None:
    error = refused(frame)
    assert (error.code, error.close) == ("bad_packet_type", CloseCode.BAD_PROTOCOL)


@pytest.mark.parametrize("name", sorted(LIFECYCLE_EVENTS))
@pytest.mark.parametrize("frame", ["2[%s]", '2[%s,{"a":1}]', "21[%s]", "2/chat,[%s]", f"51-[%s,{PLACE % 0}]"])
def test_a_lifecycle_name_is_refused(name: str, frame: str) -> None:
    assert refused(frame % json.dumps(name)).code == "reserved_event"
    escaped = "".join(f"\\u{ord(character):04x}" for character in name)
    assert refused(frame % f'"{escaped}"').code == "reserved_event"


@pytest.mark.parametrize(
    "frame",
    ["2[1]", "2[null]", "2[true]", '2[["a"]]', '2[{"a":1},"b"]', "21[1.5]", f'2["{"n" * 129}"]', f"51-[{PLACE % 0}]"],
)
def test_an_event_name_must_be_a_short_string(frame: str) -> None:
    assert refused(frame).code == "bad_event_name"


@pytest.mark.parametrize(
    "frame",
    [
        *("2", "2/chat", "2/chat,", "212", "2[]", "21[]", '2{"a":1}', '2"text"', "2true", "2null", "2false"),
        *('1{"a":1}', "1[]", "15", '0"text"', "0[]", "0null", "05", '05{"a":1}', "0true", "3", '31{"a":1}', '61-1"a"'),
    ],
)
def test_a_payload_of_the_wrong_kind_is_refused(frame: str) -> None:
    assert refused(frame).code == "bad_payload"


@pytest.mark.parametrize(
    "frame",
    [
        *('22147483649["hi"]', '299999999999["hi"]', f'2{"9" * 5_000}["hi"]', f'2{"9" * 500_000}["hi"]'),
        *('2-1["hi"]', '2٣["hi"]', '2１["hi"]', '21٣["hi"]', '2/chat,٣["hi"]', '21.5["hi"]', '2 1["hi"]'),
        *('2abc["hi"]', '2²["hi"]', "3[]", "3/chat,[]", f"61-[{PLACE % 0}]", '3-1["ok"]', '3٣["ok"]'),
    ],
)
def test_a_malformed_ack_id_is_refused(frame: str) -> None:
    assert refused(frame).code == "bad_ack_id"


@pytest.mark.parametrize(
    "frame", ['5["hi"]', '50-["hi"]', '5000-["hi"]', '5-["hi"]', '5٣-["hi"]', "6[]", '21-["hi"]', '01-{"a":1}']
)
def test_a_malformed_attachment_count_is_refused(frame: str) -> None:
    assert refused(frame).code == "bad_attachment_count"


@pytest.mark.parametrize("count", ["11", "99999999999999", "9" * 5_000])
def test_more_attachments_than_allowed_are_refused_at_the_header(count: str) -> None:
    assert refused(f'5{count}-["up",{PLACE % 0}]').code == "too_many_attachments"


def test_as_many_attachments_as_allowed_are_taken() -> None:
    header = "510-" + json.dumps(["up", *({"_placeholder": True, "num": number} for number in range(10))])
    assert feed(header, *[b"%d" % number for number in range(10)]) == Packet(
        EVENT, "/", ["up", *(b"%d" % number for number in range(10))]
    )


@pytest.mark.parametrize(
    "number", ["-1", "2", "99999999999999999999", '"0"', "0.0", "1.5", "true", "null", "[0]", "{}"]
)
def test_a_bad_placeholder_is_refused_at_the_header(number: str) -> None:
    assert refused(f'52-["up",{PLACE % 0},{PLACE % number}]').code == "bad_placeholder"


@pytest.mark.parametrize(
    "payload",
    [
        f'["up",{PLACE % 0},{PLACE % 0}]',
        f'["up",{PLACE % 1}]',
        f'["up",{PLACE % 0}]',
        '["up"]',
        f'["up",{PLACE % 0},{{"_placeholder":true}}]',
    ],
)
def test_each_attachment_has_exactly_one_place(payload: str) -> None:
    assert refused(f"52-{payload}").code == "bad_placeholder"


def test_text_while_an_attachment_is_due_is_refused() -> None:
    assert refused(f'51-["up",{PLACE % 0}]', '2["hi"]').code == "attachment_due"
    assert refused(f'52-["up",{PLACE % 0},{PLACE % 1}]', b"1", "1").code == "attachment_due"


def test_an_attachment_that_nothing_announced_is_refused() -> None:
    assert refused(b"123").code == "unexpected_binary"
    decoder = Decoder()
    assert feed(f'51-["up",{PLACE % 0}]', b"1", decoder=decoder)
    assert refused(b"2", decoder=decoder).code == "unexpected_binary"


@pytest.mark.parametrize(
    "text",
    [
        *("[", '["hi"', '["hi"]]', '["hi"]x', "['hi']", '["hi",]', "[hi]", '["hi",NaN]', '["hi",Infinity]'),
        *(
            '["hi",-Infinity]',
            '["hi","\x00"]',
            '["hi",01]',
            '["hi",.5]',
            '["hi","\\x"]',
            '["\\ud83d",NaN]',
            "[,]",
            "[1",
        ),
    ],
)
def test_what_is_not_json_is_refused(text: str) -> None:
    for frame in (f"2{text}", f"21{text}", f"2/chat,1{text}", f"31{text}", f"51-{text}"):
        assert refused(frame).code == "bad_json"
    assert refused('0{"a":NaN}').code == "bad_json"


@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_depth_is_limited(brackets: tuple[str, str]) -> None:
    opening, closing = brackets
    step = 2 if opening.startswith("[{") else 1
    for depth in (66, 1_000, 1_100, 40_000 // len(opening)):
        inner = opening * (depth // step) + "1" + closing * (depth // step)
        assert refused(f'2["hi",{inner}]').code == "too_deep"


def test_depth_counts_the_array_around_the_event() -> None:
    assert feed(f'2["hi",{nested(63)}]')
    assert refused(f'2["hi",{nested(64)}]').code == "too_deep"
    wide = ",".join(["[]"] * 1_000)
    assert feed(f'2["hi",{wide},{nested(63)}]')
    assert refused(f'2["hi",{wide},{nested(64)}]').code == "too_deep"


def test_brackets_in_strings_are_not_depth() -> None:
    assert feed(f'2["hi","{"[" * 1_000}"]') == Packet(EVENT, "/", ["hi", "[" * 1_000])


def test_size_is_counted_in_bytes() -> None:
    limits = PacketLimits(message_bytes=1_000)
    room = 1_000 - len('2["hi",""]')
    for text, size in (("x", 1), ("é", 2), ("€", 3), ("😀", 4)):
        fits, left = divmod(room, size)
        assert feed(f'2["hi","{text * fits}{"x" * left}"]', decoder=Decoder(limits))
        error = refused(f'2["hi","{text * fits}{"x" * left}x"]', decoder=Decoder(limits))
        assert (error.code, error.close) == ("too_big", CloseCode.TOO_BIG)


def test_size_counts_text_and_attachments_together() -> None:
    header = f'52-["up",{PLACE % 0},{PLACE % 1}]'
    room = 1_000 - len(header)
    limits = PacketLimits(message_bytes=1_000)
    assert feed(header, b"x", b"x" * (room - 1), decoder=Decoder(limits))
    assert refused(header, b"x", b"x" * room, decoder=Decoder(limits)).code == "too_big"


@pytest.mark.parametrize(
    "namespace", ["/" + "n" * 128, "/" + "n" * 100_000, "/a\x00", "/a\nb", "/\x7f", "/\u200b", "/\u202e", "/\ud800"]
)
def test_a_bad_namespace_is_refused(namespace: str) -> None:
    assert refused(f"0{namespace},").code == "bad_namespace"
    assert refused(f"0{namespace}").code == "bad_namespace"
    assert refused(f'2{namespace},1["hi"]').code == "bad_namespace"


def test_a_query_is_not_part_of_the_namespace() -> None:
    assert feed(f"0/chat?{'x' * 10_000}\n,") == Packet(CONNECT, "/chat")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"\\ud83d"', "\ud83d"),
        ('"a\\ude00b"', "a\ude00b"),
        ("18446744073709551616", 2**64),
        ("-9223372036854775809", -(2**63) - 1),
        ("1" + "0" * 400, 10**400),
        ("9" * 640, 10**640 - 1),
        ('{"a":1,"a":2}', {"a": 2}),
        ('{"\\ud83d":1,"\\ud83d":2}', {"\ud83d": 2}),
        ("0.12345678901234567890123", 0.12345678901234568),
        ('"12345678901234567890"', "12345678901234567890"),
        ("18446744073709551615", 2**64 - 1),
        ("1e400", None),
        ("-1e400", None),
        ("1" * 641, None),
        ("-" + "1" * 5_000, None),
    ],
)
def test_unusual_json_is_taken_where_it_can_be_and_can_be_sent_again(text: str, value: Any) -> None:
    decoder = Decoder()
    frame = f'2/chat,7["hi",{text}]'
    if value is None:
        with pytest.raises(UnreadablePayload) as caught:
            decoder.feed(frame)
        assert (caught.value.namespace, caught.value.id, caught.value.code) == ("/chat", 7, "invalid_payload")
    else:
        packet = decoder.feed(frame)
        assert packet == Packet(EVENT, "/chat", ["hi", value], 7)
        [(_, again)] = SocketIOText().event("/chat", "hi", [value], 7).frames
        assert feed(again.decode()[1:]) == packet
    assert decoder.feed('2["next"]') == Packet(EVENT, "/", ["next"])


def test_the_attachments_of_an_unreadable_payload_are_swallowed() -> None:
    decoder = Decoder()
    assert decoder.feed(f'52-/chat,7["up",1e999,{PLACE % 0},{PLACE % 1}]') is None
    assert decoder.pending
    assert decoder.feed(b"1") is None
    with pytest.raises(UnreadablePayload) as caught:
        decoder.feed(b"2")
    assert (caught.value.namespace, caught.value.id) == ("/chat", 7)
    assert decoder.feed('2["next"]') == Packet(EVENT, "/", ["next"])


def test_a_raw_surrogate_in_a_large_frame_is_only_counted() -> None:
    text = "\ud83d" + "x" * 400_000
    assert feed(f'2["hi","{text}"]') == Packet(EVENT, "/", ["hi", text])


def test_a_servers_own_json_is_used() -> None:
    def loads(text: str) -> Any:
        return json.loads(text, parse_int=str)

    decoder = Decoder(loads=loads)
    assert decoder.feed('21["hi",5]') == Packet(EVENT, "/", ["hi", "5"], 1)
    assert decoder.feed('0{"a":1}') == Packet(CONNECT, "/", {"a": "1"})
    assert refused('2["hi"', decoder=decoder).code == "bad_json"
    assert refused(f'2["hi",{nested(64)}]', decoder=decoder).code == "too_deep"
    assert refused(f'2["hi",{nested(40_000)}]', decoder=decoder).code == "too_deep"
    assert refused(f'2["hi",{nested(100_000)}]', decoder=decoder).code == "too_deep"
    with pytest.raises(UnreadablePayload, match="more than 50000 values"):
        decoder.feed(f'2["hi",[{"1," * 100_000}1]]')


@pytest.mark.parametrize("answer", [None, {}, "text", 5])
def test_a_servers_own_json_that_answers_something_else_is_refused(answer: Any) -> None:
    def loads(text: str) -> Any:
        return ["next"] if "next" in text else answer

    assert refused('2["hi"]', decoder=Decoder(loads=loads)).code == "bad_json"


def test_a_servers_own_json_may_raise_anything() -> None:
    def loads(text: str) -> Any:
        if "next" in text:
            return ["next"]
        raise KeyError(text)

    assert refused('2["hi"]', decoder=Decoder(loads=loads)).code == "bad_json"


def test_an_error_repeats_nothing_of_the_clients() -> None:
    for frame in ('2["hi",secret]', '0/secret\x00,{"a":1}', '2secret["hi"]', '2["hi",1e999,"secret"]'):
        with pytest.raises((ProtocolError, UnreadablePayload)) as caught:
            Decoder().feed(frame)
        assert "secret" not in str(caught.value.as_dict())


@given(names, st.lists(plain_values), namespaces, ack_ids)
def test_an_event_comes_back_as_it_was(name: str, args: list[Any], namespace: str, ack_id: int | None) -> None:
    [(is_text, frame)] = SocketIOText().event(namespace, name, args, ack_id).frames
    assert is_text
    quick = Decoder().quick(frame.decode())
    assert quick is None or quick == ([name, *args], namespace, ack_id)
    assert feed(frame.decode()[1:]) == Packet(EVENT, namespace, [name, *args], ack_id)


@given(names, st.lists(values), namespaces, ack_ids)
def test_a_binary_event_comes_back_as_it_was(name: str, args: list[Any], namespace: str, ack_id: int | None) -> None:
    encoded = SocketIOText().event(namespace, name, args, ack_id)
    found = [data if not is_text else data.decode()[1:] for is_text, data in encoded.frames]
    decoder = Decoder(PacketLimits(attachments=1_000))
    assert feed(*found, decoder=decoder) == Packet(EVENT, namespace, [name, *args], ack_id)


@given(st.lists(values), namespaces, st.integers(0, ACK_LIMIT))
def test_an_acknowledgement_comes_back_as_it_was(args: list[Any], namespace: str, ack_id: int) -> None:
    encoded = SocketIOText().ack(namespace, ack_id, args)
    found = [data if not is_text else data.decode()[1:] for is_text, data in encoded.frames]
    decoder = Decoder(PacketLimits(attachments=1_000))
    assert feed(*found, decoder=decoder) == Packet(ACK, namespace, args, ack_id)


@pytest.mark.parametrize(
    ("frame", "quick"),
    [
        ('42["hello"]', (["hello"], "/", None)),
        ('4217["hello",{"a":[1,2.5,null]}]', (["hello", {"a": [1, 2.5, None]}], "/", 17)),
        ('42/chat,["hello","you"]', (["hello", "you"], "/chat", None)),
        ('42/chat,9["hello"]', (["hello"], "/chat", 9)),
        ('42["long","' + "x" * 3_000 + '"]', (["long", "x" * 3_000], "/", None)),
    ],
)
def test_what_nearly_every_event_is_has_a_quick_way(frame: str, quick: Any) -> None:
    assert Decoder().quick(frame) == quick
    assert feed(frame[1:]) == Packet(EVENT, quick[1], quick[0], quick[2])


@pytest.mark.parametrize(
    "frame",
    [
        "3", "40", '431["answer"]', "42", "42[]", '42{"a":1}', '42["a"', '42["a"]x', "42[1]", '42["connect"]',
        '42["' + "n" * 129 + '"]', '42["a",12345678901234567890]', '42["a",NaN]', '42/chat["a"]', '42/a?b,["a"]',
        '4299999999999["a"]', '42١["a"]', '42-1["a"]', '42 1["a"]', '452-["a"]', "42" + nested(65),
        '42["a",' + nested(64) + "]",
        '42["a","' + "x" * 5_000 + '"]', b'42["a"]',
    ],
)  # fmt: skip
def test_the_quick_way_leaves_everything_else_to_feed(frame: str | bytes) -> None:
    assert Decoder().quick(frame) is None


def test_the_quick_way_is_closed_while_attachments_are_due_and_to_a_servers_own_json() -> None:
    decoder = Decoder()
    assert feed("51-" + f'["a",{PLACE % 0}]', decoder=decoder) is None
    assert decoder.quick('42["a"]') is None
    assert Decoder(PacketLimits(), json.loads).quick('42["a"]') is None
    assert Decoder(PacketLimits(message_bytes=20)).quick('42["abcd"]') is None


@given(st.from_regex(r"42(/[a-z?]{0,3},?)?[0-9٠]{0,12}[\[{].{0,40}", fullmatch=True))
def test_the_quick_way_reads_what_feed_reads(frame: str) -> None:
    quick = Decoder().quick(frame)
    if quick is not None:
        assert Decoder().feed(frame[1:]) == Packet(EVENT, quick[1], quick[0], quick[2])


@given(st.lists(frames, max_size=6))
def test_no_frame_raises_anything_else(received: list[str | bytes]) -> None:
    decoder = Decoder()
    for frame in received:
        with suppress(ProtocolError, UnreadablePayload):
            packet = decoder.feed(frame)
            assert (packet is None) == decoder.pending


def test_a_short_fuzz_finds_nothing() -> None:
    tally = run(count=3_000, seed=1)
    assert sum(tally.values()) == 3_000
    assert tally["taken"] > 100
    assert tally["bad_json"] > 100
