"""``Realtime(app)`` on an author's own FastAPI application."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from inspect import signature
from types import FrameType
from typing import Annotated, Any

import aiohttp
import pytest
import socketio
from fastapi import Depends, FastAPI, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.testclient import TestClient

from realtime import Namespace, OutsideError, Realtime, Server, Settings, UsageError
from tests.end_to_end.clients import reading_session, socket_io
from tests.realtime.living import SECONDS, living, settings_for, within
from tests.serving import SECRET

HANDSHAKE = "/socket.io/?EIO=4&transport=polling"


def new_app() -> FastAPI:
    app = FastAPI()
    Realtime(app, settings=settings_for())
    return app


# ── mounting ─────────────────────────────────────────────────────────────────────────────────────


def test_it_is_mounted_before_catch_alls_and_adds_nothing_else() -> None:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/{path:path}")
    async def everything(path: str) -> str:
        return f"caught {path}"

    Realtime(app, settings=settings_for())
    client = TestClient(app)
    assert client.get(HANDSHAKE).text.startswith('0{"sid":')
    assert client.get(HANDSHAKE.replace("/?", "?")).text.startswith('0{"sid":')
    for path in ("metrics", "health/live", "health/ready", "docs", "socket.iox", "socket.io.evil/"):
        assert client.get(f"/{path}").json() == f"caught {path}"


def test_what_is_asked_for_is_added() -> None:
    app = FastAPI(docs_url=None)
    Realtime(app, settings=settings_for(), metrics=True, health=True, docs=True)
    client = TestClient(app)
    assert "# TYPE realtime_loop_lag_seconds gauge" in client.get("/metrics").text
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}
    assert client.get("/docs").status_code == 200


def test_the_browser_client_is_there_for_everybody() -> None:
    answer = TestClient(new_app()).get("/socket.io/socket.io.esm.min.js")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "Socket.IO" in answer.text[:200]


@pytest.mark.parametrize("path", ["other.js", "../app.py", "%2e%2e/app.py", "socket.io.esm.min.js/x", "x/"])
def test_nothing_else_is_under_the_path(path: str) -> None:
    answer = TestClient(new_app()).get(f"/socket.io/{path}")
    assert answer.status_code == 404


def test_another_path_may_be_chosen() -> None:
    app = FastAPI()
    Realtime(app, settings=settings_for(), path="realtime/io/")
    client = TestClient(app)
    assert client.get(HANDSHAKE).status_code == 404
    assert client.get(HANDSHAKE.replace("socket.io", "realtime/io")).status_code == 200


@pytest.mark.asyncio
async def test_below_a_prefix() -> None:
    inner, outer = FastAPI(), FastAPI()
    realtime = Realtime(inner, settings=settings_for())
    realtime.server.on("echo", lambda sid, data: data)
    outer.mount("/api/v1", inner)
    async with living(outer) as url:
        for transport in ("polling", "websocket"):
            async with prefixed(url, "api/v1/socket.io", transport) as client:
                assert await client.call("echo", "hello", timeout=SECONDS) == "hello"


@asynccontextmanager
async def prefixed(url: str, path: str, transport: str) -> AsyncIterator[Any]:
    async with reading_session() as http:
        client = socketio.AsyncClient(reconnection=False, http_session=http)
        await within(client.connect(url, socketio_path=path, transports=[transport], wait_timeout=SECONDS))
        yield client
        await within(client.eio.queue.join())  # it forgets to say good-bye while a POST of its own is under way
        await within(client.disconnect())


@pytest.mark.parametrize("keeps_path", [True, False])
@pytest.mark.asyncio
async def test_a_root_path(keeps_path: bool) -> None:
    """A proxy takes a prefix away; uvicorn is told and puts it in front of the path again, and other servers do not."""
    app = new_app()

    async def other_server(scope: Any, receive: Any, send: Any) -> None:
        await app(dict(scope, root_path="/api"), receive, send)

    serving = living(other_server, lifespan="off") if keeps_path else living(app, root_path="/api")
    async with serving as url, aiohttp.ClientSession() as http, http.get(url + HANDSHAKE) as answer:
        assert answer.status == 200


def test_dependency_overrides_of_the_app_hold_for_events() -> None:
    app = FastAPI()
    realtime = Realtime(app, settings=settings_for())

    def real() -> str:
        return "real"

    work = realtime.namespace("/work")

    @work.event
    async def which(value: Annotated[str, Depends(real)]) -> str:
        return value

    @app.websocket("/ws")
    async def route(websocket: WebSocket) -> None:
        async with work.raw(websocket) as peer:
            async for _ in peer:
                await peer.handle("which", [], 1)

    client = TestClient(app)
    with client.websocket_connect("/ws") as websocket:
        websocket.send_text("")
        assert websocket.receive_json() == {"reply": 1, "data": "real"}
        app.dependency_overrides[real] = lambda: "stand-in"
        websocket.send_text("")
        assert websocket.receive_json() == {"reply": 1, "data": "stand-in"}


@pytest.mark.asyncio
async def test_middleware_of_the_author_does_no_harm() -> None:
    app = FastAPI()

    async def pass_on(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    realtime = Realtime(app, settings=settings_for())
    async with living(app) as url:
        for transport in ("polling", "websocket"):
            async with socket_io(url, "/", transports=[transport]) as client:
                await realtime.server.emit("told", {"n": 1})
                assert await client.until("told") == {"n": 1}


# ── origins ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_cors_headers_come_once_beside_fastapis_middleware() -> None:
    app = FastAPI()
    app.add_middleware(
        CORSMiddleware, allow_origins=["https://page.example"], allow_credentials=True, allow_methods=["*"]
    )
    Realtime(app, settings=settings_for(allowed_origins=["https://page.example"]))
    async with living(app) as url, aiohttp.ClientSession() as http:
        headers = {"Origin": "https://page.example"}
        async with http.get(url + HANDSHAKE, headers=headers) as answer:
            assert answer.headers.getall("access-control-allow-origin") == ["https://page.example"]
            assert answer.headers.getall("access-control-allow-credentials") == ["true"]
        preflight = headers | {"Access-Control-Request-Method": "POST"}
        async with http.options(url + HANDSHAKE, headers=preflight) as answer:
            assert answer.status in (200, 204)
            assert answer.headers.getall("access-control-allow-origin") == ["https://page.example"]


@pytest.mark.asyncio
async def test_who_may_connect_by_default() -> None:
    async with living(new_app()) as url, aiohttp.ClientSession() as http:
        evil = {"Origin": "https://evil.example"}
        cases: list[tuple[dict[str, str], int, str | None]] = [
            ({}, 200, None),
            ({"Origin": "http://app.example", "Host": "app.example"}, 200, None),
            ({"Origin": "http://localhost:1234"}, 200, "http://localhost:1234"),
            (evil, 403, None),
            (evil | {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}, 403, None),
            ({"Origin": "null"}, 403, None),
        ]
        for headers, status, allowed in cases:
            async with http.get(url + HANDSHAKE, headers=headers) as answer:
                assert answer.status == status, headers
                assert answer.headers.get("access-control-allow-origin") == allowed, headers


@pytest.mark.parametrize("arguments", [1, 2])
@pytest.mark.asyncio
async def test_a_callable_decides_and_polling_pages_may_read_the_answer(arguments: int) -> None:
    asked: list[str] = []

    def one(origin: str) -> bool:
        asked.append(origin)
        return origin == "https://page.example"

    def two(origin: str, environ: dict[str, Any]) -> bool:
        assert environ["REMOTE_ADDR"] == "127.0.0.1"
        return one(origin)

    app = FastAPI()
    Realtime(app, server=Server(settings=settings_for(), cors_allowed_origins=one if arguments == 1 else two))
    async with living(app) as url, aiohttp.ClientSession() as http:
        async with http.get(url + HANDSHAKE, headers={"Origin": "https://page.example"}) as answer:
            assert answer.status == 200
            assert answer.headers.getall("access-control-allow-origin") == ["https://page.example"]
        async with http.get(url + HANDSHAKE, headers={"Origin": "https://evil.example"}) as answer:
            assert answer.status == 403
            assert "access-control-allow-origin" not in answer.headers
        async with http.get(url + HANDSHAKE) as answer:
            assert answer.status == 200
    assert set(asked) == {"https://page.example", "https://evil.example"}


@pytest.mark.parametrize(
    ("given", "allowed"), [("*", True), (["https://page.example"], True), (["https://x.example"], False), ([], False)]
)
@pytest.mark.asyncio
async def test_origins_as_python_engineio_is_told_them(given: Any, allowed: bool) -> None:
    app = FastAPI()
    Realtime(app, server=Server(settings=settings_for(), cors_allowed_origins=given))
    headers = {"Origin": "https://page.example"}
    async with (
        living(app) as url,
        aiohttp.ClientSession() as http,
        http.get(url + HANDSHAKE, headers=headers) as answer,
    ):
        assert (answer.status == 200) is allowed
        assert ("access-control-allow-origin" in answer.headers) is allowed


# ── settings ─────────────────────────────────────────────────────────────────────────────────────


def production(**changes: Any) -> Settings:
    values: dict[str, Any] = {
        "environment": "production",
        "jwt_secret": SECRET,
        "allowed_origins": ["https://a.example"],
    }
    return Settings(_env_prefix="NOBODY_SETS_THESE_", **(values | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"jwt_secret": "development-secret-that-production-refuses"}, "built-in one"),
        ({"jwt_secret": "short"}, "has 5 bytes: HS256 needs at least 32"),
        ({"allowed_origins": []}, "REALTIME_ALLOWED_ORIGINS is empty"),
        ({"allowed_origins": ["*"]}, r"REALTIME_ALLOWED_ORIGINS contains \*"),
    ],
)
def test_unsafe_settings_are_refused_in_production_with_a_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Realtime(FastAPI(), settings=production(**changes))


def test_every_unsafe_setting_is_named_and_no_secret_is() -> None:
    with pytest.raises(UsageError) as caught:
        Realtime(FastAPI(), settings=production(jwt_secret="short-secret", allowed_origins=[]))
    assert "REALTIME_JWT_SECRET" in caught.value.message
    assert "REALTIME_ALLOWED_ORIGINS" in caught.value.message
    assert "short-secret" not in caught.value.message


def test_safe_settings_start_in_production() -> None:
    app = FastAPI()
    Realtime(app, settings=production())
    assert TestClient(app).get(HANDSHAKE).status_code == 200


# ── lifespan ─────────────────────────────────────────────────────────────────────────────────────


def test_the_authors_lifespan_runs_inside_ours() -> None:
    log: list[Any] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        log.append(("up", realtime.started))
        yield {"state": 7}
        log.append(("down", realtime.started))

    async def close(name: str) -> None:
        log.append(name)

    app = FastAPI(lifespan=lifespan)
    realtime = Realtime(app, settings=settings_for(), health=True)
    realtime.on_close(lambda: close("first"))
    realtime.on_close(lambda: close("second"))
    with TestClient(app) as client:
        assert client.app_state == {"state": 7}
        assert client.get("/health/ready").status_code == 200
    assert log == [("up", True), ("down", True), "second", "first"]
    with TestClient(app) as client:
        assert client.get(HANDSHAKE).status_code == 200, "a second life, as tests have it"


def test_a_client_that_needs_no_start_is_served_after_a_shutdown() -> None:
    app = FastAPI()
    realtime = Realtime(app, settings=settings_for(), health=True)
    closing: list[dict[str, str]] = []

    async def close() -> None:
        closing.append(await realtime.problems())

    realtime.on_close(close)
    with TestClient(app) as client:
        assert client.get(HANDSHAKE).status_code == 200
    assert closing == [{"server": "draining"}], "until the very end nobody is let in"
    client = TestClient(app)
    assert client.get("/health/ready").json() == {"status": "ready"}
    assert client.get(HANDSHAKE).status_code == 200
    with client.websocket_connect(HANDSHAKE.replace("polling", "websocket")) as websocket:
        assert websocket.receive_text().startswith('0{"sid":')


@contextmanager
def signal_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        assert signal.getsignal(number) is handler, "whoever had the signal before has it again"
        signal.signal(number, handler)


@pytest.mark.asyncio
async def test_a_signal_drains_first_and_goes_on_to_the_server() -> None:
    got: list[int] = []

    def server(number: int, frame: FrameType | None) -> None:
        got.append(number)

    before = signal.signal(signal.SIGTERM, server)
    try:
        with signal_handlers():
            app = FastAPI()
            realtime = Realtime(app, settings=settings_for())
            async with living(app) as url:
                async with socket_io(url, "/", transports=["polling"]) as client:
                    signal.raise_signal(signal.SIGTERM)
                    await within(client.gone.wait())
                    assert got == [signal.SIGTERM]
                    assert realtime.draining
                    assert await realtime.problems() == {"server": "draining"}
                async with aiohttp.ClientSession() as http, http.get(url + HANDSHAKE) as answer:
                    assert answer.status == 503
    finally:
        signal.signal(signal.SIGTERM, before)


# ── readiness ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_ready_only_while_everything_outside_answers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("realtime.app.READY_SECONDS", 0.01)
    app = FastAPI()
    realtime = Realtime(app, settings=settings_for(), health=True)

    async def fine() -> None: ...

    async def away() -> None:
        raise OutsideError("the address of the database")

    async def silent() -> None:
        await asyncio.Event().wait()

    async def broken() -> None:
        raise KeyError("a mistake in the check")

    realtime.check("fine", fine)
    assert await realtime.problems() == {}

    async def alone() -> None:
        raise OutsideError("The bus is away", details="this instance goes on alone: it is frozen")

    for name, check in (("away", away), ("silent", silent), ("broken", broken), ("alone", alone)):
        realtime.check(name, check)
    with caplog.at_level(logging.ERROR):
        async with living(app) as url, aiohttp.ClientSession() as http, http.get(f"{url}/health/ready") as answer:
            assert answer.status == 503
            found = await answer.json()
    assert found["problems"].pop("alone") == "this instance goes on alone: it is frozen"
    assert found["problems"] == dict.fromkeys(("away", "silent", "broken"), "does not answer")
    assert "a mistake in the check" in caplog.text
    assert "the address of the database" not in caplog.text


def test_a_namespace_of_a_class_is_answered_as_its_class() -> None:
    realtime = Realtime(FastAPI(), settings=settings_for())
    work = realtime.namespace("/work")
    assert realtime.server.application.typed == {"/work": work}
    with pytest.raises(UsageError, match="has handlers already"):
        realtime.namespace("/work")


def test_a_namespace_of_functions_takes_what_a_namespace_takes() -> None:
    realtime = Realtime(FastAPI(), settings=settings_for())
    kept = realtime.namespace("/board", recovery=True)
    assert kept.recovery
    assert kept.offset is not None, "the server keeps what is emitted"
    assert not realtime.namespace("/plain").recovery


def test_the_options_of_a_namespace_are_the_same_wherever_it_is_made() -> None:
    of_the_class = list(signature(Namespace.__init__).parameters.values())[2:]
    of_the_app = list(signature(Realtime.namespace).parameters.values())[2:]
    assert of_the_app == of_the_class


def test_hooks_of_the_bus_are_named_and_without_a_bus_they_are_never_called() -> None:
    realtime = Realtime(FastAPI(), settings=settings_for())

    @realtime.hook("bus_lost")
    def lost() -> None: ...

    with pytest.raises(UsageError, match="bus_lost, bus_regained; 'bus_gone' came"):
        realtime.hook("bus_gone")


def test_with_a_bus_there_is_one_log_and_readiness_asks_for_it() -> None:
    realtime = Realtime(FastAPI(), settings=settings_for(redis_url="redis://127.0.0.1:1/0"))
    hook = realtime.hook("bus_regained")(lambda: None)
    backplane = realtime.server.backplane
    assert backplane is not None
    assert backplane.hooks == {"bus_lost": [], "bus_regained": [hook]}
    assert realtime.server.journal is None, "nothing is connected to before somebody comes"
    realtime.namespace("/board", recovery=True)
    realtime.namespace("/plain")
    assert list(backplane.lanes) == ["/board"]
    assert set(realtime._checks) >= {"redis", "bus"}
