"""Compiles a handler's signature into a call plan, once, at registration. A wrong signature is an error there.

A handler is written as a FastAPI route: ``Depends`` and ``Security`` (with ``yield``, caching and
``dependency_overrides``), ``Query``, ``Header`` and ``Cookie`` over the handshake, ``HTTPConnection`` and whatever
else is given as injectable; every other parameter is a payload argument, in the order in which clients send them.

Prefer ``async def``. A plain ``def`` (handler or dependency) runs in the thread pool and costs a hundred times
more than an ``async def`` that does not wait; a class as a dependency is called in place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, get_origin

from fastapi import BackgroundTasks, Request, Response, UploadFile, WebSocket
from fastapi.params import Body, Depends, Header, Param, Path, Query, Security
from fastapi.security import SecurityScopes
from pydantic import BaseModel, TypeAdapter
from starlette.background import BackgroundTasks as PlainBackgroundTasks
from starlette.requests import HTTPConnection
from starlette.responses import Response as PlainResponse

from realtime.errors import UsageError
from realtime.typed.handshake import Source, reading
from realtime.typed.payload import Argument, annotation_of, error_details, fallback_of
from realtime.typed.plan import Plan, Recipe
from realtime.typed.results import finisher, is_checked
from realtime.typed.signature import (
    EMPTY,
    Kind,
    Parameter,
    Signature,
    alternatives,
    is_class,
    is_scalar,
    is_sequence,
    kind_of,
    name_of,
    read_signature,
    resolve_annotation,
    shown,
    wrong,
)
from realtime.typed.steps import Call, Fill, Flow, Inputs, Leaf, Node, Overrides

__all__ = ["Call", "Plan", "compile_plan", "error_details", "per_connection"]

F = TypeVar("F", bound=Callable[..., Any])

_MARK: Final = "__realtime_per_connection__"
_OF_HTTP: Final = (Request, WebSocket, Response, PlainResponse, BackgroundTasks, PlainBackgroundTasks, UploadFile)


def per_connection(dependency: F) -> F:
    """Mark a dependency (the callable itself, wherever it is used) whose value is computed once for each connection.

    Its own dependencies are resolved for that one computation and cleaned up right after it. It cannot
    ``yield``. An override is computed for every event, and so is a value that depends on one.
    Raises UsageError for an object that takes no attribute, such as a bound method: wrap it in a function.
    """
    try:
        setattr(dependency, _MARK, True)
    except (AttributeError, TypeError) as error:
        raise wrong(dependency, "per_connection", "", "a function or class that can be marked", str(error)) from error
    return dependency


def compile_plan(
    handler: Callable[..., Any],
    *,
    injectables: Collection[type],
    dependencies: Sequence[Depends] = (),
    skip_first: bool = False,
    takes_payload: bool = True,
    json_ready: bool = True,
    where: str = "",
) -> Plan:
    """Read the signature of ``handler`` and of everything it depends on. ``dependencies`` run first, for their effect.

    ``skip_first`` is for a method taken from its class: ``plan.bind(owner)`` gives the plan that can run.
    ``takes_payload=False`` allows no payload arguments and ignores what comes. ``json_ready=False`` leaves the
    result as it is, unchecked, where no client waits for it. ``where`` begins each message.
    Raises UsageError naming function, parameter, what was expected and what came.
    """
    kind = kind_of(handler)
    if kind not in (Kind.ASYNC, Kind.SYNC):
        raise wrong(handler, where, "", "async def or def", kind.value)
    signature = read_signature(handler, where)
    returns = signature.returns
    if returns is not EMPTY:
        returns = resolve_annotation(handler, where, "return", returns)
    return _Order(
        handler=handler,
        blocking=kind is Kind.SYNC,
        parameters=signature.parameters[1:] if skip_first else signature.parameters,
        returns=returns,
        reader=_Reader(tuple(injectables), where, {}, {}),
        dependencies=tuple(dependencies),
        unbound=skip_first,
        takes_payload=takes_payload,
        json_ready=json_ready,
    ).plan({})


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be compiled; kept because overrides make further plans of it."""

    handler: Callable[..., Any]
    blocking: bool
    parameters: tuple[Parameter, ...]
    returns: Any
    reader: _Reader
    dependencies: tuple[Depends, ...]
    unbound: bool
    takes_payload: bool
    json_ready: bool

    def plan(self, overrides: Overrides) -> Plan:
        reader, path = replace(self.reader, overrides=overrides), _Path((), (self.handler,))
        before = [reader.below(self.handler).node(each, path) for each in self.dependencies]
        sources = [(each, reader.source(each, path, payload=True)) for each in self.parameters]
        arguments = self._arguments(reader, [each for each, source in sources if source is None])
        flow, inputs = _ordered(before, sources, len(arguments))
        recipe = Recipe(
            arguments=arguments,
            inputs=inputs,
            steps=tuple(flow.steps),
            size=flow.size,
            blocking=self.blocking,
            finish=reader.finisher(self.handler, self.returns) if self.json_ready else None,
            takes_payload=self.takes_payload,
        )
        replaceable = any(isinstance(each, Node) for each in (*before, *(source for _, source in sources)))
        return Plan(
            self.handler, recipe, self.returns, recompile=self.plan if replaceable else None, unbound=self.unbound
        )

    def _arguments(self, reader: _Reader, parameters: list[Parameter]) -> tuple[Argument, ...]:
        """The payload arguments in the order in which clients send them."""
        if parameters and not self.takes_payload:
            came = shown(parameters[0].annotation)
            raise reader.wrong(self.handler, parameters[0].name, f"{reader.choices()} (there is no payload here)", came)
        if any(each.variadic for each in parameters) and any(each.keyword for each in parameters):
            name = next(each.name for each in parameters if each.keyword)
            raise reader.wrong(self.handler, name, "a place before *args, which takes the rest", "a keyword argument")
        return tuple(reader.argument(self.handler, each) for each in parameters)


