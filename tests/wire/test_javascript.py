"""What the real JavaScript client is told, where raw frames do not show it."""

from __future__ import annotations

import json

import pytest

from tests.javascript import Node
from tests.serving import ServerProcess

pytestmark = [pytest.mark.process, pytest.mark.asyncio]

TOO_BIG = """
import { io } from "socket.io-client";
const [url, transport, times] = process.argv.slice(1);
const told = [];
for (let i = 0; i < Number(times); i++) {
  const socket = io(url, { transports: [transport], forceNew: true, reconnection: false });
  await new Promise((connected) => socket.on("connect", connected));
  const gone = new Promise((heard) => socket.on("disconnect", (reason, details) => heard([reason, details])));
  socket.emit("message", "x".repeat(1_000_001));
  const [reason, details] = await gone;
  told.push([reason, transport === "polling" ? details.context.status : details.context.code]);
}
console.log(JSON.stringify(told));
"""


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_a_client_that_said_too_much_knows_why_it_is_gone(
    server: ServerProcess, node: Node, transport: str
) -> None:
    """A poll is pending all the while: its end must not come before the refusal."""
    told = json.loads(await node.run_beside(TOO_BIG, server.url, transport, "20"))
    expected = ["transport error", 413] if transport == "polling" else ["transport close", 1009]
    assert told == [expected] * 20
