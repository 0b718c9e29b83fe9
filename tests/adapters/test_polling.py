from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest
import pytest_asyncio

from adapters import polling
from adapters.polling import Polling, PollWire
from realtime import Server
from realtime.encoding.codecs import Encoded, text
from realtime.testing import MemoryWire
from tests.adapters.exchange import Backlog, Header, Http, make_server, until, within

pytestmark = pytest.mark.asyncio

QUERY = "EIO=4&transport=polling"


class Client:
    """Asks a server made for it; every request is served in this process."""

    def __init__(self, server: Server | None = None) -> None:
        self.server = server or make_server()
        self.sid = ""

    async def open(self, *headers: Header) -> Http:
        answer = await self.ask("GET", headers=headers)
        self.sid = json.loads(answer.body[1:])["sid"]
        return answer

    def start(self, method: str, *parts: bytes, headers: Any = ()) -> tuple[Http, asyncio.Task[None]]:
        request = Http(method, QUERY + (f"&sid={self.sid}" if self.sid else ""), *parts, headers=headers)
        return request, request.serve(Polling(), self.server.eio)

    async def ask(self, method: str, *parts: bytes, headers: Any = ()) -> Http:
        request, serving = self.start(method, *parts, headers=headers)
        await within(serving)
        return request

    async def join(self) -> None:
        await self.open()
        await self.ask("POST", b"40")
        assert (await self.ask("GET")).body.startswith(b"40{")

    @property
    def session(self) -> Any:
        return self.server.core.sessions[self.sid]


@pytest_asyncio.fixture
async def client() -> Client:
    found = Client()
    await found.join()
    return found


async def test_a_handshake_an_event_and_its_answer(client: Client) -> None:
    posted = await client.ask("POST", b'420["echo",1]')
    assert (posted.status, posted.body, posted.header(b"content-length")) == (200, b"ok", [b"2"])
    answer = await client.ask("GET")
    assert (answer.status, answer.body) == (200, b"430[1]")
    assert answer.header(b"content-type") == [b"text/plain; charset=UTF-8"]


async def test_a_body_in_many_parts_is_one_body(client: Client) -> None:
    parts = [b'420["ec', b"", b'ho","\xc3', b'\xa9"]']
    assert (await client.ask("POST", *parts)).body == b"ok"
    assert (await client.ask("GET")).body == '430["é"]'.encode()


async def test_a_post_that_is_cut_off_is_not_taken(client: Client) -> None:
    request = Http("POST", f"{QUERY}&sid={client.sid}", b'420["echo"]')
    first = request.inbound.get_nowait()
    request.inbound.put_nowait(first | {"more_body": True})
    request.leave()
    await within(request.serve(Polling(), client.server.eio))
    assert request.status == 400
    assert (await client.ask("POST", b'421["echo"]')).body == b"ok", "the session goes on"
    assert (await client.ask("GET")).body == b"431[]"


async def test_of_a_body_over_the_limit_no_more_is_read() -> None:
    client = Client(make_server(max_http_buffer_size=1_000))
    await client.open()
    request, serving = client.start("POST", b"4" * 900, b"4" * 101, b"4" * 900)
    await within(serving)
    assert (request.status, request.body) == (413, b"")
    assert request.inbound.qsize() == 1
    assert (await client.ask("GET")).status == 400


async def test_a_poll_that_is_pending_ends_after_the_refusal_of_a_body_over_the_limit() -> None:
    client = Client(make_server(max_http_buffer_size=1_000))
    await client.open()
    poll, polled = client.start("GET")
    await until(lambda: client.session.wire.polled)
    refused = await client.ask("POST", b"4" * 1_001)
    assert refused.status == 413
    assert (await client.ask("GET")).status == 400, "the session is over"
    assert not polled.done(), "a client in JavaScript would take the end for one without a reason"
    await within(polled)
    assert (poll.status, poll.body) == (200, b"1")


