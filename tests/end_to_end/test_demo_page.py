"""The demo page in a real Chromium, against `realtime serve`: see demo_page.mjs for what a person does there."""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from realtime import Settings, Tokens
from tests.end_to_end.browser import browser
from tests.end_to_end.clients import chatter, publish, socket_io
from tests.javascript import Node
from tests.serving import ROOT, SECRET, ServerProcess

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

SCRIPT = Path(__file__).with_name("demo_page.mjs").read_text()
CHANGES = Path(__file__).with_name("demo_page_changes.mjs").read_text()
IMAGES = ROOT / "examples" / "images"


def issued_token() -> str:
    command = [sys.executable, "-m", "realtime", "token", "--user", "alice", "--scope", "room:join:*"]
    done = subprocess.run(
        command, cwd=ROOT, env={"REALTIME_JWT_SECRET": SECRET}, capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.strip()


@pytest.mark.asyncio
async def test_everything_on_the_page_works(node: Node, chromium: str, tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        async with browser(node, chromium, SCRIPT, server.url, str(tmp_path)) as person:
            await person.until("connected")
            await person.answer()
            await person.until("others")
            async with chatter(server.url, "carol", "tea") as carol:
                await carol.emit("typing", {"room": "tea", "typing": True})
                await person.answer()
                await person.until("typing-seen")
                await carol.ask("message", {"room": "tea", "text": "Hello from python-socketio, a script."})
                await person.answer()
                await carol.until("typing", username="alice", typing=True)
                await person.until("typed")
                await person.answer()
                await person.until("publish")
                answer = await publish(
                    server.url, "orders", "Order 1041 received", message="Two notebooks, one pencil."
                )
                assert answer["sent"] == 1
                await person.answer()
                await person.until("token")
                await person.answer(await asyncio.to_thread(issued_token))
                await person.until("markup")
                await publish(server.url, "orders", '<b id="made">Order</b>')
                await person.answer()
                await person.until("stop-server")
            await asyncio.to_thread(server.stop)
            await person.answer()
            await person.until("start-server")
            await asyncio.to_thread(server.start)
            await person.answer()
            await person.until("end")
    for name, width in (("demo.png", 1280), ("demo-phone.png", 390)):
        assert width_of(tmp_path / name) == width


@pytest.mark.parametrize(("name", "width"), [("demo.png", 1280), ("demo-phone.png", 390)])
def test_the_pictures_in_the_repository_are_of_that_page(name: str, width: int) -> None:
    picture = IMAGES / name
    assert width_of(picture) == width
    assert picture.stat().st_size < 250_000


def width_of(picture: Path) -> int:
    """PNG keeps it in bytes 16 to 19 (RFC 2083 section 11.2.1)."""
    head = picture.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    width: int = struct.unpack(">I", head[16:20])[0]
    return width


@pytest.mark.asyncio
async def test_what_a_person_changes_while_it_runs(node: Node, chromium: str, app_server: ServerProcess) -> None:
    async with browser(node, chromium, CHANGES, app_server.url) as person:
        await person.until("publish")
        await publish(app_server.url, "orders", "for orders")
        await publish(app_server.url, "news", "for news")
        await person.answer()
        await person.until("tokens")
        await person.answer([token("anna", 3600), token("anna", 50), token("somebody", 3600)])
        await person.until("short-token")
        await person.answer(token("anna", 3))
        await person.until("token-holder")
        async with socket_io(app_server.url, "/chat", auth={"token": token("anna", 60)}):
            await person.answer()
            found = json.loads(await person.until("end"))
    assert found == {"ordersHeard": 0, "room": "r4", "troubles": [], "foreign": []}


def token(user: str, seconds: int) -> str:
    return Tokens.from_settings(Settings(jwt_secret=SecretStr(SECRET))).issue(user, time.time(), seconds, [])