@dataclass(frozen=True, slots=True)
class _Path:
    """The way from the handler down to a parameter."""

    scopes: tuple[str, ...]
    """Security scopes asked for on the way; FastAPI hands them down."""
    calls: tuple[Callable[..., Any], ...]

    @property
    def owner(self) -> Callable[..., Any]:
        return self.calls[-1]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Finds out where the value of each parameter comes from."""

    injectables: tuple[type, ...]
    where: str
    overrides: Overrides
    signatures: dict[Callable[..., Any], Signature]
    """Read at registration, while the functions around them may still run and lend their names."""

    def below(self, owner: Callable[..., Any]) -> _Reader:
        """The same for the dependencies of ``owner``, whose messages name it too."""
        return replace(self, where=f"{self.where}: {name_of(owner)}" if self.where else name_of(owner))

    def wrong(self, owner: Callable[..., Any], parameter: str, expected: str, came: str) -> UsageError:
        return wrong(owner, self.where, parameter, expected, came)

    def choices(self) -> str:
        """What a parameter that is no value of the client's can be."""
        return ", ".join([*(each.__name__ for each in self.injectables), "HTTPConnection or Depends(...)"])

    def source(self, parameter: Parameter, path: _Path, *, payload: bool) -> Leaf | Node | None:
        """``payload`` says that the parameter is a handler's; then None says that the client sends it."""
        marker = self._marker(parameter, path.owner)
        if isinstance(marker, Depends):
            return self.below(path.owner).node(marker, path, parameter)
        if isinstance(marker, Param):
            return self._handshake(parameter, path.owner, marker)
        known = None if parameter.variadic else self._by_type(parameter, path)
        return known or (None if payload else self._plain(parameter, path.owner))

    def node(self, marker: Depends, path: _Path, parameter: Parameter | None = None) -> Node:
        """A dependency and all that it depends on, with its override where there is one."""
        call = self._callable(marker, path.owner, parameter)
        target = self.overrides.get(call, call)
        if target in path.calls:
            raise self.wrong(target, "", "dependencies that end somewhere", "a dependency on itself")
        own = tuple(marker.scopes or ()) if isinstance(marker, Security) else ()
        below = _Path(tuple(dict.fromkeys((*path.scopes, *own))), (*path.calls, target))
        inputs = tuple((each, self._input(each, below)) for each in self._signature(target).parameters)
        scoped = bool(own) or any(source.scoped for _, source in inputs)
        overridden = target is not call or any(source.overridden for _, source in inputs)
        kind, held = kind_of(target), _MARK in getattr(target, "__dict__", {})
        if held and kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
            raise self.wrong(target, "", "no yield in a dependency marked with per_connection", kind.value)
        return Node(
            key=(call, tuple(sorted(below.scopes)) if scoped else ()),
            target=target,
            kind=kind,
            inputs=inputs,
            use_cache=marker.use_cache,
            held=held and not overridden,
            scoped=scoped,
            overridden=overridden,
        )

    def argument(self, owner: Callable[..., Any], parameter: Parameter) -> Argument:
        fallback, annotation = fallback_of(parameter), annotation_of(parameter)
        return Argument(
            parameter.name,
            annotation,
            self._adapter(owner, parameter.name, annotation),
            required=fallback.required and not parameter.variadic,
            default=fallback.default,
            factory=fallback.factory,
            variadic=parameter.variadic,
            keyword=parameter.keyword,
        )

    def finisher(self, owner: Callable[..., Any], returns: Any) -> Callable[[Any], Any] | None:
        if not is_checked(returns):
            return None
        return finisher(name_of(owner), returns, self._adapter(owner, "return", returns))

    def _signature(self, target: Callable[..., Any]) -> Signature:
        found = self.signatures.get(target) or read_signature(target, self.where)
        if not self.overrides:
            self.signatures[target] = found
        return found

    def _input(self, parameter: Parameter, path: _Path) -> Leaf | Node:
        if parameter.variadic:
            expected = "parameters with names (does a decorator lack functools.wraps?)"
            raise self.wrong(path.owner, parameter.name, expected, f"*{parameter.name}")
        source = self.source(parameter, path, payload=False)
        assert source is not None
        return source

    def _marker(self, parameter: Parameter, owner: Callable[..., Any]) -> Depends | Param | None:
        """FastAPI's marker of a parameter; of several the last counts, as in FastAPI."""
        inside = [each for each in parameter.metadata if isinstance(each, Depends | Param | Body)]
        marker = parameter.default if isinstance(parameter.default, Depends | Param | Body) else None
        if inside and marker is not None:
            came = f"{shown(inside[-1])} and {shown(marker)}"
            raise self.wrong(owner, parameter.name, "one marker, in Annotated or as default", came)
        marker = inside[-1] if inside else marker
        if isinstance(marker, Body | Path):
            expected = "Depends, Security, Query, Header or Cookie (a payload argument needs no marker)"
            raise self.wrong(owner, parameter.name, expected, shown(marker))
        if marker is not None and parameter.variadic:
            raise self.wrong(owner, parameter.name, "payload arguments for *args", shown(marker))
        return marker

    def _callable(self, marker: Depends, owner: Callable[..., Any], parameter: Parameter | None) -> Callable[..., Any]:
        name = parameter.name if parameter else "dependencies"
        if marker.max_concurrency is not None:
            expected = "Depends without max_concurrency, which FastAPI counts for HTTP routes alone"
            raise self.wrong(owner, name, expected, f"max_concurrency={marker.max_concurrency}")
        call: Any = marker.dependency or (parameter.base if parameter else None)
        if not callable(call) or call is Any or call.__hash__ is None:
            raise self.wrong(owner, name, "Depends with something hashable that can be called", shown(call))
        return call  # type: ignore[no-any-return]

    def _by_type(self, parameter: Parameter, path: _Path) -> Leaf | None:
        base = get_origin(parameter.base) or parameter.base
        if not is_class(base):
            return None
        if base is HTTPConnection:
            return Leaf(lambda call, _: call.connection, HTTPConnection)
        if base is SecurityScopes:
            return Leaf(lambda call, _: SecurityScopes(list(path.scopes)), scoped=True)
        if issubclass(base, _OF_HTTP):
            expected = "HTTPConnection, which serves HTTP routes and events alike"
            expected = expected if issubclass(base, HTTPConnection) else f"{self.choices()}: there is no HTTP response"
            raise self.wrong(path.owner, parameter.name, expected, shown(base))
        found = self._injectable(base)
        return None if found is None else Leaf(_injected(found, base), (found, base))

    def _injectable(self, base: type) -> type | None:
        """The injectable that this annotation means: the class itself, one it derives from, or its one subclass."""
        if base.__module__ == "builtins":
            return None
        above = [each for each in base.__mro__ if each in self.injectables]
        below = [each for each in self.injectables if base in each.__mro__]
        return above[0] if above else below[0] if len(below) == 1 else None

    def _plain(self, parameter: Parameter, owner: Callable[..., Any]) -> Leaf:
        """A dependency's parameter without a marker: a query parameter, as FastAPI has it."""
        if not is_scalar(parameter.base):
            expected = f"{self.choices()}, Query(), Header(), Cookie() or a plain query parameter; events have no body"
            raise self.wrong(owner, parameter.name, expected, shown(parameter.annotation))
        return self._handshake(parameter, owner, Query())

    def _handshake(self, parameter: Parameter, owner: Callable[..., Any], marker: Param) -> Leaf:
        if any(is_class(each) and issubclass(each, BaseModel) for each in alternatives(parameter.base)):
            expected = f"single {marker.in_.value} parameters rather than a model of them"
            raise self.wrong(owner, parameter.name, expected, shown(parameter.annotation))
        name = _name_on_the_wire(parameter, marker)
        annotation = annotation_of(parameter)
        adapter = self._adapter(owner, parameter.name, annotation)
        return reading(Source(marker.in_.value, name, is_sequence(parameter.base)), adapter, fallback_of(parameter))

    def _adapter(self, owner: Callable[..., Any], name: str, annotation: Any) -> TypeAdapter[Any]:
        expected = f"{self.choices()} or a type that pydantic can check"
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(annotation)
            adapter.rebuild(raise_errors=True)
        except Exception as error:  # the author's own types take part in this
            raise self.wrong(owner, name, expected, f"{shown(annotation)} ({_first_line(error)})") from error
        return adapter


def _ordered(
    before: Sequence[Node], sources: Sequence[tuple[Parameter, Leaf | Node | None]], payload: int
) -> tuple[Flow, Inputs]:
    """Everything in order of need, and the slots that the handler takes; the payload has the first ``payload``."""
    flow = Flow(payload)
    flow.slots_of(before)
    resolved = iter(flow.slots_of([source for _, source in sources if source is not None]))
    sent = iter(range(payload))
    return flow, Inputs.of([(each, next(sent) if source is None else next(resolved)) for each, source in sources])


def _injected(found: type, wanted: type) -> Fill:
    if issubclass(found, wanted):
        return lambda call, _: call.injected[found]

    def fill(call: Call, _: list[Any]) -> Any:
        value = call.injected[found]
        if not isinstance(value, wanted):
            raise UsageError(f"a parameter expects {shown(wanted)}; this event has {shown(type(value))}")
        return value

    return fill


def _name_on_the_wire(parameter: Parameter, marker: Param) -> str:
    alias = marker.validation_alias if isinstance(marker.validation_alias, str) else marker.alias
    if alias:
        return alias
    if isinstance(marker, Header) and marker.convert_underscores:
        return parameter.name.replace("_", "-")
    return parameter.name


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