@pytest.mark.parametrize("body", [b"", b"\x1e", b"abc", b"4abc", b"b!", b"4\xff", b"40", b"2", b"0"])
async def test_a_malformed_body_ends_the_session(client: Client, body: bytes) -> None:
    answer = await client.ask("POST", body)
    assert (answer.status, json.loads(answer.body)) == (400, {"code": 3, "message": "Bad request"})
    assert client.sid not in client.server.core.sessions


async def test_a_goodbye_is_no_violation_whatever_stands_beside_it(client: Client) -> None:
    assert (await client.ask("POST", b"6\x1e1\x1e6")).body == b"ok"
    assert client.sid not in client.server.core.sessions


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD"])
async def test_other_methods(client: Client, method: str) -> None:
    answer = await client.ask(method)
    assert (answer.status, json.loads(answer.body)) == (400, {"code": 2, "message": "Bad handshake method"})


async def test_a_preflight_needs_no_session() -> None:
    server = make_server(cors_allowed_origins="https://page.example")
    request = Http("OPTIONS", QUERY, headers=[(b"origin", b"https://page.example")])
    await within(request.serve(Polling(), server.eio))
    assert (request.status, request.body, request.header(b"content-length")) == (204, b"", [])
    assert request.header(b"access-control-allow-origin") == [b"https://page.example"]


async def test_a_preflight_of_a_stranger_is_promised_nothing() -> None:
    server = make_server(cors_allowed_origins="https://page.example")
    request = Http("OPTIONS", QUERY, headers=[(b"origin", b"https://evil.example")])
    await within(request.serve(Polling(), server.eio))
    assert request.header(b"access-control-allow-origin") == []


@pytest.mark.parametrize(
    ("cookie", "told"),
    [
        ("io", [b"io=SID; path=/; SameSite=Lax"]),
        ({"name": "route", "Path": "/x", "Secure": True}, [b"route=SID; Path=/x; Secure"]),
        (None, []),
    ],
)
async def test_the_cookie_of_a_sticky_proxy_comes_with_the_handshake_alone(cookie: Any, told: list[bytes]) -> None:
    client = Client(make_server(cookie=cookie))
    opened = await client.open()
    assert opened.header(b"set-cookie") == [each.replace(b"SID", client.sid.encode()) for each in told]
    assert (await client.ask("POST", b"40")).header(b"set-cookie") == []


async def test_a_refusal_that_passes_says_when() -> None:
    server = make_server(settings={"handshakes_per_minute_per_address": 1})
    first, second = Http("GET", QUERY), Http("GET", QUERY)
    for request in (first, second):
        await within(request.serve(Polling(), server.eio))
    assert (first.status, second.status) == (200, 429)
    [seconds] = second.header(b"retry-after")
    assert 0 < int(seconds) <= 60
    assert first.header(b"retry-after") == []


# --- compression


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        (b"gzip", True),
        (b"GZIP", True),
        (b"deflate, gzip;q=0.5", True),
        (b"gzip; q=1.0", True),
        (b"gzip;q=0", False),
        (b"gzip; q = 0.000", False),
        (b"gzipped", False),
        (b"br", False),
        (b"", False),
    ],
)
async def test_big_answers_are_compressed_for_who_takes_it(client: Client, accepted: bytes, compressed: bool) -> None:
    await client.ask("POST", b'420["echo","' + b"x" * 2_000 + b'"]')
    answer = await client.ask("GET", headers=[(b"accept-encoding", accepted)])
    assert answer.header(b"content-encoding") == ([b"gzip"] if compressed else [])
    body = gzip.decompress(answer.body) if compressed else answer.body
    assert body == b'430["' + b"x" * 2_000 + b'"]'
    assert answer.header(b"content-length") == [str(len(answer.body)).encode()]


async def test_small_answers_are_not(client: Client) -> None:
    await client.ask("POST", b'420["echo","' + b"x" * 1_000 + b'"]')
    assert (await client.ask("GET", headers=[(b"accept-encoding", b"gzip")])).header(b"content-encoding") == []


async def test_compression_can_be_switched_off() -> None:
    client = Client(make_server(http_compression=False))
    await client.join()
    await client.ask("POST", b'420["echo","' + b"x" * 2_000 + b'"]')
    assert (await client.ask("GET", headers=[(b"accept-encoding", b"gzip")])).header(b"content-encoding") == []


