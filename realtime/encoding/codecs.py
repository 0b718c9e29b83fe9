"""Pure: no I/O, no clock, no task. What the server says becomes bytes: once for each dialect, however many hear it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

from realtime.encoding.encoded import CLOSE_FRAME, NOOP_FRAME, PING_FRAME, PONG_PROBE, Encoded, ready, text
from realtime.encoding.json_text import OPTIONS, json_bytes, json_text, plain, write
from realtime.encoding.msgpack_data import pack, require
from realtime.errors import UsageError

__all__ = [
    "CLOSE_FRAME",
    "NOOP_FRAME",
    "PING_FRAME",
    "PONG_PROBE",
    "Dialect",
    "Encoded",
    "RawJson",
    "SocketIOMsgPack",
    "SocketIOText",
    "array",
    "json_bytes",
    "json_text",
    "text",
]


class Dialect(Protocol):
    """How one kind of client is spoken to. None: this dialect has no word for it.

    Every method raises UsageError, naming the type, for what cannot be encoded.
    """

    name: str

    def event(self, namespace: str, name: str, args: Sequence[Any], id: int | None = None) -> Encoded | None: ...

    def ack(self, namespace: str, id: int, args: Sequence[Any]) -> Encoded | None: ...

    def connect(self, namespace: str, data: Mapping[str, Any]) -> Encoded | None: ...

    def connect_error(self, namespace: str, data: Any) -> Encoded | None: ...

    def disconnect(self, namespace: str) -> Encoded | None: ...


class SocketIOText:
    """Socket.IO protocol 5 as text, bytes as attachments. ``dumps`` is a server's own JSON."""

    name = "socketio"

    def __init__(self, dumps: Callable[[Any], str] | None = None) -> None:
        self._dumps = dumps

    def event(self, namespace: str, name: str, args: Sequence[Any], id: int | None = None) -> Encoded:
        return self._list(b"42", b"45", _head(namespace, id), [name, *args])

    def ack(self, namespace: str, id: int, args: Sequence[Any]) -> Encoded:
        if self._dumps is None:
            try:
                body = orjson.dumps(args, option=OPTIONS)
            except TypeError:
                pass
            else:
                return ready((b"43%d" % id if namespace == "/" else f"43{namespace},{id}".encode()) + body)
        return self._list(b"43", b"46", _head(namespace, id), args)

    def connect(self, namespace: str, data: Mapping[str, Any]) -> Encoded:
        return self._control(b"40", namespace, data)

    def connect_error(self, namespace: str, data: Any) -> Encoded:
        return self._control(b"44", namespace, data)

    def disconnect(self, namespace: str) -> Encoded:
        return Encoded.text(b"41" + _head(namespace, None))

    def _control(self, kind: bytes, namespace: str, data: Any) -> Encoded:
        body = json_bytes(data) if self._dumps is None else _own_json(self._dumps, data)
        return Encoded.text(kind + _head(namespace, None) + body)

    def _list(self, kind: bytes, binary: bytes, head: bytes, data: Sequence[Any]) -> Encoded:
        if self._dumps is None:
            try:
                # Without a hook bytes are a TypeError: who has none pays nothing for those who have.
                return ready(b"".join((kind, head, orjson.dumps(data, option=OPTIONS))))
            except TypeError:
                pass
        body, attachments = _take_apart(list(data), self._dumps)
        if not attachments:
            return Encoded(((True, kind + head + body),))
        first = b"%b%d-%b%b" % (binary, len(attachments), head, body)
        return Encoded(((True, first), *((False, attachment) for attachment in attachments)))


def array(args: Sequence[Any], dumps: Callable[[Any], str] | None = None) -> tuple[bytes, tuple[bytes, ...]]:
    """The arguments of an event as a JSON array, and the attachments that its placeholders stand for."""
    if dumps is None:
        try:
            return orjson.dumps(args, option=OPTIONS), ()
        except TypeError:
            pass
    body, attachments = _take_apart(list(args), dumps)
    return body, tuple(attachments)


def _head(namespace: str, ack_id: int | None) -> bytes:
    if namespace == "/":
        return b"" if ack_id is None else b"%d" % ack_id
    return (f"{namespace}," if ack_id is None else f"{namespace},{ack_id}").encode()


