from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI, Query, WebSocket
from pydantic import BaseModel, InstanceOf
from starlette.routing import Mount, WebSocketRoute
from starlette.testclient import TestClient

from namespaces.app import create_app
from realtime import Namespace, Realtime, Settings, Socket, event
from realtime.docs.page import Contents, Event
from realtime.docs.routes import NO_HTTP_SCHEMA, read

SETTINGS = Settings(redis_url=None)


class Pass(BaseModel):
    token: str


class Order(BaseModel):
    article: str
    count: int = 1


class Receipt(BaseModel):
    number: int


class Shop(Namespace):
    """Sells things."""

    path = "/shop"

    async def authorize(self, socket: Socket, auth: Pass | None = None) -> None:
        """Show your pass."""

    @event(limit="5/10s", concurrent=True)
    async def order(self, socket: Socket, data: Order) -> Receipt:
        """Order something."""
        return Receipt(number=1)

    @event
    async def leave(self) -> None: ...

    @event
    async def many(self, first: int, second: Annotated[str, "unused"] = "x", *rest: bytes) -> Any: ...

    @event
    async def untold(self, data: Any): ...  # type: ignore[no-untyped-def]


class Plain(Namespace):
    path = "/plain"


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI(title="Shop", summary="Sells things", version="1.2")
    realtime = Realtime(app, settings=SETTINGS, docs=True)
    realtime.include(Shop())

    @app.post("/orders/{id}")
    async def change(id: int, order: Order, dry: Annotated[bool, Query(description="Only try")] = False) -> Receipt:
        """Change an order."""
        return Receipt(number=id)

    return app


def contents(app: FastAPI, *namespaces: Namespace) -> Contents:
    return read(app, {each.name: each for each in namespaces})


def events(namespace: Namespace) -> dict[str, Event]:
    (section,) = contents(FastAPI(), namespace).sections
    return {each.name: each for each in section.events}


