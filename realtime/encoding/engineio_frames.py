"""Pure: no I/O, no clock, no task. Engine.IO protocol 4: its packet digits, and the body of a polling POST."""

from __future__ import annotations

import base64
from typing import Final

from realtime.encoding.packet_rules import refuse

OPEN: Final = "0"
CLOSE: Final = "1"
PING: Final = "2"
PONG: Final = "3"
MESSAGE: Final = "4"
UPGRADE: Final = "5"
NOOP: Final = "6"

SEPARATOR: Final = "\x1e"


def split_payload(body: str) -> list[str | bytes]:
    """The packets of a polling POST: text with its Engine.IO digit, attachments as bytes. Raises ProtocolError.

    Their number is not limited: the byte limit of the request and the event limit of the session count them.
    """
    packets: list[str | bytes] = []
    for part in body.split(SEPARATOR):
        if not part:
            refuse("empty_packet", "A packet is empty")
        packets.append(read_attachment(part) if part[0] == "b" else part)
    return packets


def read_attachment(part: str) -> bytes:
    """A binary packet in text form, with the ``b`` in front. Raises ProtocolError."""
    try:
        return base64.b64decode(part[1:], validate=True)
    except ValueError:
        refuse("bad_base64", "A binary packet is not base64")
