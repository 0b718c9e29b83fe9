"""How clients of ``Server`` come and go, and servers beside each other, over a real uvicorn."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import pytest
import socketio
from socketio.exceptions import ConnectionError as CannotConnect

from realtime import UsageError
from realtime.names import Reason
from tests.end_to_end.clients import reading_session
from tests.realtime.served import SECONDS, house, new_server, refused, settle, sid_of, socket_io, within

# ── connect ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_connect_handlers_of_both_generations() -> None:
    for auth in (None, {"token": "x"}):
        sio, got = new_server(namespaces=["/two", "/three"]), []
        sio.on("connect", lambda sid, environ: got.append(environ["REMOTE_ADDR"]), namespace="/two")  # noqa: B023
        sio.on("connect", lambda sid, environ, auth: got.append(auth), namespace="/three")  # noqa: B023
        async with house(sio) as here:
            await here.client("/two", auth=auth)
            await here.client("/three", auth=auth)
        assert got == ["127.0.0.1", auth]


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.asyncio
async def test_what_the_connect_handler_emits_leaves_right_after_connect(transport: str) -> None:
    sio = new_server()

    @sio.event
    async def connect(sid: str, environ: Any) -> None:
        await sio.enter_room(sid, "lobby")
        await sio.emit("first", {"n": 1}, to=sid)
        await sio.emit("second", {"n": 2}, to="lobby")

    async with house(sio) as here:
        client = await here.client(transports=[transport])
        await client.until("second")
        assert client.all == [("first", {"n": 1}), ("second", {"n": 2})]


REFUSALS: dict[str, tuple[Any, Any]] = {
    "false": (lambda: False, {"message": "Connection rejected by server"}),
    "words": (partial(socketio.exceptions.ConnectionRefusedError, "not you"), {"message": "not you"}),
    "words and data": (
        partial(socketio.exceptions.ConnectionRefusedError, "not you", "never"),
        {"message": "not you", "data": "never"},
    ),
    "python's own": (ConnectionRefusedError, {"message": "Connection refused by server"}),
}


@pytest.mark.parametrize("kind", REFUSALS)
@pytest.mark.asyncio
async def test_a_refused_client_is_told_why_and_leaves_no_trace(kind: str) -> None:
    sio, gone = new_server(), []
    make, told = REFUSALS[kind]

    @sio.event
    async def connect(sid: str, environ: Any) -> Any:
        await sio.enter_room(sid, "lobby")
        await sio.emit("welcome", to=sid)
        await sio.emit("arrived", to="lobby")
        refusal = make()
        if isinstance(refusal, Exception):
            raise refusal
        return refusal

    @sio.event
    async def disconnect(sid: str, reason: str) -> None:
        gone.append(sid)

    async with house(sio) as here:
        errors, heard = await refused(here.url)
        await settle(here)
    assert errors == [told]
    assert heard == []
    assert gone == []
    assert sio.metrics.connects.value("/", "refused") == 1


@pytest.mark.asyncio
async def test_a_connect_handler_that_raises_refuses_without_a_word_of_why(caplog: pytest.LogCaptureFixture) -> None:
    sio = new_server()

    @sio.event
    async def connect(sid: str, environ: Any) -> None:
        await sio.emit("welcome", to=sid)
        raise LookupError("the secret detail")

    async with house(sio) as here:
        errors, heard = await refused(here.url)
        await settle(here)
    assert errors[0]["data"]["code"] == "internal"
    assert "secret" not in json.dumps(errors)
    assert heard == []
    assert "the secret detail" in caplog.text, "our own log has it"


@pytest.mark.asyncio
async def test_an_unknown_namespace() -> None:
    async with house(new_server()) as here:
        errors, _ = await refused(here.url, "/nowhere")
    assert errors == [{"message": "Invalid namespace"}]


@pytest.mark.asyncio
async def test_disconnect_in_the_connect_handler_refuses() -> None:
    sio, gone = new_server(), []

    @sio.event
    async def connect(sid: str, environ: Any) -> None:
        await sio.disconnect(sid)

    sio.on("disconnect", lambda sid, reason: gone.append(sid))
    async with house(sio) as here:
        errors, _ = await refused(here.url)
        await settle(here)
    assert errors == [
        {
            "message": "Connection refused by server",
            "data": {"code": "refused", "message": "Connection refused by server"},
        }
    ]
    assert gone == []


@pytest.mark.asyncio
async def test_always_connect_tells_connect_first_and_takes_it_back() -> None:
    sio, log = new_server(always_connect=True), []

    @sio.event
    async def connect(sid: str, environ: Any, auth: Any) -> bool | None:
        await sio.emit("welcome", to=sid)
        return False if auth == {"refuse": True} else None

    sio.on("disconnect", lambda sid, reason: log.append("disconnect"))
    sio.on("say", lambda sid: log.append("say"))
    async with house(sio) as here:
        async with socket_io(here.url, "/") as client:
            await client.until("welcome")
            await client.call("say")
        await settle(here)
        assert log == ["say", "disconnect"]
        async with socket_io(here.url, "/", auth={"refuse": True}) as client:
            await within(client.gone.wait())
            assert client.count("welcome") == 1
        await settle(here)
        assert log == ["say", "disconnect"], "neither events nor the hook of a client that was refused"


# ── disconnect ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.asyncio
async def test_the_disconnect_handler_runs_once_with_the_reason(transport: str) -> None:
    sio, gone = new_server(), []

    @sio.event
    async def disconnect(sid: str, reason: str) -> None:
        gone.append((sid, reason, sio.rooms(sid), await sio.get_session(sid)))

    async with house(sio) as here:
        async with socket_io(here.url, "/", transports=[transport]) as client:
            sid = sid_of(client)
            await sio.enter_room(sid, "lobby")
            await sio.save_session(sid, {"kept": True})
        await settle(here)
        # python-socketio's client closes its WebSocket before its own DISCONNECT has left
        reason = Reason.CLIENT if transport == "polling" else Reason.TRANSPORT_CLOSE
        assert gone == [(sid, reason, [sid, "lobby"], {"kept": True})]
        gone.clear()
        async with socket_io(here.url, "/", transports=[transport]) as client:
            sid = sid_of(client)
            await sio.disconnect(sid)
            assert [(found, reason) for found, reason, *_ in gone] == [(sid, Reason.SERVER)], "it has run on return"
            await sio.disconnect(sid)
            await within(client.gone.wait())
        await settle(here)
        assert len(gone) == 1


@pytest.mark.asyncio
async def test_a_cut_connection_is_a_transport_close() -> None:
    sio, gone = new_server(), asyncio.get_running_loop().create_future()
    sio.on("disconnect", lambda sid, reason: gone.set_result(reason))
    async with house(sio) as here:
        client = await here.client(transports=["websocket"])
        client.client.eio.ws._conn.transport.abort()
        assert await within(gone) == Reason.TRANSPORT_CLOSE


@pytest.mark.asyncio
async def test_the_old_disconnect_handler_takes_the_sid_alone() -> None:
    sio, gone = new_server(), []

    @sio.event
    async def disconnect(sid: str) -> None:
        gone.append(sid)
        raise TypeError("once is enough")

    async with house(sio) as here:
        async with socket_io(here.url, "/") as client:
            sid = sid_of(client)
        await settle(here)
    assert gone == [sid]


@pytest.mark.asyncio
async def test_a_handler_may_disconnect_its_own_client() -> None:
    sio, log = new_server(async_handlers=False), []

    @sio.event
    async def leave(sid: str) -> None:
        await sio.disconnect(sid)
        log.append("handler")

    sio.on("disconnect", lambda sid, reason: log.append("hook"))
    async with house(sio) as here:
        client = await here.client()
        await client.emit("leave")
        await within(client.gone.wait())
        await settle(here)
    assert log == ["handler", "hook"]


@pytest.mark.asyncio
async def test_shutdown_closes_every_connection_and_runs_every_hook() -> None:
    sio, gone = new_server(), []
    sio.on("disconnect", lambda sid, reason: gone.append(reason))
    async with house(sio) as here:
        clients = [await here.client(transports=[each]) for each in ("polling", "websocket")]
        await within(sio.shutdown())
        assert len(gone) == 2
        assert here.is_empty()
        for client in clients:
            await within(client.gone.wait())
        async with reading_session() as http:
            late = socketio.AsyncClient(reconnection=False, http_session=http)
            with pytest.raises(CannotConnect):
                await within(late.connect(here.url))


# ── several servers, other encodings ─────────────────────────────────────────────────────────────


class Marked:
    """A JSON of one's own, which leaves its mark."""

    @staticmethod
    def dumps(value: Any, **options: Any) -> str:
        return json.dumps(value).replace('"plain"', '"marked"')

    @staticmethod
    def loads(text: str, **options: Any) -> Any:
        return json.loads(text.replace('"secret"', '"read"'))


