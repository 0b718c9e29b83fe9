"""The command ``realtime``: serve, check, token."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from difflib import get_close_matches
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from typing import Annotated, Any, Final, NoReturn

import typer
import uvicorn
from pydantic import SecretStr, ValidationError
from uvicorn.importer import ImportFromStringError, import_from_string

from realtime.access.identity import Tokens
from realtime.access.origins import OriginPolicy
from realtime.bench import bench
from realtime.cluster.writers import open_writers
from realtime.errors import UsageError
from realtime.metrics import Metrics
from realtime.plug import check_neighbour, find, find_bus
from realtime.rooms.hub import Hub
from realtime.server.server import Server
from realtime.settings import Settings
from realtime.telemetry.redaction import hide_password

DEFAULT_APP: Final = "namespaces.app:app"
GRACEFUL_SECONDS: Final = 3
BACKLOG: Final = 8192
"""Connections that may wait to be accepted, as far as the system allows (Linux: net.core.somaxconn, 4096): a fleet that
comes back does so at once, and who finds no room asks again a second later."""
PYTHONS_COLLECTIONS: Final = (700, 10, 10)
COLLECTIONS: Final = (2_000, 10, 25)
"""Objects until the garbage collector looks at the new ones; how often, until it looks at those that stayed; and at all
of them. What a connection leaves behind goes without it, and to look at all of 5,000 connections holds everybody up for
50 to 100 ms: with Python's own numbers three times while they come."""


class Wire(StrEnum):
    """What carries WebSockets."""

    FAST = "fast"
    PORTABLE = "portable"


class LogLevel(StrEnum):
    """From this on it is told."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    DEBUG = "debug"


WIRES: Final = {Wire.FAST: "adapters.fast:FastProtocol", Wire.PORTABLE: "adapters.bounded:BoundedWebSockets"}
HTTP: Final = "adapters.fast.http:BoundedHttp"
"""Named to uvicorn as strings: the core imports no adapter."""

cli = typer.Typer(
    name="realtime", help="Realtime rooms for FastAPI.", no_args_is_help=True, pretty_exceptions_enable=False,
    add_completion=False,
)  # fmt: skip


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"realtime-rooms {version('realtime-rooms')}")
        raise typer.Exit


@cli.callback()
def _any_command(
    told: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Realtime rooms for FastAPI."""


@cli.command()
def serve(
    app: Annotated[str, typer.Argument(help="The application, as module:name.")] = DEFAULT_APP,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(help="Processes; more than one is not possible yet.", min=1)] = 1,
    redis: Annotated[str | None, typer.Option(help="Redis URL; instances on one Redis share their rooms.")] = None,
    database: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the chat history.")] = None,
    wire: Annotated[Wire, typer.Option(help="fast is our own WebSocket class, portable is uvicorn's.")] = Wire.FAST,
    log_level: Annotated[LogLevel, typer.Option(help="How much is told.")] = LogLevel.INFO,
) -> None:
    """Serve an application until SIGTERM or Ctrl-C."""
    if workers > 1:
        _stop(
            "--workers above 1 is refused: the requests of a polling client would reach different processes. "
            "Start several instances with --redis and a proxy that routes by session id (examples/deploy)."
        )
    for name, value in (("REALTIME_REDIS_URL", redis), ("REALTIME_DATABASE_URL", database)):
        if value is not None:
            os.environ[name] = value
    sys.path.insert(0, os.getcwd())
    settings = _safe_settings()
    _warn_of_unknown_settings()
    try:
        if app == DEFAULT_APP:
            check_neighbour("namespaces")
            check_neighbour("adapters")
        refusals = _refusals(settings)
        if refusals:
            _stop("; ".join(refusals))
        config = _configure(_application(app), settings, wire, log_level)
        config.load()
    except (UsageError, ImportFromStringError) as error:
        _stop(f"{app}: {error}" if isinstance(error, ImportFromStringError) else str(error))
    sockets = _listen(host, port)
    typer.echo(f"realtime-rooms on http://{_shown(host)}:{sockets[0].getsockname()[1]}  (Ctrl-C to stop)", err=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ended)  # uvicorn raises its signal again once it has stopped: that end was a good one
    server = uvicorn.Server(config)
    settle_memory()
    server.run(sockets)
    if not server.started:
        raise typer.Exit(3)


def settle_memory() -> None:
    """What is loaded by now stays as long as the process: the garbage collector need not look at it again and again.
    Measured with 100 polling clients of the default application: 94 µs of CPU a poll instead of 165. Nor so often at
    connections, unless somebody has set that already (``gc.set_threshold``)."""
    gc.collect()
    gc.freeze()
    if gc.get_threshold() == PYTHONS_COLLECTIONS:
        gc.set_threshold(*COLLECTIONS)


