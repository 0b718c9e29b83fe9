from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.fast.upgrade import (
    HEAD_BYTES,
    HEADER_FIELDS,
    accept_response,
    parse_head,
    problem_with,
    refusal_response,
)
from tests.adapters.fast.wire_client import KEY, Header, expected_accept, request


class TestHead:
    def test_names_in_lower_case_values_without_blanks_in_order(self) -> None:
        head = parse_head(b"GET /a?b=c HTTP/1.1\r\nHost: \tx \r\nX-Y:1\r\nx-y: 2\r\n\r\n")
        assert (head.method, head.target) == (b"GET", b"/a?b=c")
        assert head.headers == [(b"host", b"x"), (b"x-y", b"1"), (b"x-y", b"2")]
        assert head.all(b"x-y") == [b"1", b"2"]

    def test_vertical_tab_form_feed_and_next_line_are_no_blanks(self) -> None:
        value = b"\x0b\x0cabc\x85"
        head = parse_head(request(b"/", (b"x", value), (b"sec-websocket-protocol", value)))
        assert head.all(b"x") == [value]
        assert head.offered == [value]

    @pytest.mark.parametrize(
        ("target", "path", "query"),
        [
            (b"/", b"/", b""),
            (b"/a/b?c=d?e", b"/a/b", b"c=d?e"),
            (b"//a", b"//a", b""),
            (b"/a?to=http://b/c", b"/a", b"to=http://b/c"),
            (b"/a://b", b"/a://b", b""),
            (b"http://host:80/a/b?c", b"/a/b", b"c"),
            (b"ws://host", b"/", b""),
            (b"*", b"", b""),
            (b"host:443", b"", b""),
            (b"", b"", b""),
        ],
    )
    def test_the_target_is_a_path_or_a_url(self, target: bytes, path: bytes, query: bytes) -> None:
        assert parse_head(b"GET " + target + b" HTTP/1.1\r\n\r\n").path_and_query == (path, query)

    def test_subprotocols_of_several_lines_in_order_without_empty_ones(self) -> None:
        head = parse_head(request(b"/", (b"Sec-WebSocket-Protocol", b"a, b,,"), (b"Sec-WebSocket-Protocol", b"c\t,")))
        assert head.subprotocols == ["a", "b", "c"]
        assert parse_head(request()).subprotocols == []

    @given(st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=60)), max_size=8), st.binary(max_size=20))
    def test_any_bytes_get_an_answer(self, headers: list[Header], target: bytes) -> None:
        head = parse_head(request(target.replace(b" ", b"") or b"/", *headers))
        problem = problem_with(head)
        assert problem is None or problem.status in (400, 426, 431)


