"""A plain WebSocket client (or another without a library) as a member of a namespace.

Inbound is pulled by the route that serves it, so a slow handler slows its own client and nobody else;
outbound goes the way of every session: encoded once, bounded, never waiting for a slow reader.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

from realtime.access.limits import Gcra
from realtime.clients.context import Socket
from realtime.encoding.codecs import Dialect, Encoded, json_bytes, text
from realtime.errors import DISMISSALS, AccessError, CloseCode, LimitError, RealtimeError, Refusal
from realtime.journal.said import Said
from realtime.names import LIFECYCLE_EVENTS, Reason
from realtime.ports import Wire
from realtime.recovery.since import Since
from realtime.session.endings import note_limit
from realtime.session.session import Core, Member, Session

PATIENCE_MESSAGES = 200
"""Messages over the rate limit that are answered with an error before the connection is ended (4429)."""


class RawSession(Session):
    """A session that speaks a raw dialect and is in one namespace."""

    __slots__ = ("_settled", "_wire_by", "refusal")

    kind = "raw"

    def __init__(self, core: Core, id: str, dialect: Dialect, scope: Mapping[str, Any]) -> None:
        super().__init__(core, id, dialect, scope)
        self.refusal: dict[str, Any] | None = None
        self._settled: asyncio.Future[None] = self.loop.create_future()
        self._wire_by = math.inf

    async def enter(self, sid: str, namespace: str, auth: Any) -> Member:
        """Ask to be let in. Raises AccessError with the application's words when it is refused or ended meanwhile."""
        member = self.join(sid, namespace, auth)
        self.inbox.put(member, ("connect", auth, None))
        await self._settled
        if self.refusal is not None:
            self.lost(Reason.SERVER)
            raise _as_error(self.refusal)
        if self.closed:
            raise AccessError("Ended while it was let in", code="ended")
        return member

    def expect_wire(self) -> None:
        """It is let in, and its wire is due: without one in time (ten seconds, a setting) it counts as gone."""
        self._wire_by = self.loop.time() + self.core.settings.connect_timeout_seconds
        self.wake_at(self._wire_by)

    def attend(self, wire: Wire) -> bool:
        """Its wire is here. False when the session has ended meanwhile; then the wire is the caller's to close."""
        if not self.closed:
            self.attach_wire(wire, free=True)
        return not self.closed

    def tick(self, now: float) -> None:
        if self.wire is None and now >= self._wire_by:
            self.lost(Reason.TRANSPORT_CLOSE)
            return
        super().tick(now)
        if self.wire is None and not self.closed:
            self.wake_at(self._wire_by)

    def accept(self, member: Member, data: Mapping[str, Any] | None) -> bool:
        accepted = super().accept(member, data)
        self._settle()
        return accepted

    def refuse(self, member: Member, data: Any) -> None:
        super().refuse(member, data)
        self.refusal = data
        self._settle()

    def leave(self, member: Member, reason: str) -> None:
        super().leave(member, reason)
        self._settle()

    def _settle(self) -> None:
        if not self._settled.done():
            self._settled.set_result(None)

    def receive(self, frame: str | bytes) -> None:
        """Nothing comes this way: the route pulls."""

    def dismiss(self, namespace: str, reason: str) -> None:
        code, words = DISMISSALS.get(reason, (CloseCode.DONE, ""))
        self.close(code, words, reason)


class Inbound(Protocol):
    """Where a peer's frames come from; the wire that also carries its outbound frames."""

    async def read(self) -> str | bytes | None:
        """The next frame; None when the client is gone."""


