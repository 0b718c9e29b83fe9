"""Beside test_http.py: under TLS a refusal arrives as well, and nothing is left of whom it was for."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.fast.http import HEAD_BYTES
from adapters.fast.upgrade import HEADER_FIELDS
from tests.adapters.fast.asking import GET, POST, Hasty, answer, ask, refusal
from tests.adapters.fast.served import Served
from tests.adapters.fast.tls import certificate
from tests.adapters.fast.wire_client import SECONDS, WireClient

__all__ = ["certificate"]  # a fixture
pytest.importorskip("uvloop")


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def _secure(request: pytest.FixtureRequest, certificate: tuple[Path, Path]) -> Iterator[tuple[Served, ssl.SSLContext]]:
    context = ssl.create_default_context(cafile=certificate[0])
    keys: Any = {"ssl_certfile": certificate[0], "ssl_keyfile": certificate[1]}
    with Served(loop=request.param, http=Hasty, timeout_keep_alive=60, **keys) as served:
        served.route(answer, "/")
        yield served, context


@pytest.fixture
def secure(_secure: tuple[Served, ssl.SSLContext]) -> Iterator[tuple[Served, ssl.SSLContext]]:
    yield _secure
    _secure[0].settle()


def test_a_request_is_answered(secure: tuple[Served, ssl.SSLContext]) -> None:
    served, context = secure
    with ask(served, GET + b"\r\n", tls=context) as client:
        assert client.answer()[0] == 200


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (GET + b"a: " + b"x" * HEAD_BYTES, 431, "head_too_big"),
        (GET + b"a: b\r\n" * HEADER_FIELDS + b"\r\n", 431, "head_too_big"),
        (b"HELO there\r\n\r\n", 400, "bad_request"),
        (GET, 408, "request_timeout"),
    ],
)
def test_a_refusal_arrives(secure: tuple[Served, ssl.SSLContext], data: bytes, status: int, code: str) -> None:
    served, context = secure
    with ask(served, data, tls=context) as client:
        assert refusal(client) == (status, code)


def test_half_a_body_is_ended(secure: tuple[Served, ssl.SSLContext]) -> None:
    served, context = secure
    with ask(served, POST + b"content-length: 10\r\n\r\nabc", tls=context) as client:
        assert client.rest() == b""


def test_who_says_nothing_is_ended(secure: tuple[Served, ssl.SSLContext]) -> None:
    served, context = secure
    with ask(served, b"", tls=context) as client:
        assert client.rest() == b""


def test_who_goes_on_after_a_refusal_is_cut(secure: tuple[Served, ssl.SSLContext]) -> None:
    served, context = secure
    with ask(served, GET + b"a: " + b"x" * HEAD_BYTES, tls=context) as client, pytest.raises(OSError):
        go_on(client)


def go_on(client: WireClient) -> None:
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        client.send(b"x" * 10_000)
