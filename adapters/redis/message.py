"""Pure: no I/O, no clock, no task. Drafts and entries as they travel and as they lie in the log.

What a node says is sealed (``seal.py``). What the script adds in front of it when it publishes is not, for Redis has
no key: ``E``, epoch, offset and the previous offsets, a newline, then the sealed draft. ``V`` is a volatile emission,
``N`` the notice that a new log has begun.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from adapters.redis.seal import RefusedMessage, Signer
from realtime.errors import LimitError
from realtime.journal.positions import Draft, Entry, Position
from realtime.ports import Told

DRAFT_LIMIT_BYTES: Final = 16 << 20
"""Half of the output buffer (32 MB by default) at which Redis cuts every subscriber that a message is for."""
CHANNELS_LIMIT: Final = 1_000
"""Rooms of one emission: the script handles each."""
_KEPT: Final = b"D"
_VOLATILE: Final = b"V"
_HEAD_LIMIT: Final = 64 + 18 * CHANNELS_LIMIT
_HEAD: Final = re.compile(rb"E([0-9a-z]{1,32}) ([1-9][0-9]{0,15}) ([0-9]{1,16}(?:,[0-9]{1,16})*)")
_NOTICE: Final = re.compile(rb"N([0-9a-z]{1,32})\n")


class NewLog(NamedTuple):
    """The log of this channel's namespace was lost or went back; it goes on under another epoch."""

    epoch: str


def seal_draft(signer: Signer, draft: Draft, newest: Position | None = None, *, kept: bool = True) -> bytes:
    """Raises LimitError when it is longer than DRAFT_LIMIT_BYTES or for more rooms than CHANNELS_LIMIT."""
    if len(draft.channels) > CHANNELS_LIMIT:
        raise LimitError(f"An emission is for at most {CHANNELS_LIMIT} rooms, not {len(draft.rooms or ())}")
    node, number = draft.id
    header: list[Any] = [node, number, draft.namespace, draft.rooms, draft.skip, draft.event, draft.arguments]
    if newest is not None or draft.key is not None:
        header.append(None if newest is None else list(newest))
    if draft.key is not None:
        header.append(draft.key)
    sealed = signer.seal(_KEPT if kept else _VOLATILE, header, (draft.body, *draft.attachments))
    if len(sealed) > DRAFT_LIMIT_BYTES:
        raise LimitError(f"An emission has {len(sealed)} bytes, over {DRAFT_LIMIT_BYTES}", code="too_big")
    return sealed


def mark_volatile(sealed: bytes) -> bytes:
    """What is published for a volatile draft."""
    return b"V\n" + sealed


def read_message(signer: Signer, namespace: str, data: bytes) -> Entry | Told | NewLog:
    """What came in on a channel of this namespace. Raises RefusedMessage, whatever the bytes are, and nothing else."""
    if len(data) > DRAFT_LIMIT_BYTES + _HEAD_LIMIT:
        raise RefusedMessage("too_big")
    if data[:2] == b"V\n":
        return Told(*_read_draft(signer, _VOLATILE, namespace, data, 2))
    end = data.find(b"\n", 0, _HEAD_LIMIT)
    if end > 0 and (head := _HEAD.fullmatch(data, 0, end)) is not None:
        draft, _ = _read_draft(signer, _KEPT, namespace, data, end + 1)
        return _entry(draft, head[1].decode(), int(head[2]), head[3])
    if (notice := _NOTICE.fullmatch(data)) is not None:
        return NewLog(notice[1].decode())
    raise RefusedMessage("unsigned")


def read_head(data: bytes) -> tuple[str, int, int] | None:
    """Epoch and offset that a message claims, and where its sealed draft begins; None for what is no entry."""
    end = data.find(b"\n", 0, _HEAD_LIMIT)
    head = _HEAD.fullmatch(data, 0, end) if end > 0 else None
    return None if head is None else (head[1].decode(), int(head[2]), end + 1)


def read_kept(signer: Signer, namespace: str, epoch: str, offset: int, previous: bytes, sealed: bytes) -> Entry:
    """What lies in the log of this namespace. Raises RefusedMessage, whatever the bytes are, and nothing else."""
    draft, _ = _read_draft(signer, _KEPT, namespace, sealed)
    return _entry(draft, epoch, offset, previous)


def previous_offsets(text: bytes) -> tuple[int, ...]:
    """The script's list. Raises ValueError."""
    return tuple([int(number) for number in text.split(b",")]) if b"," in text else (int(text),)


def _entry(draft: Draft, epoch: str, offset: int, previous: bytes) -> Entry:
    try:
        numbers = previous_offsets(previous)
    except ValueError:
        raise RefusedMessage("garbled") from None
    if len(numbers) != len(draft.channels) or min(numbers) < 0 or max(numbers) >= offset:
        raise RefusedMessage("garbled")
    return Entry(draft, Position(epoch, offset), numbers)


def _read_draft(signer: Signer, kind: bytes, namespace: str, data: bytes, at: int = 0) -> tuple[Draft, Position | None]:
    header, parts = signer.open(kind, data, at)
    try:
        node, number, of, rooms, skip, event, arguments, *rest = header
        body, *attachments = parts
    except (ValueError, TypeError):
        raise RefusedMessage("garbled") from None
    well_formed = (
        type(node) is type(of) is type(event) is str
        and type(number) is type(arguments) is int
        and number >= 0
        and arguments >= 0
        and (rooms is None or (_texts(rooms) and 0 < len(rooms) <= CHANNELS_LIMIT))
        and _texts(skip)
    )
    if not well_formed:
        raise RefusedMessage("garbled")
    if of != namespace:
        raise RefusedMessage("channel")
    channels = None if rooms is None else tuple(rooms)
    key = rest[1] if len(rest) > 1 and isinstance(rest[1], str) else None
    draft = Draft((node, number), of, channels, tuple(skip), event, body, arguments, tuple(attachments), key)
    return draft, _position(rest)


def _texts(value: Any) -> bool:
    return type(value) is list and (not value or {type(item) for item in value} == {str})


def _position(rest: list[Any]) -> Position | None:
    """The newest position that the sender knew, or None where it said none (or something of a later version)."""
    if rest and isinstance(rest[0], list) and len(rest[0]) == 2:
        return Position.parse(f"{rest[0][0]}-{rest[0][1]}")
    return None
