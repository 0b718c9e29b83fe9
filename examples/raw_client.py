"""A chat client without a Socket.IO library: a plain WebSocket that comes back by itself.

python raw_client.py --url ws://127.0.0.1:8000 --user bob --room lobby --say "Hello over a plain WebSocket"

It prints what it sees until Ctrl-C. After a loss it waits 1 s, then 2, 4 … up to 30 s, half of it random, so
that a thousand clients do not return in the same moment. Close codes 4500 to 4999 and 1008 mean: do not return;
so does an HTTP status of 400 to 499 in answer to the handshake, but for 429 (too many, later).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

FIRST_SECONDS, LONGEST_SECONDS = 1.0, 30.0
STABLE_SECONDS = 5.0
"""A connection that lasted this long was a good one: the next loss counts as the first."""
DRAINING = 4440
"""The server is being restarted; its reason names a delay: "retry in 1.4 s"."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Follow a chat room over a plain WebSocket.")
    parser.add_argument("--url", default="ws://127.0.0.1:8000")
    parser.add_argument("--user", default="raw")
    parser.add_argument("--room", default="lobby")
    parser.add_argument("--say", help="a line to say after each connection")
    return parser.parse_args()


def may_return(code: int | None) -> bool:
    return code is None or not (code == 1008 or 4500 <= code <= 4999)


def seconds_to_wait(failures: int, code: int | None, reason: str) -> float:
    full = min(FIRST_SECONDS * 2.0 ** min(failures, 10), LONGEST_SECONDS)
    told = re.search(r"\d+(\.\d+)?", reason) if code == DRAINING else None
    return (float(told[0]) if told else 0.0) + full * random.uniform(0.5, 1)


async def follow(websocket: ClientConnection, say: str | None) -> None:
    """Prints what comes; raises ConnectionClosed at the end."""
    print("* connected", flush=True)
    if say:
        await websocket.send(say)
    while True:
        message = json.loads(await websocket.recv())
        if message.get("is_system"):
            print(f"* {message['text']}", flush=True)
        elif "username" in message:
            print(f"{message['username']}: {message['text']}", flush=True)
        else:
            print(f"* {message}", flush=True)


async def main() -> None:
    options = arguments()
    address = f"{options.url}/ws/chat/{quote(options.user, safe='')}?room={quote(options.room, safe='')}"
    loop = asyncio.get_running_loop()
    failures = 0
    while True:
        code, reason, since = None, "", loop.time()
        try:
            async with connect(address) as websocket:
                await follow(websocket, options.say)
        except ConnectionClosed as closed:
            if closed.rcvd is not None:
                code, reason = closed.rcvd.code, closed.rcvd.reason
        except InvalidStatus as refused:
            status = refused.response.status_code
            if 400 <= status < 500 and status != 429:
                raise SystemExit(f"refused: HTTP {status}") from None
            reason = f"HTTP {status}"
        except (OSError, TimeoutError, InvalidHandshake) as trouble:
            reason = str(trouble)
        if not may_return(code):
            raise SystemExit(f"closed with {code}: {reason}")
        if loop.time() - since > STABLE_SECONDS:
            failures = 0
        wait = seconds_to_wait(failures, code, reason)
        failures += 1
        print(f"* lost ({code or 'no close code'}: {reason}), back in {wait:.1f} s", flush=True)
        await asyncio.sleep(wait)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
