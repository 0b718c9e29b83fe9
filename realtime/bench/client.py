"""One client of the load tool: what it says and hears, whatever wire it is on.

Thousands of them share one event loop, so a client has no task, no queue and no timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, Protocol

import orjson

from realtime.bench.speech import Kind, Packet, Speech, error_code


class Refused(Exception):
    """The server did not let this client in, or answered a step with an error; ``code`` says with which."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Wire(Protocol):
    """Carries payloads to the server."""

    def say(self, payload: bytes, opcode: int) -> None: ...

    def close(self) -> None:
        """Say good-bye."""
        ...

    def cut(self) -> None:
        """Be gone without a word."""
        ...


class Listener(Protocol):
    """Whoever counts what a client hears."""

    def event(self, client: Client, number: int) -> None: ...

    def ack(self, client: Client, packet: Packet) -> None: ...

    def lost(self, client: Client) -> None:
        """Once, when the connection of a client ended that did not mean to."""
        ...


class Deaf:
    """Hears nothing: for clients that are only there."""

    def event(self, client: Client, number: int) -> None:
        """Not counted."""

    def ack(self, client: Client, packet: Packet) -> None:
        """Not counted."""

    def lost(self, client: Client) -> None:
        """Seen by those who look at ``Client.gone``."""


DEAF: Final = Deaf()
PONG: Final = b"3"


class Client:
    """Belongs to one event loop. ``expected`` is the number of the next message that it should hear."""

    __slots__ = ("_answer", "expected", "gone", "listener", "namespace", "speech", "wire")

    def __init__(self, speech: Speech, namespace: str) -> None:
        self.speech = speech
        self.namespace = namespace
        self.listener: Listener = DEAF
        self.expected = 0
        self.gone: str | None = None
        self.wire: Wire
        self._answer: asyncio.Future[Packet] | None = None

    # --- what the wire calls

    def take(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            kind, number, body = packet
            if kind is Kind.EVENT:
                self.listener.event(self, number)
            elif kind is Kind.PING:
                self.wire.say(PONG, 1)  # Engine.IO's own packets are text on every dialect
            elif kind is Kind.CLOSE:
                self.lost("closed by the server")
            elif self._answer is not None and kind is not Kind.OTHER:
                self._settle(packet)
            elif kind is Kind.ACK:
                self.listener.ack(self, packet)
            elif kind is Kind.REFUSED:
                self.lost(_refusal(body))

    def lost(self, reason: str) -> None:
        """The connection has ended; the first reason counts."""
        first = self.gone is None
        self.gone = self.gone or reason
        if self._answer is not None:
            self._settle(Refused(self.gone))
        if first:
            self.listener.lost(self)

    # --- steps that are answered

    def expect(self) -> asyncio.Future[Packet]:
        """The next packet that answers something. One at a time."""
        self._answer = asyncio.get_running_loop().create_future()
        return self._answer

    async def call(self, event: list[Any]) -> Packet:
        """Send an event and return its acknowledgement. Raises Refused for an error, or when the connection ends."""
        answer = self.expect()
        self.say(event, 0)
        packet = await answer
        code = error_code(packet.body)
        if code is not None:
            raise Refused(code)
        return packet

    async def connect(self, auth: Any) -> None:
        """Enter the namespace. Raises Refused."""
        answer = self.expect()
        self.wire.say(self.speech.connect(self.namespace, auth), self.speech.opcode)
        packet = await answer
        if packet.kind is not Kind.CONNECT:
            raise Refused(_refusal(packet.body))

    # --- saying

    def say(self, event: list[Any], id: int | None = None) -> None:
        self.wire.say(self.speech.event(self.namespace, event, id), self.speech.opcode)

    def close(self) -> None:
        self.gone = self.gone or "closed by us"
        self.wire.close()

    def cut(self) -> None:
        self.gone = self.gone or "cut by us"
        self.wire.cut()

    def _settle(self, outcome: Packet | Refused) -> None:
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            return
        if isinstance(outcome, Refused):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)


def _refusal(body: bytes) -> str:
    """``{"message", "data": {"code"}}``: the code where there is one."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "refused"
    data = found.get("data") if isinstance(found, dict) else None
    return str(data["code"]) if isinstance(data, dict) and "code" in data else str(found)[:80]
