from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.encoding.codecs import SocketIOMsgPack
from realtime.encoding.packets import ACK_LIMIT, MsgPackDecoder, Packet, PacketLimits, PacketType, UnreadablePayload
from realtime.errors import CloseCode, ProtocolError
from realtime.names import LIFECYCLE_EVENTS
from tests.realtime.msgpack_values import leaves, values

EVENT, ACK, CONNECT, DISCONNECT = PacketType.EVENT, PacketType.ACK, PacketType.CONNECT, PacketType.DISCONNECT

names = st.text(max_size=128).filter(lambda name: name not in LIFECYCLE_EVENTS)
shapes = st.fixed_dictionaries(
    {},
    optional={
        "type": st.integers(-1, 7) | leaves,
        "nsp": st.sampled_from(["/", "/chat"]) | leaves,
        "data": st.lists(values) | values,
        "id": st.integers(-1, 3) | leaves,
    },
)


def feed(limits: PacketLimits | None = None, **fields: Any) -> Packet | None:
    return MsgPackDecoder(limits or PacketLimits()).feed(msgpack.packb(fields))


def refused(**fields: Any) -> str:
    with pytest.raises(ProtocolError) as caught:
        feed(**fields)
    return caught.value.code


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("fields", "packet"),
    [
        ({"type": 0, "nsp": "/"}, Packet(CONNECT, "/")),
        ({"type": 0, "nsp": "/", "data": None}, Packet(CONNECT, "/")),
        ({"type": 0, "nsp": "/chat?a=b", "data": {"token": "x"}}, Packet(CONNECT, "/chat", {"token": "x"})),
        ({"type": 1, "nsp": "/chat"}, Packet(DISCONNECT, "/chat")),
        ({"type": 1, "nsp": "/chat", "data": None}, Packet(DISCONNECT, "/chat")),
        ({"type": 2, "nsp": "/", "data": ["hi"]}, Packet(EVENT, "/", ["hi"])),
        ({"type": 2, "nsp": "/", "data": ["hi", b"A", 1], "id": 0}, Packet(EVENT, "/", ["hi", b"A", 1], 0)),
        ({"type": 2, "nsp": "/", "data": ["hi"], "options": {"compress": True}}, Packet(EVENT, "/", ["hi"])),
        ({"type": 3, "nsp": "/chat", "data": [], "id": ACK_LIMIT}, Packet(ACK, "/chat", [], ACK_LIMIT)),
    ],
)
def test_a_packet_is_read(fields: dict[str, Any], packet: Packet) -> None:
    assert feed(**fields) == packet


@pytest.mark.parametrize("kind", [None, -1, 4, 5, 6, 7, 2.0, "2", True, [2]])
def test_an_unknown_packet_type_is_refused(kind: Any) -> None:
    assert refused(type=kind, nsp="/", data=["hi"]) == "bad_packet_type"


@pytest.mark.parametrize("namespace", [None, 1, b"/", "", "chat", "/" + "n" * 128, "/a\n", "/\u200b", ["/"]])
def test_a_bad_namespace_is_refused(namespace: Any) -> None:
    assert refused(type=2, nsp=namespace, data=["hi"]) == "bad_namespace"


@pytest.mark.parametrize("ack_id", [-1, ACK_LIMIT + 1, 2**64 - 1, "1", 1.0, True, [1]])
def test_a_bad_ack_id_is_refused(ack_id: Any) -> None:
    assert refused(type=2, nsp="/", data=["hi"], id=ack_id) == "bad_ack_id"


def test_an_ack_id_stands_where_it_belongs() -> None:
    assert refused(type=3, nsp="/", data=[]) == "bad_ack_id"
    assert refused(type=0, nsp="/", id=1) == "bad_ack_id"
    assert refused(type=1, nsp="/", id=1) == "bad_ack_id"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (0, []),
        (0, "text"),
        (1, {}),
        (1, []),
        (2, None),
        (2, {}),
        (2, "hi"),
        (2, []),
        (2, 5),
        (3, None),
        (3, {}),
        (3, "ok"),
    ],
)
def test_a_payload_of_the_wrong_kind_is_refused(kind: int, data: Any) -> None:
    assert refused(type=kind, nsp="/", data=data, **({"id": 1} if kind == 3 else {})) == "bad_payload"


