"""A chat client with python-socketio: prints what it sees in a room, says one line, and leaves.

python python_client.py --url http://127.0.0.1:8000 --user alice --room lobby --say "Hello from Python"
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import socketio

PATIENCE_SECONDS = 10


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Say one line in a chat room.")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--user", default="python")
    parser.add_argument("--room", default="lobby")
    parser.add_argument("--say", default="Hello from Python")
    parser.add_argument("--transport", choices=["websocket", "polling"], help="one alone; default: as both agree")
    return parser.parse_args()


def show(message: dict[str, Any]) -> None:
    print(f"{message['username']}: {message['text']}", flush=True)


async def ask(client: socketio.AsyncClient, event: str, data: dict[str, Any]) -> dict[str, Any]:
    """The acknowledged value. Ends the program with the server's sentence where it says no."""
    answer: dict[str, Any] = await client.call(event, data, namespace="/chat", timeout=PATIENCE_SECONDS)
    if "error" in answer:
        raise SystemExit(f"{event}: {answer['error']['message']} ({answer['error']['code']})")
    return answer


async def main() -> None:
    options = arguments()
    client = socketio.AsyncClient()
    came_back = asyncio.Event()

    def on_message(message: dict[str, Any]) -> None:
        show(message)
        if message["username"] == options.user and message["text"] == options.say:
            came_back.set()

    client.on("message", on_message, namespace="/chat")
    client.on("joined", lambda who: print(f"* {who['username']} joined", flush=True), namespace="/chat")
    client.on("left", lambda who: print(f"* {who['username']} left", flush=True), namespace="/chat")

    transports = [options.transport] if options.transport else None
    await client.connect(options.url, namespaces=["/chat"], auth={"username": options.user}, transports=transports)
    try:
        joined = await ask(client, "join", {"room": options.room})
        print(f"* in {options.room} with {', '.join(joined['members'])}", flush=True)
        for message in joined["history"]:
            show(message)
        await ask(client, "message", {"room": options.room, "text": options.say})
        await asyncio.wait_for(came_back.wait(), PATIENCE_SECONDS)
    finally:
        await client.disconnect()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except socketio.exceptions.ConnectionError as refused:
        raise SystemExit(f"not connected: {refused}") from None
