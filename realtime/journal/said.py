"""Pure: no I/O, no clock, no task. An event whose arguments were encoded once, and the dialects that carry offsets.

A dialect with a method ``kept`` splices envelope and offset around those bytes; one without is given the arguments.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from realtime.encoding.codecs import Encoded, RawJson, SocketIOMsgPack, SocketIOText, json_bytes
from realtime.encoding.encoded import ready
from realtime.encoding.packets import find_places
from realtime.journal.positions import Draft

NAMES_LIMIT: Final = 1_000
"""Heads of events that are kept ready; names may be relayed from clients."""


class Said:
    """An event's name and its arguments, as they are and in JSON. Either is made from the other when asked for."""

    __slots__ = ("_args", "attachments", "count", "inner", "name")

    def __init__(
        self,
        name: str,
        inner: bytes,
        count: int,
        attachments: tuple[bytes, ...] = (),
        args: Sequence[Any] | None = None,
    ) -> None:
        """``inner``: the JSON array of the arguments without its brackets."""
        self.name = name
        self.inner = inner
        self.count = count
        self.attachments = attachments
        self._args = args

    @classmethod
    def again(cls, draft: Draft) -> Said:
        """What was kept."""
        return cls(draft.event, draft.body[1:-1], draft.arguments, draft.attachments)

    @property
    def args(self) -> Sequence[Any]:
        if self._args is None:
            self._args = args = json.loads(
                b"[%b]" % self.inner
            )  # not orjson: what we wrote ourselves may hold long integers
            if self.attachments:
                places = find_places(args, len(self.attachments))
                for (container, key), attachment in zip(places, self.attachments, strict=True):
                    container[key] = attachment
        return self._args


class SplicedText(SocketIOText):
    """Socket.IO as text, around a body that was encoded once."""

    def __init__(self, dumps: Callable[[Any], str] | None = None) -> None:
        super().__init__(dumps)
        self._heads: dict[tuple[str, str], bytes] = {}

    def kept(self, namespace: str, said: Said, offset: str) -> Encoded:
        """As ``event``; without the offset."""
        return self._splice(namespace, said, b"]")

    def _splice(self, namespace: str, said: Said, end: bytes) -> Encoded:
        head = self._heads.get((namespace, said.name)) or self._head(namespace, said.name)
        body = said.inner
        if not said.attachments:
            return ready(b"".join((b"42", head, body, end) if body else (b"42", head[:-1], end)))
        head = head if body else head[:-1]
        first = b"45%d-%b%b%b" % (len(said.attachments), head, body, end)
        return Encoded(((True, first), *((False, attachment) for attachment in said.attachments)))

    def _head(self, namespace: str, name: str) -> bytes:
        """Namespace, name and a comma, as they stand in front of the arguments."""
        if len(self._heads) >= NAMES_LIMIT:
            self._heads.clear()
        place = b"" if namespace == "/" else namespace.encode() + b","
        head = self._heads[namespace, name] = place + b"[" + json_bytes(name) + b","
        return head


class OffsetText(SplicedText):
    """The same for clients that are given the offset as last argument of every event without an id."""

    def kept(self, namespace: str, said: Said, offset: str) -> Encoded:
        """As ``event``, with the offset."""
        return self._splice(namespace, said, b',"%b"]' % offset.encode())

    def noted(self, namespace: str, name: str, args: Sequence[Any], offset: str) -> Encoded:
        """An event that was not kept, with the newest offset."""
        return self.event(namespace, name, (*args, offset))


class OffsetMsgPack(SocketIOMsgPack):
    """Socket.IO in MessagePack, with the offset as last argument."""

    def kept(self, namespace: str, said: Said, offset: str) -> Encoded:
        """As ``event``, with the offset."""
        return self.event(namespace, said.name, (*said.args, offset))

    def noted(self, namespace: str, name: str, args: Sequence[Any], offset: str) -> Encoded:
        """An event that was not kept, with the newest offset."""
        return self.event(namespace, name, (*args, offset))


class OffsetRaw(RawJson):
    """``{"event", "data", "offset"}`` for plain clients, in namespaces that keep what they say."""

    def kept(self, namespace: str, said: Said, offset: str) -> Encoded:
        """As ``event``, with the offset."""
        if said.attachments:
            data = json_bytes(said.args[0] if said.count == 1 else list(said.args))
        else:
            data = b"[%b]" % said.inner if said.count > 1 else said.inner or b"null"
        return ready(b'{"event":%b,"data":%b,"offset":"%b"}' % (json_bytes(said.name), data, offset.encode()))

    def noted(self, namespace: str, name: str, args: Sequence[Any], offset: str) -> Encoded:
        """An event that was not kept, with the newest offset."""
        data = args[0] if len(args) == 1 else list(args) or None
        return ready(json_bytes({"event": name, "data": data, "offset": offset}))

    def opening(self, since: Any, offset: str | None) -> Encoded | None:
        """``resumed``, after what was missed: whether that was all. Nothing for who asked for nothing."""
        if since is None:
            return None
        return ready(json_bytes({"event": "resumed", "data": since.as_dict(), "offset": offset}))
