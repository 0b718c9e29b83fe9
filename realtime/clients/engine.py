"""Where Engine.IO requests knock: who may come in, which session is whose, and upgrades.

It *is* an ``engineio.AsyncServer`` (same options, same names), with our sessions in the place of its own.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from time import monotonic
from typing import Any

import engineio

from realtime.access.environ import header_of, make_environ, query_of, what_lasts
from realtime.access.limits import SlidingWindow
from realtime.access.origins import OriginPolicy
from realtime.clients.connection import Connection
from realtime.encoding.codecs import NOOP_FRAME, PONG_PROBE, Encoded
from realtime.errors import CloseCode, HandshakeError, LimitError, UsageError
from realtime.eventloop.deadlines import Alarm
from realtime.names import NAME_LIMIT, Reason
from realtime.ports import Link, Receive, Send, ServesScope, Wire
from realtime.session.endings import note_limit
from realtime.session.session import Core
from realtime.settings import Settings
from realtime.telemetry.redaction import printable
from realtime.telemetry.seldom import Seldom

logger = logging.getLogger("realtime")

UNKNOWN_TRANSPORT, UNKNOWN_SID, BAD_METHOD, BAD_REQUEST, FORBIDDEN, UNSUPPORTED = range(6)
"""Engine.IO's own numbers for a refused request."""


NUDGE_SECONDS = 0.1
"""How often a poll is ended while an upgrade is under way (Node's server does the same)."""


