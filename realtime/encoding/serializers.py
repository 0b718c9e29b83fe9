"""Pure: no I/O, no clock, no task. python-socketio's ``serializer`` and ``json``: which dialect, which decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from realtime.encoding.codecs import Dialect, SocketIOMsgPack, SocketIOText
from realtime.encoding.packets import Decoder, MsgPackDecoder, PacketLimits
from realtime.settings import Settings


def codec(
    serializer: str, json: Any, settings: Settings, message_limit: int
) -> tuple[Dialect, Callable[[], Decoder | MsgPackDecoder]]:
    """How a server speaks, and what makes the reader of one client. ``json`` has ``dumps`` and ``loads``."""
    limits = PacketLimits(
        settings.attachment_limit,
        settings.json_depth_limit,
        settings.event_name_limit_characters,
        message_bytes=message_limit,
        values=settings.json_element_limit,
    )
    if serializer == "msgpack":
        return SocketIOMsgPack(), lambda: MsgPackDecoder(limits)
    if json is not None:
        return SocketIOText(json.dumps), lambda: Decoder(limits, json.loads)
    return SocketIOText(), lambda: Decoder(limits)
