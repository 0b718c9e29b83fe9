"""Pure: no I/O, no clock, no task. What the journal's keys and channels in Redis are called.

Everything of one namespace has the same hash tag, so it lives in one slot of a Cluster, and a script may touch all
of it. Braces in a prefix or a namespace are escaped: they would end the tag early.
"""

from __future__ import annotations

from typing import Final

EVERYONE: Final = b"*"
"""The channel token of what goes to a whole namespace."""
_PARTS: Final = (b"head", b"log", b"rooms", b"ids", b"ids:old", b"marks")


class Keys:
    """The names of one namespace: ``of`` is for KEYS of the scripts, ``channel`` for a subscription."""

    __slots__ = ("log", "of", "tag")

    def __init__(self, prefix: str, namespace: str) -> None:
        self.tag = b"{%s:%s}" % (_prefix(prefix), _escape(namespace))
        self.of = tuple(b"%s:%s" % (self.tag, part) for part in _PARTS)
        self.log = self.of[1]

    def channel(self, token: bytes) -> bytes:
        """As the script makes it: the key of the log, and the token."""
        return self.log + token


def token(room: str | None) -> bytes:
    """The part of a channel's name that stands for a room; None: the whole namespace."""
    return EVERYONE if room is None else b"#" + room.encode("utf-8", "surrogatepass")


def room_of(token: bytes) -> str | None:
    """The reverse of ``token``. Raises ValueError for what is none."""
    if token == EVERYONE:
        return None
    if token[:1] != b"#":
        raise ValueError("neither a room nor everyone")
    return token[1:].decode("utf-8", "surrogatepass")


def node_channel(prefix: str, node: str) -> bytes:
    """Where a node is told what concerns it alone. Plain, not sharded: any server takes it to any other."""
    return b"%s:node:%s" % (_prefix(prefix), _escape(node))


def place(prefix: str, kind: str, name: str) -> bytes:
    """A key of its own, in a slot of its own: a session, an idempotency key."""
    return b"{%s:%s:%s}" % (_prefix(prefix), kind.encode(), _escape(name))


def _escape(text: str) -> bytes:
    return text.replace("%", "%25").replace("{", "%7B").replace("}", "%7D").encode("utf-8", "surrogatepass")


def _prefix(text: str) -> bytes:
    """Without a colon, so that no two prefixes with their names make one key."""
    return _escape(text).replace(b":", b"%3A")
