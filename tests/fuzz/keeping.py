"""The corpus: inputs that each reach something no other one reaches. One file for each target, one input a line."""

from __future__ import annotations

import ast
import struct
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from realtime.encoding.engineio_frames import SEPARATOR
from tests.fuzz import READERS
from tests.fuzz.targets import BINARY, TARGETS
from tests.realtime.fuzz_packets import PACKED, PIECES, TEXT
from tests.serving import ROOT

CORPUS = Path(__file__).parent / "corpus"
FILES = {str(ROOT / f"{name.replace('.', '/')}.py") for name in READERS}

Step = tuple[str, int, int]
Trace = Callable[[FrameType, str, Any], Any]


def kept(target: str) -> list[bytes]:
    """Written as Python writes bytes, so that a person can read them and a diff shows them."""
    path = CORPUS / f"{target}.txt"
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    return [bytes(ast.literal_eval(line)) for line in lines]


def keep(target: str, inputs: Iterable[bytes]) -> int:
    """Replace what is kept; how many that are."""
    lines = [ascii(each) for each in sorted(set(inputs), key=lambda each: (len(each), each))]
    (CORPUS / f"{target}.txt").write_text("".join(f"{line}\n" for line in lines), "ascii")
    return len(lines)


def worth_keeping(target: str, inputs: Iterable[bytes]) -> list[bytes]:
    """Those that take a step, from one line to the next, that no shorter one takes in the files that read."""
    seen: set[Step] = set()
    found = []
    for data in sorted(set(inputs), key=lambda each: (len(each), each)):
        steps = _steps(TARGETS[target], data)
        if steps - seen:
            seen |= steps
            found.append(data)
    return found


def _steps(call: Callable[[bytes], None], data: bytes) -> set[Step]:
    steps: set[Step] = set()
    last: dict[FrameType, int] = {}

    def on_line(frame: FrameType, kind: str, _: Any) -> Trace | None:
        steps.add((frame.f_code.co_filename, last.get(frame, 0), frame.f_lineno))
        last[frame] = frame.f_lineno
        if kind == "return":
            del last[frame]
        return on_line

    def on_call(frame: FrameType, kind: str, _: Any) -> Trace | None:
        return on_line if frame.f_code.co_filename in FILES else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        call(data)
    finally:
        sys.settrace(before)
    return steps


def seeds(target: str) -> list[bytes]:
    """Where a fuzzer begins that has no corpus: one of everything that may be said."""
    attachments = SEPARATOR.encode() + BINARY + b"one" + SEPARATOR.encode() + BINARY
    texts = [each.encode() + (attachments if each[0] in "56" else b"") for each in TEXT]
    if target == "msgpack":
        return PACKED
    if target == "payload":
        return [b"4" + each.encode() for each in TEXT] + [b"bAAEC", b"3", b"6", b'42["a"]\x1e41\x1e40', b"1"]
    return texts if target == "text" else [masked(0x81, b"hello"), *FRAMES]


def masked(first: int, data: bytes, key: bytes = b"\0\1\2\3") -> bytes:
    """A client's frame."""
    size = len(data)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + struct.pack("!H", size)
    return bytes((first,)) + length + key + bytes(byte ^ key[at % 4] for at, byte in enumerate(data))


FRAMES = [
    masked(0x82, bytes(200)),
    masked(0x01, "é".encode()[:1]) + masked(0x89, b"ping") + masked(0x80, "é".encode()[1:]),
    masked(0x88, struct.pack("!H", 1000) + b"bye") + masked(0x8A, b""),
    b"\x82\xff" + struct.pack("!Q", 1 << 16) + bytes(4),
]


def words(target: str) -> list[bytes]:
    """What a mutation may put in whole: libFuzzer's dictionary."""
    if target == "frames":
        return [bytes((first, 0x80)) for first in (0x00, 0x01, 0x80, 0x81, 0x82, 0x88, 0x89)]
    if target == "msgpack":
        return [b"\xa4type", b"\xa3nsp", b"\xa4data", b"\xa2id", b"\xa1/", b"\xd4\0\0", b"\xd7\0", b"\xc7\x01\0"]
    return [each.encode("utf-8", "replace") for each in PIECES] + [SEPARATOR.encode(), BINARY, *TOKENS]


TOKENS = [b"[]", b"{}", b'["a"', b'{"_placeholder":true,"num":0}', b"51-[", b"2[", b"43"]