def _refusals(settings: Settings) -> list[str]:
    """Why nothing can be served with these settings, a sentence each: what they name is made, and connects to
    nothing."""
    makers: list[Callable[[], object]] = [
        partial(OriginPolicy.from_settings, settings),
        partial(Tokens.from_settings, settings),
    ]
    if settings.redis_url is not None:
        makers.append(partial(_open_bus, settings.redis_url, settings.redis_channel))
    makers.append(partial(open_writers, settings, Hub(Metrics()), Metrics()))
    if "database_url" in settings.model_fields_set:  # else SQLite, which an application without a history need not load
        makers.append(lambda: find("sql")(settings.database_url, Metrics()))
    found = []
    for make in makers:
        try:
            make()
        except UsageError as error:
            found.append(str(error))
    return found


def _open_bus(url: str, channel: str) -> object:
    return find_bus(url)(url, channel, Metrics())


def _application(name: str) -> Any:
    """Raises UsageError for something that is there but is no application."""
    found = import_from_string(name)
    if isinstance(found, Server):
        raise UsageError(f"{name} is a Socket.IO server: serve socketio.ASGIApp({name.rpartition(':')[2]}) instead")
    if not callable(found):
        raise UsageError(f"{name} is a {type(found).__name__}, not an ASGI application")
    return found


def _configure(app: Any, settings: Settings, wire: Wire, log_level: LogLevel) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=LOGGING,
        log_level=log_level.value,
        access_log=False,
        backlog=BACKLOG,
        http=HTTP,
        ws=WIRES[wire],
        ws_max_size=settings.message_limit_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=settings.ping_interval_seconds,
        ws_ping_timeout=settings.ping_timeout_seconds,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        server_header=False,
        proxy_headers=False,  # REALTIME_TRUSTED_PROXIES decides, in one place for every route
    )


def _listen(host: str, port: int) -> list[socket.socket]:
    """On every address that the name stands for; with port 0 on one free port."""
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            place = (address[0], sockets[0].getsockname()[1] if sockets else port)
            found = socket.create_server(place, family=family, backlog=BACKLOG)
            # Named TCP: else asyncio leaves Nagle's waiting on, and the body of an answer is 40 ms behind its head.
            sockets.append(socket.socket(family, found.type, socket.IPPROTO_TCP, found.detach()))
    except OSError as error:
        for each in sockets:
            each.close()
        why = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror
        _stop(f"cannot listen on {_shown(host)}:{port}: {why}")
    return sockets


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@cli.command()
def check() -> None:
    """Print the settings in effect, secrets hidden, and fail if they are unsafe or cannot be served with."""
    settings = _settings()
    _warn_of_unknown_settings()
    for name in Settings.model_fields:
        value = getattr(settings, name)
        shown = (
            "(hidden)" if isinstance(value, SecretStr) else hide_password(value) if isinstance(value, str) else value
        )
        typer.echo(f"REALTIME_{name.upper()}={shown if shown is not None else ''}")
    problems = settings.problems()
    for problem in problems:
        typer.echo(f"unsafe: {problem}", err=True)
    refusals = _refusals(settings)
    for refusal in refusals:
        typer.echo(f"realtime: {refusal}", err=True)
    if problems or refusals:
        raise typer.Exit(1)
    typer.echo(f"These settings are fine for {settings.environment}.", err=True)


@cli.command()
def token(
    user: Annotated[str, typer.Option(help="The user's name.")],
    expires: Annotated[int, typer.Option(help="Seconds until it expires.", min=1)] = 3600,
    scope: Annotated[list[str] | None, typer.Option(help="A scope to grant; may be repeated.")] = None,
) -> None:
    """Print a token signed with the configured secret, for trying things."""
    settings = _settings()
    try:
        typer.echo(Tokens.from_settings(settings).issue(user, time.time(), expires, scope or ()))
    except UsageError as error:
        _stop(str(error))


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        found = [f"REALTIME_{str(each['loc'][0]).upper()}: {each['msg']}" for each in error.errors()]
        _stop("; ".join(found))


def _warn_of_unknown_settings() -> None:
    known = {f"REALTIME_{name.upper()}" for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.startswith("REALTIME_") and name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            typer.echo(f"realtime: there is no setting {name}{hint}", err=True)


def _safe_settings() -> Settings:
    settings = _settings()
    problems = settings.problems()
    if problems:
        _stop("these settings are not safe in production: " + "; ".join(problems))
    return settings


cli.command()(bench)


def _ended(number: int, frame: object) -> None:
    """Asked to stop, and stopped."""


def _stop(sentence: str) -> NoReturn:
    typer.echo(f"realtime: {sentence}", err=True)
    raise typer.Exit(2)


LOGGING: Final = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "filters": {"quiet": {"()": "realtime.telemetry.redaction.Quiet"}},
    "handlers": {
        "out": {
            "class": "logging.StreamHandler",
            "formatter": "plain",
            "filters": ["quiet"],
            "stream": "ext://sys.stderr",
        }
    },
    "loggers": {
        "uvicorn": {"handlers": ["out"], "level": "INFO", "propagate": False},
        "uvicorn.error": {"level": "WARNING"},
        "uvicorn.access": {"handlers": [], "propagate": False},
        "realtime": {"handlers": ["out"], "level": "INFO", "propagate": False},
    },
}


def main() -> None:
    """The console script."""
    cli()
