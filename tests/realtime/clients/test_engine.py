from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime import Server, UsageError
from realtime.clients.engine import Engine
from realtime.errors import AccessError, CloseCode, HandshakeError, LimitError
from realtime.testing import MemoryClient, MemoryWire
from tests.realtime.living import settings_for

pytestmark = pytest.mark.asyncio


def make_server(*, settings: dict[str, Any] | None = None, **options: Any) -> Server:
    server = Server(settings=settings_for(**(settings or {})), **options)

    @server.on("echo")
    async def echo(sid: str, *args: Any) -> tuple[Any, ...]:
        return args

    return server


def scope(
    query: str = "EIO=4&transport=polling",
    kind: str = "http",
    method: str = "GET",
    client: str = "192.0.2.1",
    **headers: str,
) -> dict[str, Any]:
    found = {"type": kind, "path": "/socket.io/", "query_string": query.encode(), "client": (client, 50_000)}
    found |= {"headers": [(name.encode(), value.encode()) for name, value in headers.items()], "scheme": "http"}
    return found | ({"method": method} if kind == "http" else {})


def refusal(server: Server, asked: dict[str, Any]) -> tuple[int, int, str]:
    """(HTTP status, Engine.IO's number, our label) of the answer no."""
    with pytest.raises(HandshakeError) as caught:
        server.eio.admit(asked)
    return caught.value.status, caught.value.number, caught.value.code


async def polling(server: Server) -> MemoryClient:
    client = MemoryClient(server, MemoryWire("polling"))
    await client.connect()
    return client


# --- the door


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (scope("EIO=4"), (400, 0, "unknown_transport")),
        (scope("EIO=4&transport=flashsocket"), (400, 0, "unknown_transport")),
        (scope("EIO=4&transport=webtransport"), (400, 0, "unknown_transport")),
        (scope("EIO=4&transport=polling&sid=x"), (400, 1, "unknown_sid")),
        (scope("EIO=4&transport=polling&sid="), (400, 1, "unknown_sid")),
        (scope(method="POST"), (400, 2, "bad_method")),
        (scope("EIO=4&transport=websocket"), (400, 3, "bad_request")),
        (scope(kind="websocket"), (400, 3, "bad_request")),
        (scope("EIO=4&transport=polling&j=1"), (400, 3, "bad_request")),
        (scope(origin="https://evil.example", host="good.example"), (403, 4, "origin")),
        (scope("transport=polling"), (400, 5, "unsupported_version")),
        (scope("EIO=3&transport=polling"), (400, 5, "unsupported_version")),
        (scope("EIO=44&transport=polling"), (400, 5, "unsupported_version")),
    ],
)
async def test_who_is_turned_away_and_how(asked: dict[str, Any], answer: tuple[int, int, str]) -> None:
    server = make_server()
    assert refusal(server, asked) == answer
    assert server.metrics.handshakes_refused.value(answer[2]) == 1
    assert not server.core.sessions


@pytest.mark.parametrize(
    "asked", [scope(), scope("EIO=4&transport=websocket", "websocket"), scope("transport=polling&EIO=4&EIO=3")]
)
async def test_who_comes_in_new(asked: dict[str, Any]) -> None:
    assert make_server().eio.admit(asked) is None


@given(query=st.text(max_size=60), method=st.sampled_from(["GET", "POST", "PUT", ""]))
async def test_no_query_does_more_than_be_refused(query: str, method: str) -> None:
    server = make_server()
    try:
        admitted = server.eio.admit(scope(query, method=method))
    except HandshakeError as error:
        assert error.status == 400
    else:
        assert admitted is None
        assert method == "GET"


@pytest.mark.parametrize("transports", [["polling"], ["websocket"]])
async def test_only_the_transports_that_were_asked_for(transports: list[str]) -> None:
    server = make_server(transports=transports)
    asked = {"polling": scope(), "websocket": scope("EIO=4&transport=websocket", "websocket")}
    for name, each in asked.items():
        if name in transports:
            assert server.eio.admit(each) is None
        else:
            assert refusal(server, each) == (400, 0, "unknown_transport")


