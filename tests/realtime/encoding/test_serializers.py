from __future__ import annotations

import json
from typing import Any

import pytest

from realtime.encoding.codecs import SocketIOMsgPack, SocketIOText
from realtime.encoding.packets import Decoder, MsgPackDecoder
from realtime.encoding.serializers import codec
from realtime.errors import ProtocolError
from tests.realtime.living import settings_for


class Shouting:
    """An application's own JSON."""

    @staticmethod
    def dumps(value: Any, **options: Any) -> str:
        return json.dumps(value).upper()

    @staticmethod
    def loads(text: str) -> Any:
        return json.loads(text.lower())


def test_text_and_msgpack() -> None:
    dialect, make = codec("default", None, settings_for(), 1_000)
    assert isinstance(dialect, SocketIOText)
    assert isinstance(make(), Decoder)
    assert make() is not make(), "one for each client"
    dialect, make = codec("msgpack", None, settings_for(), 1_000)
    assert isinstance(dialect, SocketIOMsgPack)
    assert isinstance(make(), MsgPackDecoder)


def test_an_applications_own_json_is_used_both_ways() -> None:
    dialect, make = codec("default", Shouting, settings_for(), 1_000)
    encoded = dialect.event("/", "hello", [{"a": "b"}])
    assert encoded is not None
    assert encoded.frames == ((True, b'42["HELLO", {"A": "B"}]'),)
    packet = make().feed('2["HELLO"]')
    assert packet is not None
    assert packet.data == ["hello"]


@pytest.mark.parametrize("serializer", ["default", "msgpack"])
def test_the_limits_are_those_of_the_settings(serializer: str) -> None:
    _, make = codec(serializer, None, settings_for(json_depth_limit=2), 1_000)
    packed = SocketIOMsgPack().event("/", "a", [[[[]]]]).frames[0][1]
    with pytest.raises(ProtocolError, match="depth of 2"):
        make().feed(packed if serializer == "msgpack" else '2["a",[[[]]]]')
