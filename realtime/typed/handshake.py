"""Pure: no I/O, no clock, no task. Single values out of the request that opened a connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.requests import HTTPConnection

from realtime.typed.payload import Fallback, error_details, invalid
from realtime.typed.steps import Call, Leaf


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value is found."""

    place: str
    """``query``, ``header`` or ``cookie``; a client is told it too."""
    name: str
    many: bool
    """Takes all values of this name rather than the last; a cookie has one."""


def reading(source: Source, adapter: TypeAdapter[Any], fallback: Fallback) -> Leaf:
    """The checked value of this source. The leaf raises PayloadError naming it when it is missing or wrong."""
    look, validate, loc = _look(source), adapter.validator.validate_python, (source.place, source.name)

    def fill(call: Call, _: list[Any]) -> Any:
        found = look(call.connection)
        if found is None:
            if fallback.required:
                raise invalid([{"loc": list(loc), "message": "Field required", "type": "missing"}])
            return fallback.make()
        try:
            return validate(found)
        except ValidationError as error:
            raise invalid(error_details(error, *loc)) from None

    return Leaf(fill)


def _look(source: Source) -> Callable[[HTTPConnection], Any]:
    """None when the handshake has nothing under this name."""
    name = source.name
    if source.place == "cookie":
        return lambda connection: connection.cookies.get(name)
    if source.place == "header":
        if source.many:
            return lambda connection: connection.headers.getlist(name) or None
        return lambda connection: connection.headers.get(name)
    if source.many:
        return lambda connection: connection.query_params.getlist(name) or None
    return lambda connection: connection.query_params.get(name)
