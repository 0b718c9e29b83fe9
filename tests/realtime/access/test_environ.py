from __future__ import annotations

import sys
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.access.environ import header_of, make_environ, query_of, what_lasts

latin = st.text(st.characters(max_codepoint=0xFF))


def scope(**changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "type": "http",
        "scheme": "http",
        "method": "POST",
        "path": "/socket.io/",
        "query_string": b"EIO=4&transport=polling",
        "headers": [(b"host", b"chat.example"), (b"content-type", b"text/plain"), (b"content-length", b"3")],
        "client": ("127.0.0.1", 50_000),
        "server": ("10.0.0.1", 8000),
    }
    return usual | changes


def test_the_first_value_of_a_parameter_counts() -> None:
    assert query_of({"query_string": b"sid=a&sid=b&empty=&flag"}) == {"sid": "a", "empty": "", "flag": ""}


def test_no_query_is_no_parameters() -> None:
    assert query_of({}) == {}
    assert query_of({"query_string": b""}) == {}


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))
    )
)
def test_what_a_client_encodes_is_read(query: dict[str, str]) -> None:
    assert query_of({"query_string": urlencode(query).encode()}) == query


@given(st.binary())
def test_any_bytes_are_a_query(query: bytes) -> None:
    assert all(isinstance(value, str) for value in query_of({"query_string": query}).values())


def test_the_first_header_of_a_name_counts() -> None:
    headers = [(b"origin", b"https://a.example"), (b"origin", b"https://b.example"), (b"x", b"caf\xe9")]
    assert header_of({"headers": headers}, b"origin") == "https://a.example"
    assert header_of({"headers": headers}, b"x") == "café"
    assert header_of({"headers": headers}, b"y") is None
    assert header_of({}, b"y") is None


def test_a_request_as_a_wsgi_server_would_tell_it() -> None:
    asked = scope()
    environ = make_environ(asked, "203.0.113.9")
    assert environ.pop("wsgi.errors") is sys.stderr
    assert environ.pop("asgi.scope") is asked
    assert environ == {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.async": True,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "SERVER_SOFTWARE": "asgi",
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/socket.io/",
        "QUERY_STRING": "EIO=4&transport=polling",
        "RAW_URI": "/socket.io/?EIO=4&transport=polling",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "203.0.113.9",
        "REMOTE_PORT": "50000",
        "SERVER_NAME": "10.0.0.1",
        "SERVER_PORT": "8000",
        "HTTP_HOST": "chat.example",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "3",
    }


@pytest.mark.parametrize(("scheme", "told"), [("ws", "http"), ("wss", "https"), ("http", "http"), ("https", "https")])
def test_a_websocket_has_the_scheme_of_its_handshake(scheme: str, told: str) -> None:
    assert make_environ(scope(scheme=scheme), "")["wsgi.url_scheme"] == told


def test_what_a_scope_leaves_out_is_made_up() -> None:
    environ = make_environ({"type": "websocket", "client": None, "server": None}, "")
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["RAW_URI"] == environ["PATH_INFO"] == environ["QUERY_STRING"] == environ["SERVER_NAME"] == ""
    assert environ["REMOTE_PORT"] == environ["SERVER_PORT"] == "0"


def test_a_header_that_came_twice_is_joined() -> None:
    environ = make_environ(scope(headers=[(b"x-forwarded-for", b"a"), (b"x-forwarded-for", b"b")]), "")
    assert environ["HTTP_X_FORWARDED_FOR"] == "a,b"


@given(st.lists(st.tuples(latin, latin)))
def test_no_header_gets_out_of_its_own_names(headers: list[tuple[str, str]]) -> None:
    """A client that sends a header called ``remote_addr`` has not moved."""
    sent = [(name.lower().encode("latin-1", "ignore"), value.encode("latin-1")) for name, value in headers]
    plain = make_environ(scope(headers=[]), "203.0.113.9")
    environ = make_environ(scope(headers=sent), "203.0.113.9")
    assert all(environ[name] == value for name, value in plain.items() if name != "asgi.scope")
    added = environ.keys() - plain.keys()
    assert all(name.startswith("HTTP_") or name in {"CONTENT_TYPE", "CONTENT_LENGTH"} for name in added)


def test_what_lasts_of_a_scope_is_what_the_handshake_said() -> None:
    scope = {"type": "websocket", "headers": [], "state": {"pool": 1}, "app": "app", "user": "ann"}
    of_the_request = {"extensions": {"direct": object()}, "fastapi_inner_astack": object()}
    assert what_lasts({**scope, **of_the_request}) == scope
