"""Pure: no I/O, no clock, no task. MessagePack in and out: the values JSON has, and bytes.

The package msgpack is optional; where it is missing ``require`` raises UsageError.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final

from realtime.encoding.json_text import TooDeep, Unreadable, plain
from realtime.errors import UsageError

try:
    import msgpack
except ImportError:  # the extra `msgpack` is not installed
    msgpack = None

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_KEPT: Final = frozenset((str, int, bool, type(None)))

# In a lookahead, so that headers which overlap are all found.
_SMALL_BUFFER: Final = re.compile(rb"(?=\xc7(?:\x01\x00(.)|\x08\x00(.{8})))", re.DOTALL)


class NotPacked(ValueError):
    """These bytes are not one MessagePack value with strings as keys."""


def require() -> None:
    """Raises UsageError where the optional dependency is missing."""
    if msgpack is None:
        raise UsageError("MessagePack needs the package msgpack: pip install msgpack")


def unpack(data: bytes) -> Any:
    """The one value in ``data``. It has to pass ``check`` before anybody uses it. Raises NotPacked."""
    try:
        return msgpack.unpackb(data, ext_hook=_Extensions(data))
    except (ValueError, MemoryError) as error:  # msgpack's own errors are ValueErrors
        raise NotPacked("not one MessagePack value") from error


class _Extensions:
    """Extension 0, as the JavaScript client uses it: bytes, and in its fixed forms ``undefined`` and a Date.

    The hook is not told which form it was, so buffers as short as the fixed forms are found by their header.
    """

    def __init__(self, frame: bytes) -> None:
        self._frame = frame

    @cached_property
    def _small_buffers(self) -> frozenset[bytes]:
        # Once for each frame: a search for each value would cost the square of the frame.
        return frozenset(one or eight for one, eight in _SMALL_BUFFER.findall(self._frame))

    def __call__(self, code: int, data: bytes) -> Any:
        if code != 0:
            return msgpack.ExtType(code, data)
        if len(data) not in (1, 8) or data in self._small_buffers:
            return data
        if len(data) == 1:
            return None
        try:
            return _moment(int.from_bytes(data, "big", signed=True) * 1000, "milliseconds")
        except Unreadable:
            return msgpack.ExtType(code, data)  # for ``check`` to find: here nobody knows yet whom to answer


def check(value: Any, depth: int) -> int:
    """How many bytes values are in this dict or list, which counts as depth 1.

    Timestamps become ISO 8601 strings in place, as a text client would have sent them.
    Raises TooDeep, NotPacked (a key that is no string) or Unreadable (NaN, Infinity, a foreign extension).
    """
    binaries = 0
    level = [value]
    for _ in range(depth):
        below: list[Any] = []
        for container in filter(None, level):
            for key, item in enumerate(container) if type(container) is list else _items(container):
                kind = type(item)
                if kind is dict or kind is list:
                    below.append(item)
                elif kind is bytes:
                    binaries += 1
                elif kind not in _KEPT:
                    container[key] = _leaf(item)
        if not below:
            return binaries
        level = below
    raise TooDeep(f"nested deeper than {depth}")


def _items(container: dict[Any, Any]) -> list[tuple[Any, Any]]:
    if not all(type(key) is str for key in container):  # msgpack lets bytes through
        raise NotPacked("a key is not a string")
    return list(container.items())


def _leaf(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, msgpack.Timestamp):
        return _moment(value.to_unix_nano() // 1000, "microseconds")
    raise Unreadable("a value that JSON does not have")


def _moment(microseconds: int, precision: str) -> str:
    try:
        moment = _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        raise Unreadable("a date outside the calendar") from None
    return moment.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def pack(value: Any) -> bytes:
    """The values JSON would have (see ``json_text.json_bytes``), with bytes as bytes. Raises UsageError.

    A lone surrogate, which MessagePack does not have, becomes a question mark.
    """
    try:
        packed: bytes = msgpack.packb(plain(value, bytes), default=_large_integer, unicode_errors="replace")
    except ValueError as error:
        raise UsageError(f"{type(value).__name__} is nested too deep for MessagePack, or too large") from error
    return packed


def _large_integer(value: int) -> float | str:
    """Beyond 64 bits MessagePack has doubles, as JavaScript does; beyond those only text is left."""
    try:
        return float(value)
    except OverflowError:
        return str(value)
