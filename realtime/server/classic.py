"""Handlers in python-socketio's own style: ``@sio.event``, ``@sio.on`` and ``AsyncNamespace`` classes.

Same lookup, same arguments, same acknowledgements. What differs: how a handler is called is decided by its
signature once, never by catching TypeError; an exception becomes an error acknowledgement; the CONNECT packet
always leaves before what the connect handler emits to its client.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import socketio
from socketio.exceptions import ConnectionRefusedError as StockRefusal

Handler = Callable[..., Any]


class Refused(Exception):
    """The connect handler said no; ``data`` is what CONNECT_ERROR carries."""

    def __init__(self, data: Any) -> None:
        self.data = data


class Classic:
    """Finds and calls the handlers registered on a python-socketio server; what they raise comes out."""

    def __init__(self, server: socketio.AsyncServer) -> None:
        self._server = server
        self._arity: dict[Any, int] = {}

    async def connect(self, namespace: str, sid: str, environ: Any, auth: Any) -> None:
        """Raises Refused; anything else that comes out is the handler's own exception."""
        try:
            accepted = await self._lifecycle("connect", namespace, (sid, environ, auth or None))
        except StockRefusal as error:
            raise Refused(error.error_args) from None
        except ConnectionRefusedError:
            raise Refused({"message": "Connection refused by server"}) from None
        if accepted is False:
            raise Refused(StockRefusal().error_args)

    async def disconnect(self, namespace: str, sid: str, reason: str) -> None:
        """Run the disconnect handler, with the reason if it takes one."""
        await self._lifecycle("disconnect", namespace, (sid, reason))

    async def event(self, namespace: str, sid: str, data: Sequence[Any]) -> Any:
        """The handler's return value, or the server's ``not_handled``."""
        name, args = data[0], (sid, *data[1:])
        handler, found = self._server._get_event_handler(name, namespace, args)
        if handler:
            return await _call(handler, found)
        instance, found = self._server._get_namespace_handler(namespace, args)
        if instance is None:
            return self._server.not_handled
        if _routes_by_itself(instance):
            return await _call(instance.trigger_event, (name, *found))
        method = getattr(instance, "on_" + name, None)
        return await _call(method, found) if callable(method) else self._server.not_handled

    def handles(self, namespace: str, name: str) -> bool:
        """Is this event registered by name? (What may become a metric label.)"""
        if name in self._server.handlers.get(namespace, ()):
            return True
        instance = self._server.namespace_handlers.get(namespace)
        return instance is not None and callable(getattr(type(instance), "on_" + name, None))

    async def _lifecycle(self, event: str, namespace: str, args: tuple[Any, ...]) -> Any:
        """connect (sid, environ, auth) and disconnect (sid, reason): the last argument only to those who take it."""
        handler, found = self._server._get_event_handler(event, namespace, args)
        if handler:
            return await _call(handler, self._fitting(handler, found))
        instance, found = self._server._get_namespace_handler(namespace, args)
        if instance is None:
            return None
        method = getattr(instance, "on_" + event, None)
        if _routes_by_itself(instance):
            fitting = self._fitting(method, found) if method is not None else found
            return await _call(instance.trigger_event, (event, *fitting))
        return None if method is None else await _call(method, self._fitting(method, found))

    def _fitting(self, handler: Handler, args: tuple[Any, ...]) -> tuple[Any, ...]:
        key = getattr(handler, "__func__", handler)
        most = self._arity.get(key)
        if most is None:
            most = self._arity[key] = _most_arguments(handler)
        return args if most >= len(args) else args[:-1]


def _routes_by_itself(instance: Any) -> bool:
    return type(instance).trigger_event is not socketio.AsyncNamespace.trigger_event


def _most_arguments(handler: Handler) -> int:
    """How many positional arguments it takes at the most."""
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return 3
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return 99
    return sum(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters)


async def _call(handler: Handler, args: Sequence[Any]) -> Any:
    result = handler(*args)
    return await result if inspect.isawaitable(result) else result
