"""What one guest can make others receive, hold or wait for is bounded, whatever it sends."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import pytest

from tests.end_to_end.clients import raw, socket_io, within
from tests.namespaces.asking import refusal
from tests.namespaces.running import RunningApp, fresh, settings_for, token


@pytest.mark.asyncio
async def test_a_chat_text_is_limited_on_every_wire(server: RunningApp) -> None:
    room, limit = fresh("room"), server.realtime.settings.chat_text_limit_characters
    async with (
        socket_io(server.url, "/chat", auth={"username": "alice"}) as alice,
        raw(server.ws_url, f"/ws/chat/bob?room={room}") as bob,
    ):
        await alice.ask("join", {"room": room})
        assert "id" in await alice.ask("message", {"room": room, "text": "x" * limit})
        for event, data in (("message", {"room": room}), ("direct", {"to": "bob"})):
            answer = await alice.call(event, {**data, "text": "x" * (limit + 1)})
            assert answer["error"]["code"] == "invalid_payload"
        await bob.say("y" * (limit + 1))
        told = await bob.until("error")
        assert told["code"] == "invalid_payload"
        await bob.say("still here")
        assert (await alice.until("message", text="still here"))["username"] == "bob"


@pytest.mark.asyncio
async def test_a_page_of_history_fits_into_a_message(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, message_limit_bytes=100_000)
    room = fresh("room")
    with RunningApp(settings) as server:
        async with socket_io(server.url, "/chat", auth={"username": "alice"}) as alice:
            await alice.ask("join", {"room": room})
            for number in range(40):
                assert "id" in await alice.ask("message", {"room": room, "text": f"{number:02}" + "ä" * 4_000})
            page = await alice.ask("history", {"room": room, "limit": 200})
            assert len(json.dumps(page, ensure_ascii=False).encode()) <= settings.message_limit_bytes
            assert page["more"] is True
            assert page["messages"][-1]["text"].startswith("39")
            older = await alice.ask("history", {"room": room, "before": page["messages"][0]["id"]})
            assert older["messages"]
        async with aiohttp.ClientSession() as http, http.get(f"{server.url}/chat/{room}/history?limit=200") as answer:
            assert len(await within(answer.read())) <= settings.message_limit_bytes
        async with socket_io(server.url, "/chat", auth={"username": "bob"}) as bob:
            joined = await bob.ask("join", {"room": room})
            assert len(json.dumps(joined, ensure_ascii=False).encode()) <= settings.message_limit_bytes


@pytest.mark.asyncio
async def test_half_a_million_values_in_one_message_are_refused_and_the_connection_lives(server: RunningApp) -> None:
    async with socket_io(server.url, "/chat", auth={"username": "alice"}) as alice:
        answer = await alice.call("history", {"room": "lobby", "junk": [[]] * 300_000})
        assert answer["error"]["code"] == "invalid_payload"
        assert "messages" in await alice.ask("history", {"room": "lobby"})


@pytest.mark.asyncio
async def test_the_name_of_a_token_holder_stays_taken_for_a_while_after_it_left(tmp_path: Path) -> None:
    with RunningApp(settings_for(tmp_path, name_hold_seconds=60)) as server:
        async with socket_io(server.url, "/chat", auth={"token": token("bob")}) as bob:
            await bob.ask("members", {"room": "lobby"})
        assert (await refusal(server.url, "/chat", {"username": "bob"}))["data"]["code"] == "name_taken"
        async with socket_io(server.url, "/chat", auth={"token": token("bob")}) as again:
            await again.ask("members", {"room": "lobby"})
