"""What the core needs from the world, one promise a line. Adapters keep these promises; the core never imports one.

All wire calls are synchronous both ways and answer with back-pressure; they belong to the event loop
of their connection. Bus and History calls may be awaited from any event loop of the process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol, runtime_checkable

from realtime.encoding.codecs import Encoded
from realtime.journal.positions import Channel, Draft, Entry, Position
from realtime.journal.resume import Record


class Wire(Protocol):
    """Core to edge: carries frames to one client."""

    name: str
    """``websocket``, ``polling``, ``raw`` or ``sse``: a label and what ``Server.transport()`` answers."""
    link: Link
    """Whom to tell; an upgrade changes it."""

    def send(self, encoded: Encoded) -> bool:
        """Take these frames now, in order. False: full; the wire calls ``Link.take`` when it has room."""

    def close(self, code: int, reason: str) -> None:
        """Say good-bye after what still waits (``Link.take``); who does not read is cut. Repeats do nothing."""

    def pause(self) -> None:
        """Stop reading from the client until ``resume``."""

    def resume(self) -> None: ...


class Link(Protocol):
    """Edge to core: what a wire tells about its client. The core's session implements it."""

    def receive(self, frame: str | bytes) -> None:
        """Here is a whole message from the client. The core calls ``Wire.pause`` when it wants no more."""

    def take(self) -> Encoded | None:
        """You have room again: the next of the backlog, or None when there is nothing (then ``send`` comes)."""

    def put_back(self, encoded: Encoded) -> None:
        """This did not fit after all: keep it as the first of what waits."""

    def hold(self) -> None:
        """No room until the next ``take``: a poll was answered and the next one has not come."""

    wire: Wire | None
    closed: bool

    def close(self, code: int, text: str, reason: str) -> None:
        """The wire found a violation that only it can see. Repeats do nothing."""

    def broken(self, code: int, reason: str, kind: str = "bad_frame") -> None:
        """The client broke the wire's own rules (a frame, not a packet): count it, as ``kind``, and end it with this
        close code."""

    def lost(self, reason: str) -> None:
        """The client is gone. Nothing is sent after this. Repeats do nothing."""


