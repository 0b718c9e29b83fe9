"""Pure: no I/O, no clock, no task. Slips in a namespace class that nothing else would notice: a misspelt hook lets
everybody in, and a method in python-socketio's manner is never called."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from inspect import Parameter, isroutine, signature
from typing import Any, Final

from realtime.errors import UsageError

NEAR: Final = 0.85
"""Of difflib's likeness: authorise, disconected and mayjoin are hooks, can_join and disconnect_user are helpers."""
_QUESTIONS: Final = ("is_", "has_", "was_")
_INSTEAD: Final = {
    "on_connect": "`async def authorize(self, socket: Socket, auth: ...)` to refuse or know a client, "
    "`async def connected(self, socket: Socket)` to greet it",
    "on_disconnect": "`async def disconnected(self, socket: Socket, reason: str)`",
}


def check_methods(kind: type, base: type, hooks: Iterable[str], events: Iterable[str]) -> None:
    """Look at the methods that ``kind`` adds to ``base``. ``events`` are the names of those that clients may call;
    the others are hooks or helpers, and a helper whose name begins with ``_`` is not looked at.

    Raises UsageError for a name that is nearly a hook's, or that python-socketio would have called.
    """
    hooks, events = tuple(hooks), frozenset(events)
    for name in dir(kind):
        method = getattr(kind, name, None)
        if name.startswith("_") or name in hooks or name in events or not isroutine(method):
            continue
        if name not in vars(base):
            _check_name(kind, name, method, hooks)
        elif name == "disconnect" and _is_about_a_client(method):
            raise UsageError(
                f"{_of(kind, name)} is the method that sends a room away; the hook is called disconnected: "
                f"write {_INSTEAD['on_disconnect']}"
            )


def _check_name(kind: type, name: str, method: Any, hooks: tuple[str, ...]) -> None:
    if name in _INSTEAD:
        raise UsageError(f"{_of(kind, name)} is never called: that is python-socketio's name; write {_INSTEAD[name]}")
    near = _nearest(name, hooks)
    if near is not None:
        raise UsageError(
            f"{_of(kind, name)} is never called: did you mean {near}? "
            "The name of a helper that is so near to a hook's begins with _"
        )
    if name.startswith("on_") and "sid" in _names(method)[:2]:
        event = name.removeprefix("on_")
        raise UsageError(
            f"{_of(kind, name)} is never called: that is python-socketio's way; "
            f"write `@event` above `async def {event}(self, socket: Socket, ...)`"
        )


def _nearest(name: str, hooks: tuple[str, ...]) -> str | None:
    if name == "expire" or name.startswith(_QUESTIONS):
        return None
    plain = {hook.replace("_", ""): hook for hook in hooks}
    found = get_close_matches(name.removeprefix("on_").replace("_", "").lower(), plain, 1, NEAR)
    return plain[found[0]] if found else None


def _is_about_a_client(method: Any) -> bool:
    return not {"sid", "socket"}.isdisjoint(_names(method)[:2])


def _names(method: Any) -> list[str]:
    """Of the parameters that are given by their place; none where they cannot be read."""
    try:
        found = signature(method).parameters.values()
    except (TypeError, ValueError):
        return []
    return [each.name for each in found if each.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]


def _of(kind: type, name: str) -> str:
    return f"{kind.__qualname__}.{name}"
