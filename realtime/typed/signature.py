"""Pure: no I/O, no clock, no task. Reads what a callable asks for: its kind, its parameters, their types."""

from __future__ import annotations

import inspect
import sys
from collections import abc, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from enum import Enum
from functools import partial
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeGuard, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from typing_extensions import TypeAliasType

from realtime.errors import UsageError

EMPTY: Final[Any] = inspect.Parameter.empty
"""No annotation, no default: what ``inspect`` says in that case."""


class Kind(Enum):
    """How a callable has to be called; the value is how people write it."""

    ASYNC = "async def"
    SYNC = "def"
    ASYNC_GENERATOR = "async def with yield"
    GENERATOR = "def with yield"
    CLASS = "class"


_COMPOSITE: Final = (BaseModel, dict, list, tuple, set, frozenset)
_SEQUENCES: Final = (list, tuple, set, frozenset, abc.Sequence, deque)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter with its type resolved; ``annotation`` is Any where none was written."""

    name: str
    annotation: Any
    default: Any
    keyword: bool
    """Can be passed by its name only."""
    variadic: bool
    """``*name``: takes the rest."""

    @property
    def base(self) -> Any:
        """The type without what ``Annotated`` says about it."""
        return unwrap_annotation(self.annotation)[0]

    @property
    def metadata(self) -> tuple[Any, ...]:
        return unwrap_annotation(self.annotation)[1]


@dataclass(frozen=True, slots=True)
class Signature:
    parameters: tuple[Parameter, ...]
    returns: Any
    """The annotation as written: a string where it was one; see ``resolve_returns``."""


def wrong(call: object, where: str, parameter: str, expected: str, came: str) -> UsageError:
    """The one sentence for a wrong signature; the same facts are in ``details``."""
    function = name_of(call)
    place = f"{where}: " if where else ""
    about = f"parameter {parameter!r}: " if parameter else ""
    return UsageError(
        f"{place}{function}: {about}expected {expected}; came {came}",
        details={"where": where, "function": function, "parameter": parameter, "expected": expected, "came": came},
    )


def name_of(call: object) -> str:
    """``module.qualified_name`` of a function, class, method or partial; of the class for any other object."""
    inner = _impartial(call)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{named.__module__}.{named.__qualname__}"


def kind_of(call: Callable[..., Any]) -> Kind:
    """Sees through partials, callable objects and ``functools.wraps``; the outermost layer that tells decides."""
    inner = _impartial(call)
    if inspect.isclass(inner):
        return Kind.CLASS
    return next((kind for face in _faces(inner) if (kind := _classify(face)) is not Kind.SYNC), Kind.SYNC)


def read_signature(call: Callable[..., Any], where: str = "") -> Signature:
    """The parameters with their types resolved. Raises UsageError where that cannot be done."""
    if not callable(call):
        raise wrong(call, where, "", "something that can be called", repr(call))
    try:
        found = inspect.signature(call)
    except (ValueError, TypeError, NameError) as error:  # NameError: Python 3.14 evaluates annotations here
        raise wrong(call, where, "", "a callable whose signature can be read", str(error)) from error
    return Signature(
        tuple(_read_parameter(call, where, each) for each in found.parameters.values()), found.return_annotation
    )


def resolve_annotation(call: Callable[..., Any], where: str, name: str, annotation: Any) -> Any:
    """Evaluate strings and forward references where the callable was written. Raises UsageError."""

    def carrier() -> None: ...

    carrier.__annotations__ = {"it": annotation}
    try:
        return get_type_hints(carrier, _globals_of(call), _locals_of(call), include_extras=True)["it"]
    except Exception as error:  # evaluating the author's expression can raise anything
        shown = annotation if isinstance(annotation, str) else repr(annotation)
        expected = "a type that is defined before the function is registered"
        raise wrong(call, where, name, expected, f"{shown!r} ({error})") from error


def unwrap_annotation(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """``(type, metadata)`` of ``Annotated[type, *metadata]``, through ``type X = ...`` aliases as well."""
    if isinstance(annotation, TypeAliasType):
        return unwrap_annotation(annotation.__value__)
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        base, nested = unwrap_annotation(inner)
        return base, (*nested, *metadata)
    return annotation, ()


def is_class(annotation: Any) -> TypeGuard[type]:
    """A real class: ``list[int]`` answers like one to ``isinstance`` on some versions, and is none."""
    return isinstance(annotation, type) and get_origin(annotation) is None


def alternatives(base: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself; without what Annotated says about them."""
    if get_origin(base) in (Union, UnionType):
        return tuple(unwrap_annotation(each)[0] for each in get_args(base))
    return (base,)