@pytest.mark.asyncio
async def test_two_servers_in_one_process_share_nothing() -> None:
    one, other = new_server(json=Marked), new_server()
    for sio in (one, other):
        sio.on("echo", lambda sid, data: data)
    async with house(one) as first, house(other) as second:
        a, b = await first.client(), await second.client()
        assert await a.call("echo", "secret") == "read"
        assert await b.call("echo", "secret") == "secret"
        assert await a.call("echo", "plain") == "marked"
        assert await b.call("echo", "plain") == "plain"
        assert await one.emit("told", {"x": 1}) == 1
        await second.fence(b)
        assert b.count("told") == 0
        assert one.metrics.events_in.value("/", "echo") == 2
        assert other.metrics.events_in.value("/", "echo") == 2


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.asyncio
async def test_messagepack(transport: str) -> None:
    sio = new_server(serializer="msgpack")
    sio.on("echo", lambda sid, *args: args)
    async with house(sio) as here:
        http = reading_session()
        client = socketio.AsyncClient(reconnection=False, serializer="msgpack", http_session=http)
        got: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        client.on("told", got.set_result)
        await within(client.connect(here.url, transports=[transport], wait_timeout=SECONDS))
        sent = ({"a": [1, b"\xff", None]}, "ü")
        assert await client.call("echo", sent, timeout=SECONDS) == sent
        await sio.emit("told", b"\x00")
        assert await within(got) == b"\x00"
        await within(client.disconnect())
        await http.close()


def test_a_serializer_that_is_not_known_is_refused() -> None:
    with pytest.raises(UsageError, match="serializer must be 'default' or 'msgpack'"):
        new_server(serializer="pickle")


@pytest.mark.asyncio
async def test_names_that_clients_choose_are_no_metric_labels() -> None:
    sio = new_server(namespaces="*")
    async with house(sio) as here:
        for number in range(3):
            client = await here.client(f"/free-{number}")
            await client.emit(f"event-{number}")
            await here.fence(client)
    assert set(sio.metrics.connects.values) == {("other", "accepted")}
    assert set(sio.metrics.events_in.values) == {("other", "other")}