async def test_its_threshold_can_be_moved() -> None:
    opened = Http("GET", QUERY, headers=[(b"accept-encoding", b"gzip")])
    await within(opened.serve(Polling(), make_server(compression_threshold=10).eio))
    assert opened.header(b"content-encoding") == [b"gzip"]
    assert gzip.decompress(opened.body).startswith(b'0{"sid":')


# --- polls


async def test_a_poll_waits_and_what_is_said_in_one_turn_leaves_together(client: Client) -> None:
    request, serving = client.start("GET")
    await until(lambda: client.session.wire.polled)
    client.session.offer(text("4one"))
    client.session.offer(text("4two"))
    await within(serving)
    assert request.body == b"4one\x1e4two"


async def test_two_polls_end_the_session(client: Client) -> None:
    request, serving = client.start("GET")
    await until(lambda: client.session.wire.polled)
    assert (await client.ask("GET")).status == 400
    await within(serving)
    assert (request.status, request.body) == (200, b"1")
    assert client.sid not in client.server.core.sessions


async def test_a_poll_that_is_given_up_ends_the_session(client: Client) -> None:
    request, serving = client.start("GET")
    await until(lambda: client.session.wire.polled)
    request.leave()
    await within(serving)
    assert request.status == 0
    assert client.sid not in client.server.core.sessions


async def test_an_answer_for_a_client_that_has_just_left_is_not_taken_for_delivered(client: Client) -> None:
    request, serving = client.start("GET")
    await until(lambda: client.session.wire.polled)
    client.session.offer(text("4one"))
    request.leave()
    await within(serving)
    assert client.sid not in client.server.core.sessions


async def test_two_posts_at_once_end_the_session(client: Client) -> None:
    slow = Http("POST", f"{QUERY}&sid={client.sid}")
    slow.inbound.get_nowait()
    serving = slow.serve(Polling(), client.server.eio)
    await until(lambda: client.session.wire.posting)
    assert (await client.ask("POST", b"6")).status == 400
    assert client.sid not in client.server.core.sessions
    slow.inbound.put_nowait({"type": "http.request", "body": b'420["echo"]'})
    await within(serving)
    assert slow.status == 400


@pytest.mark.parametrize("end", ["closed", "lost"])
async def test_a_post_is_read_no_longer_than_its_session_lives(client: Client, end: str) -> None:
    session = client.session
    slow = Http("POST", f"{QUERY}&sid={client.sid}", b'420["ec')
    slow.inbound.put_nowait(slow.inbound.get_nowait() | {"more_body": True})
    serving = slow.serve(Polling(), client.server.eio)
    await until(slow.inbound.empty)
    if end == "closed":
        session.close(4408, "silent", "ping timeout")
        session.wire.close(4408, "again")
    else:
        poll, polling = client.start("GET")
        poll.leave()
        await within(polling)
    await within(serving)
    assert (slow.status, json.loads(slow.body)) == (400, {"code": 3, "message": "Bad request"})


async def test_a_post_that_is_still_being_read_outlives_the_upgrade_of_its_session(client: Client) -> None:
    session = client.session
    slow = Http("POST", f"{QUERY}&sid={client.sid}", b'420["echo",')
    slow.inbound.put_nowait(slow.inbound.get_nowait() | {"more_body": True})
    serving = slow.serve(Polling(), client.server.eio)
    await until(slow.inbound.empty)
    polling_wire, websocket = session.wire, MemoryWire()
    session.switch(websocket)
    polling_wire.close(1000, "")
    slow.inbound.put_nowait({"type": "http.request", "body": b"1]"})
    await within(serving)
    assert slow.body == b"ok"
    await until(lambda: websocket.frames)
    assert websocket.frames == ["430[1]"]


async def test_one_post_after_the_other_is_fine_after_any_outcome(client: Client) -> None:
    for body in (b"6", b'420["echo"]', b"3"):
        assert (await client.ask("POST", body)).body == b"ok"


