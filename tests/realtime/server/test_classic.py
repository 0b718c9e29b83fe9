"""How handlers in python-socketio's style are found and called; a signature is read, never tried."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import socketio

from realtime import Server
from realtime.server.classic import Classic, Refused, _most_arguments
from tests.realtime.living import settings_for

ENVIRON: dict[str, Any] = {}


def server() -> Server:
    return Server(settings=settings_for())


def positional(a: Any, b: Any) -> None: ...


def optional(a: Any, b: Any = None, c: Any = None) -> None: ...


def variadic(*args: Any) -> None: ...


def keywords(a: Any, *, b: Any = None, **rest: Any) -> None: ...


@functools.wraps(positional)
def wrapped(*args: Any, **kwargs: Any) -> None: ...


class Callable_:
    def __call__(self, a: Any) -> None: ...

    def method(self, a: Any, b: Any) -> None: ...


@pytest.mark.parametrize(
    ("handler", "most"),
    [
        (positional, 2),
        (optional, 3),
        (variadic, 99),
        (keywords, 1),
        (wrapped, 2),
        (functools.partial(positional, 1), 1),
        (Callable_(), 1),
        (Callable_().method, 2),
        (lambda: None, 0),
    ],
)
def test_how_many_arguments_a_handler_takes(handler: Any, most: int) -> None:
    assert _most_arguments(handler) == most


@pytest.mark.parametrize("auth", [None, {"token": "x"}, "text"])
@pytest.mark.asyncio
async def test_connect_gets_auth_only_where_it_takes_it(auth: Any) -> None:
    for number in (2, 3, 99):
        got: list[Any] = []
        sio = server()
        handlers = {
            2: lambda sid, environ: got.append((sid, environ)),  # noqa: B023
            3: lambda sid, environ, auth: got.append((sid, environ, auth)),  # noqa: B023
            99: lambda *args: got.append(args),  # noqa: B023
        }
        sio.on("connect", handlers[number])
        await Classic(sio).connect("/", "sid", ENVIRON, auth)
        assert got == [("sid", ENVIRON, auth)[: 2 if number == 2 else 3]]


@pytest.mark.parametrize("handler", [lambda sid, reason: (sid, reason), lambda sid: (sid,), lambda *args: args])
@pytest.mark.asyncio
async def test_disconnect_gets_the_reason_only_where_it_takes_it(handler: Any) -> None:
    got: list[Any] = []

    @functools.wraps(handler)
    def recorded(*args: Any) -> None:
        got.append(handler(*args))

    sio = server()
    sio.on("disconnect", recorded)
    await Classic(sio).disconnect("/", "sid", "why")
    assert got in ([("sid", "why")], [("sid",)])


@pytest.mark.parametrize("where", ["function", "class"])
@pytest.mark.asyncio
async def test_a_type_error_inside_runs_the_handler_once(where: str) -> None:
    runs: list[str] = []

    async def failing(*args: Any) -> None:
        runs.append("run")
        raise TypeError("inside")

    class Failing(socketio.AsyncNamespace):
        async def on_connect(self, sid: str, environ: Any) -> None:
            await failing()

        async def on_disconnect(self, sid: str, reason: str) -> None:
            await failing()

        async def on_told(self, sid: str) -> None:
            await failing()

    sio = server()
    if where == "class":
        sio.register_namespace(Failing("/"))
    else:
        for name in ("connect", "disconnect", "told"):
            sio.on(name, failing)
    classic = Classic(sio)
    for work in (
        classic.connect("/", "sid", ENVIRON, None),
        classic.disconnect("/", "sid", "why"),
        classic.event("/", "sid", ["told"]),
    ):
        with pytest.raises(TypeError, match="inside"):
            await work
    assert runs == ["run"] * 3


@pytest.mark.parametrize(
    ("error", "data"),
    [
        (socketio.exceptions.ConnectionRefusedError(), {"message": "Connection rejected by server"}),
        (socketio.exceptions.ConnectionRefusedError("no"), {"message": "no"}),
        (socketio.exceptions.ConnectionRefusedError("no", 1, 2), {"message": "no", "data": (1, 2)}),
        (ConnectionRefusedError("inner words"), {"message": "Connection refused by server"}),
    ],
)
@pytest.mark.asyncio
async def test_a_refusal_carries_what_python_socketio_would_send(error: Exception, data: Any) -> None:
    def connect(sid: str, environ: Any) -> None:
        raise error

    sio = server()
    sio.on("connect", connect)
    with pytest.raises(Refused) as caught:
        await Classic(sio).connect("/", "sid", ENVIRON, None)
    assert caught.value.data == data


@pytest.mark.parametrize("answer", [None, True, 0, "", []])
@pytest.mark.asyncio
async def test_only_false_refuses(answer: Any) -> None:
    sio, asked = server(), list[str]()

    def connect(sid: str, environ: Any) -> Any:
        asked.append(sid)
        return answer

    sio.on("connect", connect)
    await Classic(sio).connect("/", "sid", ENVIRON, None)  # raises nothing
    assert asked == ["sid"]


class Everything(socketio.AsyncNamespace):
    attribute = "on_ is not in front of it"

    def on_told(self, sid: str, *args: Any) -> tuple[Any, ...]:
        return args

    @classmethod
    def on_class(cls, sid: str) -> str:
        return cls.__name__

    @staticmethod
    def on_static(sid: str) -> str:
        return sid

    on_text = "not callable"


@pytest.mark.asyncio
async def test_methods_of_a_class_are_reached_by_their_prefix_and_by_nothing_else() -> None:
    sio = server()
    sio.register_namespace(Everything("/all"))
    classic = Classic(sio)
    assert await classic.event("/all", "sid", ["told", 1, 2]) == (1, 2)
    assert await classic.event("/all", "sid", ["class"]) == "Everything"
    assert await classic.event("/all", "sid", ["static"]) == "sid"
    for name in ("attribute", "text", "trigger_event", "__init__", "emit", "", "Told"):
        assert await classic.event("/all", "sid", [name]) is sio.not_handled, name
    assert classic.handles("/all", "told")
    assert not classic.handles("/all", "unheard")
    assert not classic.handles("/nowhere", "told")


@pytest.mark.asyncio
async def test_a_function_goes_before_a_class_and_a_name_before_the_star() -> None:
    sio = server()
    sio.register_namespace(Everything("/"))
    sio.on("*", lambda event, sid, *args: ("star", event, *args))
    sio.on("told", lambda sid, *args: ("function", *args))
    classic = Classic(sio)
    assert await classic.event("/", "sid", ["told", 1]) == ("function", 1)
    assert await classic.event("/", "sid", ["else", 1]) == ("star", "else", 1)
    assert classic.handles("/", "told")
    assert not classic.handles("/", "else")
    await classic.connect("/", "sid", ENVIRON, None)
    await classic.disconnect("/", "sid", "why")
