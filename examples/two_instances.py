"""Two instances on one Redis: what is said on one is heard on the other. Runs until Ctrl-C.

python two_instances.py --redis redis://127.0.0.1:6379/0 --ports 8001 8002
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process

STOP_SECONDS = 5


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Start two instances that share their rooms through Redis.")
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/0", help="the URL of a Redis that is running")
    parser.add_argument("--ports", type=int, nargs=2, default=[8001, 8002])
    parser.add_argument("--database", default="sqlite+aiosqlite:///realtime.db", help="one chat history for both")
    return parser.parse_args()


async def start(node: str, port: int, options: argparse.Namespace) -> Process:
    """Each has a name, with which its session ids begin: that is how a proxy finds the way (deploy/nginx.conf)."""
    serve = [sys.executable, "-m", "realtime", "serve", "--port", str(port)]
    shared = ["--redis", options.redis, "--database", options.database]
    return await asyncio.create_subprocess_exec(*serve, *shared, env={**os.environ, "REALTIME_NODE": node})


async def end(instances: list[Process], ends: list[asyncio.Task[int]]) -> None:
    """Asked first, and after STOP_SECONDS made to: none outlives this program."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for instance in instances:
            if instance.returncode is None:
                instance.send_signal(number)
        await asyncio.wait(ends, timeout=STOP_SECONDS)


async def main() -> int:
    """Zero after Ctrl-C or SIGTERM; one if an instance ended by itself."""
    options = arguments()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    instances = [await start(node, port, options) for node, port in zip("ab", options.ports, strict=True)]
    for port in options.ports:
        print(f"http://127.0.0.1:{port}/", flush=True)
    ends = [asyncio.create_task(instance.wait()) for instance in instances]
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([*ends, stopped], return_when=asyncio.FIRST_COMPLETED)
    await end(instances, ends)
    return 0 if stopped.done() else 1


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