async def test_a_session_is_found_by_its_id_alone() -> None:
    server = make_server()
    client = await polling(server)
    sid = client.link.id
    assert server.eio.admit(scope(f"EIO=4&transport=polling&sid={sid}")) == sid
    assert server.eio.find(sid) is client.link
    client.wire.cut()
    with pytest.raises(HandshakeError):
        server.eio.find(sid)


async def test_the_id_of_another_kind_of_session_opens_nothing() -> None:
    """Raw and event-stream clients have ids of the same making."""
    server = make_server()
    server.core.sessions["raw"] = object()  # type: ignore[assignment]
    assert refusal(server, scope("EIO=4&transport=polling&sid=raw")) == (400, 1, "unknown_sid")
    with pytest.raises(HandshakeError):
        server.eio.find("raw")
    del server.core.sessions["raw"]


async def test_a_server_that_drains_takes_nobody_new_and_serves_those_it_has() -> None:
    server = make_server()
    client = await polling(server)
    server.eio.draining = True
    assert refusal(server, scope()) == (503, 3, "draining")
    assert server.eio.admit(scope(f"EIO=4&transport=polling&sid={client.link.id}")) == client.link.id


async def test_handshakes_of_one_address_are_limited_where_that_is_set() -> None:
    server = make_server(settings={"handshakes_per_minute_per_address": 2, "trusted_proxies": ["198.51.100.7"]})
    for _ in range(2):
        assert server.eio.admit(scope()) is None
    assert refusal(server, scope()) == (429, 4, "address_limit")
    assert server.eio.admit(scope(client="192.0.2.2")) is None
    for _ in range(5):
        assert server.eio.admit(scope(client="127.0.0.1")) is None
        assert server.eio.admit(scope(client="198.51.100.7")) is None


async def test_who_speaks_no_engine_io_counts_as_well(caplog: pytest.LogCaptureFixture) -> None:
    server = make_server(settings={"handshakes_per_minute_per_address": 2})
    server.eio.admit(scope())
    server.eio.admit_guest(scope())
    with pytest.raises(LimitError) as caught:
        server.eio.admit_guest(scope())
    assert (caught.value.code, 0 < (caught.value.retry_after or 0) <= 60) == ("address_limit", True)
    assert refusal(server, scope())[2] == "address_limit"
    for _ in range(5):
        server.eio.admit_guest(scope(client="127.0.0.1"))
    assert server.metrics.handshakes_refused.value("address_limit") == 2
    assert caplog.messages == ["refused, address_limit: 192.0.2.1 (and 0 more since the last such line)"]


async def test_an_existing_session_is_no_handshake() -> None:
    server = make_server(settings={"handshakes_per_minute_per_address": 1})
    client = await polling(server)
    for _ in range(5):
        assert server.eio.admit(scope(f"EIO=4&transport=polling&sid={client.link.id}"))


# --- origins


@pytest.mark.parametrize(
    ("allowed", "let_in"),
    [
        (lambda origin: origin == "https://page.example", True),
        (lambda origin, environ: environ["HTTP_ORIGIN"] == origin and environ["REMOTE_ADDR"] == "192.0.2.1", True),
        (lambda origin: False, False),
        (lambda origin, environ: None, False),
    ],
)
async def test_a_callable_may_decide_who_comes_in(allowed: Any, let_in: bool) -> None:
    engine: Engine = make_server(cors_allowed_origins=allowed).eio
    assert engine.allows_origin(scope(origin="https://page.example")) is let_in
    assert engine.allows_origin(scope()), "no browser page asks without an Origin"


