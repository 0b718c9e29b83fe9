"""Pure: no I/O, no clock, no task. The documentation page as HTML, from records of what there is to show."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from realtime.docs.json_schema import Field
from realtime.docs.markup import Markup, anchor, prose, tag, words
from realtime.errors import AccessError, CloseCode, LimitError, OutsideError, PayloadError, RealtimeError

# ── what is shown ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Shape:
    """A value: in a line, field by field, and as its JSON Schema."""

    outline: str
    fields: tuple[Field, ...] = ()
    schema: str = ""
    problem: str = ""
    """Why there is no schema, a sentence; then the rest is empty but for the line."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One payload argument of an event, in the order in which clients send them."""

    name: str
    shape: Shape
    required: bool = True
    variadic: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    description: str
    arguments: tuple[Argument, ...]
    acknowledgement: Shape
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """One typed namespace."""

    name: str
    description: str
    auth: Argument | None
    """What the authorise step reads of what a client sends with CONNECT; None when it reads nothing."""
    auth_description: str
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Body:
    media_types: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True, slots=True)
class Operation:
    """One HTTP method of one path."""

    method: str
    path: str
    summary: str = ""
    description: str = ""
    parameters: tuple[tuple[str, Field], ...] = ()
    """Each with the place where it is sent: path, query, header, cookie."""
    bodies: tuple[Body, ...] = ()
    answers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PlainRoute:
    """A WebSocket route for clients without a library."""

    path: str
    query: tuple[str, ...]
    description: str


@dataclass(frozen=True, slots=True)
class Contents:
    title: str
    summary: str
    version: str
    schema_link: str | None
    """Where ``openapi.json`` is, relative to this page."""
    operations: tuple[Operation, ...]
    operations_problem: str
    plain_routes: tuple[PlainRoute, ...]
    sections: tuple[Section, ...]


# ── the page ─────────────────────────────────────────────────────────────────────────────────────


