from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from realtime.encoding import msgpack_data
from realtime.encoding.codecs import Dialect, RawJson, SocketIOMsgPack, SocketIOText, json_bytes
from realtime.encoding.packets import Decoder, MsgPackDecoder, Packet, PacketType
from realtime.errors import UsageError

TEXT, PACKED, RAW = SocketIOText(), SocketIOMsgPack(), RawJson()
DIALECTS: list[Dialect] = [TEXT, PACKED, RAW]


class Position(BaseModel):
    x: int
    model_config = ConfigDict(extra="allow")


def own_dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


OWN = SocketIOText(own_dumps)


@pytest.mark.parametrize("dialect", [TEXT, OWN])
@pytest.mark.parametrize(
    ("namespace", "args", "ack_id", "frames"),
    [
        ("/", [], None, ['42["hi"]']),
        ("/", [None], None, ['42["hi",null]']),
        ("/", ["é", {"a": 1}], 0, ['420["hi","é",{"a":1}]']),
        ("/chat", [1], None, ['42/chat,["hi",1]']),
        ("/привет", [1], 12, ['42/привет,12["hi",1]']),
        ("/", [b"A"], None, ['451-["hi",{"_placeholder":true,"num":0}]', b"A"]),
        (
            "/chat",
            [{"a": [b"A", (bytearray(b"B"),)]}, memoryview(b"")],
            7,
            [
                '453-/chat,7["hi",{"a":[{"_placeholder":true,"num":0},[{"_placeholder":true,"num":1}]]},'
                '{"_placeholder":true,"num":2}]',
                *(b"A", b"B", b""),
            ],
        ),
    ],
)
def test_an_event_as_text(
    dialect: SocketIOText, namespace: str, args: list[Any], ack_id: int | None, frames: list[str | bytes]
) -> None:
    expected = tuple((isinstance(f, str), f.encode() if isinstance(f, str) else f) for f in frames)
    assert dialect.event(namespace, "hi", args, ack_id).frames == expected


def test_the_other_packets_as_text() -> None:
    assert TEXT.ack("/", 0, []).payload == "430[]"
    assert TEXT.ack("/chat", 5, ["ok", 2]).payload == '43/chat,5["ok",2]'
    assert TEXT.ack("/chat", 5, [b"A"]).payload == '461-/chat,5[{"_placeholder":true,"num":0}]\x1ebQQ=='
    assert TEXT.connect("/", {"sid": "abc"}).payload == '40{"sid":"abc"}'
    assert TEXT.connect("/chat", {"sid": "abc"}).payload == '40/chat,{"sid":"abc"}'
    assert TEXT.connect_error("/chat", {"message": "no"}).payload == '44/chat,{"message":"no"}'
    assert TEXT.connect_error("/", "no").payload == '44"no"'
    assert TEXT.disconnect("/").payload == "41"
    assert TEXT.disconnect("/chat").payload == "41/chat,"
    assert OWN.connect("/chat", {"sid": "é"}).payload == '40/chat,{"sid":"é"}'


def test_models_and_odd_values_have_their_json_form_beside_bytes() -> None:
    encoded = TEXT.event("/", "hi", [Position(x=1), {2: b"A"}, "\ud83d", 2**70])
    assert encoded.frames == (
        (True, b'451-["hi",{"x":1},{"2":{"_placeholder":true,"num":0}},"\\ud83d",1180591620717411303424]'),
        (False, b"A"),
    )


class Unknown:
    pass


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_cannot_be_encoded_is_named(dialect: Dialect) -> None:
    for args in ([Unknown()], [b"A", {"a": Unknown()}], [{(1, 2): b"A"}]):
        with pytest.raises(UsageError, match=r"Unknown|tuple"):
            dialect.event("/", "hi", args)
        with pytest.raises(UsageError, match=r"Unknown|tuple"):
            dialect.ack("/", 1, args)


def test_a_servers_own_json_that_fails_is_a_usage_error() -> None:
    for value in (Unknown(), float("nan")):
        strict = SocketIOText(lambda value: json.dumps(value, allow_nan=False))
        with pytest.raises(UsageError, match="own JSON"):
            strict.event("/", "hi", [value])
        with pytest.raises(UsageError, match="own JSON"):
            strict.connect_error("/", value)
    assert OWN.event("/", "hi", ["a\ud83d"]).frames == ((True, b'42["hi","a?"]'),)


