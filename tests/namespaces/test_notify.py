"""``/notify``: publishing over HTTP and by event, following by Socket.IO, plain WebSocket and event stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from namespaces.notify import plain_notification, stream_notification
from tests.end_to_end.clients import event_stream, raw, socket_io, within
from tests.namespaces.asking import gone, problem_of, refusal
from tests.namespaces.names import BAD_NAMES, FINE_NAMES, SYSTEM_ROOMS
from tests.namespaces.running import RunningApp, fresh, plain_client, settings_for, token

NOTICE = {"title": "Sale", "message": "today"}
ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    folder = tmp_path_factory.mktemp("production")
    with RunningApp(settings_for(folder, environment="production", allowed_origins=[ORIGIN])) as server:
        yield server


async def post(url: str, topic: str, **options: Any) -> tuple[int, Any]:
    """Status and answer of a publish; without anything given, a good one in JSON."""
    if not options.keys() & {"json", "data", "params"}:
        options["json"] = NOTICE
    async with aiohttp.ClientSession() as http, http.post(f"{url}/notify/{quoted(topic)}", **options) as answer:
        assert answer.content_type == "application/json"
        return answer.status, await answer.json()


def quoted(name: str) -> str:
    return "".join(f"%{byte:02X}" for byte in name.encode())


@asynccontextmanager
async def subscriber(server: RunningApp, topic: str, **options: Any) -> AsyncIterator[Any]:
    async with socket_io(server.url, "/notify", **options) as client:
        answer = await client.ask("subscribe", {"topic": topic})
        assert answer == {"topic": topic, "offset": answer["offset"]}
        yield client


def bearer(*scopes: str, user: str = "pat", **options: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {token(user, *scopes, **options)}"}


# ── what is told, and to how many ────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_subscribers_of_every_wire_are_told_and_counted(server: RunningApp) -> None:
    topic = fresh("topic")
    async with (
        subscriber(server, topic, transports=["websocket"]) as first,
        subscriber(server, topic, transports=["polling"]) as second,
        raw(server.ws_url, f"/ws/notify/{topic}") as third,
        event_stream(server.url, topic) as fourth,
        raw(server.ws_url, f"/ws/rooms/notify/{topic}") as fifth,
        subscriber(server, fresh("topic")) as other,
    ):
        status, answer = await post(server.url, topic, json={**NOTICE, "level": "error", "data": {"n": 1}})
        assert (status, answer.keys(), answer["sent"]) == (200, {"sent", "id"}, 5)
        told = await first.until("notification")
        assert told.pop("timestamp").endswith("Z")
        assert told == {**NOTICE, "id": answer["id"], "topic": topic, "level": "error", "data": {"n": 1}}
        for client in (second, third, fourth, fifth):
            heard = await client.until("notification", id=answer["id"])
            assert {name: heard[name] for name in told} == told
        assert await first.ask("unsubscribe", {"topic": topic}) == {"topic": topic}
        assert (await post(server.url, topic))[1]["sent"] == 4
        assert other.all == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "sent", [{"params": NOTICE}, {"data": NOTICE}, {"json": NOTICE}], ids=["query", "form", "json"]
)
async def test_query_form_and_json_mean_the_same(server: RunningApp, sent: dict[str, Any]) -> None:
    topic = fresh("topic")
    async with subscriber(server, topic) as client:
        assert (await post(server.url, topic, **sent))[1]["sent"] == 1
        told = await client.until("notification")
        assert (told["title"], told["message"], told["level"]) == ("Sale", "today", "info")
        assert "data" not in told


@pytest.mark.asyncio
async def test_subscribing_twice_counts_once(server: RunningApp) -> None:
    topic = fresh("topic")
    async with subscriber(server, topic) as client:
        await client.ask("subscribe", {"topic": topic})
        assert (await post(server.url, topic))[1]["sent"] == 1
        await client.ask("unsubscribe", {"topic": topic})
        await client.ask("unsubscribe", {"topic": topic})
        assert (await post(server.url, topic))[1]["sent"] == 0


@pytest.mark.hostile("C12", on="SSE")
@pytest.mark.asyncio
async def test_an_event_stream_keeps_its_form_whatever_is_said(server: RunningApp) -> None:
    topic = fresh("topic")
    evil = "line\nid: 666\r\ndata: forged\n\nevent: forged\u2028\x00\U0001f600"
    async with event_stream(server.url, topic) as stream:
        for number in range(3):
            await post(server.url, topic, json={"title": evil, "message": str(number), "data": {evil: evil}})
        for number in range(3):
            told = await stream.until("notification")
            assert (told["title"], told["message"], told["data"]) == (evil, str(number), {evil: evil})
        assert len(stream.all) == 3


@pytest.mark.asyncio
@pytest.mark.parametrize("last", ["", "nonsense", "0" * 5_000, "\u00ff", "-1", "' OR 1"], ids=lambda last: last[:10])
async def test_a_wrong_last_event_id_is_passed_over(server: RunningApp, last: str) -> None:
    topic = fresh("topic")
    headers = {"last-event-id": last}
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{server.url}/notify/{topic}/events", headers=headers) as stream,
    ):
        assert (stream.status, stream.content_type) == (200, "text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert await within(stream.content.readuntil(b"\n\n")) == b"retry: 2000\n\n"
        assert (await post(server.url, topic))[1]["sent"] == 1
        lines = (await within(stream.content.readuntil(b"\n\n"))).decode().split("\n")
        assert [line.partition(":")[0] for line in lines] == ["id", "event", "data", "", ""]


@given(st.text(max_size=30), st.none() | st.text() | st.dictionaries(st.sampled_from(["id", "type"]), st.text()))
def test_whatever_comes_over_the_bus_raises_nothing_and_forges_nothing(name: str, data: Any) -> None:
    for event in (name, "notification"):
        told = plain_notification(event, data)
        assert told is None or told["type"] in ("notification", "error")
        said = stream_notification(event, data)
        if said is not None:
            assert said.endswith("\n\n")
            assert "\r" not in said
            fields = [line.partition(": ")[0] for line in said.removesuffix("\n\n").split("\n")]
            assert fields in (["event", "data"], ["id", "event", "data"])


@pytest.mark.asyncio
async def test_what_is_no_notification_disturbs_no_subscriber(server: RunningApp) -> None:
    """python-socketio's own writers may put anything on the bus."""
    topic = fresh("topic")
    sio = server.realtime.server
    async with (
        subscriber(server, topic) as first,
        raw(server.ws_url, f"/ws/notify/{topic}") as second,
        event_stream(server.url, topic) as third,
    ):
        for data in (None, "text", 5, [1], {"id": 5}, {"id": "a\nb"}):
            await sio.emit("notification", data, to=topic, namespace="/notify")
        answer = (await post(server.url, topic))[1]
        assert answer["sent"] == 3
        for client in (second, third):
            assert (await client.until("notification", title="Sale"))["id"] == answer["id"]
        heard = [await first.until("notification") for _ in range(7)]
        assert heard[-1]["id"] == answer["id"]


