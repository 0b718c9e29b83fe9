"""python-socketio's client manager, over our hub: the same calls, the same meaning, another index beneath.

``LocalManager`` is one node. ``BusManager`` is a node among others: python-socketio's own pub/sub manager
and message format, carried by whatever keeps the port ``Bus``.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextvars import Context
from functools import partial
from itertools import count
from typing import Any, Final

import socketio
from socketio.async_manager import AsyncManager
from socketio.async_pubsub_manager import AsyncPubSubManager
from socketio.packet import Packet as StockPacket

from realtime.cluster.pulse import feel
from realtime.encoding.codecs import json_bytes
from realtime.encoding.stock_messages import RefusedWriting, writing_of
from realtime.errors import LimitError, OutsideError, UsageError
from realtime.metrics import Metrics
from realtime.names import Reason
from realtime.ports import Bus
from realtime.recovery.store import SessionStore
from realtime.rooms.emitted import BusState, Emitted
from realtime.rooms.hub import Hub
from realtime.rooms.index import Target
from realtime.session.session import State

logger = logging.getLogger("realtime")

QUESTIONS_LIMIT: Final = 10_000
"""Events asked over the bus that wait for an answer; the oldest is given up first."""


PUBLISH_SECONDS: Final = 0.4
"""What a bus may take for a message; then others are not waited for, until one went through."""
STOP_SECONDS = 1.0
"""How long the listener may take to end after its bus was closed."""


class LocalManager(AsyncManager):  # type: ignore[misc]
    """Everything a client manager can be asked about the clients of this node."""

    hub: Hub

    def get_namespaces(self) -> list[str]:
        return list(self.hub.namespaces)

    def get_participants(self, namespace: str, room: Target) -> Iterator[tuple[str, str]]:
        for member in self.hub.select(namespace, room):
            yield member.sid, member.session.id

    def is_connected(self, sid: str, namespace: str) -> bool:
        return self.hub.is_connected(sid, namespace)

    def is_pre_connected(self, sid: str, namespace: str) -> bool:
        """Is it being let in, or away and may come back? Rooms are changed for it here and on no other node."""
        member = self.hub.find(sid, namespace)
        if member is None or member.state is State.GONE:
            return self.hub.away is not None and self.hub.away.has(namespace, sid)
        return member.state is State.PENDING

    def sid_from_eio_sid(self, eio_sid: str, namespace: str) -> str | None:
        session = self.server.eio.sockets.get(eio_sid)
        member = session.members.get(namespace) if session is not None else None
        return member.sid if member is not None else None

    def eio_sid_from_sid(self, sid: str, namespace: str) -> str | None:
        member = self.hub.find(sid, namespace)
        return member.session.id if member is not None else None

    def is_sid_room(self, namespace: str, room: Any) -> bool:
        rooms = self.hub.namespaces.get(namespace)
        return rooms is not None and room in rooms.everyone

    def basic_enter_room(self, sid: str, namespace: str, room: Any, eio_sid: str | None = None) -> None:
        self.hub.join(sid, namespace, room)

    def basic_leave_room(self, sid: str, namespace: str, room: Any) -> None:
        self.hub.leave(sid, namespace, room)

    def basic_close_room(self, room: Any, namespace: str) -> None:
        self.hub.close_room(room, namespace)

    def basic_disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None:
        self.server.returning.forget(namespace, sid)
        member = self.hub.find(sid, namespace)
        if member is not None:
            self.server.dismiss(member, Reason.SERVER)

    async def disconnect_room(self, room: str, namespace: str, reason: str) -> None:
        """Every client in the room leaves the namespace, one that is just being let in too. Not in python-socketio."""
        self.server.returning.forget(namespace, room)
        for member in self.hub.select(namespace, room):
            self.server.dismiss(member, reason)

    def get_rooms(self, sid: str, namespace: str) -> list[Any]:
        return list(self.hub.rooms_of(sid, namespace))

    async def emit(
        self,
        event: str,
        data: Any,
        namespace: str | None = None,
        room: Target = None,
        skip_sid: Any = None,
        callback: Any = None,
        to: Target = None,
        volatile: bool = False,
        key: str | None = None,
        **kwargs: Any,
    ) -> int:
        """Deliver on this node; answers how many clients that were."""
        target = room if to is None else to
        namespace = namespace or "/"
        args = args_of(data)
        skip = skipped(skip_sid)
        if callback is None:
            return self.hub.deliver(namespace, event, args, target, skip, volatile=volatile, key=key)
        members = [member for member in self.hub.select(namespace, target) if member.sid not in skip]
        return self.hub.ask(members, event, args, callback)


class BusManager(AsyncPubSubManager, LocalManager):  # type: ignore[misc]
    """A node among others. The bus never delivers here: what this node emits it delivers itself, before publishing."""

    name = "bus"

    def __init__(self, bus: Bus, metrics: Metrics, channel: str = "socketio") -> None:
        super().__init__(channel=channel)
        self.bus = bus
        self.metrics = metrics
        self.hub = Hub(metrics)  # empty, until a server brings its own; one that only writes never has another
        self.thread: asyncio.Task[None] | None = None
        self._pulse: asyncio.Task[None] | None = None
        self._away = self._deaf = False
        self._trying: asyncio.Task[bool] | None = None
        self._asked: dict[int, Callable[..., Any]] = {}
        self._questions = count(1)

    def initialize(self) -> None:
        """Listen from now on, and notice when the bus is away."""
        super().initialize()
        hooks, patience = self.server.bus_hooks, self.server.settings.bus_patience_seconds
        feeling = feel(self.bus.ping, patience, lambda lost: hooks.report("bus", lost))
        # A context of its own: the first caller's request would otherwise be kept for good.
        self._pulse = asyncio.get_running_loop().create_task(feeling, name="pulse of the bus", context=Context())

    async def emit(
        self,
        event: str,
        data: Any,
        namespace: str | None = None,
        room: Target = None,
        skip_sid: Any = None,
        callback: Any = None,
        to: Target = None,
        volatile: bool = False,
        key: str | None = None,
        **kwargs: Any,
    ) -> int:
        """Deliver here, then tell the other nodes; answers how many were reached here. Never raises for bus trouble."""
        target = room if to is None else to
        namespace = namespace or "/"
        manner: dict[str, Any] = {"volatile": volatile, "key": key}
        here = isinstance(target, str) and self.hub.find(target, namespace) is not None
        if kwargs.get("ignore_queue") or here:  # a sid of ours is no other node's
            return await LocalManager.emit(self, event, data, namespace, target, skip_sid, callback, **manner)
        question = None if callback is None else self._ask(target, namespace, callback)
        returned = None if question is None else partial(self._return_callback, self.host_id, *question)
        reached = await LocalManager.emit(self, event, data, namespace, target, skip_sid, returned, **manner)
        message = self._message(event, data, namespace, target, skip_sid)
        message |= {"callback": question} | {name: how for name, how in manner.items() if how}
        return Emitted.made(reached, BusState.UP if await self._publish(message) else BusState.AWAY)

    def _ask(self, target: Target, namespace: str, callback: Callable[..., Any]) -> tuple[Target, str, int]:
        """Remember whom to tell when a client anywhere answers. Raises as python-socketio does."""
        if self.server is None:
            raise RuntimeError("Callbacks can only be issued from the context of a server.")
        if target is None:
            raise ValueError("Cannot use callback without a room set.")
        if len(self._asked) >= QUESTIONS_LIMIT:
            self._asked.pop(next(iter(self._asked)))
            self.metrics.drops.add("callback")
        id = next(self._questions)
        self._asked[id] = callback
        return (_plain(target), namespace, id)

    async def trigger_callback(self, sid: Any, id: Any, data: Any) -> None:
        """A client answered what this node had asked over the bus; the first answer counts."""
        callback = self._asked.pop(id, None) if isinstance(id, int) else None
        if callback is None:
            self.metrics.drops.add("stray_ack")
            return
        result = callback(*data)
        if inspect.isawaitable(result):
            await result

    def _message(self, event: str, data: Any, namespace: str, target: Target, skip_sid: Any) -> dict[str, Any]:
        """python-socketio's own message, so that its managers and writers understand us."""
        args = args_of(data)
        form = StockPacket(packet_type=2, data=args)
        binary = bool(StockPacket.data_is_binary(args))
        if binary:
            plain, attachments = form.deconstruct_binary(args)
            args = [plain, *[_base64(each) for each in attachments]]
        return {
            "method": "emit", "event": event, "data": args, "binary": binary, "namespace": namespace,
            "room": _plain(target), "skip_sid": sorted(skipped(skip_sid)) or None, "host_id": self.host_id,
        }  # fmt: skip

    async def _handle_emit(self, message: dict[str, Any]) -> None:
        """Another node, or a writer of python-socketio's, has something for clients of ours."""
        question = message.get("callback")
        try:
            writing = writing_of(message | {"callback": None})
        except RefusedWriting as refused:
            self.metrics.bus_refused.add(refused.reason)
            return
        asked = isinstance(question, list) and len(question) == 3
        returned = partial(self._return_callback, message.get("host_id"), *(question or ())) if asked else None
        key = message.get("key") if isinstance(message.get("key"), str) else None
        manner: dict[str, Any] = {"volatile": bool(message.get("volatile")), "key": key}
        namespace, event, args, to, skip = writing
        await LocalManager.emit(self, event, tuple(args), namespace, to, list(skip), returned, **manner)

    async def _publish(self, data: dict[str, Any]) -> bool:
        """Has the bus taken it? While it does not answer nobody waits for it: one message at a time is tried."""
        if not self._away:
            return await self._try(json_bytes(data))
        if self._trying is None or self._trying.done() or self._trying.get_loop().is_closed():
            self._trying = asyncio.ensure_future(self._try(json_bytes(data)))
        else:
            self.metrics.drops.add("bus")
        return False

    async def _try(self, message: bytes) -> bool:
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self.bus.publish(message)
        except (OutsideError, LimitError, TimeoutError) as error:
            self.metrics.drops.add("bus")
            self._away = not isinstance(error, LimitError)
            if not self._deaf:
                logger.warning("the bus does not take messages: other instances miss what is emitted meanwhile")
            self._deaf = True
        else:
            self._away = self._deaf = False
        return not self._deaf

    async def _listen(self) -> AsyncIterator[dict[str, Any]]:
        async for message in self.bus.listen():
            try:
                found = self.json.loads(message)
            except (ValueError, RecursionError):
                found = None
            if isinstance(found, dict):
                yield found
            else:
                self.metrics.bus_refused.add("malformed")
        # The bus was closed, by us: python-socketio calls an end of this an error, so wait to be cancelled instead.
        await asyncio.get_running_loop().create_future()

    async def _handle_disconnect(self, message: dict[str, Any]) -> None:
        """Another node ends a client of ours, or those in a room. No disconnect hook may hold up the next message."""
        namespace, room, reason = message.get("namespace") or "/", message.get("room"), message.get("reason")
        if isinstance(room, str) and room:
            known = reason if reason in set(Reason) else Reason.SERVER
            await LocalManager.disconnect_room(self, room, namespace, str(known))
        else:
            self.basic_disconnect(str(message.get("sid")), namespace)

    async def disconnect_room(self, room: str, namespace: str, reason: str) -> None:
        """On every node of ours; python-socketio's own nodes know only clients by sid, and find none."""
        await super().disconnect_room(room, namespace, reason)
        if (store := self._store(namespace)) is not None:
            await store.forget(namespace, room)
        told = {"method": "disconnect", "sid": None, "room": room, "reason": str(reason)}
        await self._publish({**told, "namespace": namespace, "host_id": self.host_id})

    # --- clients that are away, on whatever node they were

    async def enter_room(self, sid: str, namespace: str, room: Any, eio_sid: str | None = None) -> None:
        await super().enter_room(sid, namespace, room, eio_sid=eio_sid)
        if self.hub.find(sid, namespace) is not None:
            await self.server.heard(namespace, room)
        if (store := self._store(namespace)) is None:
            return
        member = self.hub.find(sid, namespace)
        if member is not None and member.state is State.JOINED:
            await store.kept(member)
        else:
            await store.enter(namespace, sid, room)

    async def leave_room(self, sid: str, namespace: str, room: Any) -> None:
        await super().leave_room(sid, namespace, room)
        if (store := self._store(namespace)) is None:
            return
        member = self.hub.find(sid, namespace)
        if member is not None and member.state is State.JOINED:
            await store.kept(member)
        else:
            await store.leave(namespace, sid, room)

    async def close_room(self, room: Any, namespace: str | None = None) -> None:
        await super().close_room(room, namespace)
        if (store := self._store(namespace or "/")) is not None:
            await store.leave(namespace or "/", None, room)

    async def can_disconnect(self, sid: str, namespace: str) -> Any:
        """Told to other nodes where it is none of ours; and nobody comes back under this sid."""
        found = await super().can_disconnect(sid, namespace)
        if not found and (store := self._store(namespace)) is not None:
            await store.dismiss(namespace, sid)
        return found

    def _store(self, namespace: str) -> SessionStore | None:
        """Where clients that are away are found by all nodes, in a namespace that they come back to."""
        returning = getattr(self.server, "returning", None)
        return returning.store if returning is not None and returning.keeps(namespace) else None

    async def stop(self) -> None:
        """Stop listening and let go of the bus. Repeats do nothing."""
        thread, self.thread = self.thread, None
        for asking in (self._trying, self._pulse):
            if asking is not None:
                asking.cancel()
        await self.bus.close()  # ends the listening; a client library may swallow a cancellation while it connects
        if thread is not None:
            thread.cancel()
            await asyncio.wait((thread,), timeout=STOP_SECONDS)


