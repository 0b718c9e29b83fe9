"""The constants of the capacity page that no other benchmark has: pings, the kernel's memory, and parts of Redis."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from adapters.redis import open_journal, open_sessions
from benchmarks.cluster_contestants import redis_command
from benchmarks.contestants import CONTESTANTS, LIMITS
from benchmarks.process import ServerProcess, cores
from benchmarks.quiet import run_quietly
from realtime import Metrics, Settings
from realtime.bench.crowd import Crowd, Entry, Target, raise_file_limit
from realtime.journal.positions import Draft, Position
from realtime.journal.resume import Record, Stay
from realtime.ports import Sessions

CLIENTS: Final = 2_000
PING_SECONDS: Final = 1.0
SECONDS: Final = 6.0
MESSAGES: Final = 5_000
SUBSCRIBERS: Final = (1, 21)
RECORDS: Final = 5_000
ENTRIES: Final = 5_000
PART: Final = 100
"""At once: on a busy machine more of them take longer than an answer may."""
MESSAGE: Final = b"x" * 300

Constant = dict[str, Any]


def measure() -> dict[str, Constant]:
    """Blocks for about a minute. Raises ServerFailed, or Missing without a Redis."""
    raise_file_limit()
    pinned = cores()
    core = pinned[0] if pinned else None
    [ours] = [each for each in CONTESTANTS if each.name == "fast"]
    found: dict[str, Constant] = {}
    pings = LIMITS | {"REALTIME_PING_INTERVAL_SECONDS": str(PING_SECONDS)}
    with ServerProcess(ours.command(), pings, core) as server:
        found |= run_quietly(_idle(server))
    with ServerProcess(redis_command(), {}, core) as redis:
        found |= _subscribers(redis)
    with ServerProcess(redis_command(), {}, core) as redis:
        found |= run_quietly(_kept(redis))
    return {name: {"value": round(each["value"], 3), "from": each["from"]} for name, each in found.items()}


async def _idle(server: ServerProcess) -> dict[str, Constant]:
    crowd = Crowd(Target.of(server.url, "socketio", "/socket.io/"), "socketio", Entry())
    before = _slab()
    await crowd.open(CLIENTS)
    after = _slab()
    cpu = server.cpu_seconds()
    await asyncio.sleep(SECONDS)
    cpu = server.cpu_seconds() - cpu
    crowd.cut()
    each = cpu / (CLIENTS * SECONDS / PING_SECONDS) * 1e6
    found = {"ping_us": {"value": each, "from": f"{CLIENTS:,} idle clients, pinged every second"}}
    if before is None or after is None:
        return found | {"kernel_kb": {"value": 4.0, "from": "assumed: this system does not say"}}
    origin = f"growth of Slab in /proc/meminfo with {CLIENTS:,} connections, both ends here, halved; no data waiting"
    return found | {"kernel_kb": {"value": (after - before) / CLIENTS / 2 / 1000, "from": origin}}


def _slab() -> int | None:
    """Bytes that the kernel's own objects take; None where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Slab:")), None)


def _subscribers(redis: ServerProcess) -> dict[str, Constant]:
    """What each further one costs: the same messages to few and to many. One at a time, each with a write of its own,
    which is the most that it can cost."""
    costs = {}
    for count in SUBSCRIBERS:
        ears = [_connected(redis) for _ in range(count)]
        for ear in ears:
            ear.sendall(b"SUBSCRIBE room\r\n")
            ear.recv(1_000)
        mouth = _connected(redis)
        command = b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nroom\r\n$%d\r\n%b\r\n" % (len(MESSAGE), MESSAGE)
        cpu = redis.cpu_seconds()
        for _ in range(MESSAGES):
            mouth.sendall(command)
            _read(mouth, len(b":%d\r\n" % count))
            for ear in ears:
                _read(ear, len(b"*3\r\n$7\r\nmessage\r\n$4\r\nroom\r\n$300\r\n\r\n") + len(MESSAGE))
        costs[count] = (redis.cpu_seconds() - cpu) / MESSAGES * 1e6
        for each in (*ears, mouth):
            each.close()
    few, many = SUBSCRIBERS
    value = (costs[many] - costs[few]) / (many - few)
    return {
        "redis_subscriber_us": {"value": value, "from": f"PUBLISH of 300 bytes to {few} and to {many}, one at a time"}
    }


def _connected(redis: ServerProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", redis.port), timeout=10)


def _read(link: socket.socket, size: int) -> None:
    while size > 0:
        data = link.recv(min(size, 1 << 16))
        if not data:
            raise OSError("Redis has gone")
        size -= len(data)


async def _kept(redis: ServerProcess) -> dict[str, Constant]:
    """Records of clients, and entries of the log."""
    settings = Settings(_env_prefix="NOBODY_SETS_THESE_")
    url = f"redis://127.0.0.1:{redis.port}/0"
    empty = _used(redis)
    sessions = open_sessions(url, "bench", settings, Metrics())
    records = [_record(number) for number in range(RECORDS)]
    try:
        await _in_parts(sessions, records)
        full = _used(redis)
        cpu = redis.cpu_seconds()
        for _ in range(3):
            await _in_parts(sessions, records)
        cpu = (redis.cpu_seconds() - cpu) / 3 / RECORDS * 1e6
    finally:
        await sessions.close()
    journal = open_journal(url, "bench", settings, Metrics())
    before = _used(redis)
    try:
        for start in range(0, ENTRIES, PART):
            await asyncio.gather(*(journal.append(_draft(start + number)) for number in range(PART)))
        entry = (_used(redis) - before) / ENTRIES / 1000
    finally:
        await journal.close()
    origin = f"{RECORDS:,} records, a room and 100 bytes of data each"
    return {
        "redis_session_us": {"value": cpu, "from": f"{origin}, kept again"},
        "redis_session_kb": {"value": (full - empty) / RECORDS / 1000, "from": origin},
        "redis_entry_kb": {"value": entry, "from": f"{ENTRIES:,} entries of 300 bytes"},
    }


async def _in_parts(sessions: Sessions, records: Sequence[Record]) -> None:
    for start in range(0, len(records), PART):
        await sessions.keep(records[start : start + PART], 120)


def _record(number: int) -> Record:
    here = Position("bench", number)
    room = Stay(f"room{number % 250}", 0)
    pid = f"{number:08d}{time.monotonic_ns():020d}"
    data = json.dumps({"text": "x" * 90}).encode()
    return Record(pid, f"sid{number:017d}", "/chat", "bench", "somebody", data, (room,), here, here, here)


def _draft(number: int) -> Draft:
    return Draft(("bench", number + 1), "/chat", (f"room{number % 250}",), (), "message", b'["%b"]' % MESSAGE, 1)


def _used(redis: ServerProcess) -> int:
    """Bytes that Redis says it uses."""
    with _connected(redis) as link:
        link.sendall(b"INFO memory\r\n")
        answer = b""
        while b"used_memory:" not in answer or not answer.endswith(b"\r\n"):
            answer += link.recv(1 << 16)
    [line] = [line for line in answer.splitlines() if line.startswith(b"used_memory:")]
    return int(line.partition(b":")[2])
