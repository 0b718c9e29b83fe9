"""Pure: no I/O, no clock, no task. Reading an ASGI scope: the query, a header, and the WSGI-style dictionary
that python-socketio's connect handlers are given."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

PLAIN = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}


def what_lasts(scope: Mapping[str, Any]) -> dict[str, Any]:
    """A scope without what belongs to its request alone: FastAPI's exit stacks, what the server offered."""
    return {key: value for key, value in scope.items() if key != "extensions" and not key.startswith("fastapi_")}


def query_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """The first value of each query parameter."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True):
        found.setdefault(name, value)
    return found


def header_of(scope: Mapping[str, Any], name: bytes) -> str | None:
    """The first header of this (lower-case) name."""
    for key, value in scope.get("headers", ()):
        if key == name:
            return str(value.decode("latin-1"))
    return None


def make_environ(scope: Mapping[str, Any], address: str) -> dict[str, Any]:
    """What a WSGI server would say about this request. ``REMOTE_ADDR`` is the client, not the loopback."""
    client = scope.get("client") or (None, 0)
    server = scope.get("server") or ("", 0)
    query = scope.get("query_string", b"").decode("latin-1")
    path = scope.get("path", "")
    environ: dict[str, Any] = {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": {"ws": "http", "wss": "https"}.get(scope.get("scheme", "http"), scope.get("scheme", "http")),
        "wsgi.errors": sys.stderr,
        "wsgi.async": True,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "SERVER_SOFTWARE": "asgi",
        "REQUEST_METHOD": scope.get("method", "GET"),
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "RAW_URI": f"{path}?{query}" if query else path,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": address,
        "REMOTE_PORT": str(client[1]),
        "SERVER_NAME": str(server[0]),
        "SERVER_PORT": str(server[1]),
        "asgi.scope": scope,
    }
    for key, value in scope.get("headers", ()):
        name = PLAIN.get(key) or "HTTP_" + key.decode("latin-1").upper().replace("-", "_")
        text = value.decode("latin-1")
        environ[name] = f"{environ[name]},{text}" if name in environ else text
    return environ
