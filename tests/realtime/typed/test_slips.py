"""What an author of a namespace class gets told at once, because it would do nothing in silence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import pytest
import socketio
from fastapi import Depends, FastAPI

from realtime import Namespace, Realtime, Server, Socket, UsageError, event


def namespace(**methods: Any) -> Namespace:
    """An object of a class with these methods."""
    kind: type[Namespace] = type("Board", (Namespace,), {"path": "/board", **methods})
    return kind()


async def about_a_socket(self: Any, socket: Socket) -> None: ...


async def about_a_sid(self: Any, sid: str, data: Any) -> None: ...


async def about_something(self: Any, text: str) -> None: ...


async def about_a_room(self: Any, room: str, reason: str = "") -> None: ...


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("authorise", "authorize"),
        ("Authorize", "authorize"),
        ("autorize", "authorize"),
        ("on_authorize", "authorize"),
        ("connect", "connected"),
        ("on_connected", "connected"),
        ("disconected", "disconnected"),
        ("on_disconnected", "disconnected"),
        ("mayjoin", "may_join"),
        ("may_joined", "may_join"),
        ("on_joined", "joined"),
        ("on_left", "left"),
        ("on_expired", "expired"),
    ],
)
def test_a_misspelt_hook_is_refused_with_what_was_meant(name: str, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"^Board\.{name} is never called: did you mean {meant}\? "):
        namespace(**{name: about_a_socket})


@pytest.mark.parametrize(
    ("name", "method", "instead"),
    [
        ("on_connect", about_a_sid, r"`async def authorize\(self, socket: Socket, auth: \.\.\.\)` to refuse"),
        ("on_disconnect", about_a_socket, r"write `async def disconnected\(self, socket: Socket, reason: str\)`"),
        ("on_move", about_a_sid, r"write `@event` above `async def move\(self, socket: Socket, \.\.\.\)`"),
        ("disconnect", about_a_socket, r"sends a room away; the hook is called disconnected"),
        ("disconnect", about_a_sid, r"sends a room away; the hook is called disconnected"),
    ],
)
def test_python_socketios_way_is_refused_with_what_to_write(
    name: str, method: Callable[..., Any], instead: str
) -> None:
    with pytest.raises(UsageError, match=rf"^Board\.{name} .*{instead}"):
        namespace(**{name: method})


@pytest.mark.parametrize(
    "name",
    [
        "authority", "author", "can_join", "connection", "connections", "disconnect_user", "expire", "is_connected",
        "join", "leave", "lift", "on_move", "room_of", "_authorise", "_on_connect",
    ],
)  # fmt: skip
def test_helpers_keep_their_names(name: str) -> None:
    assert namespace(**{name: about_something}).events == {}


def test_what_cannot_be_mistaken_is_left_alone() -> None:
    given = {
        "authorise": "text",
        "connecteds": property(lambda _: 1),
        "mayjoin": partial(print),
        "disconnect": about_a_room,
        "on_update": dict.update,
    }
    assert namespace(**given).events == {}


def test_an_event_may_have_any_name() -> None:
    marked = event(about_something)
    try:
        assert set(namespace(on_connect=marked, authorise=marked).events) == {"on_connect", "authorise"}
    finally:
        del marked.__realtime_event__  # type: ignore[attr-defined]


def test_a_slip_in_a_class_above_is_found_as_well() -> None:
    class Above(Namespace):
        path: ClassVar[str] = "/above"

        async def authorise(self, socket: Socket) -> None: ...

    class Below(Above):
        path: ClassVar[str] = "/below"

    with pytest.raises(UsageError, match="authorise is never called: did you mean authorize"):
        Below()


# ── parameters ───────────────────────────────────────────────────────────────────────────────────


async def bare(socket, text: str) -> None: ...  # type: ignore[no-untyped-def]


async def bare_second(text: str, socket) -> None: ...  # type: ignore[no-untyped-def]


async def with_default(text: str, socket: str = "a kind of wall plug") -> None: ...


async def of_the_client(socket: str) -> None: ...


async def depending(socket=Depends(lambda: 1)) -> None: ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize("handler", [bare, bare_second])
def test_an_unannotated_socket_is_refused_with_a_hint(handler: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match=r"^/board say: the parameter socket has no annotation.*`socket: Socket`$"):
        Namespace("/board").event("say")(handler)
    with pytest.raises(UsageError, match=r"^/board left: the parameter socket has no annotation"):
        Namespace("/board").hook("left")(handler)


@pytest.mark.parametrize("handler", [with_default, of_the_client, depending])
def test_a_socket_that_says_what_it_is_is_taken_as_that(handler: Callable[..., Any]) -> None:
    board = Namespace("/board")
    board.event("say")(handler)
    assert set(board.events) == {"say"}


# ── hooks ────────────────────────────────────────────────────────────────────────────────────────


async def nothing() -> None: ...


async def one(socket: Socket, a: str) -> None: ...


async def two(socket: Socket, a: str, b: str) -> None: ...


async def one_and_more(a: str, b: str = "", *rest: str) -> None: ...


async def by_name(a: str, *, b: str) -> None: ...


@pytest.mark.parametrize(
    ("name", "hook", "words"),
    [
        ("connected", one, "is given no arguments .*; it wants a$"),
        ("expired", one, "is given no arguments .*; it wants a$"),
        ("authorize", two, "is given auth .*; it wants a, b$"),
        ("disconnected", two, "is given reason .*; it wants a, b$"),
        ("may_join", by_name, "is given room .*; it wants a, b$"),
        ("joined", two, "is given room .*; it wants a, b$"),
        ("left", two, "is given room .*; it wants a, b$"),
    ],
)
def test_a_hook_that_wants_more_than_it_is_given_is_refused(name: str, hook: Callable[..., Any], words: str) -> None:
    with pytest.raises(UsageError, match=rf"^/board {name}: this hook {words}"):
        Namespace("/board").hook(name)(hook)
    with pytest.raises(UsageError, match=rf"^/board {name}: this hook {words}"):
        namespace(**{name: staticmethod(hook)})


@pytest.mark.parametrize("name", ["authorize", "disconnected", "may_join", "joined", "left"])
@pytest.mark.parametrize("hook", [nothing, one, one_and_more])
def test_a_hook_may_want_less_and_take_more(name: str, hook: Callable[..., Any]) -> None:
    board = Namespace("/board")
    assert board.hook(name)(hook) is hook


# ── including ────────────────────────────────────────────────────────────────────────────────────


class Board(Namespace):
    path: ClassVar[str] = "/board"


class Pathless(Namespace):
    """Written in a hurry."""


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (Board, r"include takes an object, and Board is a class: write include\(Board\(\)\)"),
        (socketio.AsyncNamespace("/x"), "not AsyncNamespace; python-socketio's own are given to"),
        (str, "not str;"),
        (None, "not NoneType;"),
    ],
)
def test_what_is_no_namespace_object_is_not_included(thing: Any, words: str) -> None:
    for include in (Server().include, Realtime(FastAPI()).include):
        with pytest.raises(UsageError, match=words):
            include(thing)


def test_a_class_without_a_path_is_told_where_to_write_it() -> None:
    with pytest.raises(
        UsageError, match=r'^Pathless has no path: write `path = "/\.\.\."` in the class, or Pathless\('
    ):
        Pathless()
    assert Pathless("/given").name == "/given"