class Peer:
    """One raw client while its route runs. Iterate over it for its texts; send to it; it is a Socket too."""

    def __init__(self, session: RawSession, member: Member, socket: Socket, inbound: Inbound) -> None:
        self.socket = socket
        self._session = session
        self._member = member
        self._inbound = inbound
        settings = session.core.settings
        self._limit = settings.message_limit_bytes
        self._rate = Gcra(settings.events_per_second, max(1, int(settings.events_per_second)))
        self._refused = 0

    async def __aiter__(self) -> AsyncIterator[str]:
        """Texts that kept within size and rate; ends when the client is gone or was closed."""
        while (message := await self.read()) is not None:
            yield message

    async def read(self) -> str | None:
        """The next text; None when the client is gone or was closed."""
        while True:
            frame = await self._inbound.read()
            if frame is None or self._session.closed:
                return None
            if not isinstance(frame, str):
                self._session.broken(CloseCode.UNSUPPORTED, "text frames only")
            elif len(frame) > self._limit or len(frame.encode("utf-8", "surrogatepass")) > self._limit:
                self._session.broken(CloseCode.TOO_BIG, "message too big", "too_big")
            elif self._within_rate():
                return frame

    def _within_rate(self) -> bool:
        wait = self._rate.hit(self._session.loop.time())
        if wait is None:
            return True
        self._refused += 1
        self._session.dropped("rate_limited")
        note_limit(self._session, "rate_limited")
        if self._refused > PATIENCE_MESSAGES:
            self.close(CloseCode.TOO_FAST, "too many messages", Reason.LIMIT)
        else:
            self.say({"type": "error", **LimitError("Too many messages", retry_after=wait).as_dict()})
        return False

    async def handle(self, event: str, args: list[Any], id: Any = None) -> None:
        """Run the namespace's handler of an event, as if a Socket.IO client had sent it; an ``id`` is answered."""
        if event in LIFECYCLE_EVENTS:  # the decoder refuses them for Socket.IO clients: they are no events of anybody's
            self._session.fail(self._member.namespace, id, Refusal("unknown_event", "No such event").as_dict())
            return
        await self._session.core.application.event(self._member, [event, *args], id)

    def say(self, message: Any) -> None:
        """To this client alone: a string as it is, anything else as JSON. Never waits."""
        self._session.offer(as_text(message))

    def close(self, code: int = CloseCode.DONE, words: str = "", reason: str = Reason.SERVER) -> None:
        """End the connection: a close code and words for the client, a reason for the disconnect hook."""
        self._session.close(code, words, reason)

    @property
    def closed(self) -> bool:
        """Ended, by either side."""
        return self._session.closed


def as_text(message: Any) -> Encoded:
    return text(message) if isinstance(message, str) else text(json_bytes(message))


class PlainDialect:
    """The form in which plain clients are spoken to: ``say(event, data)`` answers the text, or an object for JSON,
    or None to be silent. Keeps the port ``Dialect``."""

    name = "plain"

    def __init__(
        self,
        say: Callable[..., str | dict[str, Any] | None],
        *,
        offsets: bool = False,
        opening: Callable[[Since | None, str | None], str | dict[str, Any] | None] | None = None,
    ) -> None:
        """``offsets``: ``say(event, data, offset)``, the offset None where the namespace keeps nothing. ``opening`` is
        asked for the first words, with what came of ``since`` and the newest offset."""
        self._say = say
        self._offsets = offsets
        self._opening = opening

    def event(self, namespace: str, name: str, args: Any, id: int | None = None) -> Encoded | None:
        return self.noted(namespace, name, args, None)

    def kept(self, namespace: str, said: Said, offset: str) -> Encoded | None:
        """An event that was kept."""
        return self.noted(namespace, said.name, said.args, offset)

    def noted(self, namespace: str, name: str, args: Any, offset: str | None) -> Encoded | None:
        """An event, with the newest offset."""
        data = args[0] if args else None
        said = self._say(name, data, offset) if self._offsets else self._say(name, data)
        return None if said is None else as_text(said)

    def opening(self, since: Since | None, offset: str | None) -> Encoded | None:
        """The first words."""
        said = self._opening(since, offset) if self._opening is not None else None
        return None if said is None else as_text(said)

    def ack(self, namespace: str, id: int, args: Any) -> Encoded | None:
        return None

    def connect(self, namespace: str, data: Mapping[str, Any]) -> Encoded | None:
        return None

    def connect_error(self, namespace: str, data: Any) -> Encoded | None:
        return None

    def disconnect(self, namespace: str) -> Encoded | None:
        return None


def _as_error(refusal: Any) -> RealtimeError:
    data = refusal.get("data") if isinstance(refusal, dict) else None
    found = data if isinstance(data, dict) else {}
    message = str(refusal.get("message", "")) if isinstance(refusal, dict) else str(refusal)
    return AccessError(message, code=str(found.get("code", "forbidden")), details=found.get("details"))