def is_scalar(base: Any) -> bool:
    """One piece of text can be it."""
    return all(
        get_origin(each) is Literal
        if get_origin(each) is not None
        else not (is_class(each) and (issubclass(each, _COMPOSITE) or is_dataclass(each)))
        for each in alternatives(base)
    )


def shown(thing: Any) -> str:
    if is_class(thing):
        return thing.__qualname__ if thing.__module__ == "builtins" else f"{thing.__module__}.{thing.__qualname__}"
    return repr(thing)


def is_sequence(base: Any) -> bool:
    """A query or header that may come several times."""
    return any((get_origin(each) or each) in _SEQUENCES for each in alternatives(base))


def _read_parameter(call: Callable[..., Any], where: str, parameter: inspect.Parameter) -> Parameter:
    if parameter.kind is parameter.VAR_KEYWORD:
        expected = "parameters with names (does a decorator lack functools.wraps?)"
        raise wrong(call, where, parameter.name, expected, f"**{parameter.name}")
    annotation = Any
    if parameter.annotation is not EMPTY:
        annotation = resolve_annotation(call, where, parameter.name, parameter.annotation)
    return Parameter(
        parameter.name,
        annotation,
        parameter.default,
        keyword=parameter.kind is parameter.KEYWORD_ONLY,
        variadic=parameter.kind is parameter.VAR_POSITIONAL,
    )


def _impartial(call: object) -> Any:
    while isinstance(call, partial):
        call = call.func
    return call


def _faces(inner: Any) -> Iterator[Any]:
    """What may tell the kind of a callable, from the outside in."""
    yield inner
    yield inspect.unwrap(inner)
    if not inspect.isroutine(inner):
        yield inner.__call__
        yield inspect.unwrap(inner.__call__)


def _classify(face: Any) -> Kind:
    if inspect.iscoroutinefunction(face):
        return Kind.ASYNC
    if inspect.isasyncgenfunction(face):
        return Kind.ASYNC_GENERATOR
    if inspect.isgeneratorfunction(face):
        return Kind.GENERATOR
    return Kind.SYNC


def _written_as(call: object) -> Any:
    """The function whose source holds the annotations."""
    inner = inspect.unwrap(_impartial(call))
    if inspect.isclass(inner):
        return inner.__init__ if inspect.isfunction(inner.__init__) else inner.__new__
    return inner if inspect.isroutine(inner) else inspect.unwrap(inner.__call__)


def _globals_of(call: object) -> dict[str, Any]:
    inner = inspect.unwrap(_impartial(call))
    module = vars(sys.modules[inner.__module__]) if inspect.isclass(inner) else {}
    return {**module, **getattr(_written_as(call), "__globals__", {})}


def _locals_of(call: object) -> dict[str, Any]:
    """Names of the functions around the callable: still running (usual at registration), or in its closure."""
    written = _written_as(call)
    known: dict[str, Any] = {}
    outer = getattr(written, "__qualname__", "")
    while "<locals>" in outer:
        outer = outer.rpartition(".<locals>")[0]
        known = {**_running_locals(outer, getattr(written, "__globals__", None)), **known}
    code, cells = getattr(written, "__code__", None), getattr(written, "__closure__", None) or ()
    for name, cell in zip(code.co_freevars if code else (), cells, strict=False):
        try:
            known[name] = cell.cell_contents
        except ValueError:  # the name is bound later in the enclosing function
            continue
    return known


def _running_locals(qualname: str, module: object) -> dict[str, Any]:
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_qualname == qualname and frame.f_globals is module:
            return dict(frame.f_locals)
        frame = frame.f_back
    return {}
