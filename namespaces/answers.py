"""Every HTTP error of the application in one form: ``code``, ``message``, and ``retry_after`` where waiting helps."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from realtime import AccessError, LimitError, OutsideError, PayloadError, RealtimeError

UNAUTHORIZED: Final = frozenset({"unauthorized", "token_required", "invalid_token", "expired_token"})
CONFLICTS: Final = frozenset({"idempotency_conflict"})


def answer_errors(app: FastAPI) -> None:
    """Install the handlers."""
    app.add_exception_handler(RealtimeError, _realtime_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


def status_of(error: RealtimeError) -> int:
    if isinstance(error, AccessError):
        return 401 if error.code in UNAUTHORIZED else 403
    if isinstance(error, LimitError):
        return 413 if error.code == "too_big" else 429
    if isinstance(error, OutsideError):
        return 503
    if isinstance(error, PayloadError):
        return 422
    return 409 if error.code in CONFLICTS else 400


async def _realtime_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RealtimeError)
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    status = status_of(error)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(error.as_dict(), status, headers=headers)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    details = [
        {"loc": [str(part)[:128] for part in each["loc"]], "message": each["msg"], "type": each["type"]}
        for each in error.errors()[:20]
    ]
    return JSONResponse({"code": "invalid_request", "message": _sentence(details), "details": details}, 422)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_").replace("-", "_")
    return JSONResponse({"code": code, "message": str(error.detail)}, error.status_code, headers=error.headers)


def _sentence(details: list[dict[str, Any]]) -> str:
    return "; ".join(f"{'.'.join(each['loc'])}: {each['message']}" for each in details[:3]) or "Invalid request"