class Engine(engineio.AsyncServer):  # type: ignore[misc]
    """The table of sessions and the door in front of it (the port ``Door``)."""

    core: Core
    origins: OriginPolicy
    new_connection: Callable[[str, Mapping[str, Any]], Connection]
    wires: Mapping[str, ServesScope]

    def __init__(self, async_mode: str = "asgi", **options: Any) -> None:
        if async_mode != "asgi":
            raise UsageError(f"async_mode must be 'asgi' (FastAPI, Starlette, uvicorn), not {async_mode!r}")
        super().__init__(async_mode="asgi", **options)
        self.node: str | None = None
        self.draining = False
        self._handshakes: SlidingWindow | None = None
        self._seldom = Seldom()

    def bind(
        self, core: Core, origins: OriginPolicy, new_connection: Callable[[str, Mapping[str, Any]], Connection]
    ) -> None:
        """What the server made after us."""
        self.core = core
        self.origins = origins
        self.new_connection = new_connection
        self.node = core.settings.node
        self.sockets = core.sessions
        per_minute = core.settings.handshakes_per_minute_per_address
        if per_minute is not None:
            self._handshakes = SlidingWindow(per_minute, 60)

    def origin_policy(self, settings: Settings) -> OriginPolicy:
        """python-engineio's option where it says something, the settings else. Its ``[]`` ("the application sends
        the CORS headers itself") is no reason to let every page of the world in. Where it is a callable, the door
        asks that one first (``allows_origin``), and whoever may come in may read the answer."""
        allowed = self.cors_allowed_origins
        return OriginPolicy(
            "*" if callable(allowed) else allowed or settings.allowed_origins,
            development=not settings.production,
            trusted_proxies=settings.trusted_proxies,
            credentials=self.cors_credentials,
        )

    # --- the port Door

    @property
    def message_limit(self) -> int:
        return int(self.max_http_buffer_size)

    @property
    def compress_from_bytes(self) -> int | None:
        return int(self.compression_threshold) if self.http_compression else None

    def admit(self, scope: Mapping[str, Any]) -> str | None:
        try:
            return self._admit(scope)
        except HandshakeError as error:
            self.note_refusal(error.code, scope)
            raise

    def _admit(self, scope: Mapping[str, Any]) -> str | None:
        query = query_of(scope)
        transport = query.get("transport", "")
        if transport not in self.transports:
            raise HandshakeError(400, UNKNOWN_TRANSPORT, "Transport unknown", reason="unknown_transport")
        if not self.allows_origin(scope):
            raise HandshakeError(403, FORBIDDEN, "Forbidden: this origin may not connect", reason="origin")
        method = scope.get("method", "GET")
        if (transport == "websocket") != (scope["type"] == "websocket") or "j" in query:
            raise HandshakeError(400, BAD_REQUEST, "Bad request", reason="bad_request")
        sid = query.get("sid")
        if sid is None and method != "GET":
            raise HandshakeError(400, BAD_METHOD, "Bad handshake method", reason="bad_method")
        if query.get("EIO") != "4":
            raise HandshakeError(400, UNSUPPORTED, "Unsupported protocol version", reason="unsupported_version")
        if sid is None:
            self._admit_newcomer(scope)
        elif not isinstance(self.core.sessions.get(sid), Connection) and not (
            transport == "polling" and self._is_leaving(sid, method)
        ):
            raise HandshakeError(400, UNKNOWN_SID, "Session ID unknown", reason="unknown_sid")
        return sid

    def note_refusal(self, reason: str, scope: Mapping[str, Any]) -> None:
        """Count it; what an operator may have to do something about is told, too, a line a minute."""
        self.core.metrics.handshakes_refused.add(reason)
        if reason in ("origin", "address_limit"):
            more = self._seldom.left_out(reason, monotonic())
            if more is not None:
                told = header_of(scope, b"origin") if reason == "origin" else self.origins.client_address(scope)
                words = printable(told or "")[:NAME_LIMIT]
                logger.warning("refused, %s: %s (and %d more since the last such line)", reason, words, more)

    def _is_leaving(self, sid: str, method: str) -> bool:
        if method == "GET":
            return self.core.leaving.waits_for(sid, monotonic())
        return method == "POST" and self.has_ended(sid)

    def has_ended(self, sid: str) -> bool:
        return self.core.leaving.has_ended(sid, monotonic())

    def farewell(self, sid: str) -> Sequence[Encoded] | None:
        return self.core.leaving.claim(sid, monotonic())

    def _admit_newcomer(self, scope: Mapping[str, Any]) -> None:
        if self.draining:
            raise HandshakeError(503, BAD_REQUEST, "Shutting down, connect again", reason="draining", retry_after=1)
        wait = self._count_handshake(scope)
        if wait is not None:
            raise HandshakeError(429, FORBIDDEN, "Too many handshakes", reason="address_limit", retry_after=wait)

    def admit_guest(self, scope: Mapping[str, Any]) -> None:
        """Who speaks no Engine.IO counts as well. Raises LimitError (``address_limit``)."""
        wait = self._count_handshake(scope)
        if wait is not None:
            self.note_refusal("address_limit", scope)
            raise LimitError("Too many handshakes", code="address_limit", retry_after=wait)

    def _count_handshake(self, scope: Mapping[str, Any]) -> float | None:
        """The seconds to wait when this address has had as many as it may in a minute, on all wires together."""
        if self._handshakes is None:
            return None
        address = self.origins.client_address(scope)
        return None if self.origins.is_exempt(address) else self._handshakes.hit(address, monotonic())

    def allows_origin(self, scope: Mapping[str, Any]) -> bool:
        """One policy for polling, Socket.IO WebSocket and raw routes."""
        allowed = self.cors_allowed_origins
        if callable(allowed):
            origin = header_of(scope, b"origin")
            return origin is None or self._asks(allowed, origin, scope)
        return self.origins.allows_scope(scope)

    def _asks(self, allowed: Callable[..., Any], origin: str, scope: Mapping[str, Any]) -> bool:
        """As python-engineio does: with the origin and the environ, or with the origin where it takes no more."""
        try:
            signature(allowed).bind(origin, None)
        except TypeError:
            return bool(allowed(origin))
        return bool(allowed(origin, make_environ(scope, self.origins.client_address(scope))))

    def open(self, scope: Mapping[str, Any], wire: Wire) -> Link:
        connection = self.new_connection(self.generate_id(), what_lasts(scope))
        may_upgrade = wire.name == "polling" and self.allow_upgrades and "websocket" in self.transports
        connection.greet(wire, ["websocket"] if may_upgrade else [])
        return connection

    def find(self, sid: str) -> Link:
        session = self.core.sessions.get(sid)
        if not isinstance(session, Connection):
            raise HandshakeError(400, UNKNOWN_SID, "Session ID unknown", reason="unknown_sid")
        return session

    def upgrade(self, sid: str, wire: Wire) -> Link | None:
        session = self.find(sid)
        assert isinstance(session, Connection)
        if (
            session.upgrading is not None
            or session.wire is None
            or session.wire.name != "polling"
            or not self.allow_upgrades
        ):
            return None
        return Probe(session, wire)

    def answer_headers(self, scope: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
        origin = header_of(scope, b"origin")
        if origin is None or self.cors_allowed_origins == [] or not self.allows_origin(scope):
            return []
        if scope.get("method") == "OPTIONS":
            return self.origins.preflight_headers(origin, header_of(scope, b"access-control-request-headers"))
        return self.origins.cors_headers(origin)

    def opening_headers(self, link: Link) -> list[tuple[bytes, bytes]]:
        """The sticky-session cookie, where python-engineio's option ``cookie`` asks for one."""
        if not self.cookie or not isinstance(link, Connection):
            return []
        attributes = (
            self.cookie if isinstance(self.cookie, dict) else {"name": self.cookie, "path": "/", "SameSite": "Lax"}
        )
        return [(b"set-cookie", str(self._generate_sid_cookie(link.id, attributes)).encode("latin-1"))]

    # --- engineio.AsyncServer's own names

    async def handle_request(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """An ASGI request under the Socket.IO path."""
        if b"sid=" not in scope.get("query_string", b""):  # a thousand handshakes in one turn would hold up everybody
            await self.core.pacers(asyncio.get_running_loop()).door.enter()
        serve = self.wires["websocket" if scope["type"] == "websocket" else "polling"]
        await serve(self, scope, receive, send)

    def generate_id(self) -> str:
        """120 random bits; with a node name in front where one is set, so that a proxy can route by session id."""
        return f"{self.node}.{secrets.token_urlsafe(15)}" if self.node else secrets.token_urlsafe(15)

    def transport(self, sid: str) -> str:
        wire = self.core.sessions[sid].wire
        return wire.name if wire is not None else "polling"

    async def disconnect(self, sid: str | None = None) -> None:
        """Close one connection, or all."""
        sessions = list(self.core.sessions.values()) if sid is None else [self.core.sessions[sid]]
        for session in sessions:
            session.close(CloseCode.DONE, "", Reason.SERVER)

    async def shutdown(self) -> None:
        """Close every connection; stock clients come back to whoever answers next."""
        self.draining = True
        for session in list(self.core.sessions.values()):
            session.close(CloseCode.GOING_AWAY, "server shutting down", Reason.DRAINING)


class Probe:
    """A WebSocket that wants to take over a polling session.

    ``2probe`` → ``3probe`` → ``5``, in time and nothing else; until the ``5`` polling goes on as if nobody had asked.
    """

    def __init__(self, session: Connection, wire: Wire) -> None:
        self.session = session
        self.wire: Wire | None = wire
        self.closed = False
        wire.link = self
        self.alarm: Alarm | None = None
        self._probed = False
        self._upgrade_by = session.loop.time() + session.core.settings.upgrade_timeout_seconds
        self._deadlines = session.core.deadlines(session.loop)
        self._deadlines.set(self, self._upgrade_by)
        session.upgrading = self

    def receive(self, frame: str | bytes) -> None:
        """Frames of the newcomer; after the upgrade they are the session's."""
        if self.wire is None:
            return
        if frame == "2probe" and not self._probed:
            self._probed = True
            self.wire.send(PONG_PROBE)
            self.tick(self.session.loop.time())
        elif frame == "5" and self._probed:
            self._succeed()
        else:
            self.broken(CloseCode.BAD_PROTOCOL, "not an upgrade", "bad_upgrade")

    def _succeed(self) -> None:
        wire = self._let_go()
        polling = self.session.wire
        assert wire is not None
        wire.link = self.session
        self.session.outbox.detach()
        if polling is not None:
            polling.close(CloseCode.DONE, "")
        self.session.switch(wire)

    def close(self, code: int, text: str, reason: str) -> None:
        """No upgrade: the newcomer is closed, the polling session goes on. Repeats do nothing."""
        wire = self._let_go()
        if self.session.upgrading is self:
            self.session.upgrading = None
        if wire is not None:
            wire.close(code, text)

    def _let_go(self) -> Wire | None:
        self.closed = True
        self._deadlines.clear(self)
        wire, self.wire = self.wire, None
        return wire

    def take(self) -> Encoded | None:
        return None

    def put_back(self, encoded: Encoded) -> None:
        """Nothing waits for a probe."""

    def hold(self) -> None:
        """Nothing waits for a probe."""

    def broken(self, code: int, reason: str, kind: str = "bad_frame") -> None:
        self.session.core.metrics.violations.add(kind)
        self.close(code, reason, Reason.PROTOCOL)

    def lost(self, reason: str) -> None:
        self.close(CloseCode.DONE, "", reason)

    def tick(self, now: float) -> None:
        """End the pending poll, so that the client can stop polling and say ``5``; again, if it polled once more."""
        if now >= self._upgrade_by:
            note_limit(self.session, "upgrade_late")
            self.session.core.metrics.violations.add("upgrade_late")
            self.close(CloseCode.BAD_PROTOCOL, "the upgrade took too long", Reason.LIMIT)
            return
        if self.session.outbox.free:
            self.session.offer(NOOP_FRAME)
        self._deadlines.set(self, now + NUDGE_SECONDS)