class TestProblem:
    def test_none(self) -> None:
        assert problem_with(parse_head(request())) is None
        assert problem_with(parse_head(request(b"/", (b"content-length", b"0")))) is None
        assert problem_with(parse_head(request(b"/", (b"Upgrade", b"WebSocket"), (b"Connection", b"upgrade")))) is None

    @pytest.mark.parametrize(
        "asked",
        [
            request(method=b"POST"),
            request(b"*"),
            request(b"/", (b"content-length", b"5")),
            request(b"/", (b"transfer-encoding", b"chunked")),
            request(without=[b"host"]),
            request(b"/", (b"host", b"a"), (b"host", b"b")),
            request(without=[b"connection"]),
            request(b"/", (b"connection", b"close")),
            request(b"/", (b"connection", b"upgraded")),
            request(without=[b"upgrade"]),
            request(b"/", (b"upgrade", b"h2c")),
            request(b"/", (b"upgrade", b"websocket, h2c")),
            request(without=[b"sec-websocket-version"]),
            request(b"/", (b"sec-websocket-version", b"13"), (b"sec-websocket-version", b"13")),
            request(without=[b"sec-websocket-key"]),
            request(b"/", (b"sec-websocket-key", KEY), (b"sec-websocket-key", KEY)),
            *(
                request(b"/", (b"sec-websocket-key", key))
                for key in (
                    b"",
                    b"x" * 24,
                    b"?" * 24,
                    base64.b64encode(bytes(15)),
                    base64.b64encode(bytes(17)),
                    base64.b64encode(bytes(18)),
                    KEY[:-1],
                    b"\x0b" + KEY,
                )
            ),
            *(
                request(b"/", (b"sec-websocket-protocol", offered))
                for offered in (b"chat room", b"a,\x85b", "früh".encode(), b"a;b", b'"a"', b"a\x0b")
            ),
        ],
    )
    def test_400(self, asked: bytes) -> None:
        problem = problem_with(parse_head(asked))
        assert problem is not None
        assert problem.status == 400
        assert problem.message.isascii()

    @pytest.mark.parametrize("version", [b"8", b"12", b"14", b"013", b"13, 8", b""])
    def test_426_names_the_version_that_we_speak(self, version: bytes) -> None:
        problem = problem_with(parse_head(request(b"/", (b"sec-websocket-version", version))))
        assert problem is not None
        assert problem.status == 426
        assert (b"Sec-WebSocket-Version", b"13") in problem.headers

    def test_431_for_a_long_head_and_for_many_fields(self) -> None:
        ours = len(parse_head(request()).headers)
        room = HEAD_BYTES - len(request(b"/", (b"x", b"")))
        assert problem_with(parse_head(request(b"/", (b"x", b"y" * room)))) is None
        assert problem_with(parse_head(request(b"/", *[(b"x", b"y")] * (HEADER_FIELDS - ours)))) is None
        for asked in (
            request(b"/", (b"x", b"y" * (room + 1))),
            request(b"/", (b"sec-websocket-protocol", b"a" * 100_000)),
            request(b"/", *[(b"x", b"y")] * (HEADER_FIELDS - ours + 1)),
        ):
            problem = problem_with(parse_head(asked))
            assert problem is not None
            assert problem.status == 431


class TestAnswers:
    def test_101_with_the_digest_of_the_rfc(self) -> None:
        head = parse_head(request(b"/", (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")))
        answer = accept_response(head, None, [])
        assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")
        assert b"Protocol:" not in answer
        assert b"Extensions" not in answer

    def test_101_with_a_subprotocol_and_headers(self) -> None:
        answer = accept_response(parse_head(request()), "chat", [(b"x-a", b"1"), (b"x-a", b"2")])
        assert b"\r\nSec-WebSocket-Protocol: chat\r\nx-a: 1\r\nx-a: 2\r\n" in answer
        assert b"\r\nSec-WebSocket-Accept: " + expected_accept() + b"\r\n" in answer

    @pytest.mark.parametrize("bad", [b"a\rb", b"a\nb", b"a\0b", b"a\r\nSet-Cookie: b=c"])
    def test_a_header_cannot_be_split(self, bad: bytes) -> None:
        head = parse_head(request())
        for headers in ([(b"x", bad)], [(bad, b"x")]):
            with pytest.raises(ValueError):
                accept_response(head, None, headers)
            with pytest.raises(ValueError):
                refusal_response(403, headers, b"")
        with pytest.raises(ValueError):
            accept_response(head, bad.decode(), [])
        with pytest.raises(ValueError):
            accept_response(head, "✓", [])

    def test_a_refusal_has_its_length_and_ends_the_connection(self) -> None:
        answer = refusal_response(
            403, [(b"X", b"y"), (b"Content-Length", b"99"), (b"connection", b"keep-alive")], b"no"
        )
        assert answer == b"HTTP/1.1 403 Forbidden\r\nX: y\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"

    def test_a_status_without_a_phrase(self) -> None:
        assert refusal_response(499, [], b"").startswith(b"HTTP/1.1 499 \r\n")

    @pytest.mark.parametrize("status", [0, 101, 199, 600])
    def test_a_status_that_is_no_answer(self, status: int) -> None:
        with pytest.raises(ValueError):
            refusal_response(status, [], b"")