def render(contents: Contents, style: str) -> str:
    """The whole page, with its style sheet inside; it asks for nothing else and runs nothing."""
    head = tag(
        "head",
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'),
        tag("title", f"{contents.title}: documentation"),
        tag("style", Markup(style)),
    )
    body = tag(
        "body",
        tag("a", "Skip to the documentation", class_="skip", href="#main"),
        _header(contents),
        tag("div", _navigation(contents), _main(contents), class_="columns"),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _header(contents: Contents) -> Markup:
    title = tag("h1", contents.title, " ", tag("small", contents.version))
    link = contents.schema_link and tag("a", "openapi.json", href=contents.schema_link)
    return tag("header", LOGO, tag("div", title, tag("p", contents.summary)), tag("nav", link, aria_label="Files"))


def _navigation(contents: Contents) -> Markup:
    items = [
        _entry("HTTP", "http") if contents.operations or contents.operations_problem else None,
        _entry("Plain WebSocket", "websocket") if contents.plain_routes else None,
        [
            _entry(
                each.name, anchor("namespace", each.name), {event.name: _event_id(each, event) for event in each.events}
            )
            for each in contents.sections
        ],
        _entry("Errors", "errors"),
    ]
    return tag("nav", tag("ul", items), class_="contents", aria_label="On this page")


def _entry(title: str, id: str, below: Mapping[str, str] = MappingProxyType({})) -> Markup:
    deeper = tag("ul", (tag("li", tag("a", each, href=f"#{own}")) for each, own in below.items())) if below else None
    return tag("li", tag("a", title, href=f"#{id}"), deeper)


def _main(contents: Contents) -> Markup:
    return tag(
        "main",
        _http(contents) if contents.operations or contents.operations_problem else None,
        _plain(contents.plain_routes) if contents.plain_routes else None,
        map(_section, contents.sections),
        _errors(),
        id="main",
    )


# ── HTTP and plain WebSocket ─────────────────────────────────────────────────────────────────────


def _http(contents: Contents) -> Markup:
    problem = contents.operations_problem and tag("p", contents.operations_problem, class_="problem")
    title = tag("h2", "HTTP")
    return tag("section", title, problem, map(_operation, contents.operations), id="http", class_="http")


def _operation(operation: Operation) -> Markup:
    name = tag("h3", tag("b", operation.method, class_="method"), " ", tag("code", operation.path))
    rows = [(field, place) for place, field in operation.parameters]
    answers = " · ".join(" ".join(each).strip() for each in operation.answers)
    return tag(
        "article",
        name,
        prose(operation.description or operation.summary),
        _table(rows, "Parameter", "In") if rows else None,
        map(_body, operation.bodies),
        tag("p", tag("b", "Answers "), answers, class_="quiet") if answers else None,
        id=anchor(operation.method, operation.path),
    )


def _body(body: Body) -> Markup:
    line = tag("p", tag("b", "Body "), tag("code", body.shape.outline), " as ", ", ".join(body.media_types))
    return Markup(line + _details(body.shape))


def _plain(routes: Iterable[PlainRoute]) -> Markup:
    note = tag("p", "For clients without a library: text frames, and JSON where it is said.", class_="quiet")
    rows = tag("article", map(_plain_route, routes), class_="list")
    return tag("section", tag("h2", "Plain WebSocket"), note, rows, id="websocket", class_="raw")


def _plain_route(route: PlainRoute) -> Markup:
    query = tag("span", "?" + "&".join(f"{name}=" for name in route.query), class_="soft") if route.query else None
    return tag("div", tag("h3", tag("code", route.path, query)), prose(route.description), id=anchor(route.path))


# ── namespaces ───────────────────────────────────────────────────────────────────────────────────


def _event_id(section: Section, event: Event) -> str:
    return anchor("namespace", section.name, event.name)


def _section(section: Section) -> Markup:
    auth = section.auth
    options = f", {{auth: {auth.shape.outline}}}" if auth else ""
    door = tag(
        "article",
        tag("h3", tag("code", f"io({json.dumps(section.name, ensure_ascii=False)}{options})")),
        prose(section.auth_description),
        _details(auth.shape) if auth else tag("p", "No credentials are read from it.", class_="quiet"),
    )
    title = tag("h2", tag("code", section.name), " ", tag("small", "Socket.IO namespace"))
    return tag(
        "section",
        title,
        prose(section.description),
        door,
        (_event(section, each) for each in section.events),
        None if section.events else tag("p", "Clients send no events here.", class_="quiet"),
        id=anchor("namespace", section.name),
        class_="namespace",
    )


def _event(section: Section, event: Event) -> Markup:
    sent = tag("span", " ", ", ".join(map(_sent, event.arguments)), class_="soft")
    return tag(
        "article",
        tag("h3", tag("code", event.name, sent)),
        prose(event.description),
        (_argument(each, alone=len(event.arguments) == 1) for each in event.arguments),
        tag("p", tag("b", "Acknowledgement "), tag("code", event.acknowledgement.outline)),
        _details(event.acknowledgement),
        tag("p", " ".join(event.notes), class_="quiet") if event.notes else None,
        id=_event_id(section, event),
    )


def _sent(argument: Argument) -> str:
    outline = argument.shape.outline
    said = outline if outline.startswith("{") else f"{argument.name}: {outline}"
    return f"*{said}" if argument.variadic else said if argument.required else f"{said} (optional)"


def _argument(argument: Argument, *, alone: bool) -> Markup:
    title = None if alone else tag("p", tag("b", argument.name), class_="quiet")
    return Markup((title or "") + _details(argument.shape))


# ── shapes ───────────────────────────────────────────────────────────────────────────────────────


def _details(shape: Shape) -> Markup:
    """Fields as a table and the schema folded away; nothing for a value without fields, such as a number."""
    if shape.problem:
        return tag("p", shape.problem, class_="problem")
    if not shape.fields:
        return Markup()
    summary = tag("summary", "JSON Schema")
    folded = tag("details", summary, tag("pre", tag("code", shape.schema), tabindex="0")) if shape.schema else ""
    return Markup(_table([(each, None) for each in shape.fields], "Field") + folded)


def _table(rows: Iterable[tuple[Field, str | None]], *titles: str) -> Markup:
    head = tag("tr", (tag("th", each, scope="col") for each in (*titles, "Type", "")))
    return tag("table", tag("thead", head), tag("tbody", (_row(*each) for each in rows)))


def _row(field: Field, place: str | None) -> Markup:
    said = [
        "required" if field.required else None,
        None if field.default is None else ["default ", tag("code", field.default)],
        words(field.description) if field.description else None,
    ]
    notes = [[", " if number else "", each] for number, each in enumerate(filter(None, said))]
    name = tag("th", tag("code", field.name), scope="row")
    return tag("tr", name, None if place is None else tag("td", place), tag("td", field.kind), tag("td", notes))


# ── errors ───────────────────────────────────────────────────────────────────────────────────────

ERROR_OBJECT: Final = '{"error": {"code", "message", "details"?, "retry_after"?}}'
ERROR_CODES: Final = (
    (PayloadError.code, "the payload is not what the event expects; details names each problem"),
    ("unknown_event", "the namespace has no such event"),
    ("unauthorized", "nobody is signed in, or not with what is needed"),
    (AccessError.code, "not allowed, or not known to exist"),
    (LimitError.code, "too fast; retry_after says how many seconds to wait"),
    (OutsideError.code, "something the server needs did not answer"),
    (RealtimeError.code, "the server's own fault; details.incident is the number to ask about"),
)
CLOSE_CODES: Final = {
    CloseCode.DONE: "done",
    CloseCode.GOING_AWAY: "the server stops",
    CloseCode.PROTOCOL: "a broken frame",
    CloseCode.UNSUPPORTED: "a binary message on a text route",
    CloseCode.BAD_TEXT: "text that is not UTF-8",
    CloseCode.POLICY: "refused: who you are, what you sent with it, or where the page comes from",
    CloseCode.TOO_BIG: "a message over the limit",
    CloseCode.SERVER_ERROR: "the server's own fault",
    CloseCode.SILENT: "no answer to pings: connect again",
    CloseCode.TOO_FAST: "too many messages: connect again, slower",
    CloseCode.TOO_SLOW: "you read too slowly: connect again",
    CloseCode.DRAINING: "this instance stops: connect again after the delay in the reason",
    CloseCode.BAD_PROTOCOL: "the rules of the protocol were broken: do not connect again",
    CloseCode.REVOKED: "your token was revoked: do not connect again with it",
    CloseCode.REPLACED: "another connection took the place of this one: do not connect again",
}


def _errors() -> Markup:
    explained = (
        "A failed event is acknowledged with an error object; a client that asked for no acknowledgement gets the "
        "same as event `error`. A refused connection is a `connect_error`: its `message` is for people, its `data` "
        "begins with the `code`. Besides these, an application has codes of its own."
    )
    codes = _two_columns("Code", ((code, meaning) for code, meaning in ERROR_CODES))
    closes = _two_columns("Close code", ((str(int(code)), meaning) for code, meaning in CLOSE_CODES.items()))
    title = tag("h2", "Errors")
    objects = tag("article", tag("h3", tag("code", ERROR_OBJECT)), prose(explained), codes)
    frames = tag("article", tag("h3", "How a WebSocket is closed"), closes)
    return tag("section", title, objects, frames, id="errors")


def _two_columns(title: str, rows: Iterable[tuple[str, str]]) -> Markup:
    head = tag("tr", tag("th", title, scope="col"), tag("th", "Meaning", scope="col"))
    lines = (tag("tr", tag("th", tag("code", code), scope="row"), tag("td", meaning)) for code, meaning in rows)
    return tag("table", tag("thead", head), tag("tbody", lines))


LOGO: Final = Markup(
    '<svg viewBox="0 0 46 30" aria-hidden="true"><circle class="one" cx="15" cy="15" r="14"/>'
    '<circle class="other" cx="31" cy="15" r="14"/><path d="M23 3.5a14 14 0 0 1 0 23a14 14 0 0 1 0-23z"/></svg>'
)