def is_alone(manager: LocalManager) -> bool:
    """Are all clients that this manager can reach clients of this node?"""
    return not isinstance(manager, AsyncPubSubManager)


def args_of(data: Any) -> list[Any]:
    """python-socketio's ``data`` as the arguments of an event: a tuple is several, None is none."""
    return list(data) if isinstance(data, tuple) else [] if data is None else [data]


def skipped(skip_sid: Any) -> Collection[str]:
    """python-socketio takes one sid, a list of them, or None."""
    if skip_sid is None:
        return ()
    return (skip_sid,) if isinstance(skip_sid, str) else tuple(each for each in skip_sid if each is not None)


def adopt(manager: Any, hub: Hub) -> LocalManager:
    """Put our index under a client manager, ours or python-socketio's: its clusters over other brokers keep working.

    Raises UsageError for what is none.
    """
    if manager is None:
        manager = LocalManager()
    elif not isinstance(manager, AsyncManager):
        raise UsageError(f"client_manager must be an asyncio client manager, not {type(manager).__name__}")
    elif not isinstance(manager, LocalManager):
        # The stock managers find the local index by inheritance: slipping ours in below them is how to replace it.
        kind = type(manager)
        bases = (LocalManager,) if kind is socketio.AsyncManager else (kind, LocalManager)
        manager.__class__ = type(f"Adopted{kind.__name__}", bases, {})
    manager.hub = hub
    adopted: LocalManager = manager
    return adopted


def _plain(target: Target) -> Any:
    """A target in JSON."""
    return list(target) if isinstance(target, tuple | set | frozenset) else target


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
