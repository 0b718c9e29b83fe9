"""Clients without a library come in: plain WebSockets and event streams, as members of a namespace.

Origin, authorise step and join rule run before anything is accepted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from starlette.exceptions import WebSocketException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketState

from realtime.codecs import Dialect, json_text
from realtime.context import Socket
from realtime.errors import AccessError, CloseCode, OutsideError, RealtimeError
from realtime.hub import Hub
from realtime.identity import SUBPROTOCOL
from realtime.metrics import Metrics
from realtime.names import Reason
from realtime.peer import Peer, PlainDialect, RawSession
from realtime.plug import find
from realtime.redaction import printable
from realtime.session import Core, Member
from realtime.since import replay_since


class House(Protocol):
    """What is asked of the server."""

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
    session, _ = await _knock(house, namespace, request.scope, auth, dialect or STREAM, enter, since)
    response: Response = find("sse")(session)
    return response


def _as_stream(name: str, data: Any) -> str:
    """JSON has no raw newline in it, and a name must not bring one: the rest of it would be fields of its own."""
    return f"event: {printable(name)}\ndata: {json_text(data)}\n\n"


STREAM: Final = PlainDialect(_as_stream)


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
    if not house.knows(namespace):
        raise AccessError("Invalid namespace", code="unknown_namespace")
    session = RawSession(house.core, house.new_session_id(), dialect or house.raw_dialect, scope)
    try:
        member = await session.enter(house.core.new_sid(), namespace, auth)
        for room in enter:
            await house.socket_of(member).join(room)
        _open(house, session, member, since)
    except BaseException:
        session.lost(Reason.SERVER)
        raise
    session.expect_wire()
    return session, member


def _open(house: House, session: RawSession, member: Member, since: str | None) -> None:
    """What it missed, and then the words of its dialect for that; both wait for the wire."""
    keeper = house.hub.keepers.get(member.namespace)
    outcome = replay_since(house.hub, house.metrics, member, since) if since is not None else None
    opening = getattr(session.dialect, "opening", None)
    said = opening(outcome, keeper.mark if keeper is not None else None) if opening is not None else None
    if said is not None:
        session.offer(said)