async def test_packets_wait_while_the_session_wants_none(client: Client) -> None:
    session = client.session
    session.wire.pause()
    request, serving = client.start("POST", b'420["echo"]\x1e421["echo"]')
    await until(lambda: session.wire.posting)
    assert not request.done
    session.wire.resume()
    await within(serving)
    assert request.body == b"ok"
    assert (await client.ask("GET")).body == b"430[]\x1e431[]"


async def test_a_session_that_ends_lets_a_post_go_that_waits(client: Client) -> None:
    session = client.session
    session.wire.pause()
    request, serving = client.start("POST", b'420["echo"]')
    await until(lambda: session.wire.posting)
    session.close(1000, "", "server disconnect")
    await within(serving)
    assert request.status == 400


# --- the wire by itself


def open_wire(*waiting: Encoded) -> tuple[PollWire, Backlog]:
    wire, link = PollWire(), Backlog(*waiting)
    wire.link = link
    return wire, link


def bodies(batch: list[Encoded]) -> list[str]:
    return [encoded.payload for encoded in batch]


async def test_a_poll_takes_what_waits_at_once() -> None:
    wire, link = open_wire(text("1"), text("2"))
    assert bodies(wire.poll().result()) == ["1", "2"]
    assert link.held == 1
    assert not wire.polled


async def test_an_answer_has_an_end_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "BATCH_BYTES", 10)
    wire, _ = open_wire(text("x" * 6), text("y" * 6), text("z" * 6))
    assert bodies(wire.poll().result()) == ["x" * 6, "y" * 6]
    assert bodies(wire.poll().result()) == ["z" * 6]


async def test_an_answer_has_at_most_sixteen_packets() -> None:
    """python-socketio's own clients take no more; an attachment is one."""
    wire, _ = open_wire(*(text(str(number)) for number in range(20)))
    assert bodies(wire.poll().result()) == [str(number) for number in range(16)]
    assert bodies(wire.poll().result()) == [str(number) for number in range(16, 20)]
    binary = Encoded(((True, b"h"), *((False, b"a") for _ in range(10))))
    wire, link = open_wire(text("first"), binary, text("between"), binary)
    assert bodies(wire.poll().result()) == ["first", binary.payload, "between"]
    assert bodies(wire.poll().result()) == [binary.payload]
    assert link.waiting == []


async def test_a_closed_wire_answers_with_a_noop() -> None:
    wire, _ = open_wire()
    poll = wire.poll()
    assert wire.polled
    wire.close(1000, "")
    assert bodies(poll.result()) == ["6"]
    assert wire.closed
    assert bodies(wire.poll().result()) == ["6"]


async def test_what_waits_leaves_with_the_last_answer_of_a_session_that_is_closed() -> None:
    wire, link = open_wire()
    poll = wire.poll()
    link.waiting += [text("1"), text("2")]
    link.closed = True
    wire.close(1000, "")
    assert bodies(poll.result()) == ["1", "2"]


async def test_what_waits_stays_for_the_wire_that_takes_over() -> None:
    wire, link = open_wire()
    poll = wire.poll()
    link.waiting.append(text("1"))
    wire.close(1000, "")
    assert bodies(poll.result()) == ["6"]
    assert bodies(link.waiting) == ["1"]


async def test_after_an_upgrade_http_is_refused(client: Client) -> None:
    session = client.session
    session.switch(MemoryWire())
    for method in ("GET", "POST"):
        assert (await client.ask(method, b"6")).status == 400
    assert not session.closed


async def test_a_forgotten_poll_is_not_answered() -> None:
    wire, _ = open_wire()
    poll = wire.poll()
    wire.forget(poll)
    assert not wire.polled
    wire.close(1000, "")
    assert not poll.done()


async def test_forgetting_an_older_poll_changes_nothing() -> None:
    wire, _ = open_wire(text("1"))
    older = wire.poll()
    newer = wire.poll()
    wire.forget(older)
    assert wire.polled
    wire.close(1000, "")
    assert bodies(newer.result()) == ["6"]
