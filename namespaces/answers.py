"""Every HTTP error of the application in one form: ``code``, ``message``, and ``retry_after`` where waiting helps."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from realtime import (
    AccessError,
    LimitError,
    OutsideError,
    PayloadError,
    RealtimeError,
    UsageError,
    json_bytes,
    wire_error,
)

logger = logging.getLogger("realtime.http")

UNAUTHORIZED: Final = frozenset({"unauthorized", "token_required", "invalid_token", "expired_token"})
CONFLICTS: Final = frozenset({"idempotency_conflict"})


def answer_errors(app: FastAPI) -> None:
    """Install the handlers."""
    app.add_exception_handler(RealtimeError, _realtime_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _nobody_listens)
    app.add_exception_handler(Exception, _our_fault)


def as_json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Whatever was let in can be said again: half an emoji, or an integer beyond 64 bits, as well."""
    return Response(json_bytes(content), status, headers, "application/json")


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


async def _realtime_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RealtimeError) or isinstance(error, UsageError):
        return await _our_fault(request, error)
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    status = status_of(error)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return as_json(error.as_dict(), status, headers)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    details = [
        {"loc": [str(part)[:128] for part in each["loc"]], "message": each["msg"], "type": each["type"]}
        for each in error.errors()[:20]
    ]
    return as_json(PayloadError(_sentence(details), code="invalid_request", details=details).as_dict(), 422)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_").replace("-", "_")
    return as_json(RealtimeError(str(error.detail), code=code).as_dict(), error.status_code, error.headers)


async def _nobody_listens(request: Request, error: Exception) -> Response:
    """A body that was cut off is nothing to log: the client left, and reads no answer."""
    return Response(status_code=400)


async def _our_fault(request: Request, error: Exception) -> Response:
    """Nothing of the exception is told; the incident stands in the log too."""
    incident = secrets.token_hex(6)
    logger.error("%s %r failed (incident %s)", request.method, request.url.path, incident, exc_info=error)
    return as_json(wire_error(error, incident), 500)


def _sentence(details: list[dict[str, Any]]) -> str:
    return "; ".join(f"{'.'.join(each['loc'])}: {each['message']}" for each in details[:3]) or "Invalid request"
