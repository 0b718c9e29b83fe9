"""A namespace whose events are written like FastAPI routes: as a class, or as an object to register functions on.

(``realtime/typed/namespace.py`` is the class; ``namespaces/`` at the top are the features built with it.)

Lifecycle of a client, on every wire: ``authorize`` may refuse and its value becomes ``socket.user``; then the
client is told CONNECT; then ``connected`` may greet. ``may_join`` is asked before a room is joined by name and
may refuse; ``joined`` and ``left`` run after a room was entered or left by name. ``disconnected`` runs once, if the
client was let in; ``socket.rooms`` then still tells where it was. With ``recovery`` a client that was cut off may come
back: ``authorize`` and ``connected`` run again (``socket.recovered``); if it does not, ``expired`` runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar, overload

from fastapi.params import Depends
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from realtime.access.limits import SlidingWindow, parse_rate
from realtime.clients.context import Socket
from realtime.clients.peer import Peer
from realtime.clients.spoken import name_and_args
from realtime.encoding.codecs import Dialect
from realtime.errors import LimitError, Refusal, UsageError
from realtime.metrics import Metrics, Series, Tally
from realtime.names import LIFECYCLE_EVENTS, NAME_LIMIT, Reason
from realtime.rooms.emitted import Emitted
from realtime.rooms.index import Target
from realtime.typed.home import Home
from realtime.typed.resolve import Call, Plan, compile_plan
from realtime.typed.slips import check_hook, check_methods, check_object, check_parameters

HOOKS: Final[Mapping[str, tuple[str, ...]]] = {
    "authorize": ("auth",),
    "connected": (),
    "disconnected": ("reason",),
    "expired": (),
    "may_join": ("room",),
    "joined": ("room",),
    "left": ("room",),
}
"""And the arguments that they are given; they take as many as they declare."""
Function = TypeVar("Function", bound=Callable[..., Any])
_MARK = "__realtime_event__"


@dataclass(frozen=True, slots=True)
class EventOptions:
    """What ``@event`` was told: ``limit`` is a count and a time such as ``"20/10s"``."""

    name: str | None = None
    concurrent: bool = False
    limit: str | None = None


@overload
def event(handler: Function, /) -> Function: ...


@overload
def event(
    name: str | None = None, /, *, concurrent: bool = False, limit: str | None = None
) -> Callable[[Function], Function]: ...


def event(handler: Any = None, /, *, concurrent: bool = False, limit: str | None = None) -> Any:
    """Mark a method of a Namespace class as an event handler: ``@event`` or ``@event("name", limit="20/10s")``.

    Events of one client run one at a time, in order; ``concurrent=True`` lets this one run beside others.
    ``limit`` is counted for each connection: at most so many in any stretch of that time.
    """
    if callable(handler):
        setattr(handler, _MARK, EventOptions())
        return handler

    def mark(function: Function) -> Function:
        setattr(function, _MARK, EventOptions(handler, concurrent, limit))
        return function

    return mark


class SocketCall(Call):
    """One event of a socket. What a plan may ask for is looked up only if it does."""

    __slots__ = ("_namespace", "_socket")

    def __init__(self, args: Sequence[Any], socket: Socket, namespace: Namespace) -> None:
        self.args = args
        self._socket = socket
        self._namespace = namespace

    @property
    def connection(self) -> HTTPConnection:  # type: ignore[override]
        return self._socket.connection

    @property
    def injected(self) -> Mapping[type, Any]:  # type: ignore[override]
        return {Socket: self._socket, Namespace: self._namespace}

    @property
    def overrides(self) -> Mapping[Callable[..., Any], Callable[..., Any]]:  # type: ignore[override]
        return self._namespace.home.dependency_overrides

    @property
    def cache(self) -> dict[Any, Any]:  # type: ignore[override]
        return self._socket.cache


class EventHandler:
    """A registered event: its compiled plan, its options (``limit`` is (count, seconds)), and its numbers once it is at
    home in a server."""

    def __init__(self, namespace: Namespace, name: str, plan: Plan, options: EventOptions) -> None:
        self.name = name
        self.plan = plan
        self.concurrent = options.concurrent
        self.limit = parse_rate(options.limit) if options.limit else None
        self.received = Tally()
        self.seconds = Series(())
        self._namespace = namespace
        self._run = plan.run
        self._begin = plan.begin
        self.finish = None if plan.begin is None else plan.finish
        """What is left to do with the value of what ``begin`` gave."""

    def count_in(self, metrics: Metrics) -> None:
        """Label values come from what is registered, so each event has numbers of its own from the start."""
        self.received = metrics.events_in.bound(self._namespace.name, self.name)
        self.seconds = metrics.handler_seconds.bound(self._namespace.name, self.name)

    def begin(self, socket: Socket, data: Sequence[Any]) -> Coroutine[Any, Any, Any]:
        """What runs the handler; its value may have to be finished. Both raise what the client is to be told, or one
        of ``plan.FOREIGN``."""
        if self.limit is not None:
            _check_rate(socket, self, socket.loop_time())
        if self._begin is not None:
            return self._begin(data)
        return self._run(SocketCall(data[1:], socket, self._namespace))


class Namespace:
    """The events and hooks of one Socket.IO namespace; give it to ``Realtime.include``."""

    path: ClassVar[str] = ""
    recovery: bool = False

    def __init__(
        self, path: str | None = None, *, dependencies: Sequence[Depends] = (), recovery: bool | None = None
    ) -> None:
        """``dependencies`` run before every event, as those of a FastAPI router do before its routes. ``recovery``:
        what is emitted is kept for a time, and a client that loses its connection goes on where it was.

        Raises UsageError for a bad path, a signature that cannot be compiled, and a method that is nearly a hook.
        """
        self.name = path or self.path
        if path is None and not self.name:
            kind = type(self).__qualname__
            raise UsageError(f'{kind} has no path: write `path = "/..."` in the class, or {kind}("/...")')
        if not self.name.startswith("/") or len(self.name) > NAME_LIMIT or "," in self.name or "?" in self.name:
            raise UsageError(f"a namespace begins with / and has neither , nor ? in it; {self.name!r} came")
        self._dependencies = tuple(dependencies)
        if recovery is not None:
            self.recovery = recovery
        self._home: Home | None = None
        self.events: dict[str, EventHandler] = {}
        self.concurrent: set[str] = set()
        """Events that may run beside others of the same client."""
        self._hooks: dict[str, Plan] = {}
        marked: set[str] = set()
        for name in dir(type(self)):
            function = getattr(type(self), name, None)
            if name in HOOKS and callable(function):
                self._add_hook(name, getattr(self, name))
            options = getattr(function, _MARK, None)
            if isinstance(options, EventOptions):
                if name in vars(Namespace):
                    raise UsageError(f"{name!r} is a method of Namespace: call yours otherwise, with @event({name!r})")
                self._add_event(options.name or name, getattr(self, name), options)
                marked.add(name)
        check_methods(type(self), Namespace, HOOKS, marked)

    # --- registering functions

    def event(self, handler: Any = None, /, *, concurrent: bool = False, limit: str | None = None) -> Any:
        """Register a function for an event, under its own name (``@chat.event``) or ``@chat.event("another")``.

        Raises UsageError when the event has a handler, its name is reserved or the signature cannot be compiled.
        """
        if callable(handler):
            self._add_event(handler.__name__, handler, EventOptions())
            return handler

        def register(function: Function) -> Function:
            self._add_event(handler or function.__name__, function, EventOptions(handler, concurrent, limit))
            return function

        return register

    def hook(self, name: str) -> Callable[[Function], Function]:
        """Register a function as one of the hooks: ``@chat.hook("connected")``. Raises UsageError for another name."""
        if name not in HOOKS:
            raise UsageError(f"a hook is one of {', '.join(HOOKS)}; {name!r} came")

        def register(function: Function) -> Function:
            self._add_hook(name, function)
            return function

        return register

    def _add_event(self, name: str, function: Callable[..., Any], options: EventOptions) -> None:
        if name in LIFECYCLE_EVENTS or len(name) > NAME_LIMIT:
            raise UsageError(f"{name!r} cannot be an event of {self.name}: it is reserved or too long")
        if name in self.events:
            raise UsageError(f"the event {name!r} of {self.name} has a handler already")
        plan = self._compile(function, name, self._dependencies)
        self.events[name] = handler = EventHandler(self, name, plan, options)
        if options.concurrent:
            self.concurrent.add(name)
        if self._home is not None:
            handler.count_in(self._home.metrics)

    def _add_hook(self, name: str, function: Callable[..., Any]) -> None:
        plan = self._hooks[name] = self._compile(function, name, (), json_ready=False)
        check_hook(f"{self.name} {name}", HOOKS[name], [each.name for each in plan.arguments if each.required])

    def _compile(
        self, function: Callable[..., Any], name: str, dependencies: Sequence[Depends], *, json_ready: bool = True
    ) -> Plan:
        check_parameters(function, f"{self.name} {name}")
        return compile_plan(
            function,
            injectables=(Socket, Namespace),
            dependencies=dependencies,
            json_ready=json_ready,
            where=f"{self.name} {name}",
        )

    # --- saying

    async def emit(
        self,
        event: Any,
        data: Any = None,
        *,
        to: Target = None,
        skip: str | Iterable[str] = (),
        volatile: bool = False,
        key: str | None = None,
    ) -> Emitted:
        """Emit to a room, several rooms (a list) or everyone (None), on every instance and every wire.

        ``event`` is a name, or a pydantic model whose class names the event. ``skip`` is a sid or several. For who
        reads slowly ``volatile`` ones go first, and of those with one ``key`` the latest stays (``latest_per_key``).
        Answers how many clients of this instance were reached, and with what offset. Raises UsageError for what is not
        JSON.
        """
        name, args = name_and_args(event, data)
        skipped = (skip,) if isinstance(skip, str) else tuple(skip)
        return await self.home.publish(self.name, name, args, to, skipped, volatile, key)

    def sockets(self, room: str | None = None) -> list[Socket]:
        """The clients of this instance in a room, or in the namespace."""
        return self.home.sockets(self.name, room)

    async def disconnect(self, room: str, reason: str = Reason.SERVER) -> None:
        """Every client in a room leaves this namespace, on every instance and every wire."""
        await self.home.disconnect_room(self.name, room, reason)

    def raw(
        self,
        websocket: WebSocket,
        *rooms: str,
        auth: Any = None,
        dialect: Dialect | None = None,
        refusal: str | None = None,
        since: str | None = None,
    ) -> AbstractAsyncContextManager[Peer]:
        """A plain WebSocket becomes a client of this namespace and of these rooms, for as long as the block lasts.

        ``async with chat.raw(ws, room) as peer: async for text in peer: …``. The authorise step and the join rule
        run before the socket is accepted; a refusal is Starlette's WebSocketException (1008, with the reason, or
        with the words ``refusal``), which FastAPI turns into a refused handshake. ``since``: an offset; what was said
        after it is told first, where the namespace keeps that.
        """
        return self.home.raw(self.name, websocket, auth, dialect, rooms, refusal, since)

    def stream(
        self,
        request: HTTPConnection,
        *rooms: str,
        auth: Any = None,
        dialect: Dialect | None = None,
        since: str | None = None,
    ) -> Awaitable[Response]:
        """A Server-Sent-Events client of this namespace and of these rooms: return what this answers from a route.

        Without a ``dialect`` of your own an event is ``event: NAME`` and its first argument as JSON in ``data:``, with
        its offset as ``id:`` where the namespace keeps what it says; the browser's ``Last-Event-ID`` is ``since`` then.
        Raises the error of the authorise step or the join rule.
        """
        return self.home.stream(self.name, request, auth, dialect, rooms, since)

    @property
    def offset(self) -> str | None:
        """Where the namespace is now: who shows this later as ``since`` hears what was said after it. None where it
        keeps nothing."""
        return self.home.newest(self.name)

    # --- what the server calls

    @property
    def home(self) -> Home:
        """The server it is included in. Raises UsageError as long as there is none."""
        if self._home is None:
            raise UsageError(f"namespace {self.name} is not included in a server yet: Realtime(app).include(it)")
        return self._home

    def move_in(self, home: Home) -> None:
        """Belong to this server. Raises UsageError when it belongs to another."""
        if self._home is not None and self._home is not home:
            raise UsageError(f"namespace {self.name} is included in another server already")
        self._home = home
        for handler in self.events.values():
            handler.count_in(home.metrics)

    async def let_in(self, socket: Socket, auth: Any) -> None:
        """The authorise step; what it raises is the refusal."""
        if "authorize" in self._hooks:
            user = await self._run_hook("authorize", socket, (auth,))
            if user is not None:
                socket.user = user

    async def greet(self, socket: Socket) -> None:
        """The hook ``connected``, after CONNECT has left."""
        if "connected" in self._hooks:
            await self._run_hook("connected", socket, ())

    async def say_goodbye(self, socket: Socket, reason: str) -> None:
        """The hook ``disconnected``."""
        if "disconnected" in self._hooks:
            await self._run_hook("disconnected", socket, (reason,))

    @property
    def remembers(self) -> bool:
        """Has it the hook ``expired``?"""
        return "expired" in self._hooks

    async def say_expired(self, socket: Socket) -> None:
        """The hook ``expired``: this client did not come back in time."""
        await self._run_hook("expired", socket, ())

    async def on_room(self, hook: str, socket: Socket, room: str) -> None:
        """``may_join`` (which may refuse), ``joined`` or ``left``."""
        if hook in self._hooks:
            await self._run_hook(hook, socket, (room,))

    def find(self, name: str) -> EventHandler:
        """Raises Refusal for an event that has no handler."""
        handler = self.events.get(name)
        if handler is None:
            self.home.metrics.events_in.add(self.name, "other")
            raise Refusal("unknown_event", f"{self.name} has no such event")
        return handler

    async def _run_hook(self, name: str, socket: Socket, args: tuple[Any, ...]) -> Any:
        """Hooks take as many of their arguments as they declare; no auth sent is no argument."""
        plan = self._hooks[name]
        given = args[: len(plan.arguments)]
        if name == "authorize" and given == (None,) and not plan.arguments[0].required:
            given = ()
        return await plan.run(SocketCall(given, socket, self))


def name_of(namespace: Namespace) -> str:
    """The name of what is to be included. Raises UsageError for a class, and for anything else that is no Namespace."""
    check_object(namespace, Namespace)
    return namespace.name


def _check_rate(socket: Socket, handler: EventHandler, now: float) -> None:
    assert handler.limit is not None
    count, seconds = handler.limit
    rate = socket.cache.get(handler)
    if rate is None:
        rate = socket.cache[handler] = SlidingWindow(count, seconds, max_keys=1)
    wait = rate.hit(handler.name, now)
    if wait is not None:
        raise LimitError(f"No more than {count} of {handler.name} in {seconds:g} s", retry_after=wait)
