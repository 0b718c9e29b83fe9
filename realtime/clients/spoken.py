"""Pure: no I/O, no clock, no task. How an application names what it says: an event and data, or one model."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from pydantic import BaseModel

from realtime.errors import UsageError
from realtime.names import LIFECYCLE_EVENTS

_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@cache
def event_name(model: type[BaseModel]) -> str:
    """``UserJoined`` is the event ``user_joined``; a class attribute ``event_name`` says otherwise."""
    given = getattr(model, "event_name", None)
    return given if isinstance(given, str) else _BOUNDARY.sub("_", model.__name__).lower()


def name_and_args(event: Any, data: Any) -> tuple[str, tuple[Any, ...]]:
    """A tuple of data is several arguments, None is none, anything else is one."""
    if isinstance(event, BaseModel):
        if data is not None:
            raise UsageError("emit() takes a model alone or an event name and data, not a model and data")
        return event_name(type(event)), (event,)
    if not isinstance(event, str):
        raise UsageError(f"an event is a name or a pydantic model, not {type(event).__name__}")
    if event in LIFECYCLE_EVENTS:
        raise UsageError(f"{event!r} is an event of the protocol itself: choose another name")
    return event, data if isinstance(data, tuple) else () if data is None else (data,)
