"""Pure: no I/O, no clock, no task. JSON in and out: fast where orjson can, patient where it cannot.

orjson refuses lone surrogates and reads an integer beyond 64 bits as a float, so its precision would be
lost without a word. Such text goes through the standard library instead, and what was taken that way can
be written again.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Final, NoReturn

import orjson
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from realtime.errors import UsageError

LONGEST_INTEGER: Final = 640
"""Characters. Up to here Python converts in both directions however its own limit is set
(``sys.int_info.str_digits_check_threshold``), and the quadratic conversion stays cheap."""

OPTIONS: Final = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC
_ANY_KEY: Final = OPTIONS | orjson.OPT_NON_STR_KEYS

# Tuples: `isinstance(x, dict | list)` would build the union anew at each of a million elements.
_CONTAINERS: Final = (dict, list)
_BINARY: Final = (bytes, bytearray, memoryview)

# An integer beyond 64 bits has at least 19 digits, so three samples in a row, six characters apart, fall into it:
# looking at those first costs half of looking at all, and a timestamp (13 digits) seldom passes for a long number.
_STRIDE: Final = 6
_SAMPLED: Final = re.compile(r"[0-9][0-9][0-9]")
# Not [0-9]{19}: a leading set lets the engine skip ahead, which is twice as fast.
_LONG_NUMBER: Final = re.compile(r"[0-9][0-9]{18}")


VALUES_LIMIT: Final = 50_000
"""Values in one payload: 0.1 s of the loop at the worst, where a megabyte of small ones takes 2 s."""


_OTHERS: Final = re.compile(r"[^][{}]+")


class NotJson(ValueError):
    """This is not JSON (NaN and Infinity included)."""


class Unreadable(ValueError):
    """This is JSON, but holds a number that cannot be kept."""


class TooDeep(ValueError):
    """Arrays and objects are nested deeper than allowed."""


class TooMany(Unreadable):
    """More values than allowed."""


def read(text: str, depth: int, count: int = VALUES_LIMIT) -> Any:
    """The value of this JSON text. Of duplicate keys the last wins. The outermost container is depth 1.

    Raises NotJson, Unreadable (a number too long or too large, more than ``count`` values) or TooDeep.
    """
    check_count(text, count, depth)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = _read_patiently(text)
    else:
        if may_hold_long_number(text):
            value = _read_patiently(text)
    if len(text) > 2 * depth:  # a level takes two characters
        check_depth(text, value, depth)
    return value


def may_hold_long_number(text: str) -> bool:
    """Could there be an integer in it that orjson would read as a float?"""
    return bool(_SAMPLED.search(text[::_STRIDE]) and _LONG_NUMBER.search(text))


def read_json(text: str, depth: int = 64) -> Any:
    """The value of a JSON text from outside, as strictly as a packet's. Raises ValueError."""
    return read(text, depth)


def check_count(text: str, limit: int, depth: int) -> None:
    """Raises TooMany, or TooDeep if it is that as well. A megabyte of ``[],[],…`` is half a million objects and holds
    the loop for seconds: the marks are counted before anything is made of them."""
    if len(text) <= 2 * limit or _marks(text) <= limit:
        return
    outside = _outside_strings(text)
    if _marks(outside) > limit:
        if _nested_deeper_than(outside, depth):
            raise TooDeep(f"nested deeper than {depth}")
        raise TooMany(f"more than {limit} values")


def _nested_deeper_than(outside: str, depth: int) -> bool:
    """Takes the innermost brackets away, level by level; what is never closed is as deep as can be."""
    brackets = _OTHERS.sub("", outside)
    for _ in range(depth):
        if not brackets:
            return False
        brackets = brackets.replace("[]", "").replace("{}", "")
    return bool(brackets)


def _outside_strings(text: str) -> str:
    """What stands between the strings. Plain replacing and splitting: a pattern for strings takes quadratic time over
    one that is never closed."""
    return "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])


def _marks(text: str) -> int:
    return text.count(",") + text.count("[") + text.count("{")


def check_depth(text: str, value: Any, depth: int) -> None:
    """Raises TooDeep. ``value`` is what ``text`` holds: text with few brackets cannot be deep, and needs no walk."""
    if text.count("[") + text.count("{") > depth and _deeper_than(value, depth):
        raise TooDeep(f"nested deeper than {depth}")


def _deeper_than(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, _CONTAINERS)
        ]
        if not level:
            return False
    return True


def _no_constant(word: str) -> NoReturn:
    raise NotJson(f"{word} is no JSON")


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_INTEGER:
        raise Unreadable(f"an integer of {len(digits)} characters")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise Unreadable("a number beyond the range of a double")
    return value