@pytest.mark.parametrize(
    ("options", "origin", "told"),
    [
        ({}, "https://page.example", False),
        ({"cors_allowed_origins": "https://page.example"}, "https://page.example", True),
        ({"cors_allowed_origins": "https://page.example"}, None, False),
        ({"cors_allowed_origins": "https://page.example"}, "https://evil.example", False),
        ({"cors_allowed_origins": []}, "http://test.example", False),
    ],
)
async def test_who_is_told_that_its_page_may_read_the_answer(
    options: dict[str, Any], origin: str | None, told: bool
) -> None:
    asked = scope(**({"origin": origin} if origin else {}), host="test.example")
    headers = dict(make_server(**options).eio.answer_headers(asked))
    assert (b"access-control-allow-origin" in headers) is told


async def test_a_refused_origin_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    server = make_server()
    for origin in ("https://evil.example\n", "https://evil.example", "https://else.example"):
        assert refusal(server, scope(origin=origin, host="test.example"))[2] == "origin"
    with pytest.raises(AccessError):
        server.check_origin(scope(origin="https://evil.example", host="test.example"))
    assert caplog.messages == ["refused, origin: https://evil.example\\x0a (and 0 more since the last such line)"], (
        "for every wire together"
    )
    assert server.metrics.handshakes_refused.value("origin") == 4


async def test_an_address_over_its_limit_is_told_as_well_and_an_unknown_session_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = make_server(settings={"handshakes_per_minute_per_address": 1})
    server.eio.admit(scope())
    for _ in range(3):
        assert refusal(server, scope())[2] == "address_limit"
        assert refusal(server, scope("EIO=4&transport=polling&sid=gone"))[2] == "unknown_sid"
    assert caplog.messages == ["refused, address_limit: 192.0.2.1 (and 0 more since the last such line)"]


# --- opening


@pytest.mark.parametrize(
    ("options", "wire", "upgrades"),
    [
        ({}, "polling", '["websocket"]'),
        ({}, "websocket", "[]"),
        ({"allow_upgrades": False}, "polling", "[]"),
        ({"transports": ["polling"]}, "polling", "[]"),
    ],
)
async def test_an_upgrade_is_offered_where_it_is_possible(options: dict[str, Any], wire: str, upgrades: str) -> None:
    client = MemoryClient(make_server(**options), MemoryWire(wire))
    assert f'"upgrades":{upgrades},' in str(client.wire.frames[0])
    client.wire.cut()


@pytest.mark.parametrize("node", [None, "eu-1"])
async def test_ids_are_many_and_name_their_node(node: str | None) -> None:
    engine: Engine = make_server(settings={"node": node}).eio
    found = {engine.generate_id() for _ in range(1_000)}
    assert len(found) == 1_000
    assert all(each.startswith("eu-1.") is (node is not None) for each in found)
    assert all(len(each.rpartition(".")[2]) == 20 for each in found)


async def test_an_asynchronous_mode_of_another_server_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="asgi"):
        make_server(async_mode="aiohttp")


@pytest.mark.parametrize(
    ("options", "size"), [({}, 1_024), ({"compression_threshold": 9}, 9), ({"http_compression": False}, None)]
)
async def test_compression_is_as_python_engineio_is_told(options: dict[str, Any], size: int | None) -> None:
    assert make_server(**options).eio.compress_from_bytes == size


async def test_transport_names_the_wire() -> None:
    server = make_server()
    for name in ("polling", "websocket"):
        client = MemoryClient(server, MemoryWire(name))
        assert server.eio.transport(client.link.id) == name
        client.wire.cut()


# --- closing


async def test_disconnecting_one_or_all() -> None:
    server = make_server()
    one, two, three = [MemoryClient(server) for _ in range(3)]
    await server.eio.disconnect(two.link.id)
    assert [each.wire.closed for each in (one, two, three)] == [None, (1000, ""), None]
    await server.eio.disconnect()
    assert one.wire.closed == three.wire.closed == (1000, "")
    assert not server.core.sessions


async def test_shutting_down_tells_everybody_and_takes_nobody_new() -> None:
    server = make_server()
    client = MemoryClient(server)
    await server.eio.shutdown()
    assert client.wire.closed is not None
    assert client.wire.closed[0] == CloseCode.GOING_AWAY
    assert refusal(server, scope())[0] == 503
