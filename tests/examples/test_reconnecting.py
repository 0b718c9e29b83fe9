"""examples/reconnecting.html in a real Chromium: it waits for its server, and outlives it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.end_to_end.browser import browser
from tests.end_to_end.clients import chatter
from tests.examples.program import EXAMPLES
from tests.javascript import Node
from tests.serving import ServerProcess

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

SCRIPT = """
const [address] = own;
const state = page.getByRole("status");
const log = page.getByRole("list");
const field = page.getByLabel("Message");

async function say(text) {
  await field.fill(text);
  await field.press("Enter");
}

async function once(text) {
  await until(log, new RegExp(text));
  const found = (await log.innerText()).split(text).length - 1;
  assert(found === 1, `${text} stands there ${found} times`);
}

await drive(async () => {
  await page.goto(address);
  await until(state, /not there yet/);
  await tell("start");
  await until(state, /connected over (polling|websocket) as alice, in tea/);
  await say("first");
  await once("alice: first");
  troubles.length = 0; // that the server was not there is told by the browser
  await say("<b id=made>bold</b>");
  await until(log, /<b id=made>/);
  assert((await page.locator("#made").count()) === 0, "a message became markup");
  await tell("others");
  await once("bob: and I am bob");
  assert(troubles.length === 0, troubles.join("; "));

  await tell("stop");
  await until(state, /lost|trying again/);
  await say("written while it was away");
  await tell("start-again");
  await until(state, /connected over/);
  for (const line of ["alice: written while it was away", "alice: first", "bob: and I am bob"]) await once(line);
  await say("last");
  await once("alice: last");
  await tell("heard");
});
"""


@pytest.mark.asyncio
async def test_it_waits_for_its_server_and_outlives_it(node: Node, chromium: str, tmp_path: Path) -> None:
    files = [sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1", "--directory", str(EXAMPLES)]
    server = ServerProcess(tmp_path)
    with ServerProcess(tmp_path, command=files, ready="/reconnecting.html") as pages:
        address = f"{pages.url}/reconnecting.html?server={server.url}&user=alice&room=tea"
        async with browser(node, chromium, SCRIPT, address) as person:
            await person.until("start")
            await asyncio.to_thread(server.start)
            try:
                await person.answer()
                await person.until("others")
                async with chatter(server.url, "bob", "tea") as bob:
                    await bob.ask("message", {"room": "tea", "text": "and I am bob"})
                await person.answer()
                await person.until("stop")
                await asyncio.to_thread(server.stop)
                await person.answer()
                await person.until("start-again")
                await asyncio.to_thread(server.start)
                await person.answer()
                await person.until("heard")
                async with chatter(server.url, "carol", "tea") as carol:
                    page = await carol.ask("history", {"room": "tea"})
                texts = [message["text"] for message in page["messages"]]
                assert texts == ["first", "<b id=made>bold</b>", "and I am bob", "written while it was away", "last"]
                await person.answer()
                await person.until("end")
            finally:
                await asyncio.to_thread(server.stop)
