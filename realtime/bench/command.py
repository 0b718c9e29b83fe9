"""The command ``realtime bench``: how a server does under load, over the real network."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Annotated, Any, NoReturn

import typer

from realtime.bench.crowd import STEP_SECONDS, Target, raise_file_limit, silent, speech_of
from realtime.bench.figures import Result
from realtime.bench.scenarios import SCENARIOS, Plan, run
from realtime.bench.speech import SMALLEST
from realtime.errors import OutsideError, UsageError

try:
    import uvloop
except ImportError:  # Windows, PyPy: the standard loop does the same work, slower
    uvloop = None  # type: ignore[assignment]

SPARE_FILES = 64
"""Open files of the process itself."""


def bench(
    url: Annotated[
        str, typer.Argument(help="The server: http://, https://, ws:// or wss://, with a path if it needs one.")
    ],
    scenario: Annotated[str, typer.Option(help="fan-out, echo, connect, idle or all.")] = "all",
    wire: Annotated[
        str, typer.Option(help="socketio, msgpack, polling or raw: plain WebSockets, to the route in the URL.")
    ] = "socketio",
    clients: Annotated[int, typer.Option(help="Clients at the same time.", min=1)] = 500,
    seconds: Annotated[float, typer.Option(help="How long each scenario works.", min=0.1)] = 5.0,
    rate: Annotated[
        float,
        typer.Option(help="Messages a second (echo: of each client); 0 is as fast as the server answers.", min=0),
    ] = 50.0,
    size: Annotated[int, typer.Option(help="Bytes of a message's text.", min=SMALLEST)] = 100,
    burst: Annotated[int, typer.Option(help="Fan-out: messages said at once.", min=1)] = 1,
    at_once: Annotated[int, typer.Option(help="Connections under way at the same time.", min=1)] = 100,
    room: Annotated[str, typer.Option(help="The room, $room in the events below.")] = "bench",
    namespace: Annotated[str | None, typer.Option(help="Default: /chat, and /echo for echo.")] = None,
    auth: Annotated[str | None, typer.Option(help="JSON sent with CONNECT; $client is the client's number.")] = None,
    join: Annotated[str, typer.Option(help="The event of the namespace that enters the room; '' for none.")] = (
        '["join", {"room": "$room"}]'
    ),
    send: Annotated[str, typer.Option(help="The event that everybody in the room hears, with $text in it.")] = (
        '["message", {"room": "$room", "text": "$text"}]'
    ),
    echo: Annotated[str, typer.Option(help="The name of the event that is acknowledged with its own text.")] = "echo",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Measure a server: messages to a room, echoes, connections, idle clients.

    Everything that has to arrive is counted. Ends with code 1 when something was lost, came twice or was refused.
    The defaults suit the application that comes with this package and stay below its rate limits.

    It writes: what fan-out says is said in the room bench of /chat, and stays in the history of the chat.

    Your own application: --join and --send name events of your --namespace. Over raw, clients send bare text to
    one route and wait to hear it again: name yours in the URL, with $client and $room in it (default: /ws/chat/bench
    and /ws). /ws/rooms/NAMESPACE/ROOM wants JSON objects, which raw does not send.
    """
    try:
        plan = Plan(
            url, wire, clients, seconds, rate, size, burst, at_once, room, namespace,
            _json("--auth", auth), _json("--join", join), _json("--send", send), echo,
        )  # fmt: skip
        results = measure(plan, scenario)
    except UsageError as error:
        _stop(str(error))
    except OutsideError as error:
        _stop(str(error), 1)
    if as_json:
        found = {"url": url, "results": [result.as_dict() for result in results]}
        typer.echo(json.dumps(found, indent=2))
    else:
        typer.echo("\n".join(result.as_text() for result in results))
    if not all(result.flawless for result in results):
        raise typer.Exit(1)


def measure(plan: Plan, scenario: str) -> list[Result]:
    """Run one scenario, or all. Blocks for the time they take. Raises UsageError; OutsideError where nobody listens."""
    if scenario != "all" and scenario not in SCENARIOS:
        raise UsageError(f"the scenario is one of {', '.join(SCENARIOS)}, all; {scenario!r} came")
    speech_of(plan.wire)
    needed = plan.clients * (2 if plan.wire == "polling" else 1) + SPARE_FILES
    limit = raise_file_limit()
    if needed > limit:
        raise UsageError(
            f"{plan.clients} clients need {needed} open files and this process may have {limit}: ulimit -n"
        )
    reach(Target.of(plan.url, plan.wire, "/"))
    progress = _progress if sys.stderr.isatty() else silent
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop else None) as runner:
        names = SCENARIOS if scenario == "all" else (scenario,)
        try:
            return [runner.run(run(name, plan, progress)) for name in names]
        finally:
            if progress is not silent:
                typer.echo("\r\033[K", err=True, nl=False)


def reach(target: Target) -> None:
    """Connects once, so that a wrong port is one sentence and not a result. Raises OutsideError."""
    try:
        socket.create_connection((target.host, target.port), timeout=STEP_SECONDS).close()
    except OSError as error:
        raise OutsideError(f"nobody answers at {target.name}: {error.strerror or error}") from None


def _progress(word: str, done: int, total: int) -> None:
    """One line that is written over; not for each of thousands of clients."""
    if total < 1000 or done % 100 == 0 or done >= total:
        typer.echo(f"\r\033[K{word} {done:,} of {total:,}", err=True, nl=False)


def _json(option: str, text: str | None) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"{option} is not JSON: {error}") from None


def _stop(sentence: str, code: int = 2) -> NoReturn:
    typer.echo(f"realtime: {sentence}", err=True)
    raise typer.Exit(code)


__all__ = ["bench", "measure"]
