"""Pure: no I/O, no clock, no task. A session as it lies in Redis: a sealed record, and what changed since."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from adapters.redis.seal import RefusedMessage, Signer
from adapters.redis.session_scripts import BUCKETS, CHANGES_LIMIT
from realtime.journal.positions import Position
from realtime.journal.resume import Record, Stay, changed

_RECORD: Final = b"S"
_CHANGE: Final = b"R"
_CLAIMED: Final = b"C"


def name_of(pid: str) -> tuple[int, bytes]:
    """The bucket of a session and its name there; the secret itself is no part of a key."""
    digest = hashlib.sha256(pid.encode("utf-8", "surrogatepass")).digest()
    return digest[0] % BUCKETS, digest[:16].hex().encode()


def line(text: str) -> bytes:
    """A room's or a namespace's name on one line."""
    return text.replace("%", "%25").replace("\n", "%0A").encode("utf-8", "surrogatepass")


def who(namespace: str, sid: str) -> bytes:
    return line(namespace) + b"\n" + line(sid)


def rooms_of(record: Record) -> bytes:
    """The rooms it is in, each on its line."""
    return b"".join([line(stay.room) + b"\n" for stay in record.stays if stay.until is None])


def seal_record(signer: Signer, record: Record) -> bytes:
    places = [list(place) for place in (record.base, record.sent, record.position)]
    stays = [list(stay) for stay in record.stays]
    header = [record.sid, record.namespace, record.node, record.user, stays, places, record.incomplete, record.moved]
    return signer.seal(_RECORD, header, (record.pid.encode("utf-8", "surrogatepass"), record.data))


def seal_change(signer: Signer, entered: bool, namespace: str, room: str, offset: int) -> bytes:
    """A client that is away is in this room from this offset on, or was up to it."""
    return signer.seal(_CHANGE, [entered, namespace, room, offset])


def seal_claimed(signer: Signer, pid: str) -> bytes:
    return signer.seal(_CLAIMED, None, (pid.encode("utf-8", "surrogatepass"),))


def read_claimed(signer: Signer, data: bytes) -> str:
    """The secret of the session that another node has now. Raises RefusedMessage, and nothing else."""
    _, parts = signer.open(_CLAIMED, data)
    try:
        (pid,) = parts
        return pid.decode("utf-8", "surrogatepass")
    except ValueError:
        raise RefusedMessage("garbled") from None


def read_session(signer: Signer, fields: Mapping[bytes, bytes], pid: str | None) -> Record:
    """The record with its changes, of this session (None: of whichever it is). Raises RefusedMessage, whatever the
    bytes are, and nothing else."""
    header, parts = signer.open(_RECORD, fields.get(b"r", b""))
    try:
        record = _record(header, parts)
        if pid is not None and record.pid != pid:
            raise ValueError("of another session")
        count = int(fields.get(b"c", b"0"))
        if count > CHANGES_LIMIT:
            return record._replace(incomplete=record.incomplete or "changes")
        for number in range(1, count + 1):
            entered, namespace, room, offset = signer.open(_CHANGE, fields[b"%d" % number])[0]
            if namespace != record.namespace:
                raise ValueError("of another session")
            record = changed(record, bool(entered), _text(room), _whole(offset))
    except RefusedMessage:
        raise
    except (ValueError, TypeError, KeyError):
        raise RefusedMessage("garbled") from None
    return record


def _record(header: Any, parts: list[bytes]) -> Record:
    """Raises ValueError, TypeError."""
    pid, data = parts
    sid, namespace, node, user, stays, places, incomplete, moved = header
    base, sent, position = (Position(_text(epoch), _whole(offset)) for epoch, offset in places)
    return Record(
        pid.decode("utf-8", "surrogatepass"),
        _text(sid),
        _text(namespace),
        _text(node),
        _text(user),
        data,
        tuple([_stay(*stay) for stay in stays]),
        base,
        sent,
        position,
        None if incomplete is None else _text(incomplete),
        bool(moved),
    )


def _stay(room: Any, after: Any, until: Any = None, asked: Any = False, granted: Any = False) -> Stay:
    return Stay(_text(room), _whole(after), None if until is None else _whole(until), bool(asked), bool(granted))


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("a text is expected")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("an offset is expected")
    return value
