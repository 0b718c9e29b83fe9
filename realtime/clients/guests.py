"""Clients without a library come in: plain WebSockets and event streams, as members of a namespace.

Origin, authorise step and join rule run before anything is accepted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final, Protocol

from starlette.exceptions import WebSocketException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketState

from realtime.access.identity import SUBPROTOCOL
from realtime.clients.context import Socket
from realtime.clients.peer import Peer, PlainDialect, RawSession
from realtime.encoding.codecs import Dialect, json_text
from realtime.errors import AccessError, CloseCode, LimitError, OutsideError, RealtimeError
from realtime.metrics import Metrics
from realtime.names import Reason
from realtime.plug import find
from realtime.recovery.since import Since
from realtime.rooms.hub import Hub
from realtime.session.session import Core, Member
from realtime.telemetry.redaction import printable

logger = logging.getLogger("realtime")


class Door(Protocol):
    """Where handshakes of all wires are counted."""

    def admit_guest(self, scope: Mapping[str, Any]) -> None:
        """Raises LimitError when its address has had too many."""


class House(Protocol):
    """What is asked of the server."""

    eio: Door
    core: Core
    raw_dialect: Dialect
    hub: Hub
    metrics: Metrics

    @property
    def draining(self) -> bool: ...

    def knows(self, namespace: str) -> bool: ...

    def new_session_id(self) -> str: ...

    def check_origin(self, scope: Mapping[str, Any]) -> None: ...

    def socket_of(self, member: Member) -> Socket: ...

    async def look_back(self, namespace: str, offset: str, *channels: str | None) -> str | None: ...

    def since(self, member: Member, offset: str, rooms: Collection[str] | None = None) -> Since: ...


class TooManyHandshakes(WebSocketException):
    """Of one address, on plain routes. ``Realtime(app)`` answers it with 429 (``deny``); without it it is refused as
    others are."""

    def __init__(self, error: RealtimeError, reason: str) -> None:
        super().__init__(CloseCode.POLICY, reason)
        self.error = error


async def deny(websocket: WebSocket, refused: TooManyHandshakes) -> None:
    """In HTTP where the server can do that before a WebSocket is one; else by closing it."""
    asked = websocket.application_state is WebSocketState.CONNECTING
    if asked and "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(_too_many(refused.error))
    else:
        await websocket.close(refused.code, refused.reason)


def _too_many(error: RealtimeError) -> Response:
    return JSONResponse(error.as_dict(), 429, {"retry-after": str(math.ceil(error.retry_after or 0))})


@asynccontextmanager
async def raw(
    house: House,
    namespace: str,
    websocket: WebSocket,
    auth: Any,
    dialect: Dialect | None,
    enter: Iterable[str],
    refusal: str | None,
    since: str | None = None,
) -> AsyncIterator[Peer]:
    """A plain WebSocket as a client of a namespace (see ``Namespace.raw``).

    What the block raises closes the connection: Starlette's WebSocketException with its own code and reason, and it
    goes no further; anything else with 1011, and it goes on to the server's log.
    """
    scope = websocket.scope
    if websocket.client_state is WebSocketState.CONNECTING:
        await websocket.receive()
    try:
        session, member = await _knock(house, namespace, scope, auth, dialect, enter, since)
    except RealtimeError as error:
        if _is_too_many(error):
            raise TooManyHandshakes(error, refusal or error.message) from None
        # Before it is accepted a WebSocket can be told no more than 403, and a browser tells its page nothing at all.
        logger.info("refused a plain client of %s: %s, %s", namespace, error.code, printable(error.message))
        code = CloseCode.DRAINING if house.draining else CloseCode.POLICY
        raise WebSocketException(code, refusal or error.message) from None
    try:
        wire = find("websocket").raw(scope, websocket.receive, websocket.send, session)
        await wire.accept(SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", ()) else None)
    except BaseException:
        session.lost(Reason.TRANSPORT_ERROR)
        raise
    if not session.attend(wire):
        wire.close(CloseCode.GOING_AWAY, "ended while it was let in")
    try:
        yield Peer(session, member, house.socket_of(member), wire)
    except WebSocketException as error:
        session.close(error.code, error.reason, Reason.SERVER)
    except BaseException:
        session.close(CloseCode.SERVER_ERROR, "server error", Reason.SERVER)
        raise
    finally:
        session.close(CloseCode.DONE, "", Reason.SERVER)
        await wire.finish()


async def stream(
    house: House,
    namespace: str,
    request: HTTPConnection,
    auth: Any,
    dialect: Dialect | None,
    enter: Iterable[str],
    since: str | None = None,
) -> Response:
    """A Server-Sent-Events client of a namespace (see ``Namespace.stream``)."""
    if since is None and namespace in house.hub.keepers:
        since = request.headers.get("last-event-id")
    try:
        session, _ = await _knock(house, namespace, request.scope, auth, dialect or STREAM, enter, since)
    except LimitError as error:
        if _is_too_many(error):
            return _too_many(error)
        raise
    response: Response = find("sse")(session)
    return response


def _is_too_many(error: RealtimeError) -> bool:
    """An author's own LimitError is the author's to answer."""
    return isinstance(error, LimitError) and error.code == "address_limit"


def stream_text(name: str, data: Any, offset: str | None = None) -> str:
    """An event as an event stream has it. JSON has no raw newline in it, and a name must not bring one: the rest of it
    would be fields of its own."""
    mark = "" if offset is None else f"id: {offset}\n"
    return f"{mark}event: {printable(name)}\ndata: {json_text(data)}\n\n"


def stream_opening(since: Since | None, offset: str | None) -> str | None:
    """Where the stream begins, so that who hears nothing can resume, too; and whether all that was missed is there."""
    mark = "" if offset is None else f"id: {offset}\n"
    told = "" if since is None else f"event: resumed\ndata: {json_text(since.as_dict())}\n"
    return f"{mark}{told}\n" if mark or told else None


STREAM: Final = PlainDialect(stream_text, offsets=True, opening=stream_opening)


async def _knock(
    house: House,
    namespace: str,
    scope: Mapping[str, Any],
    auth: Any,
    dialect: Dialect | None,
    enter: Iterable[str],
    since: str | None,
) -> tuple[RawSession, Member]:
    """Whatever refuses is raised, and leaves no trace."""
    house.check_origin(scope)
    if house.draining:
        raise OutsideError("Shutting down, connect again", code="draining", retry_after=1)
    house.eio.admit_guest(scope)
    if not house.knows(namespace):
        raise AccessError("Invalid namespace", code="unknown_namespace")
    session = RawSession(house.core, house.new_session_id(), dialect or house.raw_dialect, scope)
    try:
        member = await session.enter(house.core.new_sid(), namespace, auth)
        for room in enter:
            await house.socket_of(member).join(room)
        await _open(house, session, member, since)
    except BaseException:
        session.lost(Reason.SERVER)
        raise
    session.expect_wire()
    return session, member


async def _open(house: House, session: RawSession, member: Member, since: str | None) -> None:
    """What it missed, and then the words of its dialect for that; both wait for the wire."""
    keeper, outcome = house.hub.keepers.get(member.namespace), None
    if since is not None:
        rooms = house.hub.rooms_of(member.sid, member.namespace)
        reason = await house.look_back(member.namespace, since, None, *rooms)
        outcome = house.since(member, since)
        if (
            not outcome.recovered
        ):  # what was said while it was looked for is not the beginning, but part of what it missed
            session.outbox.clear()
            outcome = replace(outcome, reason=reason or outcome.reason)
    opening = getattr(session.dialect, "opening", None)
    said = opening(outcome, keeper.mark if keeper is not None else None) if opening is not None else None
    if said is not None:
        session.offer(said)
