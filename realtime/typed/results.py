"""Pure: no I/O, no clock, no task. A handler's result: checked against its annotation, then made JSON-ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Never, NoReturn, get_args

from pydantic import TypeAdapter, ValidationError

from realtime.errors import UsageError
from realtime.typed.payload import error_details
from realtime.typed.signature import EMPTY, unwrap_annotation

_UNCHECKED: Final = (EMPTY, None, type(None), Any, object, Never, NoReturn)
_ALREADY_JSON: Final = (str, int, float, bool)
_OPEN: Final = (Any, object, bytes, bytearray, memoryview, dict, list, tuple, set, frozenset)
"""Bytes may be attachments, which a JSON dump would turn into text; in the others anything may be."""


def is_checked(annotation: Any) -> bool:
    """Whether this return annotation says anything about the value."""
    return not any(annotation is each for each in _UNCHECKED)


def finisher(function: str, annotation: Any, adapter: TypeAdapter[Any]) -> Callable[[Any], Any]:
    """Checks a result as FastAPI checks a response: fields that the annotated model lacks do not leave the server.

    Models become JSON types, by alias. Where the annotation leaves room for bytes or for anything the value stays
    as it is: the codec knows models. Raises UsageError when the value does not fit; it never quotes it.
    """
    validate = adapter.validator.validate_python
    dump = adapter.serializer.to_python if _is_closed(annotation) else None

    simple = annotation if any(annotation is each for each in _ALREADY_JSON) else None

    def finish(value: Any) -> Any:
        if type(value) is simple:
            return value
        try:
            checked = validate(value, from_attributes=True)
        except ValidationError as error:
            raise _misfit(function, error) from None
        return checked if dump is None else dump(checked, mode="json", by_alias=True)

    return finish


def _misfit(function: str, error: ValidationError) -> UsageError:
    problems = error_details(error, "return")
    first = problems[0]
    place = ".".join(str(part) for part in first["loc"])
    return UsageError(
        f"{function}: what it returned does not fit its annotation: {place}: {first['message']}", details=problems
    )


def _is_closed(annotation: Any) -> bool:
    """Everything inside is typed, none of it as bytes, and a dump would change something."""
    return annotation not in _ALREADY_JSON and _is_typed(annotation)


def _is_typed(annotation: Any) -> bool:
    base, _ = unwrap_annotation(annotation)
    if any(base is each for each in _OPEN):
        return False
    return all(_is_typed(each) for each in get_args(base) if not isinstance(each, str | int))
