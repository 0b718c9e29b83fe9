"""Pure: no I/O, no clock, no task. The wire format of what nodes say to each other: versioned, signed, never pickled.

    abR 1    32 bytes            1 byte  u32     u16     u32…        header    parts…
    version  HMAC-SHA256 of all  kind    length  number  the length  JSON      as they are
             that comes after            of the  of      of each
                                         header  parts

The header is small (who, where, which event); a payload is a part: bytes that were encoded once and are never
decoded on the way. Whoever can read a message can verify it only with one of the keys; the first key signs, all of
them are accepted, so a key is changed by putting the new one behind, then in front, then taking the old one away.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from collections.abc import Sequence
from typing import Any, Final

import orjson

from realtime.errors import UsageError

MAGIC: Final = b"\xabR"
VERSION: Final = 1
_START: Final = MAGIC + bytes((VERSION,))
_SIGNED_FROM: Final = len(_START) + 32
_FIXED: Final = struct.Struct("!cIH")
PARTS_LIMIT: Final = 1_000
_PURPOSE: Final = b"realtime-rooms: messages between nodes, version 1"


class RefusedMessage(ValueError):
    """Nothing of ours. ``reason`` is the label under which it is counted in ``metrics.bus_refused``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Signer:
    """Signs with the first of its secrets and accepts all of them. Raises UsageError when there is none."""

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets or not all(secrets):
            raise UsageError("Messages between nodes are signed: expected at least one secret, and none of them empty")
        # The secret may sign other things elsewhere (tokens, say): what is used here is good for nothing else.
        keys = [hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256) for secret in secrets]
        # Begun with the key once, and copied for each message: a third less than beginning anew.
        self._begun = [hmac.new(key, digestmod="sha256") for key in keys]

    def seal(self, kind: bytes, header: Any, parts: Sequence[bytes] = ()) -> bytes:
        """A message of this kind (one byte). Raises UsageError for a header that is no JSON, or too many parts."""
        if len(parts) > PARTS_LIMIT:
            raise UsageError(f"A message has at most {PARTS_LIMIT} parts, not {len(parts)}")
        head = _dumps(header)
        lengths = struct.pack(f"!{len(parts)}I", *map(len, parts))
        signed = b"".join((_FIXED.pack(kind, len(head), len(parts)), lengths, head, *parts))
        return _START + _mac(self._begun[0], signed) + signed

    def open(self, kind: bytes, sealed: bytes, at: int = 0) -> tuple[Any, list[bytes]]:
        """Header and parts of a message of this kind, which begins ``at`` this byte. Raises RefusedMessage, whatever
        the bytes, and nothing else."""
        if not sealed.startswith(_START, at):
            raise RefusedMessage("version" if sealed.startswith(MAGIC, at) else "unsigned")
        mac, signed = sealed[at + len(_START) : at + _SIGNED_FROM], sealed[at + _SIGNED_FROM :]
        for begun in self._begun:
            if hmac.compare_digest(mac, _mac(begun, signed)):
                break
        else:
            raise RefusedMessage("signature")
        try:
            return _read(kind, signed)
        except (ValueError, struct.error, RecursionError):
            raise RefusedMessage("garbled") from None


def _mac(begun: hmac.HMAC, signed: bytes) -> bytes:
    made = begun.copy()
    made.update(signed)
    return made.digest()


def _read(kind: bytes, signed: bytes) -> tuple[Any, list[bytes]]:
    """What a key holder wrote, which need not be what this version writes. Raises ValueError, struct.error."""
    found, head_size, count = _FIXED.unpack_from(signed)
    if found != kind:
        raise ValueError("another kind")
    lengths = struct.unpack_from(f"!{count}I", signed, _FIXED.size)
    at = _FIXED.size + 4 * count
    if at + head_size + sum(lengths) != len(signed):
        raise ValueError("not as long as it says")
    header = _loads(signed[at : at + head_size])
    at += head_size
    parts = []
    for length in lengths:
        parts.append(signed[at : at + length])
        at += length
    return header, parts


def _dumps(header: Any) -> bytes:
    try:
        return orjson.dumps(header)
    except TypeError:
        pass
    try:
        return json.dumps(header).encode()  # it takes lone surrogates, which a name may contain
    except (TypeError, ValueError) as error:
        raise UsageError(f"The header of a message is JSON: {error}") from None


def _loads(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)