_patient = json.JSONDecoder(parse_int=_integer, parse_float=_number, parse_constant=_no_constant)


def _read_patiently(text: str) -> Any:
    try:
        return _patient.decode(text)
    except json.JSONDecodeError as error:
        raise NotJson(error.msg) from None
    except RecursionError:
        raise TooDeep("nested deeper than the parser can follow") from None


OnBytes = Callable[[bytes], Any]
"""What stands in the JSON in the place of bytes."""


def bytes_as_object(data: bytes) -> dict[str, str]:
    """The form of bytes where the wire has no binary of its own: ``{"_base64": "..."}``."""
    return {"_base64": base64.b64encode(data).decode()}


def json_bytes(value: Any) -> bytes:
    """Compact JSON in UTF-8. Raises UsageError, naming the type, for what has no JSON form.

    Taken besides plain values: pydantic models, dataclasses, enums, UUIDs, dates and times (ISO 8601; a
    datetime without a zone counts as UTC, UTC is written ``Z``), tuples, sets (as arrays), keys that are not
    strings, and what pydantic can serialise. NaN and Infinity become null, bytes ``{"_base64": ...}``.
    """
    try:
        return orjson.dumps(value, option=OPTIONS)
    except TypeError:
        return write(value, bytes_as_object)


def json_text(value: Any) -> str:
    """``json_bytes`` as a string."""
    return json_bytes(value).decode()


def write(value: Any, on_bytes: OnBytes, restart: Callable[[], None] | None = None) -> bytes:
    """``json_bytes`` with another form for bytes. ``restart`` is called before each new attempt."""

    def default(leaf: Any) -> Any:
        if isinstance(leaf, BaseModel):
            try:
                return orjson.Fragment(leaf.__pydantic_serializer__.to_json(leaf))
            except ValueError:  # a lone surrogate, for one
                pass
        return _simpler(leaf, on_bytes)

    for options in (OPTIONS, _ANY_KEY):
        try:
            return orjson.dumps(value, default, options)
        except TypeError:
            if restart:
                restart()
    return _write_patiently(plain(value, on_bytes))


def _write_patiently(value: Any) -> bytes:
    try:
        # ASCII only: a lone surrogate survives as its escape.
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
    except ValueError as error:
        raise UsageError("An integer is too long to be written as JSON") from error


def plain(value: Any, on_bytes: OnBytes) -> Any:
    """The same value in dicts with string keys, lists, strings, numbers, booleans and None, as orjson would see it.

    Raises UsageError, naming the type, for what has no such form.
    """
    try:
        return _plain(value, on_bytes)
    except RecursionError:
        raise UsageError(f"{type(value).__name__} is nested too deep to be encoded, or contains itself") from None


_PLAIN: Final = frozenset((bool, int, str))


def _plain(value: Any, on_bytes: OnBytes) -> Any:
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, Enum):
        return _plain(value.value, on_bytes)
    if isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, on_bytes) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, on_bytes) for item in value]
    return _plain_leaf(value, on_bytes)


def _plain_leaf(value: Any, on_bytes: OnBytes) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name), on_bytes) for f in fields(value) if not f.name.startswith("_")}
    if isinstance(value, _BINARY):
        return on_bytes(bytes(value))
    try:
        return orjson.loads(orjson.dumps(value, option=OPTIONS))  # dates, times, UUIDs
    except TypeError:
        return _plain(_simpler(value, on_bytes), on_bytes)


def _key(key: Any) -> str:
    if isinstance(key, str) and not isinstance(key, Enum):
        return key
    try:
        if isinstance(key, int) and not isinstance(key, bool | Enum):
            return str(key)
        name: str = next(iter(orjson.loads(orjson.dumps({key: None}, option=_ANY_KEY))))
    except (TypeError, ValueError):
        raise UsageError(f"{type(key).__name__} cannot be a key in JSON") from None
    return name


def _simpler(value: Any, on_bytes: OnBytes) -> Any:
    """One step from a foreign type towards plain values; the caller goes on with the answer."""
    if isinstance(value, _BINARY):
        return on_bytes(bytes(value))
    if isinstance(value, tuple | AbstractSet):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    try:
        if isinstance(value, BaseModel):
            return value.model_dump(mode="json")
        if not isinstance(value, Iterator):  # a second attempt would find it used up
            return to_jsonable_python(value)
    except ValueError as error:
        raise UsageError(f"{type(value).__name__} cannot be encoded as JSON: {error}") from error
    raise UsageError(f"{type(value).__name__} cannot be encoded as JSON: make it a list first")
