"""HTTP errors: one form, whatever went wrong, and nothing of a foreign exception in it."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from namespaces.answers import answer_errors, as_json
from realtime import AccessError, Fail, LimitError, OutsideError, PayloadError, RealtimeError, UsageError
from tests.namespaces.running import fresh


def client_raising(error: Exception) -> TestClient:
    app = FastAPI()
    answer_errors(app)

    @app.get("/fail/{what}")
    async def fail(what: str, number: int = 0) -> None:
        raise error

    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (AccessError("No", code="token_required"), 401, "token_required"),
        (AccessError("No", code="expired_token"), 401, "expired_token"),
        (AccessError("No"), 403, "forbidden"),
        (AccessError("No", code="system_room"), 403, "system_room"),
        (PayloadError("No"), 422, "invalid_payload"),
        (LimitError("No"), 429, "rate_limited"),
        (LimitError("No", code="too_big"), 413, "too_big"),
        (OutsideError("No"), 503, "unavailable"),
        (Fail("idempotency_conflict", "No"), 409, "idempotency_conflict"),
        (Fail("room_full", "No"), 400, "room_full"),
    ],
)
def test_our_errors_keep_their_code_and_words(error: RealtimeError, status: int, code: str) -> None:
    answer = client_raising(error).get("/fail/x")
    assert (answer.status_code, answer.json()) == (status, {"code": code, "message": "No"})
    assert ("www-authenticate" in answer.headers) is (status == 401)


def test_waiting_is_said_in_the_body_and_rounded_up_in_the_header() -> None:
    answer = client_raising(LimitError("No", retry_after=1.25)).get("/fail/x")
    assert answer.json()["retry_after"] == 1.25
    assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize("error", [UsageError("the secret sentence"), KeyError("the secret sentence")])
def test_what_is_our_own_fault_is_told_with_an_incident_alone(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client_raising(error).get("/fail/%0d%0aforged%1b[31m")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "secret sentence" not in answer.text
    incident = answer.json()["details"]["incident"]
    assert re.fullmatch("[0-9a-f]{12}", incident)
    said = [record.getMessage() for record in caplog.records if incident in record.getMessage()]
    assert len(said) == 1
    assert "\n" not in said[0]
    assert "\x1b" not in said[0]


def test_what_fastapi_refuses_has_the_same_form() -> None:
    client = client_raising(AssertionError())
    answer = client.get("/fail/x?number=many")
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_request"
    assert "query.number" in answer.json()["message"]
    assert client.get(f"/{fresh('nowhere')}").json() == {"code": "not_found", "message": "Not Found"}
    refused = client.post("/fail/x")
    assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
    assert refused.headers["allow"] == "GET"


def test_what_was_let_in_can_be_said() -> None:
    answer = as_json({"half": "\ud83d", "big": 10**30, "none": None})
    assert answer.body == b'{"half":"\\ud83d","big":1000000000000000000000000000000,"none":null}'
    assert answer.headers["content-type"] == "application/json"
