"""What a publisher sends over HTTP: query, form or JSON, read up to a limit and checked as one."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from starlette.datastructures import FormData
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser
from starlette.requests import Request

from namespaces.notify import Notice
from realtime import LimitError, PayloadError, error_details, read_json

FORM_FIELDS = 10


async def read_notice(request: Request, limit: int) -> Notice:
    """Fields of the body win over those of the query. Raises LimitError over the limit, PayloadError for bad ones,
    and Starlette's ClientDisconnect for a body that is cut off (``answer_errors`` ends that without a word)."""
    fields: dict[str, Any] = dict(request.query_params)
    fields.pop("token", None)
    fields.update(await _body_fields(request, limit))
    if isinstance(fields.get("data"), str):
        fields["data"] = _parsed(fields["data"], "data")
    try:
        return Notice.model_validate(fields)
    except ValidationError as error:
        details = error_details(error)
        words = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['message']}" for each in details[:3])
        raise PayloadError(words, details=details) from None


async def _body_fields(request: Request, limit: int) -> dict[str, Any]:
    body = await _read(request, limit)
    if not body:
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return await _form_fields(request, body, kind)
    found = _parsed(body, "body")
    if not isinstance(found, dict):
        raise PayloadError("The body must be a JSON object or a form")
    return found


async def _read(request: Request, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise LimitError(f"The body is larger than {limit} bytes", code="too_big")
        parts.append(part)
    return b"".join(parts)


async def _form_fields(request: Request, body: bytes, kind: str) -> dict[str, Any]:
    async def stream() -> Any:
        yield body

    try:
        parser: FormParser | MultiPartParser = (
            MultiPartParser(request.headers, stream(), max_files=0, max_fields=FORM_FIELDS)
            if kind == "multipart/form-data"
            else FormParser(request.headers, stream())
        )
        form: FormData = await parser.parse()
    except (MultiPartException, KeyError, ValueError):
        raise PayloadError("The form cannot be read") from None
    return {name: value for name, value in form.items() if isinstance(value, str)}


def _parsed(text: str | bytes, what: str) -> Any:
    try:
        return read_json(text if isinstance(text, str) else text.decode())
    except ValueError:  # bytes that are not UTF-8 are no JSON either
        raise PayloadError(f"{what} is not JSON") from None
