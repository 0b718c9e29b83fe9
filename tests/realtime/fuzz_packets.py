"""Mutated packets against the strict door: ``python -m tests.realtime.fuzz_packets --count 100000 --seed 1``.

Each input must be taken, or end in ProtocolError or UnreadablePayload; what is taken keeps the rules of its packet
type and can be sent again in every dialect. Anything else ends the run with the input and its seed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Callable

from realtime.encoding.codecs import RawJson, SocketIOMsgPack, SocketIOText
from realtime.encoding.packets import (
    ACK_LIMIT,
    Decoder,
    MsgPackDecoder,
    Packet,
    PacketType,
    UnreadablePayload,
    split_payload,
)
from realtime.errors import ProtocolError
from realtime.names import LIFECYCLE_EVENTS

LIMIT = 1_000_000
PLACES = '{"_placeholder":true,"num":0},{"a":{"_placeholder":true,"num":1}}'

TEXT = [
    "0",
    '0/chat,{"token":"abc"}',
    "0/chat?a=b,",
    "1/chat,",
    '2["message",{"room":"lobby","text":"hello","ts":1719999999999}]',
    '2/chat,17["message",{"deep":[[[{"a":[1.5,-2,true,null]}]]],"text":"\\ud83d\\ude00 é"}]',
    '213["numbers",18446744073709551616,0.1,-0,1e300,"12345678901234567890"]',
    '31["ok",{"error":{"code":"x"}}]',
    '4{"message":"no"}',
    f'52-/chat,3["up",{PLACES}]',
    f"62-3[{PLACES}]",
    '51-["connect",{"_placeholder":true,"num":0}]',
    '2["' + "n" * 128 + '"]',
    "2" + "[" * 64 + "]" * 64,
]
PIECES = [
    '"',
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "/",
    "-",
    "?",
    "0",
    "9" * 19,
    "1e999",
    "NaN",
    "\\ud83d",
    "\x00",
    "\x1e",
    "é",
    "😀",
]
PIECES += ["٣", "true", "null", '"connect"', '"_placeholder":true', '"num":-1', "\ud83d", "[" * 65, "b", "4"]

PACKED = [
    frame
    for encoded in (
        SocketIOMsgPack().event("/chat", "message", [{"a": [1, 2.5, None, True], "b": b"123"}, 2**63], 3),
        SocketIOMsgPack().ack("/", 1, ["ok"]),
        SocketIOMsgPack().connect("/chat", {"token": "abc"}),
        SocketIOMsgPack().disconnect("/chat"),
    )
    for _, frame in encoded.frames
]
PACKED.append(
    PACKED[0].replace(b"\xa1a\x94", b"\xa1a\xd4\x00\x00\xa1c\xd7\x00\x00\x00\x01\x8b\xcf\xe5\x68\x7b\xa1d\x94")
)


class Finding(Exception):
    """An input that the door did not handle."""


def mutate(text: str, dice: random.Random) -> str:
    """One to four changes: cut, repeat, insert, replace, or join with another packet."""
    for _ in range(dice.randint(0, 4)):
        start = dice.randrange(len(text) + 1)
        end = min(len(text), start + dice.choice((0, 1, 1, 2, 8)))
        change = dice.randrange(5)
        piece = dice.choice(PIECES) if change < 3 else chr(dice.choice((dice.randrange(128), dice.randrange(0x110000))))
        if change == 3:
            piece = text[start:end] * dice.choice((0, 2, 70))
        elif change == 4:
            piece, end = dice.choice(TEXT), len(text)
        text = text[:start] + piece + text[end:]
    return text


def mutate_bytes(data: bytes, dice: random.Random) -> bytes:
    for _ in range(dice.randint(0, 4)):
        start = dice.randrange(len(data) + 1)
        end = min(len(data), start + dice.choice((0, 1, 1, 2)))
        data = data[:start] + dice.randbytes(dice.choice((0, 1, 1, 4))) * dice.choice((1, 1, 1, 70)) + data[end:]
    return data


def check(packet: Packet) -> None:
    """The promises of a packet, and that it can go out again."""
    assert packet.namespace.startswith("/")
    assert len(packet.namespace) <= 128
    assert packet.id is None or 0 <= packet.id <= ACK_LIMIT
    if packet.type is PacketType.EVENT:
        name, *args = packet.data
        assert isinstance(name, str)
        assert name not in LIFECYCLE_EVENTS
        for dialect in (SocketIOText(), SocketIOMsgPack(), RawJson()):
            encoded = dialect.event(packet.namespace, name, args, packet.id)
            assert encoded.wire
            assert encoded.payload
    elif packet.type is PacketType.ACK:
        assert isinstance(packet.data, list)
        assert packet.id is not None
    elif packet.type is PacketType.CONNECT:
        assert packet.data is None or isinstance(packet.data, dict)
    else:
        assert packet.type is PacketType.DISCONNECT
        assert packet.data is None


def one_text(decoder: Decoder, dice: random.Random) -> None:
    if dice.random() < (0.9 if decoder.pending else 0.02):
        packet = decoder.feed(dice.randbytes(dice.randrange(20)))
    else:
        packet = decoder.feed(mutate(dice.choice(TEXT), dice))
    assert (packet is None) == decoder.pending
    assert decoder.pending_bytes <= LIMIT
    if packet is not None:
        check(packet)


def one_packed(decoder: MsgPackDecoder, dice: random.Random) -> None:
    packet = decoder.feed(mutate_bytes(dice.choice(PACKED), dice))
    assert packet is not None
    check(packet)


def one_payload(dice: random.Random) -> None:
    parts = [dice.choice(["4" + dice.choice(TEXT), "bAAEC", "b", "2", "3probe"]) for _ in range(dice.randint(1, 4))]
    for part in split_payload(mutate("\x1e".join(parts), dice)):
        assert part or isinstance(part, bytes)


def run(count: int, seed: int) -> Counter[str]:
    """Feed ``count`` inputs; how many were taken, and how many refused for each reason."""
    dice = random.Random(seed)
    text, packed = Decoder(), MsgPackDecoder()
    kinds: list[Callable[[], None]] = [lambda: one_text(text, dice)] * 6
    kinds += [lambda: one_packed(packed, dice)] * 3 + [lambda: one_payload(dice)]
    tally: Counter[str] = Counter()
    for number in range(count):
        try:
            dice.choice(kinds)()
            tally["taken"] += 1
        except (ProtocolError, UnreadablePayload) as error:
            tally[error.code] += 1
        except Exception as error:
            raise Finding(f"input {number} of seed {seed}: {error!r}") from error
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tally = run(options.count, options.seed)
    sys.stdout.write(
        json.dumps({"inputs": sum(tally.values()), "seed": options.seed, **dict(tally.most_common())}) + "\n"
    )


if __name__ == "__main__":
    main()