# ── once, and no more ────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_an_idempotency_key_publishes_once(server: RunningApp) -> None:
    topic, key = fresh("topic"), {"idempotency-key": fresh("key")}
    async with subscriber(server, topic) as client:
        status, first = await post(server.url, topic, headers=key)
        assert (status, first["sent"]) == (200, 1)
        assert await post(server.url, topic, headers=key) == (200, first)
        assert await post(server.url, topic, headers=key, params=NOTICE) == (200, first)  # the same said otherwise
        status, refused = await post(server.url, topic, headers=key, json={**NOTICE, "title": "Other"})
        assert (status, refused["code"]) == (409, "idempotency_conflict")
        assert (await post(server.url, fresh("topic"), headers=key))[1]["id"] != first["id"]
        assert (await post(server.url, topic, headers={**key, **bearer()}))[1]["id"] != first["id"]  # of somebody else
        assert (await post(server.url, topic))[1]["id"] != first["id"]
        await client.ask("unsubscribe", {"topic": topic})
        assert client.count("notification") == 3


@pytest.mark.asyncio
async def test_two_requests_at_once_with_one_key_publish_once(server: RunningApp) -> None:
    topic, key = fresh("topic"), {"idempotency-key": fresh("key")}
    async with subscriber(server, topic) as client:
        answers = await asyncio.gather(*(post(server.url, topic, headers=key) for _ in range(8)))
        assert {json.dumps(answer) for answer in answers} == {json.dumps(answers[0])}
        assert answers[0][1]["sent"] == 1
        await client.ask("unsubscribe", {"topic": topic})
        assert client.count("notification") == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("key", ["", "x" * 129])
