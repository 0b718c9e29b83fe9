"""The application: ``namespaces.app:app``. Everything is built here, from the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import FastAPI, Header, Query, Request
from fastapi.staticfiles import StaticFiles
from starlette.responses import FileResponse, Response

from adapters.answers import open_answers
from adapters.names import open_name_holders
from adapters.sql import open_history
from namespaces.answers import answer_errors, as_json
from namespaces.chat import Chat, Older
from namespaces.credentials import Doorman
from namespaces.intake import read_notice
from namespaces.notify import Notice, Notify
from namespaces.rooms_route import general_route
from namespaces.secure import Secure
from namespaces.tutorial import tutorial_routes
from realtime import Answers, History, NameHolders, Realtime, Settings, Tokens

STATIC: Final = Path(__file__).parent / "static"
PAGE_HEADERS: Final = {
    "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self' ws: wss:; "
    "frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def create_app(
    settings: Settings | None = None,
    *,
    history: History | None = None,
    holders: NameHolders | None = None,
    answers: Answers | None = None,
) -> FastAPI:
    """A new application. Raises UsageError for settings that are unsafe in production."""
    settings = settings or Settings()
    app = FastAPI(
        title="realtime-rooms",
        summary="Socket.IO namespaces and rooms for FastAPI, with plain WebSocket clients in the same rooms",
        docs_url=None,
        redoc_url=None,
    )
    answer_errors(app)
    realtime = Realtime(app, settings=settings, metrics=True, health=True, docs=True)
    if history is None:
        history = open_history(settings.database_url, realtime.metrics)
    if holders is None:
        holders = open_name_holders(settings.redis_url, settings.redis_channel, realtime.metrics)
    realtime.check("database", history.ping)
    once_for_all = answers or open_answers(settings, realtime.metrics)
    once_if_possible = answers or open_answers(settings, realtime.metrics, alone=True)
    for close in (history.close, holders.close, once_for_all.close, once_if_possible.close):
        realtime.on_close(close)
    doorman = Doorman(Tokens.from_settings(settings))
    chat: Chat = realtime.include(Chat(doorman, history, holders, once_if_possible, settings))
    notify: Notify = realtime.include(Notify(doorman, once_for_all, settings))
    secure: Secure = realtime.include(Secure(doorman))
    app.state.realtime = realtime
    app.include_router(tutorial_routes(realtime, chat, notify, secure))
    app.include_router(general_route(realtime))
    _add_pages(app)
    _add_http(app, realtime, chat, notify)
    return app


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def demo_page() -> Response:
        return FileResponse(STATIC / "index.html", headers=PAGE_HEADERS)

    app.mount("/static", StaticFiles(directory=STATIC), name="static")


def _add_http(app: FastAPI, realtime: Realtime, chat: Chat, notify: Notify) -> None:
    @app.post("/notify/{topic}", tags=["notify"], openapi_extra={"requestBody": NOTICE_BODY})
    async def publish(
        request: Request,
        topic: str,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=128)] = None,
    ) -> dict[str, Any]:
        """Tell every subscriber of a topic; `sent` counts those of this instance. Query, form or JSON."""
        realtime.server.check_origin(request.scope)
        notice = await read_notice(request, realtime.settings.message_limit_bytes)
        return await notify.send_over_http(request, topic, notice, idempotency_key)

    @app.get("/notify/{topic}/events", tags=["notify"], response_class=Response, openapi_extra=RESUMES)
    async def events(request: Request, topic: str) -> Response:
        """A topic as Server-Sent Events."""
        return await notify.follow(request, topic)

    @app.get("/chat/{room}/history", tags=["chat"])
    async def history(
        request: Request,
        room: str,
        before: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Response:
        """Stored messages of a room, newest last."""
        return as_json(await chat.page_over_http(request, Older(room=room, before=before, limit=limit)))


RESUMES: Final = {
    "parameters": [
        {
            "in": "header",
            "name": "Last-Event-ID",
            "description": "The `id` of the last event; what was said after it comes first. Browsers send it.",
            "schema": {"type": "string"},
        }
    ]
}

NOTICE_BODY: Final = {
    "content": {
        kind: {"schema": Notice.model_json_schema()}
        for kind in ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
    }
}

app = create_app()

__all__ = ["app", "create_app"]
