"""Pure: no I/O, no clock, no task. Identifier types, reserved names, and which names are valid."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NewType
from unicodedata import normalize

Sid = NewType("Sid", str)
"""One client in one namespace, as Socket.IO shows it to the client."""
SessionId = NewType("SessionId", str)
"""One client connection (Engine.IO's sid); it carries a Sid for each namespace."""
NamespaceName = NewType("NamespaceName", str)
Room = NewType("Room", str)
EventName = NewType("EventName", str)
UserId = NewType("UserId", str)

ROOT: Final = NamespaceName("/")

NAME_LIMIT: Final = 128
"""Characters in a user name; in the name of an event, room or topic, where no setting says otherwise."""

LIFECYCLE_EVENTS: Final = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener", "*"}
)
"""Names that a client may not send: the protocol and the stock clients use them for themselves."""

SYSTEM_USER: Final = "SYSTEM"
"""The author of arrivals and departures on the raw chat route; nobody may be called so."""


_BLANK: Final = frozenset(
    map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2800, 0x3164, 0xFFA0,
              *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)  # fmt: skip
"""Characters that are drawn as nothing and yet count as printable (Unicode's Default_Ignorable, and the empty Braille
cell): with one of them in it, a name looks exactly like somebody else's."""


def name_key(name: str) -> str:
    """What two names have in common that differ in case or in how their characters are composed. Letters of other
    scripts that look alike are not covered."""
    return normalize("NFKC", normalize("NFKC", name).casefold())


def problem_with_name(name: object, what: str, limit: int = NAME_LIMIT) -> str | None:
    """Say in one sentence what is wrong with a room, topic or user name; None when it is fine. ``limit`` is in
    characters."""
    if not isinstance(name, str):
        return f"{what} must be a string"
    if not name:
        return f"{what} must not be empty"
    if len(name) > limit:
        return f"{what} is longer than {limit} characters"
    if not name.isprintable():
        # isprintable() is false for control, format (zero-width, right-to-left marks), surrogate
        # and line-separator characters; the plain space is the one separator it lets through.
        return f"{what} contains control or invisible characters"
    if not _BLANK.isdisjoint(name):
        return f"{what} contains control or invisible characters"
    if name != name.strip():
        return f"{what} begins or ends with a space"
    return None


def is_system_room(room: str) -> bool:
    """Rooms beginning with ``@`` or ``user:`` belong to the system: nobody joins or reads them by name."""
    return room.startswith(("@", "user:"))


def direct_room(one: str, other: str) -> Room:
    """The room of a private conversation, the same from both sides: ``@alice:bob``."""
    first, second = sorted((one, other))
    return Room(f"@{first}:{second}")


def user_room(user: str) -> Room:
    """The room that holds every connection of one user."""
    return Room(f"user:{user}")


class Reason(StrEnum):
    """Why a client left a namespace: what the disconnect hook is told, and a metric label."""

    CLIENT = "client disconnect"
    SERVER = "server disconnect"
    PING_TIMEOUT = "ping timeout"
    TRANSPORT_CLOSE = "transport close"
    TRANSPORT_ERROR = "transport error"
    PROTOCOL = "protocol error"
    SLOW = "slow"
    LIMIT = "limit"
    DRAINING = "draining"
    REPLACED = "replaced"
    EXPIRED = "token expired"


UNHEARD: Final = frozenset({Reason.SERVER, Reason.EXPIRED, Reason.REPLACED})
"""Ends by our decision, after which nothing that the client had sent is handled any more."""
