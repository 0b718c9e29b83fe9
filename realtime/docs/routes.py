"""The documentation page: HTTP routes and typed events, from what is registered. Works offline.

Read from the application itself, so it cannot fall behind it. What cannot be read is said in its place on the
page and in the log; the page is always there.
"""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from inspect import cleandoc
from json import dumps
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute

from realtime.docs import page
from realtime.docs.json_schema import Field, Schema, fields, kind, outline
from realtime.typed.namespace import EventHandler, Namespace
from realtime.typed.payload import Argument
from realtime.typed.signature import EMPTY, shown

logger = logging.getLogger("realtime")

STYLE_FILE: Final = Path(__file__).parents[1] / "static" / "docs.css"
METHODS: Final = ("get", "post", "put", "patch", "delete", "head", "options", "trace")
NO_HTTP_SCHEMA: Final = "The schema of the HTTP routes could not be made; the log says why."
SHORT_TYPES: Final = {
    "application/json": "JSON",
    "application/x-www-form-urlencoded": "form",
    "multipart/form-data": "multipart form",
}


def add_docs(app: FastAPI, namespaces: Mapping[str, Namespace]) -> None:
    """``GET /docs``, before whatever else the app has there: FastAPI's own page loads its script from a CDN.

    ``namespaces`` may still grow: the page is made at the first request, once for each app.
    """
    made: list[Response] = []

    async def docs(_: Request) -> Response:
        if not made:
            made.append(_response(read(app, namespaces)))
        return made[0]

    app.router.routes.insert(0, Route("/docs", docs, include_in_schema=False))


def read(app: FastAPI, namespaces: Mapping[str, Namespace]) -> page.Contents:
    """What there is to document now. Never raises."""
    operations, problem = _operations(app)
    return page.Contents(
        title=app.title,
        summary=app.summary or app.description,
        version=app.version,
        schema_link=app.openapi_url.lstrip("/") if app.openapi_url else None,
        operations=operations,
        operations_problem=problem,
        plain_routes=tuple(_plain_routes(app.routes)),
        sections=tuple(map(_section, namespaces.values())),
    )


def _response(contents: page.Contents) -> Response:
    style = STYLE_FILE.read_text("utf-8")
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'; "
    headers = {
        "content-security-policy": policy + "frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
    return HTMLResponse(page.render(contents, style), headers=headers)


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────


def _operations(app: FastAPI) -> tuple[tuple[page.Operation, ...], str]:
    try:
        document = app.openapi()
        paths = document.get("paths", {})
        return tuple(
            _operation(method, path, {**_shared(paths[path]), **paths[path][method]}, document)
            for path in paths
            for method in METHODS
            if method in paths[path]
        ), ""
    except Exception:  # models, and whatever an application adds to its schema by hand
        logger.warning("/docs: the OpenAPI schema could not be made or read", exc_info=True)
        return tuple(_bare_operations(app)), NO_HTTP_SCHEMA


def _shared(path_item: Schema) -> dict[str, Any]:
    return {"parameters": path_item["parameters"]} if "parameters" in path_item else {}


def _bare_operations(app: FastAPI) -> Iterator[page.Operation]:
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, Route) and getattr(context.original_route, "include_in_schema", True):
            for method in sorted((context.methods or set()) - {"HEAD"}):
                yield page.Operation(method, context.path or "", description=_doc(context.endpoint))


def _operation(method: str, path: str, found: Schema, document: Schema) -> page.Operation:
    return page.Operation(
        method=method.upper(),
        path=path,
        summary=found.get("summary", ""),
        description=found.get("description", ""),
        parameters=tuple(_parameter(each, document) for each in found.get("parameters", ())),
        bodies=_bodies(found.get("requestBody", {}).get("content", {}), document),
        answers=tuple((status, answer.get("description", "")) for status, answer in found.get("responses", {}).items()),
    )


def _parameter(found: Schema, document: Schema) -> tuple[str, Field]:
    schema = found.get("schema", {})
    default = schema.get("default")
    return found["in"], Field(
        found["name"],
        kind(schema, document),
        found.get("required", False),
        None if default is None else dumps(default),
        found.get("description", ""),
    )


def _bodies(content: Mapping[str, Any], document: Schema) -> tuple[page.Body, ...]:
    """Media types that take the same are one."""
    merged: dict[str, tuple[list[str], Any]] = {}
    for media_type, found in content.items():
        schema = found.get("schema", {})
        merged.setdefault(dumps(schema, sort_keys=True), ([], schema))[0].append(
            SHORT_TYPES.get(media_type, media_type)
        )
    return tuple(page.Body(tuple(types), _shape(schema, document)) for types, schema in merged.values())


# ── WebSocket routes ─────────────────────────────────────────────────────────────────────────────


def _plain_routes(routes: Any, prefix: str = "") -> Iterator[page.PlainRoute]:
    for context in iter_route_contexts(routes):
        route = context.original_route
        if isinstance(route, WebSocketRoute):
            query = [field.alias for field in getattr(getattr(context, "dependant", None), "query_params", ())]
            yield page.PlainRoute(prefix + (context.path_format or ""), tuple(query), _doc(context.endpoint))
        elif isinstance(route, Mount):
            yield from _plain_routes(route.routes or (), prefix + (context.path or ""))


# ── namespaces ───────────────────────────────────────────────────────────────────────────────────


def _section(namespace: Namespace) -> page.Section:
    authorize = namespace._hooks.get("authorize")
    return page.Section(
        name=namespace.name,
        description="" if type(namespace) is Namespace else cleandoc(type(namespace).__doc__ or ""),
        auth=_argument(authorize.arguments[0]) if authorize and authorize.arguments else None,
        auth_description=_doc(authorize.handler) if authorize else "Everybody may connect.",
        events=tuple(map(_event, namespace.events.values())),
    )


def _event(handler: EventHandler) -> page.Event:
    notes = []
    if handler.limit is not None:
        notes.append(f"At most {handler.limit[0]} in {handler.limit[1]:g} s from one connection.")
    if handler.concurrent:
        notes.append("Runs beside other events of the same client.")
    return page.Event(
        name=handler.name,
        description=_doc(handler.plan.handler),
        arguments=tuple(map(_argument, handler.plan.arguments)),
        acknowledgement=_acknowledgement(handler.plan.returns),
        notes=tuple(notes),
    )


def _argument(argument: Argument) -> page.Argument:
    shape = _typed(argument.annotation, argument.adapter, "validation")
    return page.Argument(argument.name, shape, argument.required or argument.variadic, argument.variadic)


def _acknowledgement(returns: Any) -> page.Shape:
    if returns is EMPTY:
        return page.Shape("anything")
    if returns in (None, type(None)):
        return page.Shape("null")
    return _typed(returns, None, "serialization")


def _typed(annotation: Any, adapter: TypeAdapter[Any] | None, mode: Any) -> page.Shape:
    """Custom types need not have a JSON Schema, and what makes theirs is the application's own code."""
    try:
        adapter = TypeAdapter(annotation) if adapter is None else adapter
        return _shape(adapter.json_schema(mode=mode))
    except Exception:
        logger.warning("/docs: no JSON Schema can be made of %s", shown(annotation), exc_info=True)
        return page.Shape(shown(annotation), problem="No JSON Schema can be made of this type; the log says why.")


def _shape(schema: Any, document: Schema | None = None) -> page.Shape:
    return page.Shape(
        outline(schema, document),
        tuple(fields(schema, document)),
        dumps(schema, indent=2, ensure_ascii=False, default=str),
    )


def _doc(function: Any) -> str:
    return cleandoc(getattr(function, "__doc__", None) or "")