@pytest.mark.parametrize("dialect", [TEXT, OWN])
def test_a_relayed_placeholder_does_not_stand_for_an_attachment(dialect: SocketIOText) -> None:
    forged = {"_placeholder": True, "num": 99}
    [(_, alone)] = dialect.event("/", "hi", [forged]).frames
    assert json.loads(alone[2:]) == ["hi", forged]
    frames = dialect.event("/", "hi", [forged, {"deep": ([forged],)}, b"A"]).frames
    decoder = Decoder()
    assert decoder.feed(frames[0][1].decode()[1:]) is None
    harmless = {"_placeholder": False, "num": 99}
    assert decoder.feed(frames[1][1]) == Packet(PacketType.EVENT, "/", ["hi", harmless, {"deep": [[harmless]]}, b"A"])


def test_a_relayed_placeholder_inside_a_model_does_not_either() -> None:
    model = Position.model_validate({"x": 1, "_placeholder": True, "num": 99})
    frames = TEXT.event("/", "hi", [model, b"A"]).frames
    assert frames[0][1] == b'451-["hi",{"x":1,"_placeholder":false,"num":99},{"_placeholder":true,"num":0}]'


def test_text_that_only_looks_like_a_placeholder_stays() -> None:
    looks = '"_placeholder":true'
    frames = TEXT.event("/", "hi", [looks, {looks: 1}, b"A"]).frames
    assert json.loads(frames[0][1][4:])[1:3] == [looks, {looks: 1}]
    assert len(frames) == 2


def test_packets_in_messagepack() -> None:
    def read(encoded: Any) -> Any:
        [(is_text, data)] = encoded.frames
        assert not is_text
        return msgpack_data.unpack(data)

    assert read(PACKED.event("/chat", "hi", [b"A", {2: (1,)}], 0)) == {
        "type": 2,
        "nsp": "/chat",
        "data": ["hi", b"A", {"2": [1]}],
        "id": 0,
    }
    assert read(PACKED.event("/", "hi", [])) == {"type": 2, "nsp": "/", "data": ["hi"]}
    assert read(PACKED.ack("/", 1, ["ok"])) == {"type": 3, "nsp": "/", "data": ["ok"], "id": 1}
    assert read(PACKED.connect("/", {"sid": "a"})) == {"type": 0, "nsp": "/", "data": {"sid": "a"}}
    assert read(PACKED.connect_error("/", {"message": "no"})) == {"type": 4, "nsp": "/", "data": {"message": "no"}}
    assert read(PACKED.disconnect("/chat")) == {"type": 1, "nsp": "/chat"}


def test_a_client_hears_the_same_in_text_and_in_messagepack() -> None:
    args = [Position(x=1), {2: (1, 2.5)}, {3}, float("nan"), None, b"A"]
    frames = TEXT.event("/", "hi", args, 3).frames
    decoder = Decoder()
    assert decoder.feed(frames[0][1].decode()[1:]) is None
    assert decoder.feed(frames[1][1]) == MsgPackDecoder().feed(PACKED.event("/", "hi", args, 3).frames[0][1])


@pytest.mark.parametrize(
    ("args", "data"),
    [
        ([], None),
        ([5], 5),
        ([None], None),
        ([[1]], [1]),
        ([1, 2], [1, 2]),
        ((1, 2), [1, 2]),
        ([b"A"], {"_base64": "QQ=="}),
    ],
)
def test_raw_json(args: Any, data: Any) -> None:
    assert RAW.event("/chat", "hi", args, 7).frames == ((True, json_bytes({"event": "hi", "data": data})),)
    assert RAW.ack("/chat", 7, args).frames == ((True, json_bytes({"reply": 7, "data": data})),)


def test_a_raw_reply_tells_an_error_apart() -> None:
    error = {"code": "no", "message": "No"}
    assert RAW.ack("/", 1, [{"error": error}]).payload == '{"reply":1,"error":{"code":"no","message":"No"}}'
    assert RAW.ack("/", 1, [{"error": error, "x": 1}]).payload.startswith('{"reply":1,"data":')
    assert RAW.ack("/", 1, [{"x": 1}]).payload == '{"reply":1,"data":{"x":1}}'


def test_raw_clients_are_not_told_about_connections() -> None:
    raw: Dialect = RAW
    assert raw.connect("/", {}) is None
    assert raw.connect_error("/", {}) is None
    assert raw.disconnect("/") is None


def test_each_dialect_has_its_own_name() -> None:
    assert len({dialect.name for dialect in DIALECTS}) == 3
