"""Pure: no I/O, no clock, no task. An event's payload against the parameters of its handler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from realtime.errors import PayloadError
from realtime.typed.signature import EMPTY, Parameter

DETAILS_LIMIT: Final = 20
"""Problems that one answer names; a person reads no more."""
COUNT_LIMIT: Final = 1_000
"""Above this many problems none is looked at: 350,000 of them fit into one message of 1 MB and took 0.6 s to list."""
TEXT_LIMIT: Final = 200
"""Characters of one message or one part of a path: both may quote the client's own keys."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One payload argument of a handler, in the order in which clients send them."""

    name: str
    annotation: Any
    """As written, ``Annotated`` and all; Any where none was written."""
    adapter: TypeAdapter[Any]
    required: bool
    default: Any = EMPTY
    """Passed on as it is when the argument was not sent; ``factory``, where there is one, makes a new one each time."""
    factory: Callable[[], Any] | None = None
    variadic: bool = False
    """``*name``: takes the rest, each checked by ``adapter``."""
    keyword: bool = False
    """The handler takes it by name; clients send it by position all the same."""

    def fallback(self) -> Any:
        return self.factory() if self.factory else self.default


@dataclass(frozen=True, slots=True)
class Fallback:
    """What stands in for a value that was not sent."""

    required: bool = True
    """Nothing does."""
    default: Any = EMPTY
    factory: Callable[[], Any] | None = None

    def make(self) -> Any:
        return self.factory() if self.factory else self.default


def fallback_of(parameter: Parameter) -> Fallback:
    """The default in the signature, or the one in pydantic's ``Field`` (FastAPI's markers are such)."""
    if parameter.default is not EMPTY and not isinstance(parameter.default, FieldInfo):
        return Fallback(False, parameter.default)
    fields = [each for each in (*parameter.metadata, parameter.default) if isinstance(each, FieldInfo)]
    if not fields or fields[-1].is_required():
        return Fallback()
    field = fields[-1]
    if field.default_factory is not None:
        return Fallback(False, factory=lambda: field.get_default(call_default_factory=True))
    return Fallback(False, field.default)


def annotation_of(parameter: Parameter) -> Any:
    """The annotation with the constraints that a ``Field`` as default value adds."""
    if isinstance(parameter.default, FieldInfo):
        return Annotated[parameter.annotation, parameter.default]
    return parameter.annotation


class Payload:
    """Checks a list of arguments. Without a variadic one ``read`` gives one value for each argument, in order;
    the variadic one's value is a list."""

    __slots__ = ("_fixed", "_least", "_most", "_rest", "_validators")

    def __init__(self, arguments: Sequence[Argument]) -> None:
        self._fixed = tuple(each for each in arguments if not each.variadic)
        self._rest = next((each for each in arguments if each.variadic), None)
        self._validators = tuple(each.adapter.validator.validate_python for each in self._fixed)
        # Positions count: an argument with a default before one without has to be sent.
        self._least = max((at + 1 for at, each in enumerate(self._fixed) if each.required), default=0)
        self._most = len(self._fixed)

    def read(self, args: Sequence[Any]) -> list[Any]:
        """Raises PayloadError naming what is missing, surplus or of the wrong type."""
        count = len(args)
        if count < self._least or (count > self._most and self._rest is None):
            raise self.miscounted(count)
        values: list[Any] = []
        problems: list[dict[str, Any]] = []
        for argument, validate, value in zip(self._fixed, self._validators, args, strict=False):
            try:
                values.append(validate(value))
            except ValidationError as error:
                problems += error_details(error, argument.name)
        if count < self._most:
            values += [argument.fallback() for argument in self._fixed[count:]]
        if self._rest is not None:
            values.append(self._read_rest(self._rest, args[self._most :], problems))
        if problems:
            raise invalid(problems)
        return values

    def miscounted(self, count: int) -> PayloadError:
        """The error for ``count`` arguments, which are too few or too many."""
        if count < self._least:
            missing = self._fixed[count : self._least]
            return invalid([{"loc": [each.name], "message": "Field required", "type": "missing"} for each in missing])
        message = f"Expected at most {self._most} argument{'s' * (self._most != 1)}, got {count}"
        return invalid([{"loc": [self._most], "message": message, "type": "unexpected_argument"}])

    @staticmethod
    def _read_rest(rest: Argument, args: Sequence[Any], problems: list[dict[str, Any]]) -> list[Any]:
        validate = rest.adapter.validator.validate_python
        values: list[Any] = []
        for at, value in enumerate(args):
            if len(problems) >= DETAILS_LIMIT:
                break
            try:
                values.append(validate(value))
            except ValidationError as error:
                problems += error_details(error, rest.name, at)
        return values


def invalid(problems: Sequence[dict[str, Any]]) -> PayloadError:
    """The error for these details; its sentence is made from the first."""
    first = problems[0]
    place = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return PayloadError(f"{place}: {first['message']}{more}", details=list(problems[:DETAILS_LIMIT]))


def error_details(exc: ValidationError, *loc: str | int) -> list[dict[str, Any]]:
    """What pydantic found, as ``{"loc", "message", "type"}``: at most ``DETAILS_LIMIT``, without the values that
    came and without URLs. ``loc`` is put before each path."""
    if exc.error_count() > COUNT_LIMIT:
        return [{"loc": list(loc), "message": f"{exc.error_count()} problems", "type": "too_many_problems"}]
    found = exc.errors(include_url=False, include_context=False, include_input=False)
    return [
        {"loc": [_short(part) for part in (*loc, *each["loc"])], "message": _short(each["msg"]), "type": each["type"]}
        for each in found[:DETAILS_LIMIT]
    ]


def _short(part: Any) -> Any:
    return part[:TEXT_LIMIT] if isinstance(part, str) else part
