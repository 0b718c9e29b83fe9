from __future__ import annotations

from dataclasses import replace

import pytest

from realtime.docs.json_schema import Field
from realtime.docs.page import (
    CLOSE_CODES,
    Argument,
    Body,
    Contents,
    Event,
    Operation,
    PlainRoute,
    Section,
    Shape,
    render,
)
from realtime.errors import CloseCode
from tests.realtime.docs.test_markup import Reader

EVIL = """</style></code>"><script>alert('x')</script>&amp;"""
NAMES = (Field("room", "string", True), Field("limit", "integer", False, "50", "How many"))
ROOM = Shape("{room, limit?}", NAMES, '{"type": "object"}')
EMPTY = Contents("Shop", "", "1", None, (), "", (), ())
ORDER = Operation(
    "POST",
    "/orders/{id}",
    "Order",
    parameters=(("path", NAMES[0]),),
    bodies=(Body(("JSON", "form"), ROOM),),
    answers=(("200", "Fine"),),
)
TOKEN = Argument("auth", Shape("{token?}", (Field("token", "string or null", False),), "{}"), required=False)
JOIN = Event("join", "Enter a room.", (Argument("data", ROOM),), Shape("object"), ("At most 5 in 10 s.",))
COUNTED = (Argument("one", Shape("integer")), Argument("rest", Shape("string"), variadic=True))
MANY = Event("many", "", COUNTED, Shape("null"))
ODD = Event("odd", "", (Argument("x", Shape("Odd", problem="No schema."), False),), Shape("anything"))
FULL = Contents(
    title="Shop",
    summary="Sells things",
    version="1.2",
    schema_link="openapi.json",
    operations=(ORDER,),
    operations_problem="",
    plain_routes=(PlainRoute("/ws/{name}", ("room",), "Echoes ``text``."),),
    sections=(Section("/shop", "Where things are sold.", TOKEN, "A token names its user.", (JOIN, MANY, ODD)),),
)


def read(contents: Contents) -> Reader:
    return Reader(render(contents, ""))


@pytest.mark.parametrize(
    "said",
    [
        *("Shop", "1.2", "Sells things"),
        *("POST", "/orders/{id}", "Order", "Body {room, limit?} as JSON, form", "200 Fine"),
        *("/ws/{name}?room=", "Echoes text."),
        *("/shop", "Where things are sold.", 'io("/shop", {auth: {token?}})', "A token names its user."),
        *("join {room, limit?}", "Enter a room.", "default 50, How many", "At most 5 in 10 s."),
        *("many one: integer, *rest: string", "Acknowledgement null", "odd x: Odd (optional)", "No schema."),
        *("rate_limited", "retry_after", "4408"),
    ],
)
def test_everything_is_on_the_page(said: str) -> None:
    assert said in read(FULL).text


def test_every_link_within_the_page_has_its_target_and_no_target_stands_twice() -> None:
    elements = read(FULL).elements
    ids = [each["id"] for _, each in elements if "id" in each]
    links = [each["href"] for name, each in elements if name == "a" and (each["href"] or "").startswith("#")]
    assert len(links) >= 7
    assert {link[1:] for link in links if link} <= set(ids)
    assert len(ids) == len(set(ids))


def test_what_is_not_there_has_no_heading() -> None:
    text = read(EMPTY).text
    assert "HTTP" not in text
    assert "Plain WebSocket" not in text
    assert "openapi" not in text
    assert "Errors" in text


def test_a_namespace_without_events_or_credentials_says_so() -> None:
    text = read(replace(EMPTY, sections=(Section("/", "", None, "Everybody may connect.", ()),))).text
    assert 'io("/")' in text
    assert "No credentials are read from it." in text
    assert "Clients send no events here." in text


def test_nothing_that_an_application_says_becomes_html() -> None:
    shape = Shape(EVIL, (Field(EVIL, EVIL, True, EVIL, EVIL),), EVIL)
    argument = Argument(EVIL, shape)
    operation = Operation(EVIL, EVIL, EVIL, EVIL, ((EVIL, NAMES[0]),), (Body((EVIL,), shape),), ((EVIL, EVIL),))
    section = Section(EVIL, EVIL, argument, EVIL, (Event(EVIL, EVIL, (argument,), shape, (EVIL,)),))
    route = PlainRoute(EVIL, (EVIL,), EVIL)
    contents = Contents(EVIL, EVIL, EVIL, EVIL, (operation,), EVIL, (route,), (section,))
    page = read(contents)
    assert "script" not in {name for name, _ in page.elements}
    assert page.text.count("<script>alert('x')</script>") > 20
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_the_page_runs_nothing_and_asks_for_nothing() -> None:
    elements = read(FULL).elements
    assert {name for name, _ in elements} & {"script", "img", "iframe", "object", "form", "base"} == set()
    assert [each.get("href") for name, each in elements if name == "link"] == ["data:,"]
    assert not any("style" in each for _, each in elements)


def test_every_close_code_is_explained() -> None:
    assert set(CLOSE_CODES) == set(CloseCode)