async def test_a_key_has_a_length(server: RunningApp, key: str) -> None:
    status, answer = await post(server.url, fresh("topic"), headers={"idempotency-key": key})
    assert (status, answer["code"]) == (422, "invalid_request")


# ── bad input ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.hostile("C10", on="HTTP")
@pytest.mark.asyncio
@pytest.mark.parametrize(
    "sent",
    [
        {"data": b"{", "headers": {"content-type": "application/json"}},
        {"data": b'{"title": "\xff", "message": "m"}', "headers": {"content-type": "application/json"}},
        {"json": []},
        {"json": {"title": 5, "message": "m"}},
        {"json": {**NOTICE, "level": "fatal"}},
        {"json": {**NOTICE, "data": [1]}},
        {"data": {**NOTICE, "data": "no json"}},
        {"params": {"title": "t"}},
        {"data": b"", "params": {}},
        {"data": b"--", "headers": {"content-type": "multipart/form-data; boundary=x"}},
    ],
    ids=str,
)
async def test_what_is_no_notice_is_refused_and_reaches_nobody(server: RunningApp, sent: dict[str, Any]) -> None:
    topic = fresh("topic")
    async with subscriber(server, topic) as client:
        status, answer = await post(server.url, topic, **sent)
        assert (status, answer["code"]) == (422, "invalid_payload")
        await post(server.url, topic, json={**NOTICE, "title": "first heard"})
        assert (await client.until("notification"))["title"] == "first heard"
        assert len(client.all) == 1


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "text/plain"])
def test_ten_megabytes_are_too_much(tmp_path: Path, kind: str) -> None:
    client = plain_client(tmp_path)
    whole, parts = b"x" * 10_000_000, (b"x" * 1_000_000 for _ in range(10))
    for body in (whole, parts):
        answer = client.post("/notify/orders", content=body, headers={"content-type": kind})
        assert (answer.status_code, answer.json()["code"]) == (413, "too_big")


@pytest.mark.asyncio
async def test_topics_of_the_system_and_bad_names_are_refused_at_every_door(server: RunningApp) -> None:
    rights = token("pat", "*")
    async with socket_io(server.url, "/notify", auth={"token": rights}) as client, aiohttp.ClientSession() as http:
        for topics, status, code in ((SYSTEM_ROOMS, 403, "system_room"), (BAD_NAMES, 422, "invalid_payload")):
            for what, topic in topics.items():
                for event in ("subscribe", "unsubscribe", "publish"):
                    assert (await problem_of(client, event, {"topic": topic, **NOTICE}))["code"] == code, (what, event)
                if topic:
                    found = await post(server.url, topic, headers={"authorization": f"Bearer {rights}"})
                    assert (found[0], found[1]["code"]) == (status, code), what
                    async with http.get(f"{server.url}/notify/{quoted(topic)}/events") as answer:
                        assert (answer.status, (await answer.json())["code"]) == (status, code), what
        for topic in FINE_NAMES.values():
            await client.ask("subscribe", {"topic": topic})
            assert (await client.ask("publish", {"topic": topic, **NOTICE}))["sent"] == 1
            assert (await client.until("notification"))["topic"] == topic


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("subscribe", None),
        ("subscribe", "orders"),
        ("subscribe", {"topic": 5}),
        ("subscribe", {"topic": ["orders"]}),
        ("unsubscribe", {}),
        ("publish", {"topic": "orders"}),
        ("publish", {"topic": "orders", **NOTICE, "level": "fatal"}),
        ("publish", {"topic": "orders", **NOTICE, "data": "text"}),
        ("publish", {**NOTICE}),
    ],
    ids=str,
)
async def test_a_payload_of_the_wrong_form_is_answered_and_the_connection_lives(
    server: RunningApp, event: str, data: Any
) -> None:
    async with socket_io(server.url, "/notify", auth={"token": token("pat", "*")}) as client:
        assert (await problem_of(client, event, data))["code"] == "invalid_payload"
        assert (await problem_of(client, "notification", data))["code"] == "unknown_event"
        await client.ask("subscribe", {"topic": "orders"})


