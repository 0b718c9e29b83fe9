"""Pure: no I/O, no clock, no task. One error tree, by who is at fault, and its one translation to the wire.

RealtimeError
├── ProtocolError   the peer broke the rules of a wire; the connection ends
├── PayloadError    well-formed, but not what the event expects; answered, the connection lives
├── AccessError     not allowed, or not known to exist
├── LimitError      too fast, too many, too big; ``retry_after`` where waiting helps
├── Refusal         raised by a handler on purpose
├── HandshakeError  an Engine.IO request that is refused, with its HTTP status
├── OutsideError    Redis or the database did not answer
└── UsageError      our caller's mistake; never sent to a client
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

from realtime.names import Reason


class CloseCode(IntEnum):
    """WebSocket close codes (CONTRACT section 6). 4000-4499: connect again; 4500-4999: do not."""

    DONE = 1000
    GOING_AWAY = 1001
    PROTOCOL = 1002
    UNSUPPORTED = 1003
    BAD_TEXT = 1007
    POLICY = 1008
    TOO_BIG = 1009
    SERVER_ERROR = 1011
    SILENT = 4408
    TOO_FAST = 4429
    TOO_SLOW = 4430
    DRAINING = 4440
    BAD_PROTOCOL = 4501
    REVOKED = 4503
    REPLACED = 4504


DISMISSALS: Final[Mapping[str, tuple[CloseCode, str]]] = {
    Reason.EXPIRED: (CloseCode.POLICY, "Token expired"),
    Reason.LIMIT: (CloseCode.TOO_FAST, "too many messages"),
    Reason.DRAINING: (CloseCode.DRAINING, "server shutting down"),
    Reason.REPLACED: (CloseCode.REPLACED, "replaced by another connection"),
}
"""How a plain client's connection is closed when its membership ends for a reason; 1000 and no words for any other."""

CODES: Final = frozenset(
    {"ended", "origin", "system_room", "too_many_connections", "too_many_namespaces", "too_many_rooms"}
    | {"expired_token", "invalid_token", "unauthorized", "unknown_event", "unknown_namespace"}
)
"""Codes of ours beside those of the classes: what may be a label of a metric. An application's could be anything."""


class RealtimeError(Exception):
    """The root. ``code`` is stable and in snake case, ``message`` is for people."""

    code = "internal"

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        details: Any = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message or self.__class__.__name__
        self.code = code or self.__class__.code
        self.details = details
        self.retry_after = retry_after

    def as_dict(self) -> dict[str, Any]:
        """The object of CONTRACT section 4: ``code``, ``message``, and what else is known."""
        found: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details is not None:
            found["details"] = self.details
        if self.retry_after is not None:
            found["retry_after"] = round(self.retry_after, 3)
        return found


class ProtocolError(RealtimeError):
    """The peer broke the rules of a wire. ``close`` is the close code it is shown."""

    code = "protocol_error"

    def __init__(
        self, message: str = "", *, close: CloseCode = CloseCode.BAD_PROTOCOL, code: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.close = close


class PayloadError(RealtimeError):
    """What came is well-formed but not what the event expects; answered, the connection lives."""

    code = "invalid_payload"


class AccessError(RealtimeError):
    """Not allowed, or not known to exist."""

    code = "forbidden"


class LimitError(RealtimeError):
    """Too fast, too many, too big; ``retry_after`` where waiting helps."""

    code = "rate_limited"


class Refusal(RealtimeError):
    """Raised by a handler to say no: ``raise Fail("room_full", "This room is full", details={"max": 50})``."""

    code = "refused"

    def __init__(self, code: str, message: str = "", *, details: Any = None, retry_after: float | None = None) -> None:
        super().__init__(
            message or code.replace("_", " ").capitalize(), code=code, details=details, retry_after=retry_after
        )


class OutsideError(RealtimeError):
    """Something outside (bus, journal, database) could not keep its promise."""

    code = "unavailable"


class HandshakeError(RealtimeError):
    """Engine.IO refuses a request: an HTTP status and Engine.IO's own number and sentence for the body."""

    code = "handshake_refused"

    def __init__(
        self, status: int, number: int, message: str, *, reason: str, retry_after: float | None = None
    ) -> None:
        super().__init__(message, code=reason, retry_after=retry_after)
        self.status = status
        self.number = number

    def body(self) -> bytes:
        """Engine.IO's own JSON; number and message are ours, so nothing in it needs escaping."""
        return b'{"code":%d,"message":"%s"}' % (self.number, self.message.encode("ascii"))


class UsageError(RealtimeError):
    """Our caller's mistake; the message says what was expected and what came."""

    code = "usage"


def label_of(error: BaseException) -> str:
    """The code of an error as the label of a metric: one of ours, or that of its family."""
    if not isinstance(error, RealtimeError):
        return "internal"
    return error.code if error.code in CODES else type(error).code


def connect_refusal(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What CONNECT_ERROR carries for an error object: a sentence for people, and all of it as ``data``."""
    return {"message": answer["message"], "data": answer}


def wire_error(error: BaseException, incident: str) -> dict[str, Any]:
    """What a client is told about an error: its own words if it is ours, else a generic answer.

    ``incident`` is the correlation id that the log line carries too; the text of a foreign
    exception never reaches a client.
    """
    if isinstance(error, RealtimeError) and not isinstance(error, UsageError):
        return error.as_dict()
    return {"code": "internal", "message": "The server could not handle this", "details": {"incident": incident}}
