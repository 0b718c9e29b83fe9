"""What publishers send: fields from query, form and JSON, up to a limit."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from namespaces.intake import read_notice
from namespaces.notify import Notice
from realtime import LimitError, PayloadError, RealtimeError
from tests.serving import ServerProcess

LIMIT = 10_000
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def request(body: bytes | Iterable[bytes] = b"", kind: str = JSON, query: str = "") -> Request:
    parts = iter([body] if isinstance(body, bytes) else body)
    asked = 0

    async def receive() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        part = next(parts, None)
        return {"type": "http.request", "body": part or b"", "more_body": part is not None}

    scope = {
        "type": "http",
        "method": "POST",
        "query_string": query.encode(),
        "headers": [(b"content-type", kind.encode())],
    }
    return Request(scope, receive)


def multipart(**fields: str) -> tuple[bytes, str]:
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    return ("".join(parts) + "--edge--\r\n").encode(), "multipart/form-data; boundary=edge"


PLAIN = {"title": "Sale", "message": "50 % off"}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "sent",
    [
        request(json.dumps(PLAIN).encode()),
        request(json.dumps(PLAIN).encode(), kind=""),
        request(json.dumps(PLAIN).encode(), kind="application/json; charset=utf-8"),
        request(urlencode(PLAIN).encode(), FORM),
        request(*multipart(**PLAIN)),
        request(query=urlencode(PLAIN)),
        request(b'{"title": "Sale"}', query=urlencode({"message": "50 % off", "token": "x", "unknown": "y"})),
        request(json.dumps(PLAIN).encode(), query="title=the+body+counts"),
        request(bytes([each]) for each in json.dumps(PLAIN).encode()),
    ],
    ids=["json", "no type", "charset", "form", "multipart", "query", "both", "both say it", "byte by byte"],
)
async def test_fields_come_from_query_form_or_json(sent: Request) -> None:
    assert await read_notice(sent, LIMIT) == Notice(title="Sale", message="50 % off")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "sent",
    [
        request(json.dumps({**PLAIN, "level": "error", "data": {"a": [1]}}).encode()),
        request(json.dumps({**PLAIN, "level": "error", "data": '{"a": [1]}'}).encode()),
        request(urlencode({**PLAIN, "level": "error", "data": '{"a": [1]}'}).encode(), FORM),
        request(query=urlencode({**PLAIN, "level": "error", "data": '{"a": [1]}'})),
        request(*multipart(**PLAIN, level="error", data='{"a": [1]}')),
    ],
    ids=["json", "a string in json", "form", "query", "multipart"],
)
async def test_data_is_an_object_or_its_json(sent: Request) -> None:
    assert await read_notice(sent, LIMIT) == Notice(**PLAIN, level="error", data={"a": [1]})


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "sent",
    [
        request(),
        request(b"{"),
        request(b"[]"),
        request(b"null"),
        request(b'"text"'),
        request(b'{"title": "\xff", "message": "m"}'),
        request(b'{"title": "\\ud83d", "message": "m"}'),
        request(b'{"title": "t", "message": NaN}'),
        request(b'{"title": "t", "message": "m", "data": ' + b'{"a":' * 70 + b"1" + b"}" * 70 + b"}"),
        request(b'{"title": 1, "message": "m"}'),
        request(b'{"title": null, "message": "m"}'),
        request(b'{"title": "", "message": "m"}'),
        request(b'{"title": "t"}'),
        request(b'{"title": "t", "message": "m", "level": "fatal"}'),
        request(b'{"title": "t", "message": "m", "level": ["info"]}'),
        request(b'{"title": "t", "message": "m", "data": [1]}'),
        request(b'{"title": "t", "message": "m", "data": 1}'),
        request(b'{"title": "t", "message": "m", "data": "no json"}'),
        request(b'{"title": "t", "message": "m", "data": "[1]"}'),
        request(json.dumps({**PLAIN, "title": "x" * 501}).encode()),
        request(urlencode({"title": "t"}).encode(), FORM),
        request(b"--edge", "multipart/form-data; boundary=edge"),
        request(b"no parts", "multipart/form-data"),
        request(*multipart(**{f"field{number}": "x" for number in range(50)}, **PLAIN)),
        request(b"&".join(b"a=b" for _ in range(1_500)), FORM),
        request(
            b'--edge\r\nContent-Disposition: form-data; name="title"; filename="x"\r\n\r\nx\r\n--edge--\r\n',
            "multipart/form-data; boundary=edge",
        ),
    ],
)
async def test_bad_fields_are_one_error(sent: Request) -> None:
    with pytest.raises(PayloadError) as failure:
        await read_notice(sent, LIMIT)
    assert failure.value.code == "invalid_payload"


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [JSON, FORM, "multipart/form-data; boundary=edge", ""])
async def test_a_body_over_the_limit_is_not_read_to_its_end(kind: str) -> None:
    taken = 0

    def endless() -> Iterable[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 1_000

    with pytest.raises(LimitError) as failure:
        await read_notice(request(endless(), kind), LIMIT)
    assert failure.value.code == "too_big"
    assert taken == LIMIT // 1_000 + 1


@pytest.mark.asyncio
async def test_the_limit_itself_is_within_it() -> None:
    body = json.dumps(PLAIN).encode()
    assert await read_notice(request(body), len(body)) == Notice(**PLAIN)
    with pytest.raises(LimitError):
        await read_notice(request(body), len(body) - 1)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([JSON, FORM, "multipart/form-data; boundary=edge", "text/plain"]))
@pytest.mark.asyncio
async def test_any_body_is_a_notice_or_one_of_our_errors(body: bytes, kind: str) -> None:
    try:
        notice = await read_notice(request(body, kind), LIMIT)
    except RealtimeError:
        return
    assert notice.title
    assert notice.message


UVICORN = [sys.executable, "-m", "uvicorn", "namespaces.app:app", "--port", "{port}"]


@pytest.mark.process
@pytest.mark.parametrize("command", [None, UVICORN], ids=["realtime serve", "uvicorn"])
def test_a_body_that_is_cut_off_is_nothing_to_log(tmp_path: Path, command: list[str] | None) -> None:
    database = f"sqlite+aiosqlite:///{(tmp_path / 'chat.db').as_posix()}"
    head = f"POST /notify/orders HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: 100\r\n"
    with ServerProcess(tmp_path, command=command, env={"REALTIME_DATABASE_URL": database}) as server:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
                client.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 100"), "the route reads the body now"
                client.sendall(b'{"title": ')
        assert server.is_ready()
        server.stop()
        assert "Traceback" not in server.output()
        assert "ClientDisconnect" not in server.output()
