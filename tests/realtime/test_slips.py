"""What an author of a namespace class gets told at once, because it would do nothing in silence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import pytest

from realtime import Namespace, Socket, UsageError, event


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