def test_the_page_takes_the_place_of_fastapis_own_and_shows_what_came_later(app: FastAPI) -> None:
    answer = TestClient(app).get("/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "swagger" not in answer.text
    assert "/orders/{id}" in answer.text
    assert "Order something." in answer.text


def test_the_policy_lets_the_style_in_and_nothing_else(app: FastAPI) -> None:
    answer = TestClient(app).get("/docs")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "script" not in policy
    assert "http" not in policy


def test_the_page_is_made_once(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    client = TestClient(app)
    first = client.get("/docs").text
    monkeypatch.setattr(app, "openapi", lambda: pytest.fail("made again"))
    assert client.get("/docs").text == first


def test_no_page_unless_asked_for() -> None:
    app = FastAPI(docs_url=None)
    Realtime(app, settings=SETTINGS)
    assert TestClient(app).get("/docs").status_code == 404


def test_an_http_route_with_its_parameters_and_body(app: FastAPI) -> None:
    (operation,) = contents(app).operations
    assert (operation.method, operation.path, operation.summary) == ("POST", "/orders/{id}", "Change")
    assert operation.description == "Change an order."
    assert [(place, each.name, each.kind, each.required) for place, each in operation.parameters] == [
        ("path", "id", "integer", True),
        ("query", "dry", "boolean", False),
    ]
    assert operation.parameters[1][1].default == "false"
    assert operation.parameters[1][1].description == "Only try"
    (body,) = operation.bodies
    assert (body.media_types, body.shape.outline) == (("JSON",), "{article, count?}")
    assert operation.answers[0] == ("200", "Successful Response")


def test_bodies_that_are_the_same_are_told_once() -> None:
    app = FastAPI()
    types = ("application/json", "multipart/form-data", "text/x")
    body = {"content": {each: {"schema": {"type": "string"}} for each in types}}

    @app.post("/", openapi_extra={"requestBody": body})
    async def publish() -> None: ...

    (operation,) = contents(app).operations
    assert [each.media_types for each in operation.bodies] == [("JSON", "multipart form", "text/x")]


def test_parameters_of_a_whole_path_belong_to_its_methods(app: FastAPI) -> None:
    app.openapi()["paths"]["/orders/{id}"] = {
        "parameters": [{"name": "id", "in": "path", "schema": {"type": "string"}}],
        "get": {"summary": "Look"},
        "delete": {"parameters": [{"name": "why", "in": "query"}]},
    }
    found = {each.method: [field.name for _, field in each.parameters] for each in contents(app).operations}
    assert found == {"GET": ["id"], "DELETE": ["why"]}


def test_a_schema_that_cannot_be_made_leaves_paths_and_docstrings(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> dict[str, Any]:
        raise TypeError("a secret of the application")

    monkeypatch.setattr(app, "openapi", broken)
    with caplog.at_level(logging.WARNING, "realtime"):
        answer = TestClient(app).get("/docs")
    assert answer.status_code == 200
    assert NO_HTTP_SCHEMA in answer.text
    assert "Change an order." in answer.text
    assert "secret" not in answer.text
    assert "Order something." in answer.text
    assert "OpenAPI" in caplog.text


def test_the_link_to_the_schema_is_relative_and_absent_where_there_is_none() -> None:
    assert contents(FastAPI()).schema_link == "openapi.json"
    assert contents(FastAPI(openapi_url="/api/schema.json")).schema_link == "api/schema.json"
    assert contents(FastAPI(openapi_url=None)).schema_link is None


async def plain_route(websocket: WebSocket, name: str, room: str = "lobby") -> None:
    """Says it back."""


async def undocumented(websocket: Any) -> None: ...


def test_websocket_routes_wherever_they_are() -> None:
    router = APIRouter()
    router.websocket("/ws/{name:path}")(plain_route)
    app = FastAPI(routes=[Mount("/below", routes=[WebSocketRoute("/raw", undocumented)]), Mount("/app", app=FastAPI())])
    app.include_router(router, prefix="/v1")
    found = [(each.path, each.query, each.description) for each in contents(app).plain_routes]
    assert found == [("/below/raw", (), ""), ("/v1/ws/{name}", ("room",), "Says it back.")]


def test_a_namespace_with_its_door() -> None:
    (section,) = contents(FastAPI(), Shop()).sections
    assert (section.name, section.description) == ("/shop", "Sells things.")
    assert section.auth_description == "Show your pass."
    assert section.auth is not None
    assert (section.auth.name, section.auth.shape.outline, section.auth.required) == ("auth", "{token}", False)


@pytest.mark.parametrize("namespace", [Namespace("/made"), Plain()], ids=["function form", "class"])
def test_a_namespace_without_words_or_door(namespace: Namespace) -> None:
    (section,) = contents(FastAPI(), namespace).sections
    assert (section.description, section.auth, section.events) == ("", None, ())
    assert section.auth_description == "Everybody may connect."


def test_an_event_with_payload_acknowledgement_and_limits() -> None:
    order = events(Shop())["order"]
    assert order.description == "Order something."
    assert [(each.name, each.shape.outline) for each in order.arguments] == [("data", "{article, count?}")]
    assert order.acknowledgement.outline == "{number}"
    assert order.notes == (
        "At most 5 in 10 s from one connection.",
        "Runs beside other events of the same client.",
    )


def test_events_with_no_one_and_many_arguments() -> None:
    found = events(Shop())
    assert (found["leave"].arguments, found["leave"].acknowledgement.outline) == ((), "null")
    assert [(each.name, each.required, each.variadic) for each in found["many"].arguments] == [
        ("first", True, False),
        ("second", False, False),
        ("rest", True, True),
    ]
    assert found["many"].acknowledgement.outline == "anything"
    assert found["untold"].acknowledgement.outline == "anything"


class Odd:
    """A type of the application's own, of which pydantic cannot make a JSON Schema."""


def test_a_type_without_a_schema_says_so_in_its_place(caplog: pytest.LogCaptureFixture) -> None:
    odd = Namespace("/odd")

    @odd.event
    async def take(data: InstanceOf[Odd]) -> dict[str, Callable[[], None]]:
        """Takes what is odd."""
        return {}

    with caplog.at_level(logging.WARNING, "realtime"):
        found = events(odd)["take"]
    assert found.description == "Takes what is odd."
    assert "Odd" in found.arguments[0].shape.outline
    assert "No JSON Schema" in found.arguments[0].shape.problem
    assert "No JSON Schema" in found.acknowledgement.problem
    assert caplog.text.count("no JSON Schema can be made of") == 2


def test_the_application_documents_itself_without_a_gap() -> None:
    app = create_app(Settings(database_url="sqlite+aiosqlite://"))
    found = read(app, app.state.realtime.server.application.typed)
    assert not found.operations_problem
    assert {"/chat", "/notify", "/secure"} <= {each.name for each in found.sections}
    shapes = [argument.shape for section in found.sections for each in section.events for argument in each.arguments]
    assert [shape.problem for shape in shapes if shape.problem] == []
    assert "/ws/chat/{username}" in {each.path for each in found.plain_routes}
    assert TestClient(app).get("/docs").status_code == 200