def _own_json(dumps: Callable[[Any], str], value: Any) -> bytes:
    try:
        return dumps(value).encode("utf-8", "replace")
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"The server's own JSON cannot encode this {type(value).__name__}: {error}") from error


_MARK: Final = b'"_placeholder":'


def _take_apart(data: list[Any], dumps: Callable[[Any], str] | None) -> tuple[bytes, list[bytes]]:
    """JSON with placeholders, and the attachments they stand for. Raises UsageError."""
    attachments: list[bytes] = []

    def placeholder(found: bytes) -> dict[str, Any]:
        attachments.append(found)
        return {"_placeholder": True, "num": len(attachments) - 1}

    if dumps is None:
        body = write(data, placeholder, attachments.clear)
        if attachments and body.count(_MARK) != len(attachments):
            attachments.clear()
            body = write(_disarm(plain(data, bytes)), placeholder, attachments.clear)
        return body, attachments
    replaced = _replace_bytes(data, placeholder)
    if attachments:
        attachments.clear()
        replaced = _replace_bytes(_disarm(data), placeholder)
    return _own_json(dumps, replaced), attachments


def _disarm(value: Any) -> Any:
    """A relayed payload may hold a placeholder of its sender's making; a client that believed it would break off."""
    if isinstance(value, dict):
        return {key: False if key == "_placeholder" else _disarm(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_disarm(item) for item in value]
    return value


def _replace_bytes(value: Any, placeholder: Callable[[bytes], Any]) -> Any:
    """Looks into dicts and lists, as python-socketio does, and tuples: the rest is for the server's own JSON."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return placeholder(bytes(value))
    if isinstance(value, dict):
        return {key: _replace_bytes(item, placeholder) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_bytes(item, placeholder) for item in value]
    return value


class SocketIOMsgPack:
    """Socket.IO protocol 5 in MessagePack: a packet is one binary message. Raises UsageError without msgpack."""

    name = "socketio-msgpack"

    def __init__(self) -> None:
        require()

    def event(self, namespace: str, name: str, args: Sequence[Any], id: int | None = None) -> Encoded:
        return _packed({"type": 2, "nsp": namespace, "data": [name, *args]} | ({} if id is None else {"id": id}))

    def ack(self, namespace: str, id: int, args: Sequence[Any]) -> Encoded:
        return _packed({"type": 3, "nsp": namespace, "data": list(args), "id": id})

    def connect(self, namespace: str, data: Mapping[str, Any]) -> Encoded:
        return _packed({"type": 0, "nsp": namespace, "data": data})

    def connect_error(self, namespace: str, data: Any) -> Encoded:
        return _packed({"type": 4, "nsp": namespace, "data": data})

    def disconnect(self, namespace: str) -> Encoded:
        return _packed({"type": 1, "nsp": namespace})  # "data": null would be refused by the JavaScript client


def _packed(fields: dict[str, Any]) -> Encoded:
    return Encoded(((False, pack(fields)),))


class RawJson:
    """Plain WebSocket clients: ``{"event", "data"}``, and ``{"reply", "data" or "error"}`` for what had an ``id``.

    ``data`` is null without arguments, the argument itself where there is one, a list of several; bytes in it are
    ``{"_base64": "..."}``. Such a client is in one namespace and answers no events, so neither namespace nor the id
    of an event is told.
    """

    name = "raw"

    def event(self, namespace: str, name: str, args: Sequence[Any], id: int | None = None) -> Encoded:
        return Encoded.text(json_bytes({"event": name, "data": _single(args)}))

    def ack(self, namespace: str, id: int, args: Sequence[Any]) -> Encoded:
        data = _single(args)
        if isinstance(data, dict) and len(data) == 1 and "error" in data:
            return Encoded.text(json_bytes({"reply": id, "error": data["error"]}))
        return Encoded.text(json_bytes({"reply": id, "data": data}))

    def connect(self, namespace: str, data: Mapping[str, Any]) -> None:
        return None

    def connect_error(self, namespace: str, data: Any) -> None:
        return None

    def disconnect(self, namespace: str) -> None:
        return None


def _single(args: Sequence[Any]) -> Any:
    return args[0] if len(args) == 1 else list(args) or None