class Door(Protocol):
    """Edge to core: where Engine.IO requests knock. HandshakeError is the answer no."""

    message_limit: int
    """Bytes of one message, and of one polling POST."""
    compress_from_bytes: int | None
    """Answers of this size and more are compressed for clients that take it; None: never."""

    def admit(self, scope: Mapping[str, Any]) -> str | None:
        """Check transport, version, method, origin and session id; the session id, None for a handshake."""

    def open(self, scope: Mapping[str, Any], wire: Wire) -> Link:
        """A new session on this wire; its handshake packet is the first thing the wire is given."""

    def find(self, sid: str) -> Link:
        """The session of this id."""

    def farewell(self, sid: str) -> Sequence[Encoded] | None:
        """What a session that ended between two polls has still to be told, once; None for any other."""

    def has_ended(self, sid: str) -> bool:
        """Was this client, which polls, ended a short time ago? It may not know yet."""

    def upgrade(self, sid: str, wire: Wire) -> Link | None:
        """A WebSocket wants to take over a polling session; None when it may not (accept it, then close)."""

    def answer_headers(self, scope: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
        """Headers for any answer: CORS."""

    def opening_headers(self, link: Link) -> list[tuple[bytes, bytes]]:
        """Headers for the answer to a polling handshake: the sticky-session cookie where one is configured."""


DIRECT: Final = "realtime.direct"
"""The key in ``scope["extensions"]`` under which a server of ours puts its ``Direct``."""


class Direct(Protocol):
    """A WebSocket that can be driven by plain calls instead of ASGI messages."""

    def accept_now(self, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Accept the WebSocket. Raises OSError when the client has gone."""

    def take_over(self, link: Link) -> None:
        """This is a ``Wire`` now; frames go to the link, and the ASGI call may return."""

    def raw(self, receive: Receive, send: Send, link: Link) -> Any:
        """A ``Wire`` for a route that pulls its frames through ASGI."""


class ServesScope(Protocol):
    """A wire adapter: serves the requests of its kind. Found by name among the entry points ``realtime.adapters``."""

    async def __call__(self, door: Door, scope: Mapping[str, Any], receive: Receive, send: Send) -> None: ...


Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One chat message as it is stored. ``timestamp`` is ISO 8601 in UTC with a ``Z``; ``id`` sorts by age."""

    id: str
    room: str
    username: str
    text: str
    timestamp: str


@dataclass(frozen=True, slots=True)
class Page:
    """Messages oldest first; ``more`` tells that older ones exist."""

    messages: Sequence[StoredMessage]
    more: bool


@runtime_checkable
class History(Protocol):
    """Core to edge: stored chat messages."""

    def append(self, message: StoredMessage) -> None:
        """Keep this; returns at once, written behind in batches. Raises LimitError when too many wait."""

    async def page(self, room: str, *, before: str | None = None, limit: int = 50) -> Page:
        """The newest ``limit`` messages older than the id ``before``; sees everything appended here before the call.

        An unknown ``before`` answers with what is older than that id would be. Raises OutsideError.
        """

    async def ping(self) -> None:
        """Raises OutsideError when the store does not answer."""

    async def flush(self) -> None:
        """Returns when everything appended before the call is stored. Raises OutsideError."""

    async def close(self) -> None:
        """Flush and let go. Repeats do nothing."""


class NameHolders(Protocol):
    """Which user names are held by somebody with a token, on any node. Entries expire when their node falls silent."""

    async def hold(self, name: str) -> None:
        """One more connection of a token holder of this name. Raises OutsideError; it is counted here all the same."""

    async def release(self, name: str) -> None:
        """One less. Never raises: an entry that could not be taken back expires."""

    async def held(self, name: str) -> bool:
        """Does a token holder have this name now? Raises OutsideError when that cannot be known."""

    async def close(self) -> None: ...


class Bus(Protocol):
    """Takes messages to every *other* node, at most once, and hands theirs in. No order is promised."""

    async def publish(self, message: bytes) -> None:
        """Raises OutsideError when the message could not be handed over, after the adapter's own retries."""

    def listen(self) -> AsyncIterator[bytes]:
        """Messages of all nodes, this one included (the caller knows its own). Survives breaks; ``close`` ends it."""

    async def ping(self) -> None:
        """Raises OutsideError when the bus does not answer within a second."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Stretch:
    """Part of a log: ``entries`` in order, and nothing is missing up to ``upto``; ``more`` tells that it goes on."""

    entries: Sequence[Entry]
    upto: Position
    more: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """A volatile emission of another node: not kept, so it has no position of its own."""

    draft: Draft
    newest: Position | None = None
    """The newest position of its namespace that the sender knew."""


class NoticeKind(StrEnum):
    """What happened to the way on which messages come."""

    BROKEN = "broken"
    """They may be missing from here on."""
    BACK = "back"
    """They come again. What was missed is in the log: read it from the last position before going on."""
    BEHIND = "behind"
    """A watched channel is further than what came in (a lost last message): read as after BACK."""
    EPOCH = "epoch"
    """The log was lost or went back: another one has begun."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Not a message. It concerns one namespace, or all (None)."""

    kind: NoticeKind
    namespace: str | None = None


Followed = Entry | Told | Notice


class Journal(Protocol):
    """Assigns positions, keeps entries for a time, and brings those of watched channels to every node.

    One order for everybody: entries of a namespace come in by ``follow`` in the order of their positions, this node's
    own among them (only so have all nodes one order), except after ``BROKEN``. Bounded by number, age and bytes; what
    is over the bounds is gone.
    """

    def append(self, draft: Draft) -> Awaitable[Entry]:
        """Keep it and tell every node that watches one of its channels. The same id twice is one entry, the first.
        What is begun in an order is kept in that order: where one is not, none is that was begun behind it meanwhile.

        Raises OutsideError when that is not known to have happened: ask again with the same draft.
        """

    def tell(self, draft: Draft) -> Awaitable[None]:
        """A volatile emission for the other nodes: published, not kept. Raises OutsideError."""

    async def since(self, namespace: str, position: Position, *, limit: int = 1_000) -> Stretch | None:
        """Entries of all channels after this position. None: it does not reach back so far, or is another log.

        Raises OutsideError.
        """

    async def newest(self, namespace: str) -> Position:
        """The end of the log; offset 0 where nothing was ever appended. Raises OutsideError."""

    async def watch(self, namespace: str, *channels: Channel) -> Position:
        """What is for these channels comes in from now on; answers a position after which nothing of them is missed.

        Repeats change nothing. Raises OutsideError; they are watched all the same once the journal is back.
        """

    async def unwatch(self, namespace: str, *channels: Channel) -> None:
        """Nothing of these channels comes in any more. Never raises."""

    async def heads(self, namespace: str, channels: Sequence[Channel]) -> Mapping[Channel, int]:
        """The newest offset of each channel (0: none known): how a lost last message is found. Raises OutsideError."""

    def follow(self) -> AsyncIterator[Followed]:
        """What comes in. Survives breaks, which it tells; ``close`` ends it. One follower."""

    async def ping(self) -> None:
        """Raises OutsideError when the journal does not answer within a second."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Claimed:
    """Another node has this session now: whatever is still connected under it here is to be closed (4504)."""

    pid: str


@dataclass(frozen=True, slots=True)
class Expired:
    """Nobody came back in time; the session is no more."""

    record: Record


class Sessions(Protocol):
    """Who may come back. Records are kept *while* their clients are connected too, so that the sudden death of a node
    is covered; each for so many seconds after it was last kept. Bounded: the oldest go first, and are counted."""

    async def keep(self, records: Sequence[Record], seconds: float, *, away: bool = False) -> Sequence[str]:
        """In the place of what was kept under the same pids. A record that another node has claimed meanwhile, or that
        was forgotten, is left alone; answers the pids of those. Raises OutsideError.

        ``away``: these are of clients that are not connected. Rooms that were entered and left for them (``enter``,
        ``leave``) since they were last kept connected stay so, for whoever made the record may not know of it yet.
        """

    async def look(self, pid: str) -> Record | None:
        """What ``claim`` would answer; it stays whose it is, and nobody is told. Raises OutsideError."""

    async def claim(self, pid: str, node: str) -> Record | None:
        """Take it: of two claims at once one gets the record, and whoever had it before is told (``notices``). None for
        a pid that is unknown, expired or forgotten. Raises OutsideError."""

    async def forget(self, pids: Sequence[str]) -> None:
        """An explicit leave ends a session. Raises OutsideError."""

    async def enter(self, namespace: str, sid: str, room: str, after: int) -> bool:
        """A client that is away is put into a room; it hears of entries after this offset. False: no such client."""

    async def leave(self, namespace: str, sid: str | None, room: str, until: int) -> int:
        """A client that is away, or each (None), leaves a room; answers how many did."""

    async def forget_sid(self, namespace: str, sid: str) -> bool:
        """The session of this client ends, if it is away. False: no such client."""

    async def forget_room(self, namespace: str, room: str) -> int:
        """The sessions of all that are away and in this room (or whose sid it is) end; answers how many did."""

    def notices(self) -> AsyncIterator[Claimed | Expired]:
        """What happened to sessions that this node kept, and which ones of nodes that are dead have expired: of each
        one node is told, once. ``close`` ends it. One listener."""

    async def close(self) -> None: ...


class Answers(Protocol):
    """Answers of requests that may come twice (``Idempotency-Key``, ``client_id``), kept for a window."""

    async def begin(self, key: str, body: bytes) -> bytes | None:
        """None: nobody has asked this before, and whoever asks now waits for your ``finish`` or ``abandon``. Otherwise
        the answer that was given. ``body`` is a digest: a key with another raises Refusal ``idempotency_conflict``.

        Raises OutsideError; with the code ``pending`` when the one before failed meanwhile, or neither finished nor
        abandoned in time. Keys are remembered for a window that the adapter was made with, ten minutes unless said
        otherwise.
        """

    async def finish(self, key: str, answer: bytes) -> None:
        """The answer that everybody gets who asks with this key until its time is over. Raises OutsideError."""

    async def abandon(self, key: str) -> None:
        """As if it had never been asked. Never raises."""

    async def close(self) -> None: ...


OpenBus = Callable[[str, str, Any], Bus]
"""``open_bus(url, channel, metrics)``: what an entry point of the group ``realtime.adapters`` names for a scheme."""
OpenHistory = Callable[[str, Any], History]
"""``open_history(database_url, metrics)``."""