# ── rights ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1.evil.example"])
async def test_a_foreign_page_can_neither_publish_nor_follow(server: RunningApp, origin: str) -> None:
    headers = {"origin": origin, "x-forwarded-host": origin.partition("//")[2]}
    status, answer = await post(server.url, "orders", headers=headers)
    assert (status, answer["code"]) == (403, "origin")
    async with aiohttp.ClientSession() as http:
        for path, statuses in (
            ("/notify/orders/events", {403}),
            ("/socket.io/?EIO=4&transport=polling", {400, 403}),
        ):
            async with http.get(server.url + path, headers=headers) as answered:
                assert answered.status in statuses, path
                assert "access-control-allow-origin" not in answered.headers


@pytest.mark.asyncio
async def test_in_development_anybody_may_publish_over_http_but_with_no_bad_token(server: RunningApp) -> None:
    assert (await post(server.url, fresh("topic")))[0] == 200
    for headers in ({"authorization": "Bearer nonsense"}, bearer("*", expires_in=0.001)):
        status, answer = await post(server.url, fresh("topic"), headers=headers)
        assert (status, answer["code"]) in ((401, "invalid_token"), (401, "expired_token"))


@pytest.mark.hostile("F2", on="HTTP")
@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("scopes", "status"),
    [
        ((), 403),
        (("notify:publish:others",), 403),
        (("notify:publish",), 403),
        (("notify:publish:",), 403),
        (("chat:*",), 403),
        (("notify:publish:orders",), 200),
        (("notify:publish:*",), 200),
        (("notify:*",), 200),
        (("*",), 200),
    ],
    ids=str,
)
async def test_in_production_publishing_needs_its_scope(
    production: RunningApp, scopes: tuple[str, ...], status: int
) -> None:
    code = None if status == 200 else "forbidden"
    found = await post(production.url, "orders", headers=bearer(*scopes))
    assert (found[0], found[1].get("code")) == (status, code)
    found = await post(production.url, "orders", params={**NOTICE, "token": token("pat", *scopes)})
    assert (found[0], found[1].get("code")) == (status, code)
    async with socket_io(production.url, "/notify", auth={"token": token("pat", *scopes)}) as client:
        answer = await client.call("publish", {"topic": "orders", **NOTICE})
        assert answer.get("error", {}).get("code") == code


@pytest.mark.asyncio
async def test_in_production_nobody_publishes_without_a_token(production: RunningApp) -> None:
    status, answer = await post(production.url, "orders")
    assert (status, answer["code"]) == (401, "unauthorized")
    topic = fresh("topic")
    async with subscriber(production, topic) as client:  # following needs none
        assert (await post(production.url, topic, headers=bearer("notify:publish:*")))[1]["sent"] == 1
        await client.until("notification")


@pytest.mark.hostile("F2", on="websocket")
@pytest.mark.asyncio
async def test_publishing_by_event_needs_the_scope_in_development_too(server: RunningApp) -> None:
    said = {"topic": fresh("topic"), **NOTICE}
    async with subscriber(server, said["topic"]) as listener:
        assert (await problem_of(listener, "publish", said))["code"] == "unauthorized"
        async with socket_io(server.url, "/notify", auth={"token": token("pat")}) as client:
            assert (await problem_of(client, "publish", said))["code"] == "forbidden"
        scope = f"notify:publish:{said['topic']}"
        async with socket_io(server.url, "/notify", auth={"token": token("pat", scope)}) as client:
            answer = await client.ask("publish", said)
            assert answer["sent"] == 1
            assert (await problem_of(client, "publish", {**said, "topic": "other"}))["code"] == "forbidden"
        assert (await listener.until("notification"))["id"] == answer["id"]
        assert listener.count("notification") == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("auth", "code"),
    [
        ({"token": "nonsense"}, "invalid_token"),
        pytest.param({"token": token("pat", expires_in=0.001)}, "expired_token", id="a token that has expired"),
        ({"token": 5}, "invalid_payload"),
    ],
    ids=str,
)
async def test_a_bad_token_is_refused_where_none_was_needed(server: RunningApp, auth: Any, code: str) -> None:
    assert (await refusal(server.url, "/notify", auth))["data"]["code"] == code


@pytest.mark.hostile("E4", on="websocket")
@pytest.mark.asyncio
async def test_a_token_that_ends_ends_the_connection(server: RunningApp) -> None:
    async with socket_io(server.url, "/notify", auth={"token": token("pat", expires_in=0.5)}) as client:
        assert (await client.until("token_expired")).keys() == {"message"}
        await gone(client)
