"""Pure: no I/O, no clock, no task. What python-socketio's servers and writers tell one another, read strictly.

JSON alone. Its versions before 5.14 wrote pickle, which whoever may publish could make run anything: it is never
opened, only recognised, so that an operator is told why nothing arrives.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from realtime.encoding.json_text import NotJson, TooDeep, Unreadable, read
from realtime.encoding.packets import find_places
from realtime.errors import ProtocolError
from realtime.names import LIFECYCLE_EVENTS

ROOMS_LIMIT: Final = 1_000
"""Rooms, or clients left out, of one emission."""
ATTACHMENTS_LIMIT: Final = 1_000
_ENVELOPE_DEPTH: Final = 3
"""The message, the list of its arguments, and for binary ones another list around that."""
_ENVELOPE_VALUES: Final = 2 * ROOMS_LIMIT + ATTACHMENTS_LIMIT + 20


class RefusedWriting(ValueError):
    """Not to be passed on. ``reason`` is the label under which it is counted in ``metrics.bus_refused``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class WritingLimits:
    """Of one message: what the JSON of a client may have, too."""

    depth: int = 64
    values: int = 50_000


class Writing(NamedTuple):
    """An event for these rooms (None: everyone in the namespace), but not for these clients."""

    namespace: str
    event: str
    args: list[Any]
    rooms: str | int | list[str | int] | None
    skip: tuple[str, ...]


def read_message(message: bytes, limits: WritingLimits) -> dict[str, Any]:
    """An object with a ``method``. Raises RefusedWriting, whatever the bytes are, and nothing else."""
    if message[:1] == b"\x80" and message[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise RefusedWriting("pickle")
    try:
        found = read(message.decode(), limits.depth + _ENVELOPE_DEPTH, limits.values + _ENVELOPE_VALUES)
    except (NotJson, Unreadable, TooDeep, UnicodeDecodeError):
        raise RefusedWriting("malformed") from None
    if not isinstance(found, dict) or not isinstance(found.get("method"), str):
        raise RefusedWriting("malformed")
    return found


def writing_of(message: dict[str, Any]) -> Writing:
    """What an emission says. Raises RefusedWriting for anything else."""
    if message["method"] != "emit":
        raise RefusedWriting("method")
    if message.get("callback") is not None:
        raise RefusedWriting("callback")
    event, namespace = message.get("event"), message.get("namespace") or "/"
    if not isinstance(event, str) or event in LIFECYCLE_EVENTS:
        raise RefusedWriting("event")
    if not isinstance(namespace, str) or not namespace.startswith("/"):
        raise RefusedWriting("namespace")
    return Writing(namespace, event, _args(message), _rooms(message.get("room")), _skip(message.get("skip_sid")))


def _args(message: dict[str, Any]) -> list[Any]:
    """python-socketio sends a list always, and ``[None]`` for an event without arguments."""
    data = message.get("data")
    if not isinstance(data, list):
        raise RefusedWriting("data")
    args = _with_attachments(data) if message.get("binary") else data
    return [] if args == [None] else args


def _with_attachments(data: list[Any]) -> list[Any]:
    """``[arguments, attachment, …]``, with placeholders in the arguments."""
    if not data or not isinstance(data[0], list) or len(data) > ATTACHMENTS_LIMIT:
        raise RefusedWriting("data")
    args: list[Any] = data[0]
    try:
        attachments = [base64.b64decode(each, validate=True) for each in data[1:]]
        places = find_places(args, len(attachments))
    except (ProtocolError, ValueError, TypeError):
        raise RefusedWriting("data") from None
    for (container, key), attachment in zip(places, attachments, strict=True):
        container[key] = attachment
    return args


def _rooms(room: Any) -> str | int | list[str | int] | None:
    """A name; numbers are rooms there, too."""
    if room is None or _is_name(room):
        return room  # type: ignore[no-any-return]
    if isinstance(room, list) and len(room) <= ROOMS_LIMIT and all(map(_is_name, room)):
        return room
    raise RefusedWriting("room")


def _skip(skip: Any) -> tuple[str, ...]:
    skipped = [skip] if isinstance(skip, str) else skip or []
    if isinstance(skipped, list) and len(skipped) <= ROOMS_LIMIT and all(isinstance(sid, str) for sid in skipped):
        return tuple(skipped)
    raise RefusedWriting("skip_sid")


def _is_name(value: Any) -> bool:
    return type(value) is str or type(value) is int