@pytest.mark.parametrize("name", [1, None, b"hi", ["hi"], "n" * 129])
def test_an_event_name_must_be_a_short_string(name: Any) -> None:
    assert refused(type=2, nsp="/", data=[name]) == "bad_event_name"


@pytest.mark.parametrize("name", sorted(LIFECYCLE_EVENTS))
def test_a_lifecycle_name_is_refused(name: str) -> None:
    assert refused(type=2, nsp="/", data=[name, {"a": 1}]) == "reserved_event"


def test_depth_counts_the_array_around_the_event() -> None:
    assert feed(type=2, nsp="/", data=["hi", nested(63)])
    assert refused(type=2, nsp="/", data=["hi", nested(64)]) == "too_deep"
    assert refused(type=0, nsp="/", data={"a": nested(300)}) == "too_deep"


def test_binary_values_are_limited_as_attachments_are() -> None:
    assert feed(type=2, nsp="/", data=["hi", *[b""] * 10])
    assert refused(type=2, nsp="/", data=["hi", [b""] * 11]) == "too_many_attachments"


def test_size_is_limited() -> None:
    frame = msgpack.packb({"type": 2, "nsp": "/", "data": ["hi", "x" * 100]})
    assert MsgPackDecoder(PacketLimits(message_bytes=len(frame))).feed(frame)
    with pytest.raises(ProtocolError) as caught:
        MsgPackDecoder(PacketLimits(message_bytes=len(frame) - 1)).feed(frame)
    assert (caught.value.code, caught.value.close) == ("too_big", CloseCode.TOO_BIG)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ('2["hi"]', "unexpected_text"),
        ("", "unexpected_text"),
        (b"", "bad_msgpack"),
        (b"\xc1", "bad_msgpack"),
        (msgpack.packb({1: 2}), "bad_msgpack"),
        (msgpack.packb({"type": 2, "nsp": "/", "data": ["hi", {b"a": 1}]}), "bad_msgpack"),
        (msgpack.packb({"type": 2, "nsp": "/", "data": ["hi"]}) + b"\x01", "bad_msgpack"),
        (msgpack.packb([2, "/", ["hi"]]), "bad_packet"),
        (msgpack.packb(5), "bad_packet"),
        (msgpack.packb({}), "bad_packet_type"),
    ],
)
def test_a_frame_that_is_no_packet_is_refused(frame: str | bytes, code: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        MsgPackDecoder().feed(frame)
    assert caught.value.code == code


@pytest.mark.parametrize("value", [float("nan"), float("inf"), msgpack.ExtType(5, b"x")])
def test_a_value_that_json_does_not_have_is_no_violation(value: Any) -> None:
    decoder = MsgPackDecoder()
    with pytest.raises(UnreadablePayload) as caught:
        decoder.feed(msgpack.packb({"type": 2, "nsp": "/chat", "data": ["hi", {"a": value}], "id": 7}))
    assert (caught.value.namespace, caught.value.id, caught.value.code) == ("/chat", 7, "invalid_payload")


def test_nothing_is_ever_half_received() -> None:
    decoder = MsgPackDecoder()
    decoder.clear()
    assert (decoder.pending, decoder.pending_bytes) == (False, 0)


@given(names, st.lists(values), st.sampled_from(["/", "/chat", "/привет"]), st.none() | st.integers(0, ACK_LIMIT))
def test_an_event_comes_back_as_it_was(name: str, args: list[Any], namespace: str, ack_id: int | None) -> None:
    [(is_text, frame)] = SocketIOMsgPack().event(namespace, name, args, ack_id).frames
    assert not is_text
    decoder = MsgPackDecoder(PacketLimits(attachments=1_000))
    assert decoder.feed(frame) == Packet(EVENT, namespace, [name, *args], ack_id)


@given(st.binary() | st.text() | shapes.map(msgpack.packb))
def test_no_frame_raises_anything_else(frame: str | bytes) -> None:
    with suppress(ProtocolError, UnreadablePayload):
        assert MsgPackDecoder().feed(frame) is not None
