"""``/secure``: nobody without a token, and nobody longer than it."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest

from namespaces.secure import as_iso
from tests.end_to_end.clients import raw, socket_io
from tests.namespaces.asking import gone, problem_of, refusal
from tests.namespaces.names import BAD_USERS
from tests.namespaces.running import RunningApp, fresh, token
from tests.serving import SECRET


def secure(server: RunningApp, user: str, *scopes: str, expires_in: float | None = 3600) -> Any:
    return socket_io(server.url, "/secure", auth={"token": token(user, *scopes, expires_in=expires_in)})


@pytest.mark.hostile("E3", on="websocket")
@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("auth", "code"),
    [
        (None, "token_required"),
        ({}, "token_required"),
        ({"username": "alice"}, "token_required"),
        ({"token": None}, "token_required"),
        ({"token": ""}, "token_required"),
        ({"token": "nonsense"}, "invalid_token"),
        ({"token": token("alice", expires_in=0.001)}, "expired_token"),
        ({"token": token("alice", audience="others")}, "invalid_token"),
        ({"token": jwt.encode({"sub": "alice"}, "another secret of thirty-two bytes")}, "invalid_token"),
        ({"token": jwt.encode({"sub": "alice"}, "", algorithm="none")}, "invalid_token"),
        ({"token": jwt.encode({}, SECRET)}, "invalid_token"),
        ({"token": jwt.encode({"sub": "a:b"}, SECRET)}, "invalid_token"),
        ({"token": jwt.encode({"sub": "SYSTEM"}, SECRET)}, "invalid_token"),
        ({"token": jwt.encode({"sub": "alice", "nbf": time.time() + 86_400}, SECRET)}, "invalid_token"),
        ({"token": 5}, "invalid_payload"),
        ({"token": ["x"]}, "invalid_payload"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value)[:40],
)
async def test_who_has_no_good_token_is_no_client(server: RunningApp, auth: Any, code: str) -> None:
    told = await refusal(server.url, "/secure", auth)
    assert told["data"]["code"] == code
    assert "nonsense" not in str(told)


@pytest.mark.asyncio
async def test_whoami_is_what_the_token_says(server: RunningApp) -> None:
    async with secure(server, "alice", "b:2", "a:1") as client:
        told = await client.ask("whoami")
        assert (told["user_id"], told["scopes"]) == ("alice", ["a:1", "b:2"])
        assert abs(_seconds(told["expires_at"]) - time.time() - 3600) < 60
    async with secure(server, "eternal", expires_in=None) as client:
        assert await client.ask("whoami") == {"user_id": "eternal", "scopes": [], "expires_at": None}
    both = jwt.encode({"sub": "subject", "user_id": "user"}, SECRET)
    async with socket_io(f"{server.url}?token={both}", "/secure") as client:
        assert (await client.ask("whoami"))["user_id"] == "user"


def _seconds(iso: str) -> float:
    return time.mktime(time.strptime(iso, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone


def test_times_are_in_utc() -> None:
    assert as_iso(0.0) == "1970-01-01T00:00:00Z"
    assert as_iso(1_700_000_000.9) == "2023-11-14T22:13:20Z"
    assert as_iso(None) is None


@pytest.mark.asyncio
async def test_a_message_reaches_one_user_everywhere_or_everyone(server: RunningApp) -> None:
    anna, bob, carol = fresh("anna"), fresh("bob"), fresh("carol")
    async with (
        secure(server, anna) as sender,
        secure(server, bob) as first,
        secure(server, bob) as second,
        raw(server.ws_url, f"/ws/secure?token={token(bob)}") as third,
        secure(server, carol) as stranger,
        socket_io(server.url, "/chat", auth={"token": token(bob)}) as chatting,
    ):
        assert (await sender.ask("message", {"to": bob, "text": "psst"})).keys() == {"id"}
        for client in (first, second, third):
            told = await client.until("message", text="psst")
            assert told["from"] == anna
            assert told["timestamp"].endswith("Z")
        await sender.ask("message", {"text": "everybody"})
        for client in (sender, first, second, third, stranger):
            assert (await client.until("message", text="everybody"))["from"] == anna
        assert stranger.count("message", text="psst") == 0
        assert sender.count("message", text="psst") == 0
        assert chatting.all == []  # a room of that name in another namespace is another room


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "data",
    [None, "text", {}, {"text": ""}, {"text": 5}, {"to": 5, "text": "x"}, {"to": ["bob"], "text": "x"}]
    + [{"to": name, "text": "x"} for name in BAD_USERS.values()],
    ids=str,
)
async def test_a_message_of_the_wrong_form_is_answered_and_the_connection_lives(server: RunningApp, data: Any) -> None:
    async with secure(server, "alice") as client:
        assert (await problem_of(client, "message", data))["code"] == "invalid_payload"
        assert (await client.ask("whoami"))["user_id"] == "alice"


@pytest.mark.asyncio
@pytest.mark.parametrize("event", ["nope", "authorize", "__init__", "token_expired", "emit", "join", "error"])
async def test_nothing_but_an_event_is_reached_by_name(server: RunningApp, event: str) -> None:
    async with secure(server, "alice") as client:
        assert (await problem_of(client, event, {"room": "user:bob"}))["code"] == "unknown_event"


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.hostile("E4", on="websocket")
@pytest.mark.asyncio
async def test_the_end_of_a_token_is_told_and_ends_the_connection(server: RunningApp) -> None:
    async with secure(server, "alice", expires_in=0.5) as client:
        started = time.monotonic()
        assert (await client.ask("whoami"))["user_id"] == "alice"
        assert isinstance((await client.until("token_expired"))["message"], str)
        await gone(client)
        assert 0.2 < time.monotonic() - started < 5


@pytest.mark.asyncio
async def test_a_refreshed_token_carries_on_past_the_end_of_the_first(server: RunningApp) -> None:
    async with secure(server, "alice", expires_in=0.6) as witness, secure(server, "alice", expires_in=0.5) as client:
        answer = await client.ask("refresh", {"token": token("alice", "new:scope", expires_in=60)})
        assert abs(_seconds(answer["expires_at"]) - time.time() - 60) < 30
        await gone(witness)  # whose token ended later than the first one here
        told = await client.ask("whoami")
        assert (told["scopes"], told["expires_at"]) == (["new:scope"], answer["expires_at"])
        assert client.count("token_expired") == 0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ({"token": token("bob", "*")}, "invalid_token"),
        ({"token": token("alice", "*", expires_in=0.001)}, "expired_token"),
        ({"token": token("alice", audience="others")}, "invalid_token"),
        ({"token": "nonsense"}, "invalid_token"),
        ({"token": ""}, "invalid_token"),
        ({"token": None}, "invalid_payload"),
        ({"token": 5}, "invalid_payload"),
        ({}, "invalid_payload"),
        (None, "invalid_payload"),
    ],
    ids=["of another", "expired", "audience", "nonsense", "empty", "null", "number", "missing", "nothing"],
)
async def test_a_bad_refresh_changes_nothing(server: RunningApp, shown: Any, code: str) -> None:
    async with secure(server, "alice", "own:scope", expires_in=0.6) as client:
        before = await client.ask("whoami")
        assert (await problem_of(client, "refresh", shown))["code"] == code
        assert await client.ask("whoami") == before
        await client.until("token_expired")
        await gone(client)
