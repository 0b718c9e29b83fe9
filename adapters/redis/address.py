"""Pure: no I/O, no clock, no task. What may stand in a Redis URL, and what of it may be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis import exceptions
from redis.asyncio.connection import Connection, parse_url

from realtime.errors import UsageError

_REDIS_PY: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
_SENTINEL: Final = ("redis+sentinel", "valkey+sentinel")
_CLUSTER: Final = {"redis+cluster": "redis", "rediss+cluster": "rediss", "valkey+cluster": "redis"}
_OPTIONS: Final = ("db", "username", "password", "socket_timeout", "socket_connect_timeout", "socket_keepalive")


@dataclass(frozen=True, slots=True, eq=False)
class Address:
    """Where Redis is. ``shown`` carries neither user, password nor options and may be logged."""

    shown: str
    options: Mapping[str, Any] = field(repr=False)
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    seeds: tuple[tuple[str, int], ...] = ()
    """Some nodes of a Cluster; any of them knows the others."""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises UsageError; its sentence never repeats the URL, for a password may hide anywhere in a broken one."""
        scheme = url.partition(":")[0].lower()
        known = [*_REDIS_PY, *_SENTINEL, *_CLUSTER]
        if scheme not in known:
            raise UsageError(f"A Redis URL begins with {', '.join(known)}; this one does not")
        try:
            parts = urlsplit(url)
            _check(parts)
            if scheme in _CLUSTER:
                return _cluster(parts, _CLUSTER[scheme])
            return _sentinel(parts) if scheme in _SENTINEL else _single(parts, _REDIS_PY[scheme])
        except (ValueError, TypeError):
            raise UsageError(
                f"The {scheme}:// URL cannot be read: expected {_expected(scheme)}; "
                "special characters in user and password are percent-encoded"
            ) from None

    def node(self, host: str, port: int) -> Address:
        """One server of this Cluster, with the same user, password and options."""
        shown = f"redis://{f'[{host}]' if ':' in host else host}:{port}"
        return Address(shown, {**self.options, "host": host, "port": port})


def _expected(scheme: str) -> str:
    if scheme in _CLUSTER:
        return f"{scheme}://[user:password@]host1:port1,host2:port2"
    if scheme in _SENTINEL:
        return f"{scheme}://[user:password@]host1:port1,host2:port2/db/service"
    return "unix://[user:password@]/path?db=0" if scheme == "unix" else f"{scheme}://[user:password@]host:port/db"


def _check(parts: SplitResult) -> None:
    """Raises ValueError for what redis-py would pass over in silence or take for something else."""
    if parts.fragment or (parts.scheme != "unix" and "@" in parts.path + parts.query):
        raise ValueError("a password that is not percent-encoded")
    for name, _ in parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)):
        if name not in _OPTIONS and not name.startswith("ssl_"):
            raise UsageError(f"The Redis URL has an option that is unknown; taken are {', '.join(_OPTIONS)} and ssl_*")


def _single(parts: SplitResult, scheme: str) -> Address:
    if scheme == "unix":
        if not parts.path:
            raise ValueError("no path")
        return Address(f"unix://{unquote(parts.path)}", dict(parse_url(parts.geturl())))
    if parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise ValueError("the database is a number")
    options = dict(parse_url(parts._replace(scheme=scheme).geturl()))
    _try(options)
    host = parts.hostname or "localhost"
    shown = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{parts.port or 6379}/{options.get('db', 0)}"
    return Address(shown, options)


def _try(options: dict[str, Any]) -> None:
    """Make a connection, which opens nothing yet: a misspelt option is known now. Raises ValueError, TypeError."""
    kind = options.get("connection_class", Connection)
    try:
        kind(**{name: value for name, value in options.items() if name != "connection_class"})
    except exceptions.RedisError:
        raise ValueError("a value that redis-py refuses") from None


def _sentinel(parts: SplitResult) -> Address:
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    _, database, service = parts.path.split("/")
    if not service or parts.query:
        raise ValueError("no service, or options that Sentinel URLs do not have")
    sentinels = _hosts(hosts)
    options: dict[str, Any] = {"db": int(database or 0)}
    if user:
        options["username"] = unquote(user)
    if password:
        options["password"] = unquote(password)
    return Address(f"{parts.scheme}://{hosts}/{options['db']}/{service}", options, sentinels, service)


def _cluster(parts: SplitResult, scheme: str) -> Address:
    """The options are those of a single server; a Cluster has no databases."""
    login, at, hosts = parts.netloc.rpartition("@")
    seeds = _hosts(hosts)
    if parts.path.strip("/") not in ("", "0"):
        raise ValueError("a Cluster has one database")
    netloc = f"{login}{at}cluster:1"
    options = dict(parse_url(parts._replace(scheme=scheme, netloc=netloc, path="").geturl()))
    if options.get("db"):
        raise ValueError("a Cluster has one database")
    _try(options)
    return Address(f"{parts.scheme}://{hosts}", options, seeds=seeds)


def _hosts(text: str) -> tuple[tuple[str, int], ...]:
    found = []
    for pair in text.split(","):
        host, _, port = pair.rpartition(":")
        if not host or not 0 < int(port) < 1 << 16:
            raise ValueError("each is host:port")
        found.append((host.strip("[]"), int(port)))
    return tuple(found)
