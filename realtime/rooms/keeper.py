"""What a namespace keeps of what it says: drafts go in, the log gives them their places, and clients get them again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

from realtime.encoding.codecs import Dialect, Encoded, array
from realtime.encoding.encoded import Frame
from realtime.errors import UsageError
from realtime.journal.log import Log, Past
from realtime.journal.passage import Passage
from realtime.journal.positions import Channel, Entry, Position
from realtime.journal.said import Said
from realtime.rooms.index import Target

logger = logging.getLogger("realtime")

FORMS_BYTES: Final = 1 << 22
"""Encoded entries that are kept ready while many clients come back at once; then it begins anew."""
TOGETHER_BYTES: Final = 1 << 14
"""Entries that are told together may have so much; larger ones leave one by one, as fast as they are read."""
FORM_BYTES: Final = 200
"""What an encoded entry costs beside its bytes, roughly."""


class Watching(Protocol):
    """Who brings in what other nodes say, of channels that somebody here is in. From any thread."""

    def need(self, *channels: Channel) -> None:
        """Somebody is in these now."""

    def spare(self, *channels: Channel) -> None:
        """Perhaps nobody is in these any more."""

    def joins_after(self, channel: Channel) -> int: ...


class Keeper:
    """One namespace's log and what clients are given of it. Changes one at a time: the hub has a lock for it."""

    def __init__(
        self, namespace: str, log: Past, clock: Callable[[], float], dumps: Callable[[Any], str] | None = None
    ) -> None:
        """``log`` is a ``Log``, or (with a ``lane``) what came out here of one that lies elsewhere."""
        self.namespace = namespace
        self.log = log
        self.lane: Watching | None = None
        """The way to other nodes and from them; it gives what is said its place then, and ``keep`` is not called."""
        self.returning = 0
        """Members who are being let in again: they are given what was kept, and must not hear it twice."""
        self._clock = clock
        self._dumps = dumps
        self._prefix = f"{log.epoch}-"
        self.mark = str(log.newest)
        """The newest place, as clients are given it."""
        self._forms: dict[tuple[Dialect, Position], Encoded | None] = {}
        self._together: dict[tuple[Dialect, str, tuple[int, ...]], Encoded | None] = {}
        """None: one by one."""
        self._forms_bytes = 0

    def keep(self, event: str, args: Sequence[Any], target: Target, skip: Collection[str]) -> tuple[Said, str]:
        """Encode it once and give it a place in the log; answers that as clients are given it. Raises UsageError."""
        body, attachments = array(args, self._dumps)
        inner, count = body[1:-1], len(args)
        if type(target) is str:
            rooms: tuple[Any, ...] | None = (target,)
        else:
            rooms = rooms_of(target)
        assert isinstance(self.log, Log)
        offset = self.log.add(None, self.namespace, rooms, tuple(skip), event, inner, count, attachments, self._clock())
        self.mark = mark = self._prefix + str(offset)
        return Said(event, inner, count, attachments, args), mark

    def joins_after(self, channel: Channel) -> int:
        """Who enters this channel now hears of what is after this offset."""
        return self.log.last if self.lane is None else self.lane.joins_after(channel)

    def need(self, channel: Channel) -> None:
        """Somebody is in this channel now."""
        if self.lane is not None:
            self.lane.need(channel)

    def check_room(self, room: Any) -> None:
        """On one node a room may be any value, as python-socketio allows; other nodes know it by its name. Raises
        UsageError."""
        if self.lane is not None and not isinstance(room, str):
            raise UsageError(f"with a bus the rooms of {self.namespace} are strings, not {type(room).__name__}")

    def again(self, dialect: Dialect, entries: Iterable[Entry], mark: str | None = None) -> Iterator[Encoded]:
        """Entries in a client's dialect, each made when it is asked for. ``mark``: an offset for all, not their own."""
        for entry in entries:
            encoded = self._form(dialect, entry) if mark is None else self._say_again(dialect, entry, mark)
            if encoded is not None:
                yield encoded

    def together(self, dialect: Dialect, passage: Passage) -> Iterator[tuple[Encoded, int]]:
        """The same with a passage that others missed, too: some of them in one, and how many those are."""
        start = 0
        for part in passage.parts:
            end, key = start + len(part), (dialect, passage.epoch, part)
            if key not in self._together:
                self._together[key] = self._one_of(dialect, passage.entries(start, end))
            encoded = self._together.get(key)
            if encoded is not None:
                yield encoded, len(part)
            else:
                for each in self.again(dialect, passage.entries(start, end)):
                    yield each, 1
            start = end

    def _one_of(self, dialect: Dialect, entries: Sequence[Entry]) -> Encoded | None:
        size = sum(entry.draft.size for entry in entries)
        if size > TOGETHER_BYTES:
            self._count_form(FORM_BYTES)
            return None
        frames: list[Frame] = []
        for entry in entries:
            encoded = self._say_again(dialect, entry, str(entry.position))
            frames += encoded.frames if encoded is not None else ()
        self._count_form(2 * size + FORM_BYTES * len(entries))
        return Encoded(tuple(frames)) if frames else None

    def catch_up(
        self, dialect: Dialect, entries: Iterable[Entry], mark: str, through: Callable[[], None]
    ) -> Iterator[Encoded]:
        """The same, and the last of them carries ``mark``; ``through`` is called before it."""
        last = None
        for entry in entries:
            if last is not None:
                yield from self.again(dialect, (last,))
            last = entry
        if last is not None:
            through()
            yield from self.again(dialect, (last,), mark)

    def _form(self, dialect: Dialect, entry: Entry) -> Encoded | None:
        key = (dialect, entry.position)
        try:
            return self._forms[key]
        except KeyError:
            encoded = self._say_again(dialect, entry, str(entry.position))
        self._count_form((encoded.size if encoded is not None else 0) + FORM_BYTES)
        self._forms[key] = encoded
        return encoded

    def _count_form(self, size: int) -> None:
        if self._forms_bytes + size > FORMS_BYTES:
            self._forms.clear()
            self._together.clear()
            self._forms_bytes = 0
        self._forms_bytes += size

    def _say_again(self, dialect: Dialect, entry: Entry, mark: str) -> Encoded | None:
        """Others were told it already: a dialect that has no words for it is in nobody's way."""
        try:
            return spoken(dialect, self.namespace, Said.again(entry.draft), mark)
        except Exception:
            logger.exception("%s of %s cannot be said again in %s", entry.draft.event, self.namespace, dialect.name)
            return None


def noted(dialect: Dialect, namespace: str, event: str, args: Sequence[Any], mark: str) -> Encoded | None:
    """What is not kept, in this dialect; with the newest offset where it carries one."""
    note = getattr(dialect, "noted", None)
    if note is None:
        return dialect.event(namespace, event, args)
    encoded: Encoded | None = note(namespace, event, args, mark)
    return encoded


def spoken(dialect: Dialect, namespace: str, said: Said, mark: str) -> Encoded | None:
    """What was kept, in this dialect; with its offset where it carries one."""
    kept = getattr(dialect, "kept", None)
    if kept is None:
        return dialect.event(namespace, said.name, said.args)
    encoded: Encoded | None = kept(namespace, said, mark)
    return encoded


def rooms_of(target: Target) -> tuple[Any, ...] | None:
    """A target as a draft has it. On one node a room may be any value, as python-socketio allows."""
    if target is None:
        return None
    if isinstance(target, str) or not isinstance(target, list | tuple | set | frozenset):
        return (target,)
    return tuple(dict.fromkeys(target))


def is_nobody(target: Target) -> bool:
    """An empty list or string."""
    return target is not None and (target == "" or (isinstance(target, list | tuple | set | frozenset) and not target))
