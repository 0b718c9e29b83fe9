"""Pure: no I/O, no clock, no task. Slips in a namespace that nothing else would notice: a misspelt hook lets everybody
in, a method in python-socketio's manner is never called, an unannotated ``socket`` is what the client sends first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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


def check_parameters(function: Callable[..., Any], where: str) -> None:
    """Raises UsageError for a parameter whose name says that something else is expected than what will be given."""
    parameters = list(_signature_of(function))
    if parameters and parameters[0].name == "sid":
        raise UsageError(
            f"{where}: events of a typed namespace are not given a sid; "
            "take `socket: Socket` (socket.sid is it), or leave it out"
        )
    for each in parameters:
        if each.name == "socket" and each.annotation is Parameter.empty and each.default is Parameter.empty:
            raise UsageError(
                f"{where}: the parameter socket has no annotation, so a value from the client would be given for it; "
                "write `socket: Socket`"
            )


def check_hook(where: str, given: Sequence[str], wanted: Sequence[str]) -> None:
    """``wanted`` are the arguments without which the hook cannot run. Raises UsageError where fewer are given."""
    if len(wanted) > len(given):
        raise UsageError(
            f"{where}: this hook is given {', '.join(given) or 'no arguments'} (and Socket, HTTPConnection or "
            f"Depends(...) as it asks for them); it wants {', '.join(wanted)}"
        )


def check_object(thing: object, kind: type) -> None:
    """Raises UsageError unless ``thing`` is an object of ``kind``."""
    if isinstance(thing, type) and issubclass(thing, kind):
        name = thing.__qualname__
        raise UsageError(f"include takes an object, and {name} is a class: write include({name}())")
    if not isinstance(thing, kind):
        came = thing.__qualname__ if isinstance(thing, type) else type(thing).__qualname__
        raise UsageError(
            f"include takes an object of a class derived from realtime.Namespace, not {came}; "
            "python-socketio's own are given to server.register_namespace"
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
    """Of the parameters that are given by their place."""
    by_place = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return [each.name for each in _signature_of(method) if each.kind in by_place]


def _signature_of(function: Any) -> Iterable[Parameter]:
    """Nothing where it cannot be read: whoever compiles it says so."""
    try:
        return signature(function).parameters.values()
    except (TypeError, ValueError, NameError):
        return ()


def _of(kind: type, name: str) -> str:
    return f"{kind.__qualname__}.{name}"
